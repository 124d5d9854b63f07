//! The API server that a command talks to.

use std::path::Path;

use anyhow::Context as _;
use kube::config::{KubeConfigOptions, Kubeconfig, KubeconfigError};
use kube::{Client, Config};

use crate::args::ClusterFlags;
use crate::kubernetes::client;

/// A client of the cluster that the flags name.
///
/// # Errors
/// The configuration cannot be read or used.
pub(super) async fn of_flags(flags: &ClusterFlags) -> anyhow::Result<Client> {
    client(flags.kubeconfig.as_deref(), flags.context.as_deref()).await
}

/// A client by this kubeconfig and context; by default by the service account of the pod, else by the default kubeconfig.
///
/// # Errors
/// The configuration cannot be read or used.
pub(super) async fn client(
    kubeconfig: Option<&Path>,
    context: Option<&str>,
) -> anyhow::Result<Client> {
    let mut config = match kubeconfig {
        Some(path) => {
            let file = Kubeconfig::read_from(path)
                .with_context(|| format!("--kubeconfig: cannot read {}", path.display()))?;
            of_file(file, context)
                .await
                .with_context(|| format!("--kubeconfig: cannot use {}", path.display()))?
        }
        None if context.is_some() => of_default_file(context)
            .await
            .context("--context: the default kubeconfig cannot be used")?,
        None => match Config::incluster() {
            Ok(config) => config,
            Err(_) => of_default_file(None).await.context(
                "--kubeconfig is not given, this is no pod with a service account, \
                 and the default kubeconfig cannot be used",
            )?,
        },
    };
    // kube would resend a request that was answered with 429 or 503, unnoticed and with its own
    // backoff. Our callers have backoffs, deadlines and rules of their own for a retry.
    config.default_retry = false;
    client::client(config).context("cannot make a client of the Kubernetes API")
}

async fn of_default_file(context: Option<&str>) -> Result<Config, KubeconfigError> {
    of_file(Kubeconfig::read()?, context).await
}

/// The cluster of the file's context. Ignores a proxy of the environment, which is for AWS, as kube does in a
/// cluster, but uses one that the file names.
async fn of_file(file: Kubeconfig, context: Option<&str>) -> Result<Config, KubeconfigError> {
    let mut clusters = file.clusters.iter().filter_map(|c| c.cluster.as_ref());
    let named = clusters.any(|cluster| cluster.proxy_url.is_some());
    let options = KubeConfigOptions {
        context: context.map(str::to_owned),
        ..KubeConfigOptions::default()
    };
    let mut config = Config::from_custom_kubeconfig(file, &options).await?;
    config.proxy_url = config.proxy_url.filter(|_| named);
    Ok(config)
}
