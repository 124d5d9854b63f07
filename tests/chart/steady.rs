//! Creates pods continually, by dry run, and checks their gates.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::Client;
use kube::api::{Api, PostParams};
use serde_json::json;
use targetgate_sandbox::harness::Creation;
use targetgate_sandbox::harness::waiting::until;
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::server::apply;

/// The namespace that README.md opts in.
pub(crate) const NAMESPACE: &str = "shop";
const GATE: &str = "target-health.elbv2.k8s.aws/web";
/// The pause between two pods. Chosen.
const PAUSE: Duration = Duration::from_millis(20);
/// The number of pods to create before and after each change. Chosen.
pub(crate) const SOME: usize = 20;

/// Creates the namespace, a Service that selects all pods in it, and its binding. No hook of bindings may be
/// registered yet.
pub(crate) async fn bound_namespace(client: &Client) {
    let metadata = |name: &str| json!({ "name": name, "namespace": NAMESPACE });
    let objects = [
        json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": NAMESPACE } }),
        json!({
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": metadata("web"),
            "spec": { "selector": { "app": "web" }, "ports": [{ "port": 80 }] },
        }),
        json!({
            "apiVersion": "elbv2.k8s.aws/v1beta1",
            "kind": "TargetGroupBinding",
            "metadata": metadata("web"),
            "spec": {
                "serviceRef": { "name": "web", "port": 80 },
                "targetGroupARN": "arn:aws:elasticloadbalancing:eu-west-1:123456789012:targetgroup/web/0123456789abcdef",
                "targetType": "ip",
            },
        }),
    ];
    for object in &objects {
        // The API server may not serve the kind yet.
        until("it is applied", async || {
            apply(client, object, false).await.ok()
        })
        .await;
    }
}

/// Creates pods, once the hook is called and knows the binding.
pub(crate) async fn create(client: &Client) -> Creation {
    let pods: Api<Pod> = Api::namespaced(client.clone(), NAMESPACE);
    until("a pod gets its gate", async || {
        (gates(&pods).await == [GATE]).then_some(())
    })
    .await;
    let gated = Arc::<AtomicUsize>::default();
    let mut tasks = JoinSet::new();
    let count = gated.clone();
    tasks.spawn(async move {
        loop {
            let gates = gates(&pods).await;
            let number = count.load(Ordering::Relaxed);
            assert_eq!(gates, [GATE], "of a pod after {number} others");
            count.fetch_add(1, Ordering::Relaxed);
            sleep(PAUSE).await;
        }
    });
    Creation::by(tasks, gated)
}

/// The gates that a new pod gets.
async fn gates(pods: &Api<Pod>) -> Vec<String> {
    let pod = json!({
        "metadata": { "generateName": "web-", "labels": { "app": "web" } },
        "spec": { "containers": [{ "name": "web", "image": "web" }] },
    });
    let dry_run = PostParams {
        dry_run: true,
        ..PostParams::default()
    };
    let pod = serde_json::from_value(pod).unwrap();
    let created = pods.create(&dry_run, &pod).await.unwrap();
    let gates = created.spec.unwrap().readiness_gates.unwrap_or_default();
    gates.into_iter().map(|gate| gate.condition_type).collect()
}
