//! The whole product on the real API server, as shipped: with RBAC, and through its own hooks.

use std::collections::BTreeMap;

use kube::ResourceExt as _;
use kube::api::{DeleteParams, Patch, PatchParams};
use rstest::rstest;
use serde_json::{Value, json};
use targetgate_core::names::BindingApi;
use targetgate_sandbox::harness::waiting::until;

use crate::install::Installed;
use crate::policy::ways::Way;
use crate::servers::{Cluster, pod, refused};

const IP: &str = "10.0.0.1";
/// The audit annotation of the hook of pods.
const DECISION: &str = "mpod.elbv2.k8s.aws/decision";

#[rstest]
#[tokio::test]
async fn a_pod_gets_its_gate_and_opens_when_elb_says_healthy(
    #[values(Way::Webhook, Way::Policy, Way::Both)] way: Way,
) {
    let installed = Installed::by(way).await;
    let cluster = &installed.cluster;
    let arn = installed.bind("web").await;
    if way == Way::Both {
        the_policy_injects_first(cluster).await;
    }
    cluster.waiting_pod("a", "web", IP).await;
    installed.register(&arn, IP);
    cluster.gate_becomes("a", "web", "True").await;
    let pod = cluster.pods().get("a").await.unwrap();
    let conditions = pod.status.unwrap().conditions.unwrap();
    assert!(
        conditions
            .iter()
            .any(|c| c.type_ == "ContainersReady" && c.status == "True")
    );
    match way {
        Way::Webhook => the_audit_log_says(cluster, "Injected").await,
        // The policy ran first.
        Way::Both => the_audit_log_says(cluster, "AlreadyInjected").await,
        // A policy that mutates has no audit annotations.
        Way::Policy => {}
    }
}

/// Waits until the API server has read policy and rules. Before that the webhook injects alone.
async fn the_policy_injects_first(cluster: &Cluster) {
    until("the policy injects before the webhook", async || {
        cluster.gates_of(pod("trial", json!({}))).await.unwrap();
        let created = last_creation(cluster, true)?;
        (created.get(DECISION)? == "AlreadyInjected").then_some(())
    })
    .await;
}

/// The annotations of the last creation of a pod of the cluster's namespace in the audit log.
fn last_creation(cluster: &Cluster, dry_run: bool) -> Option<BTreeMap<String, String>> {
    let events = cluster.control_plane().audit_log().unwrap();
    let created = events.into_iter().rfind(|event| {
        let object = event.object_ref.as_ref();
        event.verb == "create"
            && event.request_uri.contains("dryRun") == dry_run
            && object.is_some_and(|o| o.resource == "pods" && o.namespace == cluster.namespace)
    });
    Some(created?.annotations)
}

async fn the_audit_log_says(cluster: &Cluster, why: &str) {
    let what = "the pod's creation is in the audit log";
    let found = until(what, async || last_creation(cluster, false)).await;
    assert_eq!(found[DECISION], why);
    assert_eq!(found["mpod.elbv2.k8s.aws/bindings"], format!("web={why}"));
}

#[tokio::test]
async fn a_binding_keeps_its_group_and_can_be_cleaned_up_while_we_are_away() {
    let mut installed = Installed::new().await;
    let arn = installed.bind("web").await;
    let bindings = installed.bindings(BindingApi::Elbv2);
    let patch = async |patch: Value| {
        let params = PatchParams::default();
        bindings.patch("web", &params, &Patch::Merge(patch)).await
    };
    let other = arn.replace("targetgroup/web", "targetgroup/other");
    let moved = json!({ "spec": { "targetGroupARN": other } });
    let (code, _, message) = refused(patch(moved.clone()).await);
    assert_eq!(code, 403);
    let words = "admission webhook \"vtargetgroupbinding.elbv2.k8s.aws\" denied the request: \
                 TargetGroupBinding update may not change these fields: spec.targetGroupARN";
    assert!(message.starts_with(words), "{message}");
    let held = json!({ "metadata": { "finalizers": ["elbv2.k8s.aws/resources"] } });
    patch(held).await.unwrap();

    installed.kill();
    assert_eq!(refused(patch(moved).await).0, 500);
    let noted = patch(json!({ "metadata": { "annotations": { "a": "b" } } }))
        .await
        .unwrap();
    assert_eq!(noted.annotations()["a"], "b");
    bindings
        .delete("web", &DeleteParams::default())
        .await
        .unwrap();
    patch(json!({ "metadata": { "finalizers": null } }))
        .await
        .unwrap();
    assert_eq!(refused(bindings.get("web").await).0, 404);
    // The pod hook never prevents a pod from being created.
    installed.cluster.pod("a", json!({})).await.unwrap();
}
