//! The CRD of bindings, and their hooks as `deploy/base` registers them.

use kube::ResourceExt as _;
use kube::api::{DeleteParams, Patch, PatchParams};
use rstest::rstest;
use serde_json::{Value, json};

use crate::hook::{Hook, in_namespace, patched};
use crate::servers::{ARN, Bindings, Cluster, Server, answer, code, create, refused};

/// The shipped webhook configurations.
const SHIPPED: &str = include_str!("../../deploy/base/webhooks.yaml");
/// The chart's, before Helm renders them.
const TEMPLATE: &str = include_str!("../../deploy/chart/templates/webhooks.yaml");

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

/// A shipped webhook, pointed at the test's hook, for bindings of the test's own group.
fn shipped(name: &str, hook: &Hook, cluster: &Cluster, bindings: &Bindings) -> Value {
    let configurations: Vec<Value> = serde_saphyr::from_multiple(SHIPPED).unwrap();
    let mut webhooks = configurations
        .iter()
        .flat_map(|configuration| configuration["webhooks"].as_array().unwrap().clone());
    let mut webhook = webhooks.find(|webhook| webhook["name"] == name).unwrap();
    webhook["clientConfig"] = hook.client_config("/shipped");
    webhook["rules"][0]["apiGroups"] = json!([bindings.group]);
    webhook["namespaceSelector"] = in_namespace(cluster);
    webhook
}

#[rstest]
#[tokio::test]
async fn the_shipped_validation_is_asked_for_changes_of_the_spec_only(
    #[values(Server::Sandbox, Server::Kubernetes)] server: Server,
) {
    let cluster = server.cluster().await;
    let bindings = cluster.own_bindings().await;
    let hook = Hook::allowing().await;
    let webhook = shipped(
        "vtargetgroupbinding.elbv2.k8s.aws",
        &hook,
        &cluster,
        &bindings,
    );
    cluster.validating(vec![webhook]).await;
    let api = bindings.v1beta1();
    let mut held = bindings.binding();
    held["metadata"]["finalizers"] = json!(["example.com/hold"]);
    create(&api, held).await.unwrap();
    assert_eq!(hook.calls().len(), 1);

    let params = PatchParams::default();
    let patch = async |patch: Value| {
        api.patch("web", &params, &Patch::Merge(patch))
            .await
            .unwrap()
    };
    patch(json!({ "metadata": { "annotations": { "a": "b" } } })).await;
    patch(json!({ "spec": { "targetType": "ip" } })).await;
    let status = Patch::Merge(json!({ "status": { "observedGeneration": 1 } }));
    api.patch_status("web", &params, &status).await.unwrap();
    assert_eq!(hook.calls().len(), 1);
    patch(json!({ "spec": { "vpcID": "vpc-01234567" } })).await;
    assert_eq!(hook.calls().len(), 2);
    api.delete("web", &DeleteParams::default()).await.unwrap();
    patch(json!({ "metadata": { "finalizers": null } })).await;
    assert_eq!(refused(api.get("web").await).0, 404);
    assert_eq!(hook.calls().len(), 2);
}

#[rstest]
#[tokio::test]
async fn while_the_shipped_hooks_are_away_no_spec_changes_but_a_binding_can_be_cleaned_up(
    #[values(Server::Sandbox, Server::Kubernetes)] server: Server,
) {
    let cluster = server.cluster().await;
    let bindings = cluster.own_bindings().await;
    let hook = Hook::allowing().await;
    let webhook = |name| shipped(name, &hook, &cluster, &bindings);
    let mutating = webhook("mtargetgroupbinding.elbv2.k8s.aws");
    let validating = webhook("vtargetgroupbinding.elbv2.k8s.aws");
    let api = bindings.v1beta1();
    create(&api, bindings.binding()).await.unwrap();
    cluster.mutating(vec![mutating]).await;
    cluster.validating(vec![validating]).await;
    drop(hook);

    let params = PatchParams::default();
    let patch = async |patch: Value| api.patch("web", &params, &Patch::Merge(patch)).await;
    let mut other = bindings.binding();
    other["metadata"]["name"] = json!("other");
    let created = create(&api, other).await;
    let changed = patch(json!({ "spec": { "vpcID": "vpc-01234567" } })).await;
    for (refused, name) in [
        (refused(created), "mtargetgroupbinding.elbv2.k8s.aws"),
        (refused(changed), "vtargetgroupbinding.elbv2.k8s.aws"),
    ] {
        let (code, reason, message) = refused;
        assert_eq!((code, reason.as_str()), (500, "InternalError"));
        let words = format!("Internal error occurred: failed calling webhook \"{name}\": ");
        assert!(message.starts_with(&words), "{message}");
    }
    let held = json!({ "finalizers": ["example.com/hold"], "annotations": { "a": "b" } });
    patch(json!({ "metadata": held })).await.unwrap();
    api.delete("web", &DeleteParams::default()).await.unwrap();
    patch(json!({ "metadata": { "annotations": { "a": null }, "finalizers": null } }))
        .await
        .unwrap();
    assert_eq!(refused(api.get("web").await).0, 404);
}

