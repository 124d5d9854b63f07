//! The life of one pod on the node: it is started, kept up to date, and ended.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::join_all;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Binding, Container, ObjectReference, Pod};
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use kube::{Api, Client, ResourceExt};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};

use super::Options;
use super::address::Addresses;
use super::lifecycle::PreStop;
use super::pod_server::{Page, PodServer};
use super::status::{self, Observed};

/// The pause before another try of what failed. Chosen.
const AGAIN: Duration = Duration::from_millis(200);
/// The least time that a container gets for SIGTERM, even if its hook has used up the grace period.
/// The kubelet's `minimumGracePeriodInSeconds`.
const LEAST_GRACE: Duration = Duration::from_secs(2);

/// The state that all pods of the node share.
pub(super) struct Context {
    pub(super) client: Client,
    pub(super) options: Options,
    pub(super) addresses: Addresses,
}

/// Runs one pod until it has ended and is deleted. `pod` receives its newer versions.
pub(super) async fn run(context: Arc<Context>, node: String, mut pod: watch::Receiver<Arc<Pod>>) {
    let first = Arc::clone(&pod.borrow());
    let api = Api::namespaced(
        context.client.clone(),
        &first.namespace().unwrap_or_default(),
    );
    let worker = Worker {
        context,
        api,
        name: first.name_any(),
        uid: first.uid().unwrap_or_default(),
    };
    if first
        .spec
        .as_ref()
        .is_none_or(|spec| spec.node_name.is_none())
    {
        worker.bind(&first, node).await;
    }
    let lease = loop {
        match worker.context.addresses.lease() {
            Some(lease) => break lease,
            None => sleep(AGAIN).await,
        }
    };
    let containers = worker.live(&mut pod, lease.ip()).await;
    let last = Arc::clone(&pod.borrow());
    worker.end(&last, containers).await;
}

struct Worker {
    context: Arc<Context>,
    api: Api<Pod>,
    name: String,
    uid: String,
}

/// A container that listens on its ports.
struct Running {
    /// Whether it is a native sidecar: a restartable init container.
    sidecar: bool,
    pre_stop: PreStop,
    servers: Vec<PodServer>,
}

impl Worker {
    /// Binds the pod to its node, as a scheduler does.
    async fn bind(&self, pod: &Pod, node: String) {
        let mut binding = Binding {
            target: ObjectReference {
                kind: Some("Node".to_owned()),
                name: Some(node),
                ..ObjectReference::default()
            },
            ..Binding::default()
        };
        binding.metadata.name = Some(self.name.clone());
        binding.metadata.namespace = pod.namespace();
        binding.metadata.uid = Some(self.uid.clone());
        let params = PostParams::default();
        loop {
            let bound = self.api.create_subresource::<_, serde_json::Value>(
                "binding", &self.name, &params, &binding,
            );
            match bound.await {
                Ok(_) => return,
                // Another scheduler has bound the pod, or it is gone; the watch will tell.
                Err(kube::Error::Api(status)) if [404, 409].contains(&status.code) => return,
                Err(error) => {
                    tracing::debug!(pod = self.name, %error, "cannot bind the pod; trying again");
                    sleep(AGAIN).await;
                }
            }
        }
    }

    /// Runs the containers, and keeps the status up to date, until the pod is being deleted.
    /// Returns the containers to end.
    async fn live(&self, pod: &mut watch::Receiver<Arc<Pod>>, ip: IpAddr) -> Vec<Running> {
        let now = || (self.context.options.now)();
        let mut observed = Observed {
            ip,
            host: self.context.addresses.host(),
            accepted: now(),
            running: None,
        };
        let mut containers = Vec::new();
        let mut start_at = Instant::now() + self.context.options.start_after;
        loop {
            let current = Arc::clone(&pod.borrow_and_update());
            if current.metadata.deletion_timestamp.is_some() {
                return containers;
            }
            let written = self.publish(&current, &observed, now()).await;
            tokio::select! {
                changed = pod.changed() => if changed.is_err() {
                    return containers;
                },
                () = sleep_until(start_at), if observed.running.is_none() => {
                    match self.start(&current, ip).await {
                        Ok(started) => {
                            containers = started;
                            observed.running = Some(now());
                        }
                        Err(error) => {
                            tracing::warn!(pod = self.name, %ip, %error, "cannot listen for the pod; trying again");
                            start_at = Instant::now() + AGAIN;
                        }
                    }
                }
                () = sleep(AGAIN), if written.is_err() => {}
            }
        }
    }

