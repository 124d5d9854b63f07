//! The ways in which pods get their gates. What a user sees of them is the same, so that tests of pods run in each.

use k8s_openapi::api::core::v1::Service;
use rstest::rstest;
use serde_json::{Value, json};
use targetgate_core::names::BindingApi;
use targetgate_sandbox::harness::waiting::until;

use crate::hook::{Hook, patched};
use crate::install::{Installed, Site};
use crate::servers::{Cluster, Server, create, pod};
use crate::shop::gate;

/// What injects the gates of pods.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    Webhook,
    Policy,
    Both,
}

impl Site {
    /// Installs the shipped objects, on a control plane that has policies if the way needs them.
    pub(crate) async fn by(way: Way) -> Self {
        if way == Way::Webhook {
            return Self::new().await;
        }
        let cluster = Server::Kubernetes.own_cluster().await;
        cluster.apply_crd().await;
        Self::on_by(cluster, way, &[]).await
    }

    /// Does the same on a control plane that no other test uses, and adds these arguments to the program's.
    pub(crate) async fn on_by(cluster: Cluster, way: Way, arguments: &[&str]) -> Self {
        if way == Way::Webhook {
            return Self::on(cluster, arguments).await;
        }
        cluster.apply_policy().await;
        let arguments = [arguments, &["--admission=both"]].concat();
        let mut site = Self::on(cluster, &arguments).await;
        if way == Way::Policy {
            site.shipped.iter_mut().for_each(forget_pods);
        }
        site
    }
}

impl Installed {
    /// Installs targetgate where pods get their gates in this way.
    pub(crate) async fn by(way: Way) -> Self {
        Self::started(Site::by(way).await).await
    }

    /// Creates a Service of this selector, and a binding of its name.
    async fn bind_selecting(&self, name: &str, selector: Value, annotations: Value) {
        let service = json!({
            "metadata": { "name": name, "annotations": annotations },
            "spec": { "selector": selector, "ports": [{ "port": 80 }] },
        });
        create(&self.cluster.api::<Service>(), service)
            .await
            .unwrap();
        let arn = self.group(name);
        self.bind_whole(BindingApi::Elbv2, name, &arn).await;
    }

    /// Waits until a new pod is given these gates.
    async fn gives(&self, pod: &Value, gates: &[String]) {
        until(&format!("{gates:?} for {pod}"), async || {
            let given = self.cluster.gates_of(pod.clone()).await.unwrap();
            (given == gates).then_some(())
        })
        .await;
    }
}

/// Takes the webhook of pods out of a configuration.
fn forget_pods(object: &mut Value) {
    if let Some(webhooks) = object["webhooks"].as_array_mut() {
        webhooks.retain(|webhook| webhook["name"] != "mpod.elbv2.k8s.aws");
    }
}

/// A pod with these labels, which may bring gates, and with this gate annotation.
fn asked(labels: Value, gates: &[&str], annotation: Value) -> Value {
    let gates: Vec<Value> = gates
        .iter()
        .map(|gate| json!({ "conditionType": gate }))
        .collect();
    let annotations = json!({ "targetgate.dev/gate": annotation });
    let mut pod = pod("", json!({ "spec": { "readinessGates": gates } }));
    pod["metadata"] =
        json!({ "generateName": "web-", "labels": labels, "annotations": annotations });
    if pod["metadata"]["annotations"]["targetgate.dev/gate"].is_null() {
        pod["metadata"]
            .as_object_mut()
            .unwrap()
            .remove("annotations");
    }
    pod
}

