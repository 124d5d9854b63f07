//! targetgate itself: the real binary, as its own process, and what a cluster is given with it.

use std::fs::File;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, bail};
use http::StatusCode;
use k8s_openapi::ByteString;
use k8s_openapi::api::admissionregistration::v1::{
    MutatingWebhookConfiguration, ValidatingWebhookConfiguration,
};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::PostParams;
use kube::{Api, Client};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::process::{Child, Command};

use super::shop::until;
use super::world::{World, listen};
use crate::elb;
use crate::get::get;

/// As they are shipped; only where the hooks are, and whom to trust, is the demo's.
const WEBHOOKS: &str = include_str!("../../../deploy/base/webhooks.yaml");
/// Lines of the log that an error shows.
const LOG_TAIL: usize = 12;

/// The running process; it is killed when this is dropped.
pub(super) struct Product {
    child: Child,
    pub(super) admin: SocketAddr,
    log: PathBuf,
}

impl Product {
    /// Gives the cluster the CRD, starts the process, waits until it is ready, and registers its
    /// hooks. Files go to `directory`.
    pub(super) async fn start(
        binary: &Path,
        world: &World,
        directory: &Path,
    ) -> anyhow::Result<Self> {
        let certificates = directory.join("certs");
        output(
            Command::new(binary)
                .args(["certs", "dev", "--out"])
                .arg(&certificates),
        )
        .await?;
        let crd = output(Command::new(binary).arg("crd")).await?;
        for document in documents(&crd).context("`targetgate crd` printed no YAML")? {
            create::<CustomResourceDefinition>(&world.client, document).await?;
        }
        let (hooks, admin) = (free_address().await?, free_address().await?);
        let log = directory.join("targetgate.log");
        let child = serve(binary, world, &certificates, hooks, admin, &log)?;
        let mut product = Self { child, admin, log };
        product.ready().await?;
        let ca = certificates.join("ca.crt");
        let ca = std::fs::read(&ca).with_context(|| format!("cannot read {}", ca.display()))?;
        register_hooks(&world.client, hooks, &ca).await?;
        Ok(product)
    }

    /// Waits for the process to end, which it should not, and says how.
    pub(super) async fn ended(&mut self) -> anyhow::Error {
        match self.child.wait().await {
            Ok(status) => self.failure(&format!("targetgate ended: {status}")),
            Err(error) => anyhow::Error::new(error).context("cannot wait for targetgate"),
        }
    }

    /// Ends the process.
    pub(super) async fn stop(mut self) {
        // One that has ended already is as good.
        let _ = self.child.kill().await;
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
    binary: &Path,
    world: &World,
    certificates: &Path,
    hooks: SocketAddr,
    admin: SocketAddr,
    log: &Path,
) -> anyhow::Result<Child> {
    let output = File::create(log).with_context(|| format!("cannot write {}", log.display()))?;
    let errors = output.try_clone()?;
    let mut command = Command::new(binary);
    command
        .arg("serve")
        .arg(format!("--listen={hooks}"))
        .arg(format!("--admin-listen={admin}"))
        .arg("--tls-cert")
        .arg(certificates.join("tls.crt"))
        .arg("--tls-key")
        .arg(certificates.join("tls.key"))
        .arg("--kubeconfig")
        .arg(&world.kubeconfig)
        .env("AWS_REGION", elb::Options::default().region)
        .env(
            "AWS_ENDPOINT_URL_ELASTIC_LOAD_BALANCING_V2",
            &world.elb_endpoint,
        )
        .env("AWS_ACCESS_KEY_ID", "sandbox")
        .env("AWS_SECRET_ACCESS_KEY", "sandbox")
        .env("AWS_EC2_METADATA_DISABLED", "true")
        // What the user has set up for AWS is not for the sandbox.
        .env("AWS_CONFIG_FILE", "/dev/null")
        .env("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
        .env("NO_PROXY", "127.0.0.1")
        .env_remove("AWS_PROFILE")
        .env_remove("AWS_SESSION_TOKEN")
        .stdin(Stdio::null())
        .stdout(output)
        .stderr(errors)
        .kill_on_drop(true);
    command.spawn().with_context(|| {
        format!(
            "cannot start {}; build it, or name it with --targetgate",
            binary.display()
        )
    })
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

/// An address that was free a moment ago.
async fn free_address() -> anyhow::Result<SocketAddr> {
    Ok(listen().await?.1)
}

fn documents(yaml: &str) -> anyhow::Result<Vec<Value>> {
    Ok(serde_saphyr::from_multiple(yaml)?)
}

async fn register_hooks(client: &Client, hooks: SocketAddr, ca: &[u8]) -> anyhow::Result<()> {
    let documents = documents(WEBHOOKS).context("deploy/base/webhooks.yaml is no YAML")?;
    for mut document in documents {
        redirect(&mut document, hooks, ca);
        match document["kind"].as_str() {
            Some("MutatingWebhookConfiguration") => {
                create::<MutatingWebhookConfiguration>(client, document).await?;
            }
            Some("ValidatingWebhookConfiguration") => {
                create::<ValidatingWebhookConfiguration>(client, document).await?;
            }
            kind => bail!("deploy/base/webhooks.yaml has an object of kind {kind:?}"),
        }
    }
    Ok(())
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

async fn create<K>(client: &Client, object: Value) -> anyhow::Result<()>
where
    K: kube::Resource<DynamicType = ()>
        + DeserializeOwned
        + serde::Serialize
        + Clone
        + std::fmt::Debug,
{
    let object: K =
        serde_json::from_value(object).with_context(|| format!("this is no {}", K::kind(&())))?;
    Api::<K>::all(client.clone())
        .create(&PostParams::default(), &object)
        .await
        .with_context(|| format!("cannot make the {}", K::kind(&())))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shipped_hook_is_redirected_and_otherwise_as_shipped() {
        let hooks = "127.0.0.1:9443".parse().unwrap();
        let mut urls = Vec::new();
        for shipped in documents(WEBHOOKS).unwrap() {
            let mut redirected = shipped.clone();
            redirect(&mut redirected, hooks, b"CA");
            let pairs = shipped["webhooks"].as_array().unwrap().iter();
            for (shipped, redirected) in pairs.zip(redirected["webhooks"].as_array().unwrap()) {
                let mut rest = redirected.clone();
                rest["clientConfig"] = shipped["clientConfig"].clone();
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