#[rstest]
#[tokio::test]
async fn a_hook_fills_a_field_that_the_schema_requires(
    #[values(Server::Sandbox, Server::Kubernetes)] server: Server,
) {
    let cluster = server.cluster().await;
    let bindings = cluster.own_bindings().await;
    let port = json!([{ "op": "add", "path": "/spec/serviceRef/port", "value": 80 }]);
    let hook = Hook::new(move |_| patched(port.clone())).await;
    let webhook = shipped(
        "mtargetgroupbinding.elbv2.k8s.aws",
        &hook,
        &cluster,
        &bindings,
    );
    let mut without = bindings.binding();
    without["spec"]["serviceRef"] = json!({ "name": "web" });
    let api = bindings.v1beta1();
    assert_eq!(refused(create(&api, without.clone()).await).0, 422);
    cluster.mutating(vec![webhook]).await;
    let made = create(&api, without).await.unwrap();
    assert_eq!(made.data["spec"]["serviceRef"]["port"], 80);
}

#[rstest]
#[tokio::test]
async fn a_hook_for_the_stored_version_gets_objects_of_the_other_version_converted(
    #[values(Server::Sandbox, Server::Kubernetes)] server: Server,
) {
    let cluster = server.cluster().await;
    let bindings = cluster.own_bindings().await;
    let hook = Hook::allowing().await;
    let webhook = shipped(
        "vtargetgroupbinding.elbv2.k8s.aws",
        &hook,
        &cluster,
        &bindings,
    );
    cluster.validating(vec![webhook]).await;
    let mut older = bindings.binding();
    older["apiVersion"] = json!(format!("{}/v1alpha1", bindings.group));
    let made = create(&bindings.version("v1alpha1"), older).await.unwrap();
    assert_eq!(
        made.types.unwrap().api_version,
        format!("{}/v1alpha1", bindings.group)
    );
    let [call] = hook.calls().try_into().unwrap();
    assert_eq!(call.request["kind"]["version"], "v1beta1");
    assert_eq!(call.request["requestKind"]["version"], "v1alpha1");
    let version = json!(format!("{}/v1beta1", bindings.group));
    assert_eq!(call.request["object"]["apiVersion"], version);
}

/// The `matchConditions` in the text of a manifest or template.
fn match_conditions(text: &str) -> Value {
    let (_, after) = text.split_once("matchConditions:\n").unwrap();
    let lines = after.lines().take_while(|line| !line.contains("{{"));
    let lines: Vec<&str> = lines.collect();
    serde_saphyr::from_str(&lines.join("\n")).unwrap()
}

