//! The stage of a scenario: a [`World`] without weather and accidents, and a namespace that is used as users
//! do.

use std::net::{IpAddr, SocketAddr};
use std::ops::Deref;
use std::time::Duration;

use futures::{StreamExt as _, TryStreamExt as _};
use k8s_openapi::api::core::v1::{Namespace, Pod, Service};
use k8s_openapi::api::events::v1::Event;
use kube::Client;
use kube::api::{Api as KubeApi, ApiResource, DynamicObject, Patch, PatchParams, PostParams};
use kube::core::GroupVersionKind;
use kube::runtime::watcher;
use serde_json::{Value, json};
use targetgate::commands::certs;
use targetgate::commands::certs::Made;
use targetgate::serve::certificates::{Certificate, PemFiles};
use targetgate_core::elb::buckets::Limits;
use targetgate_core::targets::slices::SliceAddresses;
use targetgate_sandbox::elb::{Delays, Elb};
use tokio::time::{Instant, timeout};

use crate::random::Random;
use crate::replica::{HOME, Replica, Setup};
use crate::world::{DEFINITIONS, World};

/// The namespace of the scenario.
pub(crate) const NAMESPACE: &str = "shop";
/// A deadline for anything that is going to happen. Time is paused, so it costs nothing.
pub(crate) const DEADLINE: Duration = Duration::from_secs(3600);
/// The gate that binding `web` gives.
pub(crate) const GATE: &str = "target-health.elbv2.k8s.aws/web";
/// The seed of a scenario, which spreads pauses and decides nothing else.
pub(crate) const SEED: u64 = 1;

pub(crate) struct Stage {
    world: World,
    pub(crate) elb: Elb,
    pub(crate) kube: Client,
    certificates: Made,
    /// The only replica of a scenario, which then does not take part in an election.
    product: Replica,
}

impl Stage {
    /// A stage with a namespace, the CRD of bindings, Service `web`, and a running product.
    pub(crate) async fn new() -> Self {
        let mut stage = Self::without_product().await;
        stage.start();
        stage
    }

    /// A stage whose product asks ELB for the measurement of drains alone.
    pub(crate) async fn measuring() -> Self {
        let mut stage = Self::of(true).await;
        stage.start();
        stage
    }

    pub(crate) async fn without_product() -> Self {
        Self::of(false).await
    }

    async fn of(measure_drain: bool) -> Self {
        let world = World::new(&mut Random::new(SEED), Delays::alb());
        let certificates = certs::make(HOME, &[], (world.now)()).unwrap();
        let setup = Setup {
            elected: false,
            measure_drain,
            ..setup(&certificates)
        };
        let stage = Self {
            elb: world.accounts.ours().clone(),
            kube: world.api.client(),
            world,
            certificates,
            product: Replica::new("alone", setup),
        };
        stage.install().await;
        let namespace = json!({ "metadata": { "name": NAMESPACE } });
        create(&KubeApi::<Namespace>::all(stage.kube.clone()), namespace).await;
        stage.create_service("web", json!({ "app": "web" })).await;
        stage
    }

    pub(crate) fn start(&mut self) {
        self.product.start(&self.world, &mut Random::new(SEED));
    }

    /// Ends the product at once, as a crash does.
    pub(crate) fn stop(&mut self) {
        self.product.crash(&self.world);
    }

    /// One of several replicas, which takes part in the election.
    pub(crate) fn replica(&self, name: &'static str) -> Replica {
        Replica::new(name, setup(&self.certificates))
    }

    /// A replica that takes part in the election and keeps a certificate of its own.
    pub(crate) fn replica_with_its_own_certificate(&self, name: &'static str) -> Replica {
        let setup = Setup {
            certificate: None,
            ..setup(&self.certificates)
        };
        Replica::new(name, setup)
    }

    /// Registers the shipped hooks, and opts the namespace in.
    pub(crate) async fn install_hooks(&self) {
        self.register_hooks(Some(&self.certificates.ca)).await;
        self.opt_in(json!("enabled")).await;
    }

    /// Sets the opt-in label of the namespace. `null` removes it.
    pub(crate) async fn opt_in(&self, value: Value) {
        let labels = json!({ "elbv2.k8s.aws/pod-readiness-gate-inject": value });
        let patch = Patch::Merge(json!({ "metadata": { "labels": labels } }));
        let namespaces = KubeApi::<Namespace>::all(self.kube.clone());
        let params = PatchParams::default();
        namespaces.patch(NAMESPACE, &params, &patch).await.unwrap();
    }

