//! The environment of one test: a namespace of a real control plane, with nodes, load balancers and
//! a targetgate process of its own.
#![allow(
    clippy::unwrap_used,
    reason = "helpers of tests fail as the tests themselves do"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use aws_sdk_elasticloadbalancingv2::types::TargetHealthDescription;
use jiff::Timestamp;
use kube::api::{Api, DeleteParams, DynamicObject, ListParams, Patch};
use kube::{Client, ResourceExt as _};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::OnceCell;
use tokio::time::{Instant, sleep};

use super::object::{patch, resource};
use super::observer::Observer;
use super::{Aws, Claim, Cluster, Nodes, Parts, Process, Registrar, Setup, Start, define_bindings};
use crate::controlplane::{self, ControlPlane};
use crate::elb::{Delays, HealthCheck, LoadBalancerKind, State, TargetGroupSpec};
use crate::incumbent::{self, Incumbent};
use crate::kubelet::{self, Network, Reuse};
use crate::registrar;

/// The deadline of every wait here. Chosen, far above what any of them takes.
const DEADLINE: Duration = Duration::from_secs(240);
/// The pause between two looks. Chosen.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// The label by which a namespace opts in to gates.
const OPT_IN: &str = "elbv2.k8s.aws/pod-readiness-gate-inject";
/// The label by which a namespace opts in to drain.
const DRAIN: &str = "targetgate.dev/drain";

/// The control plane of all tests that do not stop it. It ends with the process.
static CONTROL_PLANE: OnceCell<ControlPlane> = OnceCell::const_new();
/// Counts the sites, so that each test has names of its own.
static SITES: AtomicU32 = AtomicU32::new(0);

#[derive(Clone, Debug)]
pub struct Group {
    pub arn: String,
    /// How long a deregistered target still gets new requests.
    lag: Duration,
}

/// The environment, which ends when this is dropped. Objects in the cluster stay until the control
/// plane ends.
pub struct Site {
    pub namespace: String,
    pub cluster: Cluster,
    pub aws: Aws,
    pub nodes: Nodes,
    /// Observes every pod of the namespace.
    pub observer: Observer,
    pub product: Process,
    pub start: Start,
    parts: Parts,
    #[expect(dead_code, reason = "held until dropped")]
    directory: TempDir,
}

impl Site {
    /// Creates a site on the control plane that the tests share. `reuse` says when the address of a
    /// deleted pod is used again.
    pub async fn new(binary: &Path, reuse: Reuse) -> Self {
        Self::shared(Setup::new(binary, reuse)).await
    }

    /// Creates a site on the control plane that the tests share, with further flags of the process.
    pub async fn with_flags(binary: &Path, reuse: Reuse, flags: &[&str]) -> Self {
        Self::shared(Setup::new(binary, reuse).flags(flags)).await
    }

    /// Creates a site on the control plane that the tests share.
    pub async fn shared(setup: Setup<'_>) -> Self {
        Self::with(shared_control_plane(setup.binary).await, setup).await
    }

    /// Creates a site on the control plane that the tests share, in which targetgate registers the
    /// targets.
    pub async fn registering(binary: &Path, reuse: Reuse) -> Self {
        let setup = Setup {
            pod: Some("targetgate-0"),
            ..Setup::new(binary, reuse).registrar(Registrar::Targetgate)
        };
        Self::shared(setup).await
    }

    /// Creates a site on a control plane of [`control_plane`].
    pub async fn on(control_plane: &ControlPlane, binary: &Path, reuse: Reuse) -> Self {
        Self::with(control_plane, Setup::new(binary, reuse)).await
    }

