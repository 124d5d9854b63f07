//! targetgate itself: the real binary, as its own process, and what a cluster is given with it.

use std::fs::File;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, bail};
use http::StatusCode;
use k8s_openapi::ByteString;
use serde_json::{Value, json};
use tokio::process::{Child, Command};

use super::{Aws, Claim, Cluster, until};
use crate::elb;
use crate::get::get;

/// As they are shipped; where the hooks are, whom to trust, and the namespace that they are asked
/// about are the run's.
const WEBHOOKS: &str = include_str!("../../../deploy/base/webhooks.yaml");
/// Lines of the log that an error shows.
const LOG_TAIL: usize = 12;

/// How a process is started.
#[derive(Clone, Debug)]
pub struct Start {
    /// The `targetgate` binary.
    pub binary: PathBuf,
    /// For its certificate and its log.
    pub directory: PathBuf,
    /// The namespace that it watches, and is asked about.
    pub namespace: String,
    /// Its name as a pod, under which it stands for election in that namespace. Without one it is
    /// alone, and leads.
    pub pod: Option<String>,
    /// The address of this machine at which the API server reaches the hooks.
    pub hooks_ip: IpAddr,
    /// Further flags of `targetgate serve`.
    pub flags: Vec<String>,
}

impl Start {
    /// On loopback.
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

    /// Where the process logs to.
    pub fn log(&self) -> PathBuf {
        let name = self.pod.as_deref().unwrap_or("targetgate");
        self.directory.join(format!("{name}.log"))
    }

    /// The shipped registrations of hooks, for what listens at this address: a process that has been
    /// started so, or a balancer before such processes.
    ///
    /// # Errors
    ///
    /// When the CA's certificate cannot be read.
    pub fn hooks(&self, address: SocketAddr) -> anyhow::Result<Vec<Value>> {
        let ca = self.directory.join("certs/ca.crt");
        let ca = std::fs::read(&ca).with_context(|| format!("cannot read {}", ca.display()))?;
        let mut hooks = documents(WEBHOOKS).context("deploy/base/webhooks.yaml is no YAML")?;
        for document in &mut hooks {
            redirect(document, address, &ca);
            confine(document, &self.namespace);
        }
        Ok(hooks)
    }
}

/// The running process; it is killed when this is dropped.
pub struct Product {
    child: Child,
    /// Where it answers `/readyz` and `/metrics`.
    pub admin: SocketAddr,
    /// Where it answers reviews.
    pub hooks: SocketAddr,
    log: PathBuf,
}

impl Product {
    /// Gives the cluster the CRD of bindings, as `targetgate crd` prints it.
    ///
    /// # Errors
    ///
    /// When the cluster has one already, or refuses it.
    pub async fn define_bindings(binary: &Path, claim: &Claim) -> anyhow::Result<()> {
        let crd = output(Command::new(binary).arg("crd")).await?;
        for document in documents(&crd).context("`targetgate crd` printed no YAML")? {
            claim.create(document).await?;
        }
        Ok(())
    }

    /// Starts the process with a certificate of its own and waits until it is ready. The cluster
    /// does not ask its hooks yet.
    ///
    /// # Errors
    ///
    /// When it cannot be started, ends, or does not get ready; with the end of its log.
    pub async fn start(start: &Start, cluster: &Cluster, aws: &Aws) -> anyhow::Result<Self> {
        let certificates = start.directory.join("certs");
        if !certificates.exists() {
            let mut command = Command::new(&start.binary);
            command.args(["certs", "dev", "--out"]).arg(&certificates);
            output(command.arg(format!("--san={}", start.hooks_ip))).await?;
        }
        let log = start.log();
        let child = serve(start, cluster, aws, &certificates, &log)?;
        let nowhere = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let mut product = Self {
            child,
            admin: nowhere,
            hooks: nowhere,
            log,
        };
        product.listening().await?;
        product.ready().await?;
        Ok(product)
    }

    /// Makes the cluster ask the hooks of this process, for its namespace only.
    ///
    /// # Errors
    ///
    /// When the cluster has hooks of that name already, or refuses them.
    pub async fn register_hooks(&self, start: &Start, claim: &Claim) -> anyhow::Result<()> {
        for document in start.hooks(self.hooks)? {
            claim.create(document).await?;
        }
        Ok(())
    }

    /// Its process id; none once it has ended and that is known.
    pub fn id(&self) -> Option<u32> {
        self.child.id()
    }

    /// What it measures, as text.
    ///
    /// # Errors
    ///
    /// When it does not answer.
    pub async fn metrics(&self) -> anyhow::Result<String> {
        let (status, body) = get(self.admin, "/metrics").await?;
        anyhow::ensure!(status == StatusCode::OK, "/metrics answers {status}");
        String::from_utf8(body.into()).context("/metrics is no text")
    }

    /// Waits for the process to end, which it should not, and says how.
    pub async fn ended(&mut self) -> anyhow::Error {
        match self.child.wait().await {
            Ok(status) => self.failure(&format!("targetgate ended: {status}")),
            Err(error) => anyhow::Error::new(error).context("cannot wait for targetgate"),
        }
    }