    /// Listens on every TCP port of every container, restartable init containers included.
    async fn start(&self, pod: &Pod, ip: IpAddr) -> std::io::Result<Vec<Running>> {
        let options = &self.context.options;
        let page = Page {
            body: Bytes::from(format!("{}\n", self.name)),
            health_path: options.health_path.clone(),
            work: options.work,
        };
        let mut running = Vec::new();
        for container in containers(pod) {
            let mut servers = Vec::new();
            for port in ports(container) {
                servers.push(PodServer::start(SocketAddr::new(ip, port), page.clone()).await?);
            }
            running.push(Running {
                sidecar: is_sidecar(container),
                pre_stop: PreStop::of(container, ip),
                servers,
            });
        }
        Ok(running)
    }

    async fn publish(
        &self,
        pod: &Pod,
        observed: &Observed,
        now: Timestamp,
    ) -> Result<(), kube::Error> {
        let Some(patch) = status::patch(pod, observed, now) else {
            return Ok(());
        };
        let written = self
            .api
            .patch_status(
                &self.name,
                &PatchParams::default(),
                &Patch::Strategic(patch),
            )
            .await;
        match written {
            Ok(_) => Ok(()),
            // The pod is gone, or another pod has its name: a UID that differs is answered with
            // 422.
            Err(kube::Error::Api(status)) if [404, 422].contains(&status.code) => {
                tracing::debug!(pod = self.name, %status, "the pod is gone, and so its status is not written");
                Ok(())
            }
            Err(error) => {
                tracing::debug!(pod = self.name, %error, "cannot write the status; trying again");
                Err(error)
            }
        }
    }

    /// Ends a deleted pod as a kubelet does: it runs all hooks at once, sends SIGTERM, cuts after the
    /// grace period, and removes the object. Native sidecars get SIGTERM after all main containers
    /// have ended, in reverse order.
    async fn end(&self, pod: &Pod, containers: Vec<Running>) {
        let grace = pod.metadata.deletion_grace_period_seconds.unwrap_or(0);
        let ends = Instant::now() + Duration::from_secs(grace.try_into().unwrap_or(0));
        let (sidecars, main): (Vec<Running>, Vec<Running>) = containers
            .into_iter()
            .partition(|container| container.sidecar);
        let hooks = join_all(sidecars.iter().map(|sidecar| self.hook(sidecar, ends)));
        let main = join_all(main.into_iter().map(|container| async {
            self.hook(&container, ends).await;
            stop(container, ends).await;
        }));
        tokio::join!(hooks, main);
        for sidecar in sidecars.into_iter().rev() {
            stop(sidecar, ends).await;
        }
        self.delete().await;
    }

    /// Runs the container's preStop hook, at most for the grace period.
    async fn hook(&self, container: &Running, ends: Instant) {
        if let Err(error) = container.pre_stop.run(left(ends)).await {
            tracing::warn!(
                pod = self.name,
                error = &error as &dyn std::error::Error,
                "the preStop hook failed"
            );
        }
    }

    async fn delete(&self) {
        let params = DeleteParams {
            grace_period_seconds: Some(0),
            preconditions: Some(Preconditions {
                uid: Some(self.uid.clone()),
                resource_version: None,
            }),
            ..DeleteParams::default()
        };
        loop {
            match self.api.delete(&self.name, &params).await {
                Ok(_) => return,
                // The pod is gone, or another pod has its name: the precondition fails with 409.
                Err(kube::Error::Api(status)) if [404, 409].contains(&status.code) => return,
                Err(error) => {
                    tracing::debug!(pod = self.name, %error, "cannot delete the pod; trying again");
                    sleep(AGAIN).await;
                }
            }
        }
    }
}

/// Sends SIGTERM, and SIGKILL after what is left of the grace period.
async fn stop(container: Running, ends: Instant) {
    let grace = left(ends).max(LEAST_GRACE);
    let servers = container.servers.into_iter();
    join_all(servers.map(|server| server.terminate(grace))).await;
}

fn left(ends: Instant) -> Duration {
    ends.saturating_duration_since(Instant::now())
}

/// The main containers and the native sidecars.
fn containers(pod: &Pod) -> impl Iterator<Item = &Container> {
    pod.spec.iter().flat_map(|spec| {
        let init = spec.init_containers.iter().flatten();
        let sidecars = init.filter(|container| is_sidecar(container));
        spec.containers.iter().chain(sidecars)
    })
}

/// Whether this is a restartable init container; main containers have no such policy.
fn is_sidecar(container: &Container) -> bool {
    container.restart_policy.as_deref() == Some("Always")
}

fn ports(container: &Container) -> impl Iterator<Item = u16> {
    let ports = container.ports.iter().flatten();
    ports
        .filter(|port| {
            port.protocol
                .as_deref()
                .is_none_or(|protocol| protocol == "TCP")
        })
        .filter_map(|port| u16::try_from(port.container_port).ok())
}