    /// The same, set up otherwise.
    pub async fn with(control_plane: &ControlPlane, setup: Setup<'_>) -> Self {
        let namespace = format!("site-{}", SITES.fetch_add(1, Ordering::Relaxed));
        let cluster = Cluster {
            client: control_plane.client().await.unwrap(),
            kubeconfig: control_plane.kubeconfig().to_owned(),
            sandbox: false,
        };
        let claim = Claim::new(cluster.client.clone());
        claim.create_namespace(&namespace).await.unwrap();
        let mut parts = Parts::default();
        let aws = match &setup.aws {
            Some(shared) => shared.clone(),
            None => Aws::start(&mut parts).await.unwrap(),
        };
        let nodes = nodes(&mut parts, &cluster, &aws, &claim, &namespace, &setup).await;
        let observer = Observer::default();
        let watch = observer.clone();
        parts.spawn(watch.watch(cluster.client.clone(), namespace.clone()));

        let directory = tempfile::tempdir().unwrap();
        let start = Start {
            pod: setup.pod.map(str::to_owned),
            flags: setup.all_flags(&namespace),
            ..Start::new(setup.binary, directory.path(), &namespace)
        };
        let product = start.process(&cluster, &aws).await;
        let site = Self {
            namespace,
            cluster,
            aws,
            nodes,
            observer,
            product: product.unwrap_or_else(fail),
            start,
            parts,
            directory,
        };
        site.point_hooks(site.product.hooks).await;
        site
    }

    /// Kills targetgate as `kill -9` does.
    pub async fn kill_targetgate(&mut self) {
        self.product.kill();
    }

    /// Starts targetgate again, and registers its hooks.
    pub async fn start_targetgate(&mut self) {
        let product = self.start.process(&self.cluster, &self.aws).await;
        self.product = product.unwrap_or_else(fail);
        self.point_hooks(self.product.hooks).await;
    }

    /// An incumbent for this site's namespace, not started yet. Its Lease lies in that namespace.
    pub fn incumbent(&self, leases: bool) -> Incumbent {
        let options = incumbent::Options {
            namespace: Some(self.namespace.clone()),
            lease_namespace: leases.then(|| self.namespace.clone()),
        };
        Incumbent::new(self.client(), self.aws.client.clone(), options)
    }

    /// Registers the shipped hooks under names of this site's own, or changes their address.
    pub async fn point_hooks(&self, address: SocketAddr) {
        for mut hooks in self.start.hooks(address).unwrap() {
            hooks["metadata"]["name"] = json!(self.namespace);
            let types = hooks["kind"].as_str().unwrap();
            let resource = resource("admissionregistration.k8s.io/v1", types);
            let api: Api<DynamicObject> = Api::all_with(self.client(), &resource);
            patch(&api, &self.namespace, Patch::Apply(hooks)).await;
        }
    }

    /// Removes the hooks of this site.
    pub async fn remove_hooks(&self) {
        for kind in [
            "MutatingWebhookConfiguration",
            "ValidatingWebhookConfiguration",
        ] {
            let resource = resource("admissionregistration.k8s.io/v1", kind);
            let api: Api<DynamicObject> = Api::all_with(self.client(), &resource);
            let params = DeleteParams::default();
            api.delete(&self.namespace, &params).await.unwrap();
        }
    }

    /// Labels the namespace so that it opts in to gates.
    pub async fn opt_in(&self) {
        self.label(OPT_IN, "enabled").await;
    }

    /// Labels the namespace so that its pods get a sleep before their end.
    pub async fn opt_in_to_drain(&self) {
        self.label(DRAIN, "sleep").await;
    }

    /// Annotates the namespace, by which it has policies for its pods.
    pub async fn annotate(&self, key: &str, value: &str) {
        self.mark(json!({ "annotations": { key: value } })).await;
    }

    async fn label(&self, label: &str, value: &str) {
        self.mark(json!({ "labels": { label: value } })).await;
    }

    async fn mark(&self, metadata: Value) {
        let api: Api<DynamicObject> = Api::all_with(self.client(), &resource("v1", "Namespace"));
        let change = Patch::Merge(json!({ "metadata": metadata }));
        patch(&api, &self.namespace, change).await;
    }

    /// Creates a target group.
    pub fn group(&self, name: &str, kind: LoadBalancerKind, delays: Delays) -> Group {
        let lag = delays.propagation_lag;
        let spec = match kind {
            LoadBalancerKind::Application => {
                TargetGroupSpec::http(name).health_check(HealthCheck::http("/healthz"))
            }
            LoadBalancerKind::Network => TargetGroupSpec::tcp(name),
        };
        let arn = self.aws.elb.create_target_group(spec.delays(delays));
        Group { arn, lag }
    }

