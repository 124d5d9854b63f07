//! Replicas that are not ready do not hold up the drain of a node.

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::ResourceExt as _;
use kube::api::{Api, EvictParams, ListParams, Patch, PatchParams};
use serde_json::json;
use targetgate_sandbox::harness::waiting::until;

use crate::helm::NAMESPACE;
use crate::reader::{INSTALL, Reader};

/// Waits for the pods of the Deployment, and reports what their kubelets would: they run, and never become ready.
async fn unready_pods(pods: &Api<Pod>) -> Vec<String> {
    let listed = until("both pods", async || {
        let listed = pods.list(&ListParams::default()).await.ok()?.items;
        (listed.len() == 2).then_some(listed)
    })
    .await;
    let status =
        json!({ "phase": "Running", "conditions": [{ "type": "Ready", "status": "False" }] });
    let told = Patch::Strategic(json!({ "status": status }));
    let names: Vec<String> = listed.iter().map(|pod| pod.name_any()).collect();
    for name in &names {
        let patched = pods
            .patch_status(name, &PatchParams::default(), &told)
            .await;
        patched.unwrap();
    }
    names
}

#[tokio::test]
async fn replicas_that_are_not_ready_can_be_evicted() {
    let reader = Reader::new().await;
    // Without this Secret the pods cannot start.
    reader.types(&format!("{INSTALL} --set certificates.source=secret"));
    let pods: Api<Pod> = Api::namespaced(reader.client.clone(), NAMESPACE);
    let names = unready_pods(&pods).await;
    let budgets: Api<PodDisruptionBudget> = Api::namespaced(reader.client.clone(), NAMESPACE);
    until("the budget counts both pods as unhealthy", async || {
        let status = budgets.get("targetgate").await.ok()?.status?;
        (status.expected_pods == 2 && status.current_healthy == 0).then_some(())
    })
    .await;
    for name in names {
        let evicted = pods.evict(&name, &EvictParams::default()).await;
        evicted.unwrap_or_else(|error| panic!("{name}: {error}"));
    }
}
