//! Our Deployment as the owner of what we create: when uninstalling deletes it, the garbage collector deletes the rest.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::Api;
use kube::{Client, ResourceExt as _};
use tokio::time::timeout;
use tracing::debug;

use crate::kubernetes::why;

/// The kind of the owner.
pub(crate) const KIND: &str = "Deployment";
/// How long the read may delay a creation. Chosen: an object without owner is better than none.
const WITHIN: Duration = Duration::from_secs(2);

/// The UID of this Deployment, as [`read`] reads it.
pub(crate) async fn uid(client: &Client, namespace: &str, name: &str) -> Option<Arc<str>> {
    let owner = read(client, namespace, name).await?;
    Some(owner.uid.into())
}

/// Reads the reference to this Deployment. Without a Deployment, as in development, there is no owner. Needs the verb
/// `get` on the Deployment by name.
pub(crate) async fn read(client: &Client, namespace: &str, name: &str) -> Option<OwnerReference> {
    let deployments: Api<Deployment> = Api::namespaced(client.clone(), namespace);
    match timeout(WITHIN, deployments.get_metadata_opt(name)).await {
        Ok(Ok(found)) => Some(OwnerReference {
            api_version: "apps/v1".to_owned(),
            kind: KIND.to_owned(),
            name: name.to_owned(),
            uid: found?.uid()?,
            ..OwnerReference::default()
        }),
        Ok(Err(error)) => {
            debug!(deployment = name, why = why(&error), "owner not read");
            None
        }
        Err(_) => None,
    }
}
