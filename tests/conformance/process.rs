//! targetgate as a process: the command and the environment of the shipped Deployment, as far as this
//! machine goes.

use std::fs::File;
use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::waiting::until;
use futures::FutureExt as _;
use http::{Request, StatusCode};
use http_body_util::BodyExt as _;
use jiff::Timestamp;
use kube::client::Body;
use kube::{Client, Config};
use serde_json::Value;
use targetgate::commands::certs;
use targetgate_sandbox::elb;
use tempfile::TempDir;

/// The argument with which it makes its certificate itself, as it is shipped.
pub(crate) const OWN_CERTIFICATE: &str = "--tls=self";

/// What every start is made from.
pub(crate) struct Program {
    /// The certificate, the key and the logs.
    pub(crate) files: TempDir,
    /// Whom the hooks' callers are to trust; `None` where the process tells them itself.
    pub(crate) ca: Option<String>,
    /// Of the shipped ServiceAccount.
    pub(crate) kubeconfig: PathBuf,
    namespace: String,
    elb: String,
    arguments: Vec<String>,
}

impl Program {
    /// Serves as a Service of `namespace` would; `elb` is the URL of the ELBv2 API. Its certificate comes
    /// from files, unless the arguments say [`OWN_CERTIFICATE`].
    pub(crate) fn new(
        namespace: &str,
        kubeconfig: PathBuf,
        elb: String,
        arguments: &[&str],
    ) -> Self {
        let files = tempfile::tempdir().unwrap();
        // As a host of a URL this is no loopback address to the API server, which then speaks
        // HTTP/1.1, as to a Service.
        let names = ["0.0.0.0".to_owned()];
        let made = certs::make(namespace, &names, Timestamp::now()).unwrap();
        std::fs::write(files.path().join("tls.crt"), &made.certificate).unwrap();
        std::fs::write(files.path().join("tls.key"), &made.key).unwrap();
        Self {
            files,
            ca: (!arguments.contains(&OWN_CERTIFICATE)).then_some(made.ca),
            kubeconfig,
            namespace: namespace.to_owned(),
            elb,
            arguments: arguments.iter().map(|&a| a.to_owned()).collect(),
        }
    }

    /// Starts it as a pod of this name, and returns when it listens, which may be long before it is
    /// ready.
    pub(crate) async fn start(&self, pod: &str) -> Process {
        self.start_with(pod, &self.kubeconfig).await
    }

    /// The same, with a kubeconfig of its own.
    pub(crate) async fn start_with(&self, pod: &str, kubeconfig: &Path) -> Process {
        let log = self.files.path().join(format!("{pod}.log"));
        let mut command = self.command(pod, &log);
        let mut running = Running(command.arg("--kubeconfig").arg(kubeconfig).spawn().unwrap());
        let started = until("targetgate has started", async || {
            let text = std::fs::read_to_string(&log).unwrap();
            let ended = running.0.try_wait().unwrap();
            assert!(ended.is_none(), "targetgate ended, {ended:?}:\n{text}");
            let lines = text.lines();
            let mut lines = lines.filter_map(|line| serde_json::from_str::<Value>(line).ok());
            lines.find(|line| line["message"] == "started")
        })
        .await;
        let address = |name: &str| {
            started[name]
                .as_str()
                .unwrap()
                .parse::<SocketAddr>()
                .unwrap()
        };
        let mut admin = Config::new(format!("http://{}", address("admin")).parse().unwrap());
        // A check that fails is an answer.
        admin.default_retry = false;
        Process {
            running,
            hooks: address("listen"),
            admin: Client::try_from(admin).unwrap(),
            log,
        }
    }

    fn command(&self, pod: &str, log: &Path) -> Command {
        let file = |name| self.files.path().join(name);
        let mut command = Command::new(env!("CARGO_BIN_EXE_targetgate"));
        command
            .args(["serve", "--log-format=json"])
            .args(["--listen=127.0.0.1:0", "--admin-listen=127.0.0.1:0"])
            .args(&self.arguments)
            .env_clear()
            .env("POD_NAMESPACE", &self.namespace)
            .env("POD_NAME", pod)
            .env("AWS_REGION", elb::Options::default().region)
            .env("AWS_ENDPOINT_URL_ELASTIC_LOAD_BALANCING_V2", &self.elb)
            .env("AWS_ACCESS_KEY_ID", "sandbox")
            .env("AWS_SECRET_ACCESS_KEY", "sandbox")
            .env("AWS_EC2_METADATA_DISABLED", "true")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(log).unwrap());
        if self.ca.is_some() {
            command.arg("--tls-cert").arg(file("tls.crt"));
            command.arg("--tls-key").arg(file("tls.key"));
        }
        command
    }
}

/// Killed when dropped, as by a node that dies.
pub(crate) struct Running(pub(crate) Child);

impl Drop for Running {
    fn drop(&mut self) {
        // One that has ended already is as good.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// It runs, until this is dropped.
pub(crate) struct Process {
    pub(crate) running: Running,
    /// Where it answers reviews.
    pub(crate) hooks: SocketAddr,
    admin: Client,
    log: PathBuf,
}

impl Process {
    /// What its admin listener answers.
    pub(crate) async fn admin(&self, path: &str) -> (StatusCode, String) {
        let request = Request::get(path).body(Body::empty()).unwrap();
        let answer = self.admin.send(request).await.unwrap();
        let status = answer.status();
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(body.into()).unwrap())
    }

    /// Waits until its watches have seen everything.
    pub(crate) async fn ready(&self) {
        let seen = async || match self.admin("/readyz").await {
            (StatusCode::OK, _) => Some(()),
            _ => None,
        };
        let waiting = AssertUnwindSafe(until("targetgate is ready", seen));
        if waiting.catch_unwind().await.is_err() {
            panic!("targetgate does not get ready:\n{}", self.log());
        }
    }

    /// What it has logged.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }

    /// Kills it, as a node that dies.
    pub(crate) fn kill(&mut self) {
        self.running.0.kill().unwrap();
        self.running.0.wait().unwrap();
    }

    /// The value of a metric, by its name and labels as they are written; 0 where it is not there.
    pub(crate) async fn metric(&self, name: &str) -> f64 {
        let (_, text) = self.admin("/metrics").await;
        let mut samples = text.lines().filter_map(|line| line.rsplit_once(' '));
        let sample = samples.find(|(sample, _)| *sample == name);
        sample.map_or(0.0, |(_, value)| value.parse().unwrap())
    }
}