    /// Creates a load balancer that forwards to these groups. Returns its ARN and the address of
    /// its listener.
    pub async fn balance(
        &mut self,
        kind: LoadBalancerKind,
        groups: &[(&Group, u32)],
    ) -> (String, SocketAddr) {
        let groups = arns(groups);
        let balanced = self.aws.balance(&mut self.parts, "web", kind, &groups);
        balanced.await.unwrap()
    }

    /// Changes the weights of a load balancer's groups.
    pub fn shift(&self, balancer: &str, groups: &[(&Group, u32)]) {
        let elb = &self.aws.elb;
        elb.add_listener(balancer, &arns(groups)).unwrap();
    }

    /// Holds the data plane of a group back: from now on a deregistered target gets new requests for
    /// this long.
    pub fn hold_back(&self, group: &mut Group, lag: Duration) {
        self.aws.elb.hold_back(&group.arn, lag).unwrap();
        group.lag = lag;
    }

    /// Waits until `targets` targets of a group are healthy, and no deregistered target gets new
    /// requests.
    pub async fn settled(&self, group: &Group, targets: usize) {
        self.until(
            "the targets to be healthy and the old ones to be let go",
            async || {
                let healthy = self.healthy(group).await;
                (healthy == targets && self.has_let_go(group)).then_some(())
            },
        )
        .await;
    }

    async fn healthy(&self, group: &Group) -> usize {
        let states = self.target_states(group).await.into_values();
        states.filter(|state| state == "healthy").count()
    }

    /// The addresses that are registered in a group and not draining.
    pub async fn registered(&self, group: &Group) -> BTreeSet<String> {
        let states = self.target_states(group).await.into_iter();
        let registered = states.filter(|(_, state)| state != "draining");
        registered.map(|(ip, _)| ip).collect()
    }

    /// What ELB answers about a group: states by address.
    pub async fn target_states(&self, group: &Group) -> BTreeMap<String, String> {
        let call = self.aws.client.describe_target_health();
        let answer = call.target_group_arn(&group.arn).send().await.unwrap();
        let targets = answer.target_health_descriptions().iter();
        let state = |target: &TargetHealthDescription| {
            let state = target.target_health()?.state()?.as_str().to_owned();
            Some((target.target()?.id()?.to_owned(), state))
        };
        targets.filter_map(state).collect()
    }

    /// The number of calls of an action that have reached ELB.
    pub fn calls(&self, action: &str) -> usize {
        let calls = self.aws.elb.calls();
        calls.iter().filter(|call| call.action == action).count()
    }

    /// The changes of all targets, oldest first.
    fn targets(&self) -> Vec<String> {
        let log = self.aws.elb.log();
        log.iter().map(|entry| format!("{entry:?}")).collect()
    }

    fn has_let_go(&self, group: &Group) -> bool {
        let log = self.aws.elb.log();
        let mut drained = log
            .iter()
            .filter(|entry| entry.arn == group.arn && entry.to == Some(State::Draining));
        drained.all(|entry| entry.at + group.lag < Timestamp::now())
    }

    /// The API of a namespaced kind, in the site's namespace.
    pub fn api(&self, kind: &str) -> Api<DynamicObject> {
        let group = match kind {
            "Deployment" | "StatefulSet" | "DaemonSet" => "apps/v1",
            "TargetGroupBinding" => "elbv2.k8s.aws/v1beta1",
            "PodDisruptionBudget" => "policy/v1",
            "TargetRecord" => "targetgate.dev/v1",
            "EndpointSlice" => "discovery.k8s.io/v1",
            "Event" => "events.k8s.io/v1",
            _ => "v1",
        };
        Api::namespaced_with(self.client(), &self.namespace, &resource(group, kind))
    }

    /// The pods that a label selector selects.
    pub async fn pods(&self, selector: &str) -> Vec<DynamicObject> {
        let params = ListParams::default().labels(selector);
        self.api("Pod").list(&params).await.unwrap().items
    }

