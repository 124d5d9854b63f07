//! A simulated world: the sandbox's API server and ELB in this thread, no socket, time paused, and
//! the product's watches and loop among them.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use aws_config::{BehaviorVersion, Region};
use aws_sdk_elasticloadbalancingv2::config::{Credentials, SharedCredentialsProvider};
use futures::{StreamExt as _, TryStreamExt as _};
use jiff::Timestamp;
use k8s_openapi::ByteString;
use k8s_openapi::api::admissionregistration::v1::{
    MutatingWebhookConfiguration, ValidatingWebhookConfiguration,
};
use k8s_openapi::api::core::v1::{Namespace, Pod, Service};
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::Client;
use kube::api::{
    Api as KubeApi, ApiResource, DeleteParams, DynamicObject, Patch, PatchParams, PostParams,
};
use kube::core::GroupVersionKind;
use kube::runtime::watcher;
use serde_json::{Value, json};
use targetgate::commands::certs;
use targetgate::commands::certs::Made;
use targetgate::compose::{Parts, Source, compose};
use targetgate::metrics::Metrics;
use targetgate::serve;
use targetgate::serve::certificates::{Certificate, PemFiles};
use targetgate::serve::listener::Edge;
use targetgate_core::elb::buckets::Limits;
use targetgate_sandbox::api::{self, Api, Switchboard};
use targetgate_sandbox::clock;
use targetgate_sandbox::elb::check::{CheckOutcome, ScriptedProbe};
use targetgate_sandbox::elb::{self, Delays, Elb, LoadBalancerKind, TargetGroupSpec};
use tokio::io::DuplexStream;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

/// The namespace that all of it happens in.
pub(crate) const NAMESPACE: &str = "shop";
/// Where the API server finds the hooks.
const HOOKS: &str = "targetgate.targetgate-system.svc";
/// Long enough for anything that is going to happen; time is paused, so it costs nothing.
pub(crate) const DEADLINE: Duration = Duration::from_secs(3600);
/// The gate of binding `web`.
pub(crate) const GATE: &str = "target-health.elbv2.k8s.aws/web";

pub(crate) struct World {
    pub(crate) api: Api,
    pub(crate) elb: Elb,
    pub(crate) kube: Client,
    pub(crate) probe: ScriptedProbe,
    pub(crate) metrics: Arc<Metrics>,
    certificates: Made,
    network: Switchboard,
    pub(crate) now: clock::Now,
    #[expect(dead_code, reason = "held until dropped")]
    elb_checks: JoinSet<()>,
    product: JoinSet<()>,
}

impl World {
    /// A namespace, the binding's CRD, Service `web`, group and binding `web`, and a running product.
    pub(crate) async fn new() -> Self {
        let mut world = Self::without_product().await;
        world.start();
        world
    }

    pub(crate) async fn without_product() -> Self {
        let now = clock::simulated("2026-01-01T00:00:00Z".parse().unwrap());
        let network = Switchboard::default();
        let api = Api::new(api::Options {
            now: now.clone(),
            dial: Arc::new(network.clone()),
            ..api::Options::default()
        });
        let probe = ScriptedProbe::new(CheckOutcome::Passed);
        let elb = Elb::new(elb::Options {
            now: now.clone(),
            probe: Arc::new(probe.clone()),
            delays: Delays::alb(),
            ..elb::Options::default()
        });
        let mut elb_checks = JoinSet::new();
        elb_checks.spawn(elb.run());
        let world = Self {
            kube: api.client(),
            api,
            elb,
            probe,
            metrics: Arc::default(),
            certificates: certificates(now()),
            network,
            now,
            elb_checks,
            product: JoinSet::new(),
        };
        world.create_crd().await;
        let namespace = json!({ "metadata": { "name": NAMESPACE } });
        create(&KubeApi::<Namespace>::all(world.kube.clone()), namespace).await;
        world.create_service("web", json!({ "app": "web" })).await;
        world
    }

    /// Starts the product; a second call starts it anew.
    pub(crate) fn start(&mut self) {
        let mut tasks = JoinSet::new();
        let parts = Parts {
            metrics: self.metrics.clone(),
            certificate: Source::Given(self.certificate()),
            ..self.parts(self.kube.clone())
        };
        let product = compose(parts).unwrap();
        let listener = self.network.listen(HOOKS, 443);
        tasks.spawn(accept(listener, product.hooks()));
        for (_, task) in product.tasks {
            tasks.spawn(task);
        }
        self.product = tasks;
    }

    /// What a product is put together from that asks this API server.
    pub(crate) fn parts(&self, kube: Client) -> Parts {
        Parts {
            // A rate that does not climb: tests count calls.
            elb: Limits {
                rate: 10.0,
                highest: 10.0,
                burst: 40,
            },
            ..Parts::new(kube, self.aws(), self.now.clone())
        }
    }

    fn certificate(&self) -> Certificate {
        let folder = tempfile::tempdir().unwrap();
        let pem = PemFiles {
            certificate: folder.path().join("tls.crt"),
            key: folder.path().join("tls.key"),
        };
        std::fs::write(&pem.certificate, &self.certificates.certificate).unwrap();
        std::fs::write(&pem.key, &self.certificates.key).unwrap();
        pem.load().unwrap()
    }

