//! targetgate for one namespace of a cluster: the process, and the objects that it needs in the
//! cluster.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use k8s_openapi::ByteString;
use serde_json::{Value, json};
use tokio::process::Command;

use super::process::{Process, call_elb, serve};
use super::{Aws, Claim, Cluster};

/// The shipped webhook configurations. A run replaces the hooks' address, the CA to trust, and the
/// namespace that they are called for.
const WEBHOOKS: &str = include_str!("../../../deploy/base/webhooks.yaml");

/// The CRD of TargetRecord, which is needed where targets are registered.
const RECORDS: &str = include_str!("../../../deploy/targets/targetrecords.yaml");

/// The settings of a process.
#[derive(Clone, Debug)]
pub struct Start {
    pub binary: PathBuf,
    /// The folder of its certificate and its log.
    pub directory: PathBuf,
    /// The namespace that it watches, and for which its hooks are called.
    pub namespace: String,
    /// Its pod name, under which it takes part in leader election in that namespace. A process
    /// without one does not, and leads.
    pub pod: Option<String>,
    /// The address of this machine at which the API server reaches the hooks.
    pub hooks_ip: IpAddr,
    pub flags: Vec<String>,
}

impl Start {
    /// The settings of a process whose hooks are on loopback.
    pub fn new(binary: &Path, directory: &Path, namespace: &str) -> Self {
        Self {
            binary: binary.to_owned(),
            directory: directory.to_owned(),
            namespace: namespace.to_owned(),
            pod: None,
            hooks_ip: Ipv4Addr::LOCALHOST.into(),
            flags: Vec::new(),
        }
    }

    /// The file that the process logs to.
    pub fn log(&self) -> PathBuf {
        let name = self.pod.as_deref().unwrap_or("targetgate");
        self.directory.join(format!("{name}.log"))
    }

    /// Starts the process with a certificate of its own and waits until it is ready. The cluster
    /// does not call its hooks yet.
    ///
    /// # Errors
    ///
    /// When it cannot be started, ends, or does not get ready; the error has the end of its log.
    pub async fn process(&self, cluster: &Cluster, aws: &Aws) -> anyhow::Result<Process> {
        let process = self.begin(cluster, aws).await?;
        process.ready().await?;
        Ok(process)
    }

    /// The same without waiting until it is ready.
    ///
    /// # Errors
    ///
    /// When it cannot be started, or ends.
    pub async fn begin(&self, cluster: &Cluster, aws: &Aws) -> anyhow::Result<Process> {
        let certificates = self.directory.join("certs");
        if !certificates.exists() {
            let mut command = Command::new(&self.binary);
            command.args(["certs", "dev", "--out"]).arg(&certificates);
            output(command.arg(format!("--san={}", self.hooks_ip))).await?;
        }
        let mut command = self.command(cluster, aws, &certificates);
        Process::start(&mut command, &self.log()).await
    }