    /// Annotates the namespace.
    pub(crate) async fn annotate(&self, annotations: Value) {
        let patch = Patch::Merge(json!({ "metadata": { "annotations": annotations } }));
        let namespaces = KubeApi::<Namespace>::all(self.kube.clone());
        let params = PatchParams::default();
        namespaces.patch(NAMESPACE, &params, &patch).await.unwrap();
    }

    /// Lets the watches deliver their events. Paused time moves only once no task on this thread has anything
    /// left to do.
    pub(crate) async fn settle(&self) {
        tokio::time::sleep(Duration::from_secs(1)).await;
    }

    pub(crate) async fn delete_crd(&self) {
        let path = format!("{DEFINITIONS}/targetgroupbindings.elbv2.k8s.aws");
        let (code, answer) = self.call("DELETE", &path, None).await;
        assert_eq!(code, 200, "{answer}");
    }

    pub(crate) async fn create_service(&self, name: &str, selector: Value) {
        let service = json!({
            "metadata": { "name": name },
            "spec": { "selector": selector, "ports": [{ "port": 80, "targetPort": 8080 }] },
        });
        create(&self.services(), service).await;
    }

    /// Creates a group behind a load balancer, and a binding of the same name for it. Returns the ARN.
    pub(crate) async fn bind(&self, name: &str) -> String {
        let arn = self.group(name, false);
        self.bind_to(name, &arn).await;
        arn
    }

    /// Creates a binding of Service `web` to any ARN.
    pub(crate) async fn bind_to(&self, name: &str, arn: &str) {
        let binding = json!({
            "apiVersion": "elbv2.k8s.aws/v1beta1",
            "kind": "TargetGroupBinding",
            "metadata": { "name": name },
            "spec": {
                "targetGroupARN": arn,
                "targetType": "ip",
                "serviceRef": { "name": "web", "port": 80 },
            },
        });
        create(&self.bindings(), binding).await;
    }

    /// Creates a pod behind Service `web`, with ready containers, and gates for these bindings.
    pub(crate) async fn pod(&self, name: &str, ip: &str, bindings: &[&str]) -> Pod {
        let gate =
            |name: &&str| json!({ "conditionType": format!("target-health.elbv2.k8s.aws/{name}") });
        let gates: Vec<Value> = bindings.iter().map(gate).collect();
        let spec = json!({
            "containers": [{ "name": "web", "image": "web" }],
            "readinessGates": gates,
        });
        self.create_pod(name, spec).await;
        self.containers_are_ready(name, ip).await
    }

    /// Creates a pod that Service `web` selects.
    pub(crate) async fn create_pod(&self, name: &str, spec: Value) -> Pod {
        let metadata = json!({ "name": name, "labels": { "app": "web" } });
        let pod = json!({ "metadata": metadata, "spec": spec });
        create(&self.pods(), pod).await
    }

    /// Writes the status that a kubelet writes once the containers are ready.
    pub(crate) async fn containers_are_ready(&self, name: &str, ip: &str) -> Pod {
        let since = (self.now)().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        let condition = json!({
            "type": "ContainersReady", "status": "True", "lastTransitionTime": since,
        });
        let status = json!({ "status": {
            "phase": "Running",
            "startTime": since,
            "podIP": ip,
            "podIPs": [{ "ip": ip }],
            "conditions": [condition],
        } });
        let patch = Patch::Strategic(status);
        let params = PatchParams::default();
        self.pods()
            .patch_status(name, &params, &patch)
            .await
            .unwrap()
    }

    pub(crate) fn pods(&self) -> KubeApi<Pod> {
        KubeApi::namespaced(self.kube.clone(), NAMESPACE)
    }

    pub(crate) fn services(&self) -> KubeApi<Service> {
        KubeApi::namespaced(self.kube.clone(), NAMESPACE)
    }

    pub(crate) fn bindings(&self) -> KubeApi<DynamicObject> {
        let kind = GroupVersionKind::gvk("elbv2.k8s.aws", "v1beta1", "TargetGroupBinding");
        let resource = ApiResource::from_gvk(&kind);
        KubeApi::namespaced_with(self.kube.clone(), NAMESPACE, &resource)
    }

    pub(crate) fn register(&self, arn: &str, ip: &str) {
        self.elb.register(arn, address(ip).ip(), 8080).unwrap();
    }

    /// Waits until gate `web` of the pod has this status and reason. Returns how long that took.
    pub(crate) async fn until_gate(&self, pod: &str, wanted: (&str, &str)) -> Duration {
        self.until_condition(pod, GATE, wanted).await
    }

