//! Patches of `pods/status` and of custom resources, as the product and its neighbours send them.

use k8s_openapi::api::core::v1::{Pod, PodCondition};
use kube::ResourceExt as _;
use kube::api::{Patch, PatchParams};
use rstest::rstest;
use serde_json::{Value, json};

use crate::servers::{Cluster, Server, answer, code, create, refused, strategic};

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
            // A real server says it twice.
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
    // Some of the metadata goes with the status: who may write `pods/status` may label pods.
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

#[rstest]
#[tokio::test]
async fn a_custom_resource_takes_no_strategic_merge(
    #[values(Server::Sandbox, Server::Kubernetes)] server: Server,
) {
    let cluster = server.cluster().await;
    let own = cluster.own_bindings().await;
    let bindings = own.v1beta1();
    create(&bindings, own.binding()).await.unwrap();
    let patch = Patch::Strategic(json!({ "metadata": { "labels": { "a": "b" } } }));
    let patched = bindings.patch("web", &PatchParams::default(), &patch).await;
    assert_eq!(code(patched), answer(415, "UnsupportedMediaType"));
}

#[rstest]
#[tokio::test]
async fn the_generation_of_a_custom_resource_counts_changes_of_its_spec(
    #[values(Server::Sandbox, Server::Kubernetes)] server: Server,
) {
    let cluster = server.cluster().await;
    let own = cluster.own_bindings().await;
    let bindings = own.v1beta1();
    let made = create(&bindings, own.binding()).await.unwrap();
    assert_eq!(made.metadata.generation, Some(1));
    let params = PatchParams::default();
    let status = Patch::Merge(json!({
        "metadata": { "annotations": { "by": "status" } },
        "spec": { "targetType": "instance" },
        "status": { "observedGeneration": 1 },
    }));
    let by_status = bindings
        .patch_status("web", &params, &status)
        .await
        .unwrap();
    assert_eq!(by_status.metadata.generation, Some(1));
    assert_eq!(by_status.annotations().get("by"), None);
    assert_eq!(by_status.data["spec"]["targetType"], "ip");
    assert_eq!(by_status.data["status"]["observedGeneration"], 1);
    for (patch, generation) in [
        (json!({ "metadata": { "annotations": { "a": "b" } } }), 1),
        (json!({ "status": { "observedGeneration": 5 } }), 1),
        (json!({ "spec": { "vpcID": "vpc-01234567" } }), 2),
    ] {
        let patched = bindings
            .patch("web", &params, &Patch::Merge(&patch))
            .await
            .unwrap();
        assert_eq!(patched.metadata.generation, Some(generation), "{patch}");
        assert_eq!(patched.data["status"]["observedGeneration"], 1, "{patch}");
    }
}

#[rstest]
#[tokio::test]
async fn what_the_schema_does_not_allow_is_named_by_its_field(
    #[values(Server::Sandbox, Server::Kubernetes)] server: Server,
) {
    let cluster = server.cluster().await;
    let own = cluster.own_bindings().await;
    let bindings = own.v1beta1();
    let mut wrong = own.binding();
    wrong["spec"]["targetType"] = json!("lambda");
    wrong["spec"]["serviceRef"] = json!({ "name": "web" });
    match create(&bindings, wrong).await {
        Err(kube::Error::Api(status)) => {
            assert_eq!((status.code, status.reason.as_str()), (422, "Invalid"));
            let causes = &status.details.as_ref().unwrap().causes;
            let mut fields: Vec<_> = causes
                .iter()
                .map(|c| (c.field.as_str(), c.reason.as_str()))
                .collect();
            fields.sort_unstable();
            let expected = [
                ("spec.serviceRef.port", "FieldValueRequired"),
                ("spec.targetType", "FieldValueNotSupported"),
            ];
            assert_eq!(fields, expected, "{}", status.message);
        }
        other => panic!("{other:?}"),
    }
}

#[rstest]
#[tokio::test]
async fn a_field_that_the_schema_does_not_know_is_dropped(
    #[values(Server::Sandbox, Server::Kubernetes)] server: Server,
) {
    let cluster = server.cluster().await;
    let own = cluster.own_bindings().await;
    let bindings = own.v1beta1();
    let mut unknown = own.binding();
    unknown["spec"]["colour"] = json!("red");
    let made = create(&bindings, unknown).await.unwrap();
    assert_eq!(made.data["spec"]["colour"], Value::Null);
    assert_eq!(made.data["spec"]["targetType"], "ip");
}

#[rstest]
#[case::kind("kind")]
#[case::version("apiVersion")]
#[tokio::test]
async fn a_custom_resource_says_what_it_is(
    #[values(Server::Sandbox, Server::Kubernetes)] server: Server,
    #[case] field: &str,
) {
    let cluster = server.cluster().await;
    let own = cluster.own_bindings().await;
    let mut object = own.binding();
    object.as_object_mut().unwrap().remove(field);
    let path = format!(
        "/apis/{}/v1beta1/namespaces/{}/targetgroupbindings",
        own.group, cluster.namespace
    );
    let request = http::Request::post(path).header("content-type", "application/json");
    let request = request.body(object.to_string().into_bytes()).unwrap();
    let made = cluster.client.request::<Value>(request).await;
    assert_eq!(code(made), answer(400, "BadRequest"));
}