    fn command(&self, cluster: &Cluster, aws: &Aws, certificates: &Path) -> std::process::Command {
        let mut command = std::process::Command::new(&self.binary);
        call_elb(serve(&mut command, self.hooks_ip), &aws.endpoint)
            .arg("--tls-cert")
            .arg(certificates.join("tls.crt"))
            .arg("--tls-key")
            .arg(certificates.join("tls.key"))
            .arg("--kubeconfig")
            .arg(&cluster.kubeconfig)
            .arg(format!("--watch-namespaces={}", self.namespace))
            .args(&self.flags)
            // The user's own settings for AWS must not apply in the sandbox.
            .env("AWS_CONFIG_FILE", "/dev/null")
            .env("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
            .env("NO_PROXY", no_proxy(std::env::var("NO_PROXY").ok()))
            .env_remove("AWS_PROFILE")
            .env_remove("AWS_SESSION_TOKEN");
        match &self.pod {
            Some(pod) => command.args(["--namespace", &self.namespace, "--pod-name", pod]),
            // Another run in the same cluster has a process of its own.
            None => command.arg("--lease=off"),
        };
        command
    }

    /// Registers hooks at this address, for the namespace only.
    ///
    /// # Errors
    ///
    /// When the cluster has webhook configurations of that name already, or refuses them.
    pub async fn register_hooks(&self, address: SocketAddr, claim: &Claim) -> anyhow::Result<()> {
        for document in self.hooks(address)? {
            claim.create(document).await?;
        }
        Ok(())
    }

    /// The shipped webhook configurations for hooks at this address, which is that of a process
    /// with these settings, or of a balancer in front of such processes.
    ///
    /// # Errors
    ///
    /// When the CA's certificate cannot be read.
    pub fn hooks(&self, address: SocketAddr) -> anyhow::Result<Vec<Value>> {
        let ca = self.directory.join("certs/ca.crt");
        let ca = std::fs::read(&ca).with_context(|| format!("cannot read {}", ca.display()))?;
        let mut hooks = documents(WEBHOOKS).context("deploy/base/webhooks.yaml is not YAML")?;
        for document in &mut hooks {
            redirect(document, address, &ca);
            confine(document, &self.namespace);
        }
        Ok(hooks)
    }
}

/// Creates the CRD of bindings, as `targetgate crd` prints it, and that of records.
///
/// # Errors
///
/// When the cluster has one already, or refuses it.
pub async fn define_bindings(binary: &Path, claim: &Claim) -> anyhow::Result<()> {
    let crd = output(Command::new(binary).arg("crd")).await?;
    for document in documents(&crd).context("`targetgate crd` did not print YAML")? {
        claim.create(document).await?;
    }
    for document in documents(RECORDS)? {
        claim.create(document).await?;
    }
    Ok(())
}

/// The user's `NO_PROXY` with loopback added, where the sandbox's ELB listens.
fn no_proxy(users: Option<String>) -> String {
    let users = users.filter(|users| !users.is_empty());
    users.map_or("127.0.0.1".to_owned(), |users| format!("{users},127.0.0.1"))
}

/// Runs the command to its end and returns its output.
async fn output(command: &mut Command) -> anyhow::Result<String> {
    let what = format!("{:?}", command.as_std());
    let output =
        command.kill_on_drop(true).output().await.with_context(|| {
            format!("cannot run {what}; build it, or name it with --targetgate")
        })?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("{what} failed, {}: {said}", output.status);
    }
    String::from_utf8(output.stdout).with_context(|| format!("{what} did not print UTF-8"))
}

fn documents(yaml: &str) -> anyhow::Result<Vec<Value>> {
    Ok(serde_saphyr::from_multiple(yaml)?)
}

/// Points the hooks to a process of this machine instead of a Service of the cluster.
fn redirect(configuration: &mut Value, hooks: SocketAddr, ca: &[u8]) {
    let webhooks = configuration["webhooks"].as_array_mut();
    for webhook in webhooks.into_iter().flatten() {
        let path = webhook["clientConfig"]["service"]["path"]
            .as_str()
            .unwrap_or("/");
        webhook["clientConfig"] = json!({
            "url": format!("https://{hooks}{path}"),
            "caBundle": ByteString(ca.to_vec()),
        });
    }
}

/// Restricts the hooks to one namespace.
fn confine(configuration: &mut Value, namespace: &str) {
    let webhooks = configuration["webhooks"].as_array_mut();
    for webhook in webhooks.into_iter().flatten() {
        webhook["namespaceSelector"]["matchLabels"]["kubernetes.io/metadata.name"] =
            json!(namespace);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shipped_hook_is_redirected_to_one_namespace_and_otherwise_as_shipped() {
        let hooks = "127.0.0.1:9443".parse().unwrap();
        let mut urls = Vec::new();
        for shipped in documents(WEBHOOKS).unwrap() {
            let mut redirected = shipped.clone();
            redirect(&mut redirected, hooks, b"CA");
            confine(&mut redirected, "shop");
            let pairs = shipped["webhooks"].as_array().unwrap().iter();
            for (shipped, redirected) in pairs.zip(redirected["webhooks"].as_array().unwrap()) {
                let mut rest = redirected.clone();
                rest["clientConfig"] = shipped["clientConfig"].clone();
                let selected = rest["namespaceSelector"]["matchLabels"].as_object_mut();
                let name = selected.unwrap().remove("kubernetes.io/metadata.name");
                assert_eq!(name.unwrap(), "shop");
                if shipped["namespaceSelector"].is_null() {
                    let none = json!({"matchLabels": {}});
                    assert_eq!(rest["namespaceSelector"], none);
                    rest.as_object_mut().unwrap().remove("namespaceSelector");
                }
                assert_eq!(&rest, shipped);
                assert_eq!(redirected["clientConfig"]["caBundle"], "Q0E=");
                urls.push(
                    redirected["clientConfig"]["url"]
                        .as_str()
                        .unwrap()
                        .to_owned(),
                );
            }
        }
        let binding = "elbv2-k8s-aws-v1beta1-targetgroupbinding";
        assert_eq!(
            urls,
            [
                "https://127.0.0.1:9443/mutate-v1-pod".to_owned(),
                format!("https://127.0.0.1:9443/mutate-{binding}"),
                format!("https://127.0.0.1:9443/validate-{binding}"),
            ]
        );
    }
}