    /// Registers the hooks as they are shipped, with nothing but the `caBundle` added, and opts the
    /// namespace in.
    pub(crate) async fn install_hooks(&self) {
        let shipped = include_str!("../../deploy/base/webhooks.yaml");
        let configurations: Vec<Value> = serde_saphyr::from_multiple(shipped).unwrap();
        for mut configuration in configurations {
            for webhook in configuration["webhooks"].as_array_mut().unwrap() {
                let ca = ByteString(self.certificates.ca.clone().into_bytes());
                webhook["clientConfig"]["caBundle"] = json!(ca);
            }
            if configuration["kind"] == "MutatingWebhookConfiguration" {
                let api = KubeApi::<MutatingWebhookConfiguration>::all(self.kube.clone());
                create(&api, configuration).await;
            } else {
                let api = KubeApi::<ValidatingWebhookConfiguration>::all(self.kube.clone());
                create(&api, configuration).await;
            }
        }
        self.opt_in(json!("enabled")).await;
    }

    /// Labels the namespace; `null` takes the label off.
    pub(crate) async fn opt_in(&self, value: Value) {
        let labels = json!({ "elbv2.k8s.aws/pod-readiness-gate-inject": value });
        let patch = Patch::Merge(json!({ "metadata": { "labels": labels } }));
        let namespaces = KubeApi::<Namespace>::all(self.kube.clone());
        let params = PatchParams::default();
        namespaces.patch(NAMESPACE, &params, &patch).await.unwrap();
    }

    /// Lets the watches tell what they have to tell. Paused time moves only once nobody in this
    /// thread has anything left to do.
    pub(crate) async fn settle(&self) {
        tokio::time::sleep(Duration::from_secs(1)).await;
    }

    /// Ends the product, as a crash does: nothing of it runs any further.
    pub(crate) fn stop(&mut self) {
        self.product = JoinSet::new();
    }

    fn aws(&self) -> aws_config::SdkConfig {
        let credentials = Credentials::new("AKIASANDBOX", "secret", None, None, "tests");
        aws_config::SdkConfig::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new("eu-west-1"))
            .credentials_provider(SharedCredentialsProvider::new(credentials))
            .http_client(self.elb.http_client())
            .sleep_impl(aws_smithy_async::rt::sleep::TokioSleep::new())
            .build()
    }

    pub(crate) async fn create_crd(&self) {
        let crd: Value = serde_saphyr::from_str(&targetgate_core::binding::spec::yaml()).unwrap();
        create(&self.crds(), crd).await;
    }

    pub(crate) async fn delete_crd(&self) {
        let name = "targetgroupbindings.elbv2.k8s.aws";
        self.crds()
            .delete(name, &DeleteParams::default())
            .await
            .unwrap();
    }

    fn crds(&self) -> KubeApi<CustomResourceDefinition> {
        KubeApi::all(self.kube.clone())
    }

    pub(crate) async fn create_service(&self, name: &str, selector: Value) {
        let service = json!({
            "metadata": { "name": name },
            "spec": { "selector": selector, "ports": [{ "port": 80, "targetPort": 8080 }] },
        });
        create(&self.services(), service).await;
    }

    /// A group on a load balancer, and a binding of the same name that names it. Returns its ARN.
    pub(crate) async fn bind(&self, name: &str) -> String {
        let arn = self.elb.create_target_group(TargetGroupSpec::http(name));
        let balancer = self
            .elb
            .create_load_balancer(name, LoadBalancerKind::Application, &[]);
        self.elb.add_listener(&balancer, &[(&arn, 1)]).unwrap();
        self.bind_to(name, &arn).await;
        arn
    }

    /// A binding of Service `web` to any ARN.
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

    /// A pod behind Service `web` with the gates of these bindings, its containers ready.
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

    /// A pod that Service `web` selects.
    pub(crate) async fn create_pod(&self, name: &str, spec: Value) -> Pod {
        let metadata = json!({ "name": name, "labels": { "app": "web" } });
        let pod = json!({ "metadata": metadata, "spec": spec });
        create(&self.pods(), pod).await
    }

    /// What a kubelet says of a pod once its containers are ready.
    pub(crate) async fn containers_are_ready(&self, name: &str, ip: &str) -> Pod {
        let since = (self.now)().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        let condition = json!({
            "type": "ContainersReady", "status": "True", "lastTransitionTime": since,
        });
        let status = json!({ "status": {
            "phase": "Running",
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

    /// Waits until the pod's gate `web` is as wanted. Returns how long that took.
    pub(crate) async fn until_gate(&self, pod: &str, wanted: (&str, &str)) -> Duration {
        self.until_condition(pod, GATE, wanted).await
    }

    /// Waits until a condition of the pod has this status and reason.
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

    /// Waits until an Event with this reason is there. Returns what it is about.
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

    /// Lets time pass, then tells the pod's gate `web`: status, reason and message.
    pub(crate) async fn gate_after(
        &self,
        time: Duration,
        pod: &str,
    ) -> Option<(String, String, String)> {
        tokio::time::sleep(time).await;
        condition(&self.pods().get(pod).await.unwrap(), GATE)
    }

    /// How often an action of the ELB API was called.
    pub(crate) fn calls(&self, action: &str) -> usize {
        let calls = self.elb.calls();
        calls.iter().filter(|call| call.action == action).count()
    }
}

/// Status, reason and message of one of a pod's conditions.
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

/// A CA, and a leaf for the Service of the product.
fn certificates(now: Timestamp) -> Made {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    certs::make("targetgate-system", &[], now).unwrap()
}

/// Serves every connection that the API server makes.
async fn accept(mut listener: mpsc::Receiver<DuplexStream>, edge: Arc<Edge>) {
    let (_serving, phases) = serve::phases();
    let mut connections = JoinSet::new();
    while let Some(stream) = listener.recv().await {
        let (edge, phases) = (edge.clone(), phases.clone());
        connections.spawn(async move { edge.connection(stream, phases).await });
    }
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
