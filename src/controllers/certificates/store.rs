//! The Secret in the API server: live reads, and writes based on its `resourceVersion`.

use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::{Api, DeleteParams, ObjectMeta, PostParams, Preconditions};
use kube::{Client, ResourceExt as _};
use targetgate_core::rotation::Record;

use crate::controllers::certificates::{ManagedObjects, secret};
use crate::kubernetes::{MANAGER, owner};

/// The type of a new Secret. An existing Secret keeps its type, which is immutable.
const TYPE: &str = "kubernetes.io/tls";

/// Location and owner of the Secret.
pub(super) struct Store {
    client: Client,
    namespace: String,
    secrets: Api<Secret>,
    name: String,
    /// The Deployment that owns the Secret.
    owner: String,
}

impl Store {
    pub(super) fn new(client: &Client, place: &ManagedObjects) -> Self {
        Self {
            secrets: Api::namespaced(client.clone(), &place.namespace),
            client: client.clone(),
            namespace: place.namespace.clone(),
            name: place.secret.clone(),
            owner: place.deployment.clone(),
        }
    }

    pub(super) fn api(&self) -> Api<Secret> {
        self.secrets.clone()
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) async fn read(&self) -> Result<Option<Secret>, kube::Error> {
        self.secrets.get_opt(&self.name).await
    }

    /// Replaces the Secret on which the change was decided by the record.
    pub(super) async fn write(
        &self,
        found: Option<&Secret>,
        record: &Record,
    ) -> Result<(), kube::Error> {
        let params = PostParams {
            field_manager: Some(MANAGER.to_owned()),
            ..PostParams::default()
        };
        let mut secret = found.cloned().unwrap_or_else(|| self.empty());
        // The garbage collector deletes the Secret with its owner: an owner that is set still exists.
        let owned = |owner: &OwnerReference| owner.kind == owner::KIND && owner.name == self.owner;
        if !secret.owner_references().iter().any(owned)
            && let Some(owner) = owner::read(&self.client, &self.namespace, &self.owner).await
        {
            secret.owner_references_mut().push(owner);
        }
        secret::write(record, secret.data.get_or_insert_default());
        match found {
            None => self.secrets.create(&params, &secret).await?,
            Some(_) => self.secrets.replace(&self.name, &params, &secret).await?,
        };
        Ok(())
    }

    /// Deletes a Secret that cannot be written, so that another can be created.
    pub(super) async fn delete(&self, found: &Secret) -> Result<(), kube::Error> {
        let params = DeleteParams::default().preconditions(Preconditions {
            resource_version: found.resource_version(),
            uid: found.uid(),
        });
        self.secrets.delete(&self.name, &params).await.map(drop)
    }

    fn empty(&self) -> Secret {
        Secret {
            metadata: ObjectMeta {
                name: Some(self.name.clone()),
                ..ObjectMeta::default()
            },
            type_: Some(TYPE.to_owned()),
            ..Secret::default()
        }
    }
}
