//! The API server of the bench, with a namespace for each row, and a targetgate process.

use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use k8s_openapi::api::core::v1::Pod;
use kube::Client;
use kube::api::{Api, ApiResource, DeleteParams, DynamicObject, Patch, PatchParams, PostParams};
use kube::core::GroupVersionKind;
use serde_json::{Value, json};
use targetgate_core::binding::spec::TargetGroupBindingSpec;
use targetgate_core::gate_rules::GateRules;
use targetgate_core::gates::inject::GatePolicy;
use targetgate_core::index::services::ServiceIndex;
use targetgate_core::model::{Labels, Service};
use targetgate_core::names::BindingApi;
use targetgate_sandbox::controlplane::{ControlPlane, Options};
use targetgate_sandbox::harness::waiting::until;
use targetgate_sandbox::harness::{Process, Program};

const BINARY: &str = env!("CARGO_BIN_EXE_targetgate");
const CRD: &str = include_str!("../../deploy/crd/targetgroupbindings.yaml");
const RULES: &str = include_str!("../../deploy/components/policy/crd.yaml");
const POLICY: &str = include_str!("../../deploy/components/policy/policy.yaml");
const WEBHOOKS: &str = include_str!("../../deploy/base/webhooks.yaml");
/// The namespace of the process's Lease.
const OWN: &str = "targetgate-system";
/// The label of the namespaces in which the policy injects. The shipped one is the webhook's as well.
const BY_POLICY: &str = "bench/policy";

/// What injects the gates of a namespace.
#[derive(Clone, Copy)]
pub(crate) enum Injects {
    Nothing,
    /// The policy, by so many rules, each of another value of one label.
    Policy(usize),
    Webhook,
}

pub(crate) struct Cluster {
    client: Client,
    // Fields are dropped in this order.
    #[expect(dead_code, reason = "it runs until it is dropped")]
    process: Process,
    #[expect(dead_code, reason = "its files are the process's")]
    program: Program,
    #[expect(dead_code, reason = "it runs until it is dropped")]
    server: ControlPlane,
}

impl Cluster {
    /// Starts the API server and targetgate, and registers policy and webhook for namespaces that have yet to come.
    pub(crate) async fn start() -> Self {
        let server = ControlPlane::start(Options::default()).await.unwrap();
        let client = server.client().await.unwrap();
        apply(
            &client,
            &json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": OWN } }),
        )
        .await;
        for manifest in [CRD, RULES] {
            for object in serde_saphyr::from_multiple::<Value>(manifest).unwrap() {
                apply(&client, &object).await;
            }
        }
        for kind in ["elbv2.k8s.aws/v1beta1", "targetgate.dev/v1"] {
            until("the CRD is served", async || {
                client.list_api_group_resources(kind).await.ok()
            })
            .await;
        }
        // No process listens on this address, and no gate has to open.
        let (kubeconfig, elb) = (
            server.kubeconfig().to_owned(),
            "http://127.0.0.1:9".to_owned(),
        );
        let program = Program::new(Path::new(BINARY), OWN, kubeconfig, elb, &[]).unwrap();
        let process = program.start("targetgate-0").await.unwrap();
        process.ready().await.unwrap();
        for mut object in serde_saphyr::from_multiple::<Value>(POLICY).unwrap() {
            if object["kind"] == "MutatingAdmissionPolicy" {
                object["spec"]["matchConstraints"]["namespaceSelector"] =
                    json!({ "matchLabels": { BY_POLICY: "true" } });
            }
            apply(&client, &object).await;
        }
        let hook = hook(&process, program.ca.as_ref().unwrap());
        apply(&client, &hook).await;
        Self {
            client,
            process,
            program,
            server,
        }
    }

