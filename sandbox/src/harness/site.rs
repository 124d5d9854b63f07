//! The place of one test: a namespace of a real control plane with nodes, load balancers and a
//! targetgate process of its own.
#![allow(
    clippy::unwrap_used,
    reason = "helpers of tests fail as the tests themselves do"
)]

use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use jiff::Timestamp;
use kube::api::{Api, DynamicObject, ListParams, Patch, PatchParams};
use kube::{Client, ResourceExt as _};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::OnceCell;
use tokio::time::{Instant, sleep};

use super::observer::Observer;
use super::workload::resource;
use super::{Aws, Claim, Cluster, Nodes, Parts, Process, Start, define_bindings};
use crate::controlplane::{self, ControlPlane};
use crate::elb::{Delays, HealthCheck, LoadBalancerKind, State, TargetGroupSpec};
use crate::kubelet::{self, Network, Reuse};
use crate::registrar;

/// Everything awaited here comes long before.
const DEADLINE: Duration = Duration::from_secs(240);
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// The namespace's label that asks for gates.
const OPT_IN: &str = "elbv2.k8s.aws/pod-readiness-gate-inject";

/// One for all tests that do not stop it; it goes with the process.
static CONTROL_PLANE: OnceCell<ControlPlane> = OnceCell::const_new();
/// Makes the names of each test its own.
static SITES: AtomicU32 = AtomicU32::new(0);

/// A target group.
#[derive(Clone, Debug)]
pub struct Group {
    pub arn: String,
    /// How long a deregistered target gets new requests.
    lag: Duration,
}

/// All of it ends when this is dropped; what the cluster was given goes with the control plane.
pub struct Site {
    pub namespace: String,
    pub cluster: Cluster,
    pub aws: Aws,
    pub nodes: Nodes,
    /// Sees every pod of the namespace.
    pub observer: Observer,
    pub product: Process,
    pub start: Start,
    parts: Parts,
    #[expect(dead_code, reason = "held until dropped")]
    directory: TempDir,
}

impl Site {
    /// On the control plane that the tests share. `reuse` says when the address of a pod that is gone
    /// comes back.
    pub async fn new(binary: &Path, reuse: Reuse) -> Self {
        let start = || control_plane(binary);
        let started = CONTROL_PLANE.get_or_try_init(start).await;
        Self::on(started.unwrap_or_else(fail), binary, reuse).await
    }

    /// On a control plane that [`control_plane`] has made.
    pub async fn on(control_plane: &ControlPlane, binary: &Path, reuse: Reuse) -> Self {
        Self::with(control_plane, binary, reuse, None, &[]).await
    }

