//! A kubelet and a scheduler, whose pods are real HTTP servers on this machine.
//!
//! It reads and writes only through the Kubernetes API, so that it works with a real API server as
//! well as with the sandbox's. It binds a pod without a node to one of its nodes. The pod gets an
//! address, listens on its container ports after [`Options::start_after`], is `Ready` when its
//! readiness gates are `True` as well, and ends as a plain web server does.

mod address;
mod lifecycle;
mod pod_server;
mod status;
mod worker;

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::api::core::v1::{Node, NodeCondition, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client, ResourceExt};
use serde_json::json;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::sleep;

use self::address::Addresses;
pub use self::address::{Network, Reuse};
use self::worker::Context;
use crate::clock::{self, Now};
use crate::watched::{scoped, watched};

/// The annotation of a pod whose readiness probe fails. Its process serves on.
pub const UNREADY: &str = "sandbox.targetgate.dev/unready";
/// From one heartbeat of a node to the next. The kubelet's default `nodeStatusUpdateFrequency`.
const HEARTBEAT_EVERY: Duration = Duration::from_secs(10);

/// The settings of the kubelet and its pods.
#[derive(Clone)]
pub struct Options {
    /// The names of its nodes, which it creates if they do not exist. It assigns pods to them in
    /// turn, and ignores pods that are bound to other nodes.
    pub nodes: Vec<String>,
    /// The namespace whose pods it runs; `None` means all namespaces.
    pub namespace: Option<String>,
    /// From the binding of a pod until its containers listen and are ready.
    pub start_after: Duration,
    /// How long a pod works on a request, unless the request says otherwise by `?work_ms=N`.
    pub work: Duration,
    /// The path that a pod answers at once.
    pub health_path: String,
    /// How pods get their addresses.
    pub network: Network,
    /// Where the search for a free subnet begins.
    pub seed: u64,
    /// The clock of the conditions' times.
    pub now: Now,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            nodes: vec![
                "node-a".to_owned(),
                "node-b".to_owned(),
                "node-c".to_owned(),
            ],
            namespace: None,
            start_after: Duration::from_millis(500),
            work: Duration::from_millis(10),
            health_path: "/healthz".to_owned(),
            network: Network::detect(),
            seed: 1,
            now: clock::system(),
        }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No subnet for pods is free.
    #[error("cannot claim a subnet of 127.0.0.0/8 for pods; end other sandboxes of this machine")]
    Claim(#[source] io::Error),
    /// The API server refused to create or update a Node.
    #[error("cannot make the Node '{node}'; is the API server up, and may this client make Nodes?")]
    Node {
        node: String,
        #[source]
        source: Box<kube::Error>,
    },
}

/// Runs pods until it is dropped, which ends their servers and connections.
///
/// # Errors
///
/// When it cannot start. Once it runs, it waits for an API server that is unavailable.
pub async fn run(client: Client, options: Options) -> Result<(), Error> {
    let addresses = Addresses::claim(options.network, options.seed).map_err(Error::Claim)?;
    for node in &options.nodes {
        register(&client, node, &options.now)
            .await
            .map_err(|source| Error::Node {
                node: node.clone(),
                source: Box::new(source),
            })?;
    }
    let (pods, mut changes) = watched::<Pod>(scoped(&client, options.namespace.as_deref()));
    let beat = beat(client.clone(), options.clone());
    let mut workers = Workers {
        context: Arc::new(Context {
            client,
            options,
            addresses,
        }),
        pods: HashMap::new(),
        tasks: JoinSet::new(),
        bound: 0,
    };
    workers.tasks.spawn(beat);
    loop {
        tokio::select! {
            Some(()) = changes.next() => workers.sync(pods.state()),
            Some(_) = workers.tasks.join_next() => {}
        }
    }
}