    fn client(&self) -> Client {
        self.cluster.client.clone()
    }

    /// The metrics of the targetgate process.
    pub async fn metrics(&self) -> String {
        self.product.metrics().await.unwrap_or_else(fail)
    }

    /// Waits until `look` returns a value. `what` completes "waited in vain for …".
    pub async fn until<T>(&self, what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
        let deadline = Instant::now() + DEADLINE;
        loop {
            if let Some(found) = look().await {
                return found;
            }
            if Instant::now() > deadline {
                self.give_up(what).await;
            }
            sleep(LOOK_EVERY).await;
        }
    }

    async fn give_up(&self, what: &str) -> ! {
        let log = std::fs::read_to_string(self.start.log());
        let log = log.unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        let tail = lines[lines.len().saturating_sub(30)..].join("\n");
        let pods = self.api("Pod").list(&ListParams::default()).await;
        let pods = pods.map(|pods| pods.items).unwrap_or_default();
        let pods: Vec<String> = pods
            .iter()
            .map(|pod| {
                let status = &pod.data["status"]["conditions"];
                format!("{} {:?} {status}", pod.name_any(), pod.labels())
            })
            .collect();
        panic!(
            "waited in vain for {what}\npods:\n{}\ntargets:\n{}\ntargetgate:\n{tail}\n{}",
            pods.join("\n"),
            self.targets().join("\n"),
            self.metrics().await,
        );
    }
}

/// Starts a control plane with the controllers that roll workloads, and with the CRD of bindings.
pub async fn control_plane(binary: &Path) -> anyhow::Result<ControlPlane> {
    // An error means that a provider is installed already.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let options = controlplane::Options {
        controller_manager: true,
        ..controlplane::Options::default()
    };
    let control_plane = ControlPlane::start(options).await?;
    let client = control_plane.client().await?;
    define_bindings(binary, &Claim::new(client.clone())).await?;
    let bindings = resource("elbv2.k8s.aws/v1beta1", "TargetGroupBinding");
    let bindings: Api<DynamicObject> = Api::all_with(client, &bindings);
    let deadline = Instant::now() + DEADLINE;
    while let Err(error) = bindings.list(&ListParams::default()).await {
        anyhow::ensure!(Instant::now() < deadline, "the CRD is not served: {error}");
        sleep(LOOK_EVERY).await;
    }
    Ok(control_plane)
}

/// The control plane of all tests that do not stop it.
pub async fn shared_control_plane(binary: &Path) -> &'static ControlPlane {
    let started = CONTROL_PLANE
        .get_or_try_init(|| control_plane(binary))
        .await;
    started.unwrap_or_else(fail)
}

async fn nodes(
    parts: &mut Parts,
    cluster: &Cluster,
    aws: &Aws,
    claim: &Claim,
    namespace: &str,
    setup: &Setup<'_>,
) -> Nodes {
    let kubelet = kubelet::Options {
        nodes: ["a", "b", "c"]
            .map(|zone| format!("{namespace}-{zone}"))
            .into(),
        namespace: Some(namespace.to_owned()),
        start_after: Duration::from_millis(300),
        network: Network::AddressPerPod(setup.reuse),
        seed: std::process::id().into(),
        ..kubelet::Options::default()
    };
    let ours = setup.registrar == Registrar::Sandbox;
    let registrar = ours.then(|| registrar::Options {
        delay: Duration::from_millis(300),
        namespace: Some(namespace.to_owned()),
    });
    let nodes = Nodes::start(parts, cluster, aws, claim, kubelet, registrar);
    nodes.await.unwrap_or_else(fail)
}

fn arns<'a>(groups: &[(&'a Group, u32)]) -> Vec<(&'a str, u32)> {
    let arn = |&(group, weight): &(&'a Group, u32)| (&*group.arn, weight);
    groups.iter().map(arn).collect()
}

/// Panics with an error and all its causes.
pub fn fail<T>(error: impl Into<anyhow::Error>) -> T {
    panic!("{:#}", error.into())
}
