//! The Kubernetes API of a run: the sandbox's own, or that of an existing cluster.

use std::future::pending;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::Context;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};

use super::{Parts, listen};
use crate::api::{self, Api};

/// A Kubernetes API, with a client for this process and a kubeconfig for others.
#[derive(Clone)]
pub struct Cluster {
    pub client: Client,
    /// The kubeconfig for processes such as targetgate and kubectl.
    pub kubeconfig: PathBuf,
    /// Whether it is the sandbox's own, which has no controllers and ends with the run, so that its
    /// objects need not be removed.
    pub sandbox: bool,
}

impl Cluster {
    /// Starts the sandbox's own API, and writes its kubeconfig to `directory`.
    ///
    /// # Errors
    ///
    /// When it cannot listen, or the file cannot be written.
    pub async fn sandbox(parts: &mut Parts, directory: &Path) -> anyhow::Result<Self> {
        let (listener, address) = listen().await?;
        parts.spawn(Api::new(api::Options::default()).serve(listener, pending()));
        let kubeconfig = directory.join("kubeconfig");
        let text = kubeconfig_without_tls(address);
        std::fs::write(&kubeconfig, &text)
            .with_context(|| format!("cannot write {}", kubeconfig.display()))?;
        let mut config = config(Kubeconfig::from_yaml(&text)?).await?;
        // The proxy settings of the environment must not apply to loopback.
        config.proxy_url = None;
        Ok(Self {
            client: Client::try_from(config)?,
            kubeconfig,
            sandbox: true,
        })
    }

    /// The cluster of a kubeconfig's current context.
    ///
    /// # Errors
    ///
    /// When the kubeconfig cannot be used.
    pub async fn of_kubeconfig(kubeconfig: &Path) -> anyhow::Result<Self> {
        let read = Kubeconfig::read_from(kubeconfig);
        let config = async { config(read?).await };
        let config = config
            .await
            .with_context(|| format!("cannot use the kubeconfig {}", kubeconfig.display()))?;
        Ok(Self {
            client: Client::try_from(config)?,
            kubeconfig: kubeconfig.to_owned(),
            sandbox: false,
        })
    }

    /// A client that returns every refusal. The usual one waits as long as the API server asks for,
    /// and tries again by itself.
    ///
    /// # Errors
    ///
    /// When the kubeconfig cannot be used.
    pub async fn impatient_client(&self) -> anyhow::Result<Client> {
        let mut config = config(Kubeconfig::read_from(&self.kubeconfig)?).await?;
        config.proxy_url = None;
        config.default_retry = false;
        Ok(Client::try_from(config)?)
    }
}

async fn config(kubeconfig: Kubeconfig) -> anyhow::Result<Config> {
    let options = KubeConfigOptions::default();
    Ok(Config::from_custom_kubeconfig(kubeconfig, &options).await?)
}

/// The kubeconfig of an API that is served without TLS.
pub(super) fn kubeconfig_without_tls(server: SocketAddr) -> String {
    format!(
        "apiVersion: v1\n\
         kind: Config\n\
         current-context: sandbox\n\
         contexts: [{{name: sandbox, context: {{cluster: sandbox, user: sandbox}}}}]\n\
         clusters: [{{name: sandbox, cluster: {{server: \"http://{server}\"}}}}]\n\
         users: [{{name: sandbox, user: {{}}}}]\n"
    )
}