    /// Kills the process, as `kill -9` does.
    pub async fn kill(&mut self) {
        // One that has ended already is as good.
        let _ = self.child.kill().await;
    }

    /// Waits until it says where it listens.
    async fn listening(&mut self) -> anyhow::Result<()> {
        let log = self.log.clone();
        let mut found = None;
        let listening = until("targetgate to listen", async || {
            found = started(&std::fs::read_to_string(&log)?);
            Ok(found.is_some())
        });
        tokio::select! {
            listening = listening => listening.map_err(|error| self.failure(&error.to_string()))?,
            status = self.child.wait() => bail!(self.failure(&format!("targetgate ended: {status:?}"))),
        }
        if let Some((hooks, admin)) = found {
            (self.hooks, self.admin) = (hooks, admin);
        }
        Ok(())
    }

    async fn ready(&mut self) -> anyhow::Result<()> {
        let admin = self.admin;
        let ready = until("targetgate to be ready", async || {
            Ok(get(admin, "/readyz")
                .await
                .is_ok_and(|(status, _)| status == StatusCode::OK))
        });
        tokio::select! {
            ready = ready => match ready {
                Ok(()) => Ok(()),
                Err(error) => {
                    let answer = get(admin, "/readyz").await;
                    let said = answer.map(|(_, body)| String::from_utf8_lossy(&body).into_owned());
                    Err(self.failure(&format!("{error}; /readyz: {said:?}")))
                }
            },
            status = self.child.wait() => bail!(self.failure(&format!("targetgate ended: {status:?}"))),
        }
    }

    /// An error with the end of the log.
    fn failure(&self, what: &str) -> anyhow::Error {
        let log = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        let tail = lines[lines.len().saturating_sub(LOG_TAIL)..].join("\n");
        anyhow::anyhow!("{what}; the end of its log:\n{tail}")
    }
}

fn serve(
    start: &Start,
    cluster: &Cluster,
    aws: &Aws,
    certificates: &Path,
    log: &Path,
) -> anyhow::Result<Child> {
    let output = File::create(log).with_context(|| format!("cannot write {}", log.display()))?;
    let errors = output.try_clone()?;
    let mut command = Command::new(&start.binary);
    command
        .arg("serve")
        .arg(format!("--listen={}", SocketAddr::new(start.hooks_ip, 0)))
        .arg("--admin-listen=127.0.0.1:0")
        .arg("--tls-cert")
        .arg(certificates.join("tls.crt"))
        .arg("--tls-key")
        .arg(certificates.join("tls.key"))
        .arg("--kubeconfig")
        .arg(&cluster.kubeconfig)
        .arg(format!("--watch-namespaces={}", start.namespace))
        .arg("--log-format=json")
        .args(&start.flags)
        .env("AWS_REGION", elb::Options::default().region)
        .env("AWS_ENDPOINT_URL_ELASTIC_LOAD_BALANCING_V2", &aws.endpoint)
        .env("AWS_ACCESS_KEY_ID", "sandbox")
        .env("AWS_SECRET_ACCESS_KEY", "sandbox")
        .env("AWS_EC2_METADATA_DISABLED", "true")
        // What the user has set up for AWS is not for the sandbox.
        .env("AWS_CONFIG_FILE", "/dev/null")
        .env("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
        .env("NO_PROXY", no_proxy(std::env::var("NO_PROXY").ok()))
        .env_remove("AWS_PROFILE")
        .env_remove("AWS_SESSION_TOKEN")
        .stdin(Stdio::null())
        .stdout(output)
        .stderr(errors)
        .kill_on_drop(true);
    match &start.pod {
        Some(pod) => command.args(["--namespace", &start.namespace, "--pod-name", pod]),
        // Another run in the same cluster has a process of its own.
        None => command.arg("--lease=off"),
    };
    command.spawn().with_context(|| {
        format!(
            "cannot start {}; build it, or name it with --targetgate",
            start.binary.display()
        )
    })
}

/// The sandbox's ELB is on loopback; for the rest it stays as the user has it.
fn no_proxy(users: Option<String>) -> String {
    let users = users.filter(|users| !users.is_empty());
    users.map_or("127.0.0.1".to_owned(), |users| format!("{users},127.0.0.1"))
}

/// Where the process listens, for hooks and for its administrator, by its log.
fn started(log: &str) -> Option<(SocketAddr, SocketAddr)> {
    let mut lines = log
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let started = lines.find(|line| line["message"] == "started")?;
    let address = |name: &str| started[name].as_str()?.parse().ok();
    Some((address("listen")?, address("admin")?))
}

/// Runs the command to its end and returns what it printed.
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
    String::from_utf8(output.stdout).with_context(|| format!("{what} printed no UTF-8"))
}

fn documents(yaml: &str) -> anyhow::Result<Vec<Value>> {
    Ok(serde_saphyr::from_multiple(yaml)?)
}

/// Points the hooks at a process of this machine instead of a Service of the cluster.
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

/// Leaves the cluster's other namespaces alone.
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