#[rstest]
#[tokio::test]
async fn a_binding_without_a_spec_can_be_annotated_and_cleaned_up_without_the_hooks(
    #[values(Server::Sandbox, Server::Kubernetes)] server: Server,
    #[values(SHIPPED, TEMPLATE)] manifest: &str,
) {
    let cluster = server.cluster().await;
    let bindings = cluster.own_bindings().await;
    let hook = Hook::allowing().await;
    let mut webhook = shipped(
        "vtargetgroupbinding.elbv2.k8s.aws",
        &hook,
        &cluster,
        &bindings,
    );
    webhook["matchConditions"] = match_conditions(manifest);
    let api = bindings.v1beta1();
    let mut bare = bindings.binding();
    bare.as_object_mut().unwrap().remove("spec");
    bare["metadata"]["finalizers"] = json!(["elbv2.k8s.aws/resources"]);
    create(&api, bare).await.unwrap();
    cluster.validating(vec![webhook]).await;

    let params = PatchParams::default();
    let patch = async |patch: Value| {
        let patched = api.patch("web", &params, &Patch::Merge(patch)).await;
        patched.unwrap()
    };
    patch(json!({ "metadata": { "annotations": { "a": "b" } } })).await;
    assert_eq!(hook.calls().len(), 0);
    let spec = bindings.binding()["spec"].clone();
    patch(json!({ "spec": spec })).await;
    assert_eq!(hook.calls().len(), 1);
    patch(json!({ "spec": null })).await;
    assert_eq!(hook.calls().len(), 2);
    api.delete("web", &DeleteParams::default()).await.unwrap();
    patch(json!({ "metadata": { "finalizers": null } })).await;
    assert_eq!(refused(api.get("web").await).0, 404);
    assert_eq!(hook.calls().len(), 2);
}

#[rstest]
#[case::by_arn(json!({ "targetGroupARN": ARN }))]
#[case::by_name(json!({ "targetGroupName": "web" }))]
#[case::by_name_beside_an_empty_arn(json!({ "targetGroupARN": "", "targetGroupName": "web" }))]
#[tokio::test]
async fn an_older_binding_keeps_all_its_fields_in_the_stored_version(
    #[values(Server::Sandbox, Server::Kubernetes)] server: Server,
    #[case] group: Value,
) {
    let cluster = server.cluster().await;
    let bindings = cluster.own_bindings().await;
    let mut spec = json!({
        "targetType": "ip",
        "multiClusterTargetGroup": true,
        "iamRoleArnToAssume": "arn:aws:iam::444455556666:role/bind",
        "assumeRoleExternalId": "shop",
        "serviceRef": { "name": "web", "port": 80 },
        "networking": { "ingress": [{
            "from": [{ "securityGroup": { "groupID": "sg-0123456789abcdef0" } }],
            "ports": [{ "port": "http", "protocol": "TCP" }],
        }] },
    });
    json_patch::merge(&mut spec, &group);
    let older = json!({
        "apiVersion": format!("{}/v1alpha1", bindings.group),
        "kind": "TargetGroupBinding",
        "metadata": { "name": "web" },
        "spec": spec,
    });
    let alpha = bindings.version("v1alpha1");
    create(&alpha, older).await.unwrap();
    let stored = bindings.v1beta1().get("web").await.unwrap();
    assert_eq!(stored.data["spec"], spec);
    assert_eq!(alpha.get("web").await.unwrap().data["spec"], spec);
}

#[rstest]
#[tokio::test]
async fn the_condition_by_which_the_incumbent_explains_a_stuck_deletion_is_kept(
    #[values(Server::Sandbox, Server::Kubernetes)] server: Server,
) {
    let cluster = server.cluster().await;
    let bindings = cluster.own_bindings().await;
    let api = bindings.v1beta1();
    create(&api, bindings.binding()).await.unwrap();
    let status = json!({
        "observedGeneration": 2,
        "conditions": [{
            "type": "Ready",
            "status": "False",
            "reason": "FailedCleanup",
            "message": "x",
            "lastTransitionTime": "2026-01-01T00:00:00Z",
            "observedGeneration": 2,
        }],
    });
    let patch = Patch::Merge(json!({ "status": status }));
    api.patch_status("web", &PatchParams::default(), &patch)
        .await
        .unwrap();
    assert_eq!(api.get("web").await.unwrap().data["status"], status);
}

#[rstest]
#[tokio::test]
async fn fields_of_the_incumbents_later_releases_are_kept(
    #[values(Server::Sandbox, Server::Kubernetes)] server: Server,
) {
    let cluster = server.cluster().await;
    let bindings = cluster.own_bindings().await;
    let mut later = bindings.binding();
    later["spec"]["registerTargetsWithPodAvailabilityZone"] = json!(true);
    later["spec"]["targetGroupProtocol"] = json!("GENEVE");
    let made = create(&bindings.v1beta1(), later.clone()).await.unwrap();
    assert_eq!(made.data["spec"], later["spec"]);
}
