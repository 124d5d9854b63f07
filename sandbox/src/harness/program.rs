//! targetgate as a process with the command and the environment of the shipped Deployment, as far
//! as this machine can have them.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, ensure};
use tempfile::TempDir;

use super::process::{Process, call_elb, isolated, serve};

/// The argument, part of the shipped Deployment, with which it makes its certificate itself.
pub const OWN_CERTIFICATE: &str = "--tls=self";

/// The settings that all starts share.
pub struct Program {
    /// The folder of the certificate, the key and the logs.
    pub files: TempDir,
    /// The CA that callers of the hooks have to trust; `None` if the process registers it itself.
    pub ca: Option<String>,
    /// The kubeconfig of the shipped ServiceAccount.
    pub kubeconfig: PathBuf,
    binary: PathBuf,
    namespace: String,
    elb: String,
    arguments: Vec<String>,
}

impl Program {
    /// Makes a certificate for a Service of `namespace`; `elb` is the URL of the ELBv2 API. The
    /// process uses the certificate, unless the arguments contain [`OWN_CERTIFICATE`].
    ///
    /// # Errors
    ///
    /// When `binary` cannot make the certificate.
    pub fn new(
        binary: &Path,
        namespace: &str,
        kubeconfig: PathBuf,
        elb: String,
        arguments: &[&str],
    ) -> anyhow::Result<Self> {
        let files = tempfile::tempdir()?;
        let mut certs = isolated(binary);
        certs.args(["certs", "dev", "--force", "--namespace", namespace]);
        // The API server does not take this host for a loopback address, and so speaks HTTP/1.1 to
        // it, as to a Service.
        certs.args(["--san=0.0.0.0", "--out"]).arg(files.path());
        let made = certs.output().context("cannot run targetgate")?;
        ensure!(made.status.success(), "`certs dev` failed: {made:?}");
        let ca = std::fs::read_to_string(files.path().join("ca.crt"))?;
        Ok(Self {
            files,
            ca: (!arguments.contains(&OWN_CERTIFICATE)).then_some(ca),
            binary: binary.to_owned(),
            kubeconfig,
            namespace: namespace.to_owned(),
            elb,
            arguments: arguments.iter().map(|&a| a.to_owned()).collect(),
        })
    }

    /// Starts it as a pod of this name, and returns when it listens, which may be long before it is
    /// ready.
    ///
    /// # Errors
    ///
    /// When it cannot be started, or does not listen.
    pub async fn start(&self, pod: &str) -> anyhow::Result<Process> {
        self.start_with(pod, &self.kubeconfig).await
    }

    /// Starts it with another kubeconfig.
    ///
    /// # Errors
    ///
    /// Those of [`Program::start`].
    pub async fn start_with(&self, pod: &str, kubeconfig: &Path) -> anyhow::Result<Process> {
        let log = self.files.path().join(format!("{pod}.log"));
        let mut command = self.command(pod);
        Process::start(command.arg("--kubeconfig").arg(kubeconfig), &log).await
    }

    /// A command of the binary for people, which calls the same ELB.
    pub fn tool(&self) -> Command {
        let mut command = isolated(&self.binary);
        call_elb(&mut command, &self.elb);
        command
    }

    fn command(&self, pod: &str) -> Command {
        let file = |name| self.files.path().join(name);
        let mut command = isolated(&self.binary);
        call_elb(serve(&mut command, Ipv4Addr::LOCALHOST.into()), &self.elb)
            .args(&self.arguments)
            .env("POD_NAMESPACE", &self.namespace)
            .env("POD_NAME", pod)
            // Lets a developer try settings of an allocator.
            .envs(std::env::vars().filter(|(name, _)| name.contains("MALLOC")));
        if self.ca.is_some() {
            command.arg("--tls-cert").arg(file("tls.crt"));
            command.arg("--tls-key").arg(file("tls.key"));
        }
        command
    }
}
