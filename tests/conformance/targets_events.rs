//! What is told of bindings by Events alone, on the real API server, with the rights of the shipped account.

use k8s_openapi::api::admissionregistration::v1::ValidatingWebhookConfiguration;
use k8s_openapi::api::core::v1::Event;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams};
use serde_json::{Value, json};
use targetgate_core::names::BindingApi;
use targetgate_sandbox::harness::waiting::until;

use crate::install::{Installed, PORT};
use crate::servers::create;
use crate::targets_roles::registering_with;

const IP: &str = "10.0.0.1";
const HOOK: &str = "vtargetgroupbinding.elbv2.k8s.aws";

impl Installed {
    /// Waits for an Event with this reason on the binding `web`. Returns its message.
    async fn event(&self, reason: &str) -> String {
        until(reason, async || {
            let events: Api<Event> = self.cluster.api();
            let events = events.list(&ListParams::default()).await.unwrap().items;
            let mut told = events.into_iter().filter(|event| {
                let about = &event.involved_object;
                let kind = about.kind.as_deref() == Some("TargetGroupBinding");
                kind && about.name.as_deref() == Some("web")
                    && event.reason.as_deref() == Some(reason)
            });
            told.next()?.message
        })
        .await
    }

    async fn change(&self, patch: Value) {
        let bindings = self.bindings(BindingApi::Elbv2);
        let params = PatchParams::default();
        bindings
            .patch("web", &params, &Patch::Merge(patch))
            .await
            .unwrap();
    }
}

/// A hook of the incumbent, which is gone, and refuses each update of a binding.
fn hook() -> Value {
    json!({
        "metadata": { "name": "left-behind" },
        "webhooks": [{
            "name": HOOK,
            "failurePolicy": "Fail",
            "sideEffects": "None",
            "admissionReviewVersions": ["v1"],
            "clientConfig": { "service": { "namespace": "kube-system", "name": "gone" } },
            "rules": [{ "apiGroups": ["elbv2.k8s.aws"], "apiVersions": ["*"],
                "operations": ["UPDATE"], "resources": ["targetgroupbindings"] }],
        }],
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hook_that_refuses_finalizers_what_is_switched_and_what_is_left_behind_are_told() {
    let (installed, _) = registering_with(&["--register=all"]).await;
    let cluster = &installed.cluster;
    let hooks: Api<ValidatingWebhookConfiguration> = Api::all(cluster.client.clone());
    create(&hooks, hook()).await.unwrap();
    let arn = installed.bind("web").await;
    let told = installed.event("FinalizerNotPatched").await;
    assert!(told.contains(HOOK), "{told}");
    let now = DeleteParams::default();
    hooks.delete("left-behind", &now).await.unwrap();
    installed.until_held("web").await;
    cluster.waiting_pod("a", "web", IP).await;
    cluster.gate_becomes("a", "web", "True").await;

    installed
        .change(json!({ "spec": { "multiClusterTargetGroup": true } }))
        .await;
    let told = installed.event("MultiClusterChanged").await;
    assert!(
        told.starts_with("multiClusterTargetGroup is true now"),
        "{told}"
    );

    let abandon = json!({ "metadata": { "annotations": { "targetgate.dev/abandon": "true" } } });
    installed.change(abandon).await;
    installed
        .bindings(BindingApi::Elbv2)
        .delete("web", &now)
        .await
        .unwrap();
    let told = installed.event("Abandoned").await;
    let left = format!("1 target stays in {arn}: {IP} port {PORT}");
    assert!(told.starts_with(&left), "{told}");
    until("the binding is gone", async || {
        let bindings = installed.bindings(BindingApi::Elbv2);
        let binding = bindings.get_opt("web").await.unwrap();
        binding.is_none().then_some(())
    })
    .await;
    let target = installed.elb.health(&arn, IP.parse().unwrap(), PORT);
    assert!(target.is_some());
}
