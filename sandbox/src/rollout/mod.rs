//! A Deployment controller: it keeps the pods of Deployments, and rolls them.
//!
//! It creates pods directly, without ReplicaSets, because only the order matters in which pods come
//! and go. It respects `spec.strategy.rollingUpdate`, but not `paused`, `minReadySeconds`,
//! `Recreate` and deadlines.

mod plan;

use std::collections::HashMap;
use std::net::{Ipv4Addr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use futures::future::try_join_all;
use futures::{StreamExt, stream};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams, Preconditions};
use kube::{Api, Client, Resource, ResourceExt};
use serde_json::json;
use tokio::time::sleep;

pub(crate) use self::plan::HASH_LABEL;
use self::plan::Step;
use crate::clock::{self, Now};
use crate::watched::watched;

/// The pause before another try of what failed. Chosen.
const AGAIN: Duration = Duration::from_millis(200);

#[derive(Clone)]
pub struct Options {
    /// The container ports of pods.
    pub ports: Ports,
    /// The clock of the conditions' times.
    pub now: Now,
}

/// The container ports of pods.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ports {
    /// The ports of the template.
    AsInTemplate,
    /// A free port for each container port of each pod, if all pods share one address: see
    /// [`crate::kubelet::Network::OneAddress`]. A Service finds the ports by name.
    OnePerPod,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            ports: Ports::AsInTemplate,
            now: clock::system(),
        }
    }
}

/// Rolls every Deployment until it is dropped. It must not run in a cluster that has a Deployment
/// controller, because the two would undo each other's work. It logs what fails and tries again.
pub async fn run(client: Client, options: Options) {
    let (deployments, deployment_changes) = watched::<Deployment>(Api::all(client.clone()));
    let (_pods, pod_changes) = watched::<Pod>(Api::all(client.clone()));
    let mut controller = Controller {
        client,
        options,
        known: HashMap::new(),
    };
    // All changes that are there already lead to one look.
    let mut changes = stream::select(deployment_changes, pod_changes).ready_chunks(1024);
    let mut failed = false;
    loop {
        tokio::select! {
            Some(_) = changes.next() => {}
            () = sleep(AGAIN), if failed => {}
        }
        failed = !controller.sync(deployments.state()).await;
    }
}

struct Controller {
    client: Client,
    options: Options,
    /// The last seen Deployments, by UID, deleted ones included until their pods are deleted.
    known: HashMap<String, Arc<Deployment>>,
}

impl Controller {
    /// Takes every Deployment as far as possible. Returns false if something has to be tried again.
    async fn sync(&mut self, deployments: Vec<Arc<Deployment>>) -> bool {
        let mut present = HashMap::new();
        for deployment in deployments {
            present.insert(deployment.uid().unwrap_or_default(), deployment);
        }
        self.known.extend(present.clone());
        let mut well = true;
        for (uid, deployment) in self.known.clone() {
            let done = if present.contains_key(&uid) {
                self.roll(&deployment).await
            } else {
                self.collect(&deployment).await
            };
            match done {
                Ok(()) if present.contains_key(&uid) => {}
                Ok(()) => {
                    self.known.remove(&uid);
                }
                Err(error) => {
                    let name = deployment.name_any();
                    tracing::debug!(deployment = name, %error, "cannot go on; trying again");
                    well = false;
                }
            }
        }
        well
    }

    /// Takes steps until the only one is to wait. It lists the pods before each step, because a
    /// cache could lack the pod that the previous step created.
    async fn roll(&self, deployment: &Deployment) -> Result<(), kube::Error> {
        let hash = template_hash(deployment);
        loop {
            let pods = self.pods_of(deployment).await?;
            self.write_status(deployment, &hash, &pods).await?;
            match plan::next(deployment, &hash, &pods) {
                Step::Create(count) => {
                    let pods: Vec<Pod> = (0..count).map(|_| self.pod(deployment, &hash)).collect();
                    let (api, params) = (self.pods(deployment), PostParams::default());
                    try_join_all(pods.iter().map(|pod| api.create(&params, pod))).await?;
                }
                Step::Delete { name, uid } => self.delete(deployment, &name, &uid).await?,
                Step::Wait => return Ok(()),
            }
        }
    }

