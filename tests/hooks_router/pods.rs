//! Golden reviews of the pod hook, with their answers.

use rstest::rstest;
use serde_json::{Value, json};
use targetgate::state::cache::{InitialList, WatchedResource};
use targetgate_core::model::TargetType;

use crate::fixture::{Fixture, UID, patch, pod, pod_with, review};

#[tokio::test]
async fn a_selected_pod_gets_its_gate() {
    let fixture = Fixture::default();
    let answer = fixture.pod(&review(pod())).await;
    let gate = json!({ "conditionType": "target-health.elbv2.k8s.aws/web" });
    let add = json!([{ "op": "add", "path": "/spec/readinessGates", "value": [gate] }]);
    assert_eq!(patch(&answer), add);
    let rest = json!({
        "uid": UID,
        "allowed": true,
        "patchType": "JSONPatch",
        "patch": answer["patch"],
        "auditAnnotations": { "decision": "Injected", "bindings": "web=Injected" },
    });
    assert_eq!(answer, rest);
    fixture.assert_measured(r#"targetgate_admissions_total{hook="pod",reason="Injected"} 1"#);
    fixture.assert_measured(r#"targetgate_admission_seconds_count{hook="pod"} 1"#);
}

#[tokio::test]
async fn a_pod_that_was_patched_gets_no_second_patch() {
    let fixture = Fixture::default();
    fixture.add_binding("api", Some(TargetType::Ip));
    let mut gated = pod_with(
        "/spec",
        "readinessGates",
        json!([
            { "conditionType": "target-health.alb.ingress.k8s.aws/web_web_80" },
            { "conditionType": "example.com/warm", "unknown": 1 },
        ]),
    );
    let first = fixture.pod(&review(gated.clone())).await;
    json_patch::patch(
        &mut gated,
        &serde_json::from_value::<json_patch::Patch>(patch(&first)).unwrap(),
    )
    .unwrap();
    let gates = json!([
        { "conditionType": "example.com/warm", "unknown": 1 },
        { "conditionType": "target-health.elbv2.k8s.aws/api" },
        { "conditionType": "target-health.elbv2.k8s.aws/web" },
    ]);
    assert_eq!(gated["spec"]["readinessGates"], gates);

    let second = fixture.pod(&review(gated)).await;
    let audit = json!({
        "decision": "AlreadyInjected",
        "bindings": "api=AlreadyInjected,web=AlreadyInjected",
    });
    assert_eq!(
        second,
        json!({ "uid": UID, "allowed": true, "auditAnnotations": audit })
    );
}

#[rstest]
#[case::labels_with_escapes(pod_with("/metadata/labels", "app", json!("w\u{1}b")), "SelectorMismatch")]
#[case::no_metadata(json!({ "kind": "Pod", "spec": {} }), "SelectorMismatch")]
#[case::no_labels(pod_with("/metadata", "labels", Value::Null), "SelectorMismatch")]
#[case::opted_out(
    pod_with("/metadata", "annotations", json!({ "targetgate.dev/gate": "false" })),
    "OptedOut"
)]
#[tokio::test]
async fn a_pod_that_gets_no_gate_is_left_unchanged(#[case] pod: Value, #[case] reason: &str) {
    let answer = Fixture::default().pod(&review(pod)).await;
    let audit = json!({ "decision": reason, "bindings": format!("web={reason}") });
    assert_eq!(
        answer,
        json!({ "uid": UID, "allowed": true, "auditAnnotations": audit })
    );
}