/// Creates a Node, if it does not exist, and reports it as `Ready`.
async fn register(client: &Client, name: &str, now: &Now) -> Result<(), kube::Error> {
    let nodes: Api<Node> = Api::all(client.clone());
    let mut node = Node::default();
    node.metadata.name = Some(name.to_owned());
    match nodes.create(&PostParams::default(), &node).await {
        Ok(_) => {}
        Err(kube::Error::Api(status)) if status.is_already_exists() => {}
        Err(error) => return Err(error),
    }
    let at = Time(now());
    let ready = NodeCondition {
        reason: Some("KubeletReady".to_owned()),
        message: Some("the sandbox's kubelet is running".to_owned()),
        last_transition_time: Some(at.clone()),
        ..heartbeat(at)
    };
    say(&nodes, name, ready).await
}

/// Renews the heartbeat of the nodes, because Kubernetes evicts the pods of a node that sends none.
async fn beat(client: Client, options: Options) {
    let nodes: Api<Node> = Api::all(client);
    loop {
        sleep(HEARTBEAT_EVERY).await;
        for name in &options.nodes {
            let heartbeat = heartbeat(Time((options.now)()));
            if let Err(error) = say(&nodes, name, heartbeat).await {
                tracing::debug!(node = name, %error, "the heartbeat has failed");
            }
        }
    }
}

fn heartbeat(at: Time) -> NodeCondition {
    NodeCondition {
        type_: "Ready".to_owned(),
        status: "True".to_owned(),
        last_heartbeat_time: Some(at),
        ..NodeCondition::default()
    }
}

async fn say(nodes: &Api<Node>, name: &str, ready: NodeCondition) -> Result<(), kube::Error> {
    let patch = Patch::Strategic(json!({"status": {"conditions": [ready]}}));
    nodes
        .patch_status(name, &PatchParams::default(), &patch)
        .await
        .map(drop)
}

/// The pods that run here, by UID, each in a task of its own.
struct Workers {
    context: Arc<Context>,
    pods: HashMap<String, Worker>,
    tasks: JoinSet<()>,
    /// The number of pods that were assigned to a node, which determines the next one's node.
    bound: usize,
}

struct Worker {
    newest: watch::Sender<Arc<Pod>>,
    task: tokio::task::AbortHandle,
}

impl Workers {
    /// Starts a worker for each new pod, informs those of changed pods, and ends those of deleted
    /// ones.
    fn sync(&mut self, pods: Vec<Arc<Pod>>) {
        let mut present = HashMap::with_capacity(pods.len());
        for pod in pods {
            if let Some(uid) = pod.uid() {
                present.insert(uid, pod);
            }
        }
        self.pods.retain(|uid, worker| {
            let present = present.contains_key(uid);
            if !present {
                worker.task.abort();
            }
            present
        });
        for (uid, pod) in present {
            match self.pods.get(&uid) {
                Some(worker) => {
                    worker.newest.send_if_modified(|newest| {
                        let newer = newest.resource_version() != pod.resource_version();
                        *newest = pod;
                        newer
                    });
                }
                None => self.begin(uid, pod),
            }
        }
    }

    fn begin(&mut self, uid: String, pod: Arc<Pod>) {
        let nodes = &self.context.options.nodes;
        let node = match node_of(&pod) {
            Some(node) if nodes.contains(&node) => node,
            Some(_) => return,
            None => match nodes.get(self.bound % nodes.len().max(1)) {
                Some(node) => node.clone(),
                None => return,
            },
        };
        self.bound += 1;
        let (newest, versions) = watch::channel(pod);
        let task = worker::run(Arc::clone(&self.context), node, versions);
        let task = self.tasks.spawn(task);
        self.pods.insert(uid, Worker { newest, task });
    }
}

/// The pod's node, or the only one that its affinity allows: the pod of a DaemonSet names its node
/// by affinity, and a scheduler binds it.
fn node_of(pod: &Pod) -> Option<String> {
    let spec = pod.spec.as_ref()?;
    if spec.node_name.is_some() {
        return spec.node_name.clone();
    }
    let affinity = spec.affinity.as_ref()?.node_affinity.as_ref()?;
    let required = affinity
        .required_during_scheduling_ignored_during_execution
        .as_ref()?;
    let [term] = &required.node_selector_terms[..] else {
        return None;
    };
    let mut fields = term.match_fields.iter().flatten();
    let named = fields.find(|field| field.key == "metadata.name" && field.operator == "In")?;
    named.values.as_ref()?.first().cloned()
}

#[cfg(test)]
mod tests;