#[rstest]
#[tokio::test]
async fn a_pod_has_the_same_gates_in_the_same_order_whatever_injects_them(
    #[values(Way::Webhook, Way::Policy, Way::Both)] way: Way,
) {
    let installed = Installed::by(way).await;
    let (none, off) = (Value::Null, json!({ "targetgate.dev/gate": "false" }));
    for (name, selector, annotations) in [
        ("zoo", json!({ "app": "web" }), &none),
        ("ant", json!({ "app": "web", "tier": "front" }), &none),
        ("bee", json!({ "app": "web", "note": "" }), &none),
        ("cat", json!({ "app": "other" }), &none),
        ("dog", json!({ "app": "web" }), &off),
        ("eel", Value::Null, &none),
    ] {
        installed
            .bind_selecting(name, selector, annotations.clone())
            .await;
    }
    let web = json!({ "app": "web" });
    let front = json!({ "app": "web", "tier": "front", "note": "" });
    let [ant, bee, cat, zoo] = ["ant", "bee", "cat", "zoo"].map(gate);
    let (foreign, legacy) = (
        "example.com/ready",
        "target-health.alb.ingress.k8s.aws/web_web_80",
    );
    let plain = |labels: &Value| asked(labels.clone(), &[], Value::Null);
    let bringing = |gates: &[&str]| asked(front.clone(), gates, Value::Null);
    let cases: Vec<(Value, Vec<&str>)> = vec![
        (plain(&json!({ "app": "other" })), vec![&cat]),
        (plain(&web), vec![&zoo]),
        (plain(&front), vec![&ant, &bee, &zoo]),
        (
            plain(&json!({ "app": "web", "note": "" })),
            vec![&bee, &zoo],
        ),
        (plain(&json!({ "tier": "front", "note": "" })), vec![]),
        (plain(&Value::Null), vec![]),
        (asked(web.clone(), &[], json!("false")), vec![]),
        (asked(web.clone(), &[], json!("true")), vec![&zoo]),
        (bringing(&[foreign]), vec![foreign, &ant, &bee, &zoo]),
        (bringing(&[&zoo, foreign]), vec![&zoo, foreign, &ant, &bee]),
        (bringing(&[&zoo, &bee, &ant]), vec![&zoo, &bee, &ant]),
        (
            bringing(&[legacy, foreign]),
            vec![foreign, &ant, &bee, &zoo],
        ),
        (
            bringing(&[&ant, legacy, &bee, &zoo]),
            vec![&ant, &bee, &zoo],
        ),
        (
            asked(json!({ "app": "none" }), &[legacy], Value::Null),
            vec![legacy],
        ),
    ];
    for (pod, gates) in cases {
        let gates: Vec<String> = gates.into_iter().map(str::to_owned).collect();
        installed.gives(&pod, &gates).await;
    }
}

/// The API server asks a policy again only if it had something to do the first time, so that here the webhook is needed.
#[rstest]
#[tokio::test]
async fn a_pod_that_a_later_webhook_labels_gets_its_gates_from_the_webhook(
    #[values(Way::Webhook, Way::Both)] way: Way,
) {
    let installed = Installed::by(way).await;
    installed.bind("web").await;
    let cluster = &installed.cluster;
    installed
        .gives(
            &asked(json!({ "app": "web" }), &[], Value::Null),
            &[gate("web")],
        )
        .await;
    let label = json!([{ "op": "add", "path": "/metadata/labels/app", "value": "web" }]);
    let hook = Hook::new(move |_| patched(label.clone())).await;
    let pods = json!({ "rules": [{
        "operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"],
    }] });
    // Its configuration, of the test's name, comes after ours, of the name targetgate.
    cluster
        .mutating(vec![hook.webhook(cluster, "z", pods)])
        .await;
    let unlabelled = asked(json!({ "tier": "front" }), &[], Value::Null);
    installed.gives(&unlabelled, &[gate("web")]).await;
    assert!(!hook.calls().is_empty());
}

/// The dispatcher of policies passes over one whose conditions were false the first time.
#[tokio::test]
async fn by_the_policy_alone_a_later_label_counts_only_if_the_policy_gave_a_gate_before() {
    let installed = Installed::by(Way::Policy).await;
    for (name, selector) in [
        ("api", json!({ "app": "api" })),
        ("web", json!({ "tier": "web" })),
    ] {
        installed
            .bind_selecting(name, selector.clone(), json!({}))
            .await;
        let pod = asked(selector, &[], Value::Null);
        installed.gives(&pod, &[gate(name)]).await;
    }
    let label = json!([{ "op": "add", "path": "/metadata/labels/tier", "value": "web" }]);
    let hook = Hook::new(move |_| patched(label.clone())).await;
    let pods = json!({ "rules": [{
        "operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"],
    }] });
    let cluster = &installed.cluster;
    cluster
        .mutating(vec![hook.webhook(cluster, "z", pods)])
        .await;
    let of = |app: &str| asked(json!({ "app": app }), &[], Value::Null);
    installed
        .gives(&of("api"), &[gate("api"), gate("web")])
        .await;
    let given = cluster.gates_of(of("none")).await.unwrap();
    assert_eq!(given, [] as [String; 0]);
}