    /// Waits until a condition of the pod has this status and reason. Returns how long that took.
    pub(crate) async fn until_condition(
        &self,
        pod: &str,
        gate: &str,
        wanted: (&str, &str),
    ) -> Duration {
        let start = Instant::now();
        let config = watcher::Config::default().fields(&format!("metadata.name={pod}"));
        let watch = watcher(self.pods(), config);
        let is_wanted = |event: &watcher::Event<Pod>| match event {
            watcher::Event::Apply(pod) | watcher::Event::InitApply(pod) => condition(pod, gate)
                .is_some_and(|(status, reason, _)| (&*status, &*reason) == wanted),
            _ => false,
        };
        let seen = watch.try_filter(|event| std::future::ready(is_wanted(event)));
        let first = Box::pin(seen).into_future();
        let Ok((Some(Ok(_)), _)) = timeout(DEADLINE, first).await else {
            let pod = self.pods().get(pod).await;
            panic!(
                "{gate} never became {wanted:?}: {:#?}",
                pod.map(|pod| pod.status)
            );
        };
        start.elapsed()
    }

    /// Waits for an Event with this reason. Returns the name of the object that it is about.
    pub(crate) async fn until_event(&self, reason: &str) -> String {
        let events: KubeApi<Event> = KubeApi::namespaced(self.kube.clone(), NAMESPACE);
        let watch = watcher(events, watcher::Config::default());
        let about = watch.try_filter_map(|event| {
            let about = match event {
                watcher::Event::Apply(event) | watcher::Event::InitApply(event) => {
                    let wanted = event.reason.as_deref() == Some(reason);
                    event
                        .regarding
                        .filter(|_| wanted)
                        .and_then(|about| about.name)
                }
                _ => None,
            };
            std::future::ready(Ok(about))
        });
        let first = Box::pin(about).into_future();
        match timeout(DEADLINE, first).await {
            Ok((Some(Ok(about)), _)) => about,
            other => panic!("no Event {reason}: {:?}", other.map(|(first, _)| first)),
        }
    }

    /// Lets time pass, then returns status, reason and message of gate `web` of the pod.
    pub(crate) async fn gate_after(
        &self,
        time: Duration,
        pod: &str,
    ) -> Option<(String, String, String)> {
        tokio::time::sleep(time).await;
        condition(&self.pods().get(pod).await.unwrap(), GATE)
    }

    /// The metrics of the product.
    pub(crate) fn metrics(&self) -> String {
        let life = self.product.life.as_ref();
        life.map(|life| life.metrics.encode()).unwrap_or_default()
    }

    /// How often an action of the ELB API was called.
    pub(crate) fn calls(&self, action: &str) -> usize {
        let calls = self.elb.calls();
        calls.iter().filter(|call| call.action == action).count()
    }
}

impl Deref for Stage {
    type Target = World;

    fn deref(&self) -> &World {
        &self.world
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        let violations = self.world.trace.violations();
        assert!(
            violations.is_empty() || std::thread::panicking(),
            "{violations:#?}"
        );
    }
}

/// The setup of each replica, with this certificate.
fn setup(certificates: &Made) -> Setup {
    Setup {
        // The rate does not climb, because tests count calls.
        elb: Limits {
            rate: 10.0,
            highest: 10.0,
            burst: 40,
        },
        // The default of `--orphan-after`.
        orphan_after: Duration::from_secs(300),
        measure_drain: false,
        certificate: Some(certificate(certificates)),
        elected: true,
        registers: false,
        slice_addresses: SliceAddresses::Pods,
    }
}

fn certificate(made: &Made) -> Certificate {
    let folder = tempfile::tempdir().unwrap();
    let pem = PemFiles {
        certificate: folder.path().join("tls.crt"),
        key: folder.path().join("tls.key"),
    };
    std::fs::write(&pem.certificate, &made.certificate).unwrap();
    std::fs::write(&pem.key, &made.key).unwrap();
    pem.load().unwrap()
}

/// Status, reason and message of a condition of a pod.
pub(crate) fn condition(pod: &Pod, gate: &str) -> Option<(String, String, String)> {
    let conditions = pod.status.as_ref()?.conditions.as_ref()?;
    let condition = conditions
        .iter()
        .find(|condition| condition.type_ == gate)?;
    Some((
        condition.status.clone(),
        condition.reason.clone().unwrap_or_default(),
        condition.message.clone().unwrap_or_default(),
    ))
}

pub(crate) fn address(ip: &str) -> SocketAddr {
    SocketAddr::new(ip.parse::<IpAddr>().unwrap(), 8080)
}

async fn create<K>(api: &KubeApi<K>, object: Value) -> K
where
    K: Clone + std::fmt::Debug + serde::de::DeserializeOwned + serde::Serialize,
{
    let object: K = serde_json::from_value(object).unwrap();
    api.create(&PostParams::default(), &object).await.unwrap()
}