    /// Creates a namespace in which gates are injected in this way.
    pub(crate) async fn prepare(&self, namespace: &str, injects: Injects) {
        let labels = match injects {
            Injects::Policy(_) => json!({ BY_POLICY: "true" }),
            Injects::Webhook | Injects::Nothing => Value::Null,
        };
        let metadata = json!({ "name": namespace, "labels": labels });
        self.apply(json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": metadata }))
            .await;
        let metadata = json!({ "name": "targetgate", "namespace": namespace });
        match injects {
            Injects::Nothing => {}
            Injects::Policy(rules) => {
                self.apply(json!({
                    "apiVersion": "targetgate.dev/v1",
                    "kind": "GateRules",
                    "metadata": metadata,
                    "spec": gate_rules(rules),
                }))
                .await;
            }
            Injects::Webhook => self.bind(namespace).await,
        }
    }

    async fn bind(&self, namespace: &str) {
        let metadata = json!({ "name": "web-0", "namespace": namespace });
        let ports = json!([{ "port": 80 }]);
        self.apply(json!({
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": metadata,
            "spec": { "selector": { "app": "web-0" }, "ports": ports },
        }))
        .await;
        let spec = json!({
            "serviceRef": { "name": "web-0", "port": 80 },
            "targetType": "ip",
            "targetGroupARN":
                "arn:aws:elasticloadbalancing:eu-west-1:123456789012:targetgroup/web/0123456789abcdef",
        });
        self.apply(json!({
            "apiVersion": "elbv2.k8s.aws/v1beta1",
            "kind": "TargetGroupBinding",
            "metadata": metadata,
            "spec": spec,
        }))
        .await;
    }

    /// Creates the pod of a namespace, whose labels a rule selects or none does. Says whether it has a gate.
    pub(crate) async fn create(&self, namespace: &str, selected: bool) -> bool {
        let app = if selected { "web-0" } else { "other" };
        let pod = json!({
            "metadata": { "generateName": "web-", "labels": { "app": app, "tier": "front", "release": "one" } },
            "spec": { "containers": [{ "name": "web", "image": "web" }] },
        });
        let pod: Pod = serde_json::from_value(pod).unwrap();
        let made = self
            .pods(namespace)
            .create(&PostParams::default(), &pod)
            .await;
        made.unwrap().spec.unwrap().readiness_gates.is_some()
    }

    /// Deletes the pods of a namespace.
    pub(crate) async fn clear(&self, namespace: &str) {
        let at_once = DeleteParams::default().grace_period(0);
        let pods = self.pods(namespace);
        let deleted = pods.delete_collection(&at_once, &<_>::default()).await;
        deleted.unwrap();
    }

    fn pods(&self, namespace: &str) -> Api<Pod> {
        Api::namespaced(self.client.clone(), namespace)
    }

    async fn apply(&self, object: Value) {
        apply(&self.client, &object).await;
    }
}

/// The rules of a namespace with so many bindings, each of a Service with a label of its own.
fn gate_rules(number: usize) -> GateRules {
    let mut routes = ServiceIndex::default();
    for number in 0..number {
        let name = format!("web-{number}");
        let service = Service {
            selector: Labels::from([("app".into(), name.as_str().into())]),
            external_name: false,
            publish_not_ready: false,
            ports: vec![],
            opted_out: false,
        };
        routes.apply_service(&name.as_str().into(), service);
        let spec =
            json!({ "serviceRef": { "name": name }, "targetType": "ip", "targetGroupName": name });
        let spec: TargetGroupBindingSpec = serde_json::from_value(spec).unwrap();
        routes.apply_binding(spec.model(BindingApi::Elbv2, &name, false));
    }
    GateRules::of(&routes, &GatePolicy::default()).unwrap()
}

/// The shipped webhook of pods, for one namespace.
fn hook(process: &Process, ca: &str) -> Value {
    let mut configuration = serde_saphyr::from_multiple::<Value>(WEBHOOKS)
        .unwrap()
        .remove(0);
    let webhooks = configuration["webhooks"].as_array_mut().unwrap();
    webhooks.truncate(1);
    let path = webhooks[0]["clientConfig"]["service"]["path"]
        .as_str()
        .unwrap();
    let url = format!("https://{}{path}", process.hooks);
    webhooks[0]["clientConfig"] = json!({ "url": url, "caBundle": STANDARD.encode(ca) });
    webhooks[0]["namespaceSelector"] =
        json!({ "matchLabels": { "kubernetes.io/metadata.name": "webhook" } });
    configuration
}

async fn apply(client: &Client, object: &Value) {
    let types = serde_json::from_value(object.clone()).unwrap();
    let kind = GroupVersionKind::try_from(&types).unwrap();
    let resource = match kind.kind.as_str() {
        "GateRules" => ApiResource::from_gvk_with_plural(&kind, "gaterules"),
        _ => ApiResource::from_gvk(&kind),
    };
    let api: Api<DynamicObject> = match object["metadata"]["namespace"].as_str() {
        Some(namespace) => Api::namespaced_with(client.clone(), namespace, &resource),
        None => Api::all_with(client.clone(), &resource),
    };
    let name = object["metadata"]["name"].as_str().unwrap();
    let params = PatchParams::apply("bench").force();
    let applied = api.patch(name, &params, &Patch::Apply(object)).await;
    applied.unwrap_or_else(|error| panic!("{} {name}: {error}", kind.kind));
}
