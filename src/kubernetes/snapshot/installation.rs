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
}

/// Reads the container of this Deployment; the one of its name, else the first.
///
/// # Errors
/// Why it cannot be read.
pub async fn read(client: &Client, deployment: &ObjectKey) -> Result<Started, String> {
    let deployments: Api<Deployment> = Api::namespaced(client.clone(), &deployment.namespace);
    let read = timeout(CALL_TIMEOUT, deployments.get_opt(&deployment.name));
    let found = match read.await {
        Ok(Ok(Some(found))) => found,
        Ok(Ok(None)) => return Err(format!("Deployment {deployment} does not exist")),
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
    let containers = pod.map_or(vec![], |pod| pod.containers);
    let named = containers
        .iter()
        .find(|container| *container.name == *deployment.name);
    let Some(container) = named.or(containers.first()) else {
        return Err(format!("Deployment {deployment} has no container"));
    };
    let variables = container.env.iter().flatten();
    let variables =
        variables.filter_map(|variable| Some((variable.name.clone(), variable.value.clone()?)));
    Ok(Started {
        arguments: container.args.clone().unwrap_or_default(),
        variables: variables.collect(),
    })
}
