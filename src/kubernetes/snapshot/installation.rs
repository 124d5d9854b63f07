//! With which flags an installation runs, by its Deployment.

use k8s_openapi::api::apps::v1::Deployment;
use kube::Client;
use kube::api::Api;
use targetgate_core::names::ObjectKey;
use tokio::time::timeout;

use crate::kubernetes::{CALL_TIMEOUT, why};

/// What the container of an installation is started with.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Started {
    pub arguments: Vec<String>,
    /// The variables with a value of their own: what the kubelet fills in is not known.
    pub variables: Vec<(String, String)>,
    /// The name of the service account.
    pub account: String,
    /// The folders of Secrets that are mounted, each with the Secret's name.
    pub secrets: Vec<(String, String)>,
}

/// Reads the container of this Deployment; the one of its name, else the first.
///
/// # Errors
/// Why it cannot be read.
pub async fn read(client: &Client, deployment: &ObjectKey) -> Result<Started, String> {
    let found = find(client, deployment).await?;
    found.ok_or_else(|| format!("Deployment {deployment} does not exist"))
}

/// Does the same; `None` if the Deployment does not exist.
///
/// # Errors
/// Why it cannot be read.
pub async fn find(client: &Client, deployment: &ObjectKey) -> Result<Option<Started>, String> {
    let deployments: Api<Deployment> = Api::namespaced(client.clone(), &deployment.namespace);
    let read = timeout(CALL_TIMEOUT, deployments.get_opt(&deployment.name));
    let found = match read.await {
        Ok(Ok(Some(found))) => found,
        Ok(Ok(None)) => return Ok(None),
        Ok(Err(error)) => {
            return Err(format!(
                "Deployment {deployment} cannot be read: {}",
                why(&error)
            ));
        }
        Err(_) => {
            return Err(format!(
                "Deployment {deployment}: no answer within {CALL_TIMEOUT:?}"
            ));
        }
    };
    let pod = found.spec.and_then(|spec| spec.template.spec);
    let pod = pod.unwrap_or_default();
    let containers = &pod.containers;
    let named = containers
        .iter()
        .find(|container| *container.name == *deployment.name);
    let Some(container) = named.or(containers.first()) else {
        return Err(format!("Deployment {deployment} has no container"));
    };
    let variables = container.env.iter().flatten();
    let variables =
        variables.filter_map(|variable| Some((variable.name.clone(), variable.value.clone()?)));
    let mounts = container.volume_mounts.iter().flatten();
    let secrets = mounts.filter_map(|mount| {
        let mut volumes = pod.volumes.iter().flatten();
        let volume = volumes.find(|volume| volume.name == mount.name)?;
        let secret = volume.secret.as_ref()?.secret_name.clone()?;
        Some((mount.mount_path.clone(), secret))
    });
    Ok(Some(Started {
        arguments: container.args.clone().unwrap_or_default(),
        variables: variables.collect(),
        secrets: secrets.collect(),
        account: pod
            .service_account_name
            .clone()
            .unwrap_or_else(|| "default".to_owned()),
    }))
}
