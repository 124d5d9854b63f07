//! Patches of `pods/status`, as the product and other controllers send them.

use k8s_openapi::api::core::v1::{Pod, PodCondition};
use kube::ResourceExt as _;
use kube::api::{DeleteParams, Patch, PatchParams};
use rstest::rstest;
use serde_json::{Value, json};

use crate::servers::{Cluster, Server, answer, code, refused, strategic};

const GATE: &str = "target-health.elbv2.k8s.aws/web";

/// A patch of one condition.
fn condition(kind: &str, status: &str) -> Value {
    json!({ "status": { "conditions": [{ "type": kind, "status": status, "reason": "Tested" }] } })
}

fn conditions(pod: Pod) -> Vec<(String, String)> {
    let conditions: Vec<PodCondition> = pod.status.unwrap().conditions.unwrap();
    conditions
        .into_iter()
        .map(|c| (c.type_, c.status))
        .collect()
}

fn is(kind: &str, status: &str) -> (String, String) {
    (kind.to_owned(), status.to_owned())
}

async fn patched_status(cluster: &Cluster, patch: Patch<Value>) -> kube::Result<Pod> {
    let params = match &patch {
        Patch::Apply(_) => PatchParams::apply("conformance"),
        _ => PatchParams::default(),
    };
    cluster.pods().patch_status("a", &params, &patch).await
}

#[rstest]
#[tokio::test]
async fn a_strategic_merge_of_one_condition_keeps_the_others(
    #[values(Server::Sandbox, Server::Kubernetes)] server: Server,
) {
    let cluster = server.cluster().await;
    cluster.pod("a", json!({})).await.unwrap();
    let pods = cluster.pods();
    strategic(&pods, "a", condition("ContainersReady", "True"))
        .await
        .unwrap();
    strategic(&pods, "a", condition(GATE, "False"))
        .await
        .unwrap();
    let both = strategic(&pods, "a", condition(GATE, "True"))
        .await
        .unwrap();
    let both = conditions(both);
    assert!(both.contains(&is("ContainersReady", "True")), "{both:?}");
    assert!(both.contains(&is(GATE, "True")), "{both:?}");
    assert_eq!(both.len(), 2);
}

#[rstest]
#[tokio::test]
async fn an_apply_of_one_condition_keeps_the_others(
    #[values(Server::Sandbox, Server::Kubernetes)] server: Server,
) {
    let cluster = server.cluster().await;
    cluster.pod("a", json!({})).await.unwrap();
    let kubelet = condition("ContainersReady", "True");
    strategic(&cluster.pods(), "a", kubelet).await.unwrap();
    let mut applied = condition(GATE, "False");
    applied["apiVersion"] = json!("v1");
    applied["kind"] = json!("Pod");
    let both = patched_status(&cluster, Patch::Apply(applied))
        .await
        .unwrap();
    let mut both = conditions(both);
    both.sort();
    assert_eq!(both, [is("ContainersReady", "True"), is(GATE, "False")]);
}

#[rstest]
#[tokio::test]
async fn a_json_merge_patch_replaces_all_conditions(
    #[values(Server::Sandbox, Server::Kubernetes)] server: Server,
) {
    let cluster = server.cluster().await;
    cluster.pod("a", json!({})).await.unwrap();
    let kubelet = condition("ContainersReady", "True");
    strategic(&cluster.pods(), "a", kubelet).await.unwrap();
    let merged = patched_status(&cluster, Patch::Merge(condition(GATE, "True"))).await;
    assert_eq!(conditions(merged.unwrap()), [is(GATE, "True")]);
}

#[rstest]
#[case::strategic(Patch::Strategic as fn(Value) -> Patch<Value>)]
#[case::merge(Patch::Merge as fn(Value) -> Patch<Value>)]
#[case::apply(Patch::Apply as fn(Value) -> Patch<Value>)]
#[tokio::test]
async fn a_patch_of_another_uid_is_invalid(
    #[values(Server::Sandbox, Server::Kubernetes)] server: Server,
    #[case] kind: fn(Value) -> Patch<Value>,
) {
    let cluster = server.cluster().await;
    let made = cluster.pod("a", json!({})).await.unwrap();
    let patch = |uid: &str| {
        let mut patch = condition(GATE, "True");
        patch["apiVersion"] = json!("v1");
        patch["kind"] = json!("Pod");
        patch["metadata"] = json!({ "uid": uid });
        kind(patch)
    };
    let other = "00000000-0000-0000-0000-000000000000";
    match patched_status(&cluster, patch(other)).await {
        Err(kube::Error::Api(status)) => {
            assert_eq!((status.code, status.reason.as_str()), (422, "Invalid"));
            let words = format!("Invalid value: \"{other}\": field is immutable");
            let causes = &status.details.as_ref().unwrap().causes;
            // A real server names the cause twice.
            assert!(!causes.is_empty());
            for cause in causes {
                assert_eq!(
                    (cause.field.as_str(), &cause.message),
                    ("metadata.uid", &words)
                );
            }
            let words = format!("Pod \"a\" is invalid: metadata.uid: {words}");
            assert_eq!(status.message, words);
        }
        other => panic!("{other:?}"),
    }
    let uid = made.uid().unwrap();
    patched_status(&cluster, patch(&uid)).await.unwrap();
}