    /// The same, with a name for the process, which then stands for election, and flags of its own.
    pub async fn with(
        control_plane: &ControlPlane,
        binary: &Path,
        reuse: Reuse,
        pod: Option<&str>,
        flags: &[&str],
    ) -> Self {
        let namespace = format!("site-{}", SITES.fetch_add(1, Ordering::Relaxed));
        let cluster = Cluster {
            client: control_plane.client().await.unwrap(),
            kubeconfig: control_plane.kubeconfig().to_owned(),
            sandbox: false,
        };
        let claim = Claim::new(cluster.client.clone());
        claim.create_namespace(&namespace).await.unwrap();
        let mut parts = Parts::default();
        let aws = Aws::start(&mut parts).await.unwrap();
        let nodes = nodes(&mut parts, &cluster, &aws, &claim, &namespace, reuse).await;
        let observer = Observer::default();
        let watch = observer.clone();
        parts.spawn(watch.watch(cluster.client.clone(), namespace.clone()));

        let directory = tempfile::tempdir().unwrap();
        let start = Start {
            pod: pod.map(str::to_owned),
            flags: flags.iter().map(|&flag| flag.to_owned()).collect(),
            ..Start::new(binary, directory.path(), &namespace)
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

    /// Starts targetgate again, and makes the cluster ask its hooks.
    pub async fn start_targetgate(&mut self) {
        let product = self.start.process(&self.cluster, &self.aws).await;
        self.product = product.unwrap_or_else(fail);
        self.point_hooks(self.product.hooks).await;
    }

    /// Registers the shipped hooks under names of this site's own, or points them to another address.
    pub async fn point_hooks(&self, address: SocketAddr) {
        for mut hooks in self.start.hooks(address).unwrap() {
            hooks["metadata"]["name"] = json!(self.namespace);
            let types = hooks["kind"].as_str().unwrap();
            let resource = resource("admissionregistration.k8s.io/v1", types);
            let api: Api<DynamicObject> = Api::all_with(self.client(), &resource);
            patch(&api, &self.namespace, Patch::Apply(hooks)).await;
        }
    }

    /// Makes the namespace ask for gates.
    pub async fn opt_in(&self) {
        let api: Api<DynamicObject> = Api::all_with(self.client(), &resource("v1", "Namespace"));
        let label = json!({ "metadata": { "labels": { OPT_IN: "enabled" } } });
        patch(&api, &self.namespace, Patch::Merge(label)).await;
    }

    /// Makes a target group.
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

    /// Makes a load balancer of these groups. Returns its ARN and where it listens.
    pub async fn balance(
        &mut self,
        kind: LoadBalancerKind,
        groups: &[(&Group, u32)],
    ) -> (String, SocketAddr) {
        let groups = arns(groups);
        let balanced = self.aws.balance(&mut self.parts, "web", kind, &groups);
        balanced.await.unwrap()
    }

    /// Shifts a load balancer's traffic.
    pub fn shift(&self, balancer: &str, groups: &[(&Group, u32)]) {
        let elb = &self.aws.elb;
        elb.add_listener(balancer, &arns(groups)).unwrap();
    }

    /// Waits until so many targets of a group are healthy, and none that has been deregistered gets
    /// anything new.
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
        let call = self.aws.client.describe_target_health();
        let answer = call.target_group_arn(&group.arn).send().await.unwrap();
        let targets = answer.target_health_descriptions().iter();
        let states = targets.filter_map(|target| target.target_health()?.state());
        states.filter(|state| state.as_str() == "healthy").count()
    }

    /// What became of all targets, oldest first.
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

    /// The objects of a kind that lives in the namespace.
    pub fn api(&self, kind: &str) -> Api<DynamicObject> {
        let group = match kind {
            "Deployment" | "StatefulSet" | "DaemonSet" => "apps/v1",
            "TargetGroupBinding" => "elbv2.k8s.aws/v1beta1",
            _ => "v1",
        };
        Api::namespaced_with(self.client(), &self.namespace, &resource(group, kind))
    }

    /// The pods with a label.
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

    /// Waits until `look` finds something. `what` completes "waited in vain for …".
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

/// A control plane that rolls, with the binding's CRD.
pub async fn control_plane(binary: &Path) -> anyhow::Result<ControlPlane> {
    // An error means that one is installed already, which is as good.
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

async fn nodes(
    parts: &mut Parts,
    cluster: &Cluster,
    aws: &Aws,
    claim: &Claim,
    namespace: &str,
    reuse: Reuse,
) -> Nodes {
    let kubelet = kubelet::Options {
        nodes: ["a", "b", "c"]
            .map(|zone| format!("{namespace}-{zone}"))
            .into(),
        namespace: Some(namespace.to_owned()),
        start_after: Duration::from_millis(300),
        network: Network::AddressPerPod(reuse),
        seed: std::process::id().into(),
        ..kubelet::Options::default()
    };
    let registrar = registrar::Options {
        delay: Duration::from_millis(300),
        namespace: Some(namespace.to_owned()),
    };
    let nodes = Nodes::start(parts, cluster, aws, claim, kubelet, registrar);
    nodes.await.unwrap_or_else(fail)
}

fn arns<'a>(groups: &[(&'a Group, u32)]) -> Vec<(&'a str, u32)> {
    let arn = |&(group, weight): &(&'a Group, u32)| (&*group.arn, weight);
    groups.iter().map(arn).collect()
}

/// Patches an object, which must go well.
pub async fn patch(api: &Api<DynamicObject>, name: &str, patch: Patch<Value>) {
    let params = match &patch {
        Patch::Apply(_) => PatchParams::apply("test").force(),
        _ => PatchParams::default(),
    };
    api.patch(name, &params, &patch).await.unwrap();
}

/// An error with all its causes.
pub fn fail<T>(error: impl Into<anyhow::Error>) -> T {
    panic!("{:#}", error.into())
}

/// The value of a field by its path, such as `/spec/replicas`.
pub fn field<'a>(object: &'a DynamicObject, path: &str) -> &'a Value {
    object.data.pointer(path).unwrap_or(&Value::Null)
}