#[rstest]
#[case::an_escaped_label("/metadata/labels", "app", r#""\u0077eb""#)]
#[case::a_null_list("/spec", "readinessGates", "null")]
#[case::a_deep_field_that_nobody_reads("/spec", "x", &format!("{}{}", "[".repeat(10_000), "]".repeat(10_000)))]
#[tokio::test]
async fn a_pod_that_is_written_in_an_odd_way_gets_its_gate(
    #[case] parent: &str,
    #[case] field: &str,
    #[case] json: &str,
) {
    let review = review(pod_with(parent, field, json!("HERE"))).to_string();
    let body = review.replace(r#""HERE""#, json);
    let fixture = Fixture::default();
    let response = fixture.post(targetgate::admission::POD_PATH, body).await;
    let answer = crate::fixture::answer(&response);
    assert_eq!(patch(&answer)[0]["path"], "/spec/readinessGates");
    assert_eq!(answer.get("warnings"), None);
}

#[rstest]
#[case::an_update("operation", json!("UPDATE"))]
#[case::a_subresource("subResource", json!("status"))]
#[case::another_resource("resource", json!({ "group": "", "version": "v1", "resource": "services" }))]
#[case::another_group("resource", json!({ "group": "x.io", "version": "v1", "resource": "pods" }))]
#[case::another_version("resource", json!({ "group": "", "version": "v2", "resource": "pods" }))]
#[tokio::test]
async fn a_request_that_does_not_create_a_v1_pod_is_allowed_untouched(
    #[case] field: &str,
    #[case] value: Value,
    // The second object is not a Pod, and its fields must not matter either.
    #[values(pod(), pod_with("/spec", "readinessGates", json!("none")))] object: Value,
) {
    let mut review = review(object);
    review["request"][field] = value;
    let answer = Fixture::default().pod(&review).await;
    let audit = json!({ "decision": "NotPodCreate" });
    assert_eq!(
        answer,
        json!({ "uid": UID, "allowed": true, "auditAnnotations": audit })
    );
}

#[tokio::test]
async fn a_deleted_pod_is_allowed_untouched() {
    let mut review = review(Value::Null);
    review["request"]["operation"] = json!("DELETE");
    review["request"]["oldObject"] = pod();
    let answer = Fixture::default().pod(&review).await;
    assert_eq!(answer["auditAnnotations"]["decision"], "NotPodCreate");
}

#[tokio::test]
async fn the_namespace_is_taken_from_the_request() {
    let mut review = review(pod_with("/metadata", "namespace", json!("shop")));
    review["request"]["namespace"] = json!("elsewhere");
    let answer = Fixture::default().pod(&review).await;
    assert_eq!(
        answer["auditAnnotations"],
        json!({ "decision": "NoBinding" })
    );
}

#[tokio::test]
async fn before_the_services_are_listed_a_pod_is_allowed_with_a_warning() {
    let fixture = Fixture::default();
    fixture
        .cache
        .looked(WatchedResource::Services, InitialList::Pending);
    let answer = fixture.pod(&review(pod())).await;
    assert_eq!(answer["allowed"], true);
    assert_eq!(answer.get("patch"), None);
    assert_eq!(
        answer["auditAnnotations"],
        json!({ "decision": "NotReady" })
    );
    let warning = answer["warnings"][0].as_str().unwrap();
    assert!(
        warning.contains("does not know the bindings and Services yet"),
        "{warning}"
    );
    fixture.assert_measured(r#"targetgate_admissions_total{hook="pod",reason="NotReady"} 1"#);
}

#[tokio::test]
async fn a_pod_of_a_namespace_that_is_not_watched_is_told_so() {
    let fixture = Fixture::default();
    fixture.cache.watch_only(vec!["shop".into()]);
    let mut elsewhere = review(pod());
    elsewhere["request"]["namespace"] = json!("elsewhere");
    let answer = fixture.pod(&elsewhere).await;
    assert_eq!(answer["allowed"], true);
    let audit = json!({ "decision": "NotWatched" });
    assert_eq!(answer["auditAnnotations"], audit);
    let warning = answer["warnings"][0].as_str().unwrap();
    assert!(
        warning.ends_with(r#"--watch-namespaces leaves out namespace "elsewhere""#),
        "{warning}"
    );
    let here = fixture.pod(&review(pod())).await;
    assert_eq!(here["auditAnnotations"]["decision"], "Injected");
}

const LEGACY: &str = "target-health.alb.ingress.k8s.aws/web_web_80";

#[rstest]
#[case::not_selected("shop", json!({ "app": "api" }))]
#[case::without_a_binding("elsewhere", json!({ "app": "web" }))]
#[tokio::test]
async fn a_pod_that_keeps_a_legacy_gate_is_warned_of(
    #[case] namespace: &str,
    #[case] labels: Value,
) {
    let gates = json!([{ "conditionType": "example.com/warm" }, { "conditionType": LEGACY }]);
    let mut legacy = pod_with("/spec", "readinessGates", gates);
    legacy["metadata"]["labels"] = labels;
    let mut review = review(legacy);
    review["request"]["namespace"] = json!(namespace);
    let answer = Fixture::default().pod(&review).await;
    assert_eq!(
        (&answer["allowed"], answer.get("patch")),
        (&json!(true), None)
    );
    let warnings = answer["warnings"].as_array().unwrap();
    assert_eq!(warnings.len(), 1, "{answer}");
    let warning = warnings[0].as_str().unwrap();
    assert!(warning.contains(LEGACY), "{warning}");
    assert!(warning.contains("remove from its template"), "{warning}");
}

#[tokio::test]
async fn a_pod_whose_legacy_gate_is_replaced_is_not_warned_of() {
    let gates = json!([{ "conditionType": LEGACY }]);
    let legacy = pod_with("/spec", "readinessGates", gates);
    let answer = Fixture::default().pod(&review(legacy)).await;
    assert_eq!(answer["auditAnnotations"]["decision"], "Injected");
    assert_eq!(answer.get("warnings"), None);
}