    /// Deletes the pods of a deleted Deployment, as garbage collection does.
    async fn collect(&self, deployment: &Deployment) -> Result<(), kube::Error> {
        for pod in self.pods_of(deployment).await? {
            if pod.metadata.deletion_timestamp.is_none() {
                let uid = pod.uid().unwrap_or_default();
                self.delete(deployment, &pod.name_any(), &uid).await?;
            }
        }
        Ok(())
    }

    fn pods(&self, deployment: &Deployment) -> Api<Pod> {
        let namespace = deployment.namespace().unwrap_or_default();
        Api::namespaced(self.client.clone(), &namespace)
    }

    async fn pods_of(&self, deployment: &Deployment) -> Result<Vec<Pod>, kube::Error> {
        let uid = deployment.uid();
        let pods = self.pods(deployment).list(&ListParams::default()).await?;
        let owned = |pod: &Pod| {
            let mut owners = pod.owner_references().iter();
            owners.any(|owner| Some(&owner.uid) == uid.as_ref())
        };
        Ok(pods.into_iter().filter(owned).collect())
    }

    fn pod(&self, deployment: &Deployment, hash: &str) -> Pod {
        let template = deployment.spec.clone().unwrap_or_default().template;
        let metadata = template.metadata.unwrap_or_default();
        let mut labels = metadata.labels.unwrap_or_default();
        labels.insert(HASH_LABEL.to_owned(), hash.to_owned());
        let mut spec = template.spec;
        if self.options.ports == Ports::OnePerPod {
            let containers = spec.iter_mut().flat_map(|spec| &mut spec.containers);
            for port in containers.flat_map(|container| container.ports.iter_mut().flatten()) {
                port.container_port = free_port().unwrap_or(port.container_port);
            }
        }
        Pod {
            metadata: ObjectMeta {
                generate_name: Some(format!("{}-{hash}-", deployment.name_any())),
                labels: Some(labels),
                annotations: metadata.annotations,
                owner_references: deployment
                    .controller_owner_ref(&())
                    .map(|owner| vec![owner]),
                ..ObjectMeta::default()
            },
            spec,
            status: None,
        }
    }

    async fn delete(
        &self,
        deployment: &Deployment,
        name: &str,
        uid: &str,
    ) -> Result<(), kube::Error> {
        let params = DeleteParams {
            preconditions: Some(Preconditions {
                uid: Some(uid.to_owned()),
                resource_version: None,
            }),
            ..DeleteParams::default()
        };
        match self.pods(deployment).delete(name, &params).await {
            Err(kube::Error::Api(status)) if [404, 409].contains(&status.code) => Ok(()),
            answer => answer.map(drop),
        }
    }

    async fn write_status(
        &self,
        deployment: &Deployment,
        hash: &str,
        pods: &[Pod],
    ) -> Result<(), kube::Error> {
        let status = plan::status(deployment, hash, pods, (self.options.now)());
        if deployment.status.as_ref() == Some(&status) {
            return Ok(());
        }
        let namespace = deployment.namespace().unwrap_or_default();
        let api: Api<Deployment> = Api::namespaced(self.client.clone(), &namespace);
        let patch = Patch::Merge(json!({"status": status}));
        api.patch_status(&deployment.name_any(), &PatchParams::default(), &patch)
            .await
            .map(drop)
    }
}

/// The FNV-1a hash of the template's JSON, which is equal for equal templates.
fn template_hash(deployment: &Deployment) -> String {
    let template = deployment.spec.as_ref().map(|spec| &spec.template);
    let text = json!(template).to_string();
    let hash = text.bytes().fold(0x811c_9dc5_u32, |hash, byte| {
        (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
    });
    format!("{hash:08x}")
}

/// A port that was free a moment ago.
fn free_port() -> Option<i32> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).ok()?;
    Some(listener.local_addr().ok()?.port().into())
}

#[cfg(test)]
mod tests;
