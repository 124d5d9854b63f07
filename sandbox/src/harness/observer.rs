//! An independent observer of the pods: a watch of the run's own, which writes nothing and does not
//! ask targetgate.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;

use futures::StreamExt;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::{Api, Client, ResourceExt};
use parking_lot::Mutex;

use crate::condition::is_true;
use crate::rollout::HASH_LABEL;
use crate::watched::watched;

/// The state of a pod, as the observer sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodView {
    pub name: String,
    /// The hash of the template of which its Deployment made it; empty if it has none.
    pub template: String,
    /// The time of its creation by the API server's clock, in whole seconds.
    pub created: Timestamp,
    /// The address of its container port `http`.
    pub target: Option<SocketAddr>,
    pub stage: Stage,
    pub gate: Gate,
    /// When its containers were first seen ready.
    pub running: Option<Timestamp>,
    /// When all its gates were first seen open; `None` for a pod without gates.
    pub opened: Option<Timestamp>,
    /// When it was first seen ready.
    pub ready: Option<Timestamp>,
}

/// The stage of a pod's life, as Kubernetes sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Its containers are not ready.
    Starting,
    /// Its containers are ready, but the pod is not.
    Running,
    /// The pod is ready.
    Ready,
    /// The pod is being deleted, and has not ended.
    Terminating,
    /// The pod no longer exists.
    Gone,
}

impl Stage {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Ready => "ready",
            Self::Terminating => "terminating",
            Self::Gone => "gone",
        }
    }
}

/// The state of all readiness gates of a pod together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gate {
    /// The pod has no gates.
    None,
    /// At least one gate is not `True`.
    Shut,
    /// All gates are `True`.
    Open,
}

impl Gate {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::None => "no gate",
            Self::Shut => "gate shut",
            Self::Open => "gate open",
        }
    }
}

/// The pods that were seen since the start or since [`Observer::forget`], by UID. Clones share
/// them.
#[derive(Clone, Default)]
pub struct Observer {
    pods: Arc<Mutex<BTreeMap<String, PodView>>>,
}

impl Observer {
    /// Watches a namespace until it is dropped.
    pub async fn watch(self, client: Client, namespace: String) {
        let (store, changes) = watched::<Pod>(Api::namespaced(client, &namespace));
        let mut changes = pin!(changes);
        while changes.next().await.is_some() {
            self.take_in(&store.state(), Timestamp::now());
        }
    }

    /// All pods that were seen, by UID, deleted ones included.
    pub fn by_uid(&self) -> BTreeMap<String, PodView> {
        self.pods.lock().clone()
    }

    /// All pods that were seen, in the order of their creation, deleted ones included.
    pub fn pods(&self) -> Vec<PodView> {
        let mut pods: Vec<PodView> = self.pods.lock().values().cloned().collect();
        pods.sort_by(|a, b| (a.created, &a.name).cmp(&(b.created, &b.name)));
        pods
    }

    /// Forgets the pods that no longer exist.
    pub fn forget(&self) {
        let mut pods = self.pods.lock();
        pods.retain(|_, pod| pod.stage != Stage::Gone);
    }

    fn take_in(&self, present: &[Arc<Pod>], now: Timestamp) {
        let mut pods = self.pods.lock();
        for (uid, pod) in pods.iter_mut() {
            let still = present
                .iter()
                .any(|present| present.uid().as_ref() == Some(uid));
            if !still {
                pod.stage = Stage::Gone;
            }
        }
        for pod in present {
            let uid = pod.uid().unwrap_or_default();
            let mut view = view(pod);
            let former = pods.get(&uid);
            let running = former.and_then(|former| former.running);
            let opened = former.and_then(|former| former.opened);
            let ready = former.and_then(|former| former.ready);
            view.running = running.or_else(|| is_true(pod, "ContainersReady").then_some(now));
            view.opened = opened.or_else(|| (view.gate == Gate::Open).then_some(now));
            view.ready = ready.or_else(|| (view.stage == Stage::Ready).then_some(now));
            pods.insert(uid, view);
        }
    }
}

fn view(pod: &Pod) -> PodView {
    PodView {
        name: pod.name_any(),
        template: pod.labels().get(HASH_LABEL).cloned().unwrap_or_default(),
        created: pod
            .creation_timestamp()
            .map(|time| time.0)
            .unwrap_or_default(),
        target: target(pod),
        stage: stage(pod),
        gate: gate(pod),
        running: None,
        opened: None,
        ready: None,
    }
}

fn target(pod: &Pod) -> Option<SocketAddr> {
    let ip = pod.status.as_ref()?.pod_ip.as_ref()?.parse().ok()?;
    let mut ports = pod
        .spec
        .iter()
        .flat_map(|spec| &spec.containers)
        .flat_map(|container| container.ports.iter().flatten());
    let port = ports.find(|port| port.name.as_deref() == Some("http"))?;
    Some(SocketAddr::new(ip, port.container_port.try_into().ok()?))
}

fn stage(pod: &Pod) -> Stage {
    if pod.metadata.deletion_timestamp.is_some() {
        Stage::Terminating
    } else if is_true(pod, "Ready") {
        Stage::Ready
    } else if is_true(pod, "ContainersReady") {
        Stage::Running
    } else {
        Stage::Starting
    }
}

fn gate(pod: &Pod) -> Gate {
    let gates = pod
        .spec
        .iter()
        .flat_map(|spec| spec.readiness_gates.iter().flatten());
    let mut open = gates
        .map(|gate| is_true(pod, &gate.condition_type))
        .peekable();
    match (open.peek().is_some(), open.all(|open| open)) {
        (false, _) => Gate::None,
        (true, false) => Gate::Shut,
        (true, true) => Gate::Open,
    }
}