#[rstest]
#[tokio::test]
async fn a_patch_of_an_old_version_is_a_conflict(
    #[values(Server::Sandbox, Server::Kubernetes)] server: Server,
) {
    let cluster = server.cluster().await;
    let made = cluster.pod("a", json!({})).await.unwrap();
    let pods = cluster.pods();
    strategic(&pods, "a", condition("ContainersReady", "True"))
        .await
        .unwrap();
    let mut late = condition(GATE, "True");
    late["metadata"] = json!({ "uid": made.uid(), "resourceVersion": made.resource_version() });
    let (code, reason, message) = refused(strategic(&pods, "a", late).await);
    assert_eq!((code, reason.as_str()), (409, "Conflict"));
    assert!(
        message.contains("the object has been modified"),
        "{message}"
    );
}

/// A pod that was replaced under its name has another UID and another version.
#[rstest]
#[tokio::test]
async fn a_patch_of_a_pod_that_was_replaced_is_a_conflict(
    #[values(Server::Sandbox, Server::Kubernetes)] server: Server,
) {
    let cluster = server.cluster().await;
    let former = cluster.pod("a", json!({})).await.unwrap();
    let now = DeleteParams::default().grace_period(0);
    cluster.pods().delete("a", &now).await.unwrap();
    cluster.pod("a", json!({})).await.unwrap();
    let mut late = condition(GATE, "True");
    late["metadata"] = json!({ "uid": former.uid(), "resourceVersion": former.resource_version() });
    let late = strategic(&cluster.pods(), "a", late).await;
    assert_eq!(code(late), answer(409, "Conflict"));
}

#[rstest]
#[tokio::test]
async fn an_apply_to_the_status_of_an_absent_pod_is_not_found(
    #[values(Server::Sandbox, Server::Kubernetes)] server: Server,
) {
    let cluster = server.cluster().await;
    let mut applied = condition(GATE, "True");
    applied["apiVersion"] = json!("v1");
    applied["kind"] = json!("Pod");
    let absent = patched_status(&cluster, Patch::Apply(applied)).await;
    assert_eq!(code(absent), answer(404, "NotFound"));
}

#[rstest]
#[tokio::test]
async fn a_pods_status_is_written_apart_from_its_spec(
    #[values(Server::Sandbox, Server::Kubernetes)] server: Server,
) {
    let cluster = server.cluster().await;
    cluster.pod("a", json!({})).await.unwrap();
    let all = |ip: &str| {
        json!({
            "metadata": { "annotations": { "by": ip } },
            "spec": { "activeDeadlineSeconds": 60 },
            "status": { "podIP": ip, "podIPs": [{ "ip": ip }] },
        })
    };
    let by_status = strategic(&cluster.pods(), "a", all("10.0.0.1"))
        .await
        .unwrap();
    // Some of the metadata is written with the status: a client that may write `pods/status` may label pods.
    assert_eq!(by_status.annotations()["by"], "10.0.0.1");
    assert_eq!(by_status.metadata.generation, Some(1));
    assert_eq!(by_status.spec.unwrap().active_deadline_seconds, None);
    let ip = by_status.status.unwrap().pod_ip;
    assert_eq!(ip.as_deref(), Some("10.0.0.1"));

    let patch = Patch::Strategic(all("10.0.0.2"));
    let patched = cluster
        .pods()
        .patch("a", &PatchParams::default(), &patch)
        .await;
    let by_main = patched.unwrap();
    assert_eq!(by_main.annotations()["by"], "10.0.0.2");
    assert_eq!(by_main.metadata.generation, Some(2));
    assert_eq!(by_main.spec.unwrap().active_deadline_seconds, Some(60));
    assert_eq!(by_main.status.unwrap().pod_ip, ip);
}
