//! The end of a pod in the answers of the pod hook (contract 9).

use std::sync::Arc;

use json_patch::Patch;
use rstest::rstest;
use serde_json::{Value, json};
use targetgate::admission::POD_PATH;
use targetgate::state::cache::{InitialList, WatchedResource};
use targetgate_core::drain::{DrainLabel, DrainMode, LoadBalancerKind, ServerVersion};
use targetgate_core::fixtures::binding;
use targetgate_core::model::{Binding, Namespace};
use targetgate_core::names::ConditionPrefix;

use crate::fixture::{self, Fixture, patch, pod, pod_with, review};

const SLEEP: DrainLabel = DrainLabel::Mode(DrainMode::Sleep);
const OFF: DrainLabel = DrainLabel::Mode(DrainMode::Off);

/// The namespace `shop` with this label, behind an API server of 1.36, with binding `web` to an ALB.
fn labelled(drain: DrainLabel) -> Fixture {
    let fixture = Fixture::default();
    fixture.policy.server.told(version("36"));
    let namespace = Namespace {
        opted_in: true,
        drain,
        ..Namespace::default()
    };
    fixture
        .cache
        .write(|index| index.apply_namespace(&"shop".into(), namespace));
    bind(&fixture, "web", Some(LoadBalancerKind::Alb));
    fixture
}

fn version(minor: &str) -> ServerVersion {
    ServerVersion::of("1", minor).unwrap()
}

fn bind(fixture: &Fixture, name: &str, load_balancer: Option<LoadBalancerKind>) {
    let binding = Binding {
        load_balancer,
        ..binding(name)
    };
    let shop = Arc::from("shop");
    fixture
        .cache
        .write(|index| index.apply_binding(&shop, binding));
}

/// A pod of two containers that the Service `web` selects, with these annotations.
fn annotated(annotations: Value) -> Value {
    let mut pod = pod();
    pod["metadata"]["annotations"] = annotations;
    pod["spec"] = json!({
        "terminationGracePeriodSeconds": 30,
        "containers": [{ "name": "web" }, { "name": "log", "lifecycle": { "postStart": {} } }],
        "initContainers": [{ "name": "proxy", "restartPolicy": "Always" }, { "name": "init" }],
        "ephemeralContainers": [{ "name": "debug" }],
    });
    pod
}

/// The pod after its answer, and the answer.
async fn answered(fixture: &Fixture, mut pod: Value) -> (Value, Value) {
    let answer = fixture.pod(&review(pod.clone())).await;
    assert_eq!(answer["allowed"], true);
    if answer.get("patch").is_some() {
        let patch: Patch = serde_json::from_value(patch(&answer)).unwrap();
        json_patch::patch(&mut pod, &patch).unwrap();
    }
    (pod, answer)
}

/// The seconds that the first container sleeps.
fn slept(pod: &Value) -> Option<i64> {
    pod["spec"]["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"].as_i64()
}

fn drain(answer: &Value) -> Option<&str> {
    answer["auditAnnotations"]["drain"].as_str()
}

#[tokio::test]
async fn one_patch_gives_the_gate_and_what_the_end_needs() {
    let fixture = labelled(SLEEP);
    let (_, answer) = answered(&fixture, annotated(json!({ "a": "b" }))).await;
    let sleep = json!({ "sleep": { "seconds": 20 } });
    let gate = json!({ "conditionType": "target-health.elbv2.k8s.aws/web" });
    let expected = json!([
        { "op": "add", "path": "/spec/readinessGates", "value": [gate] },
        { "op": "add", "path": "/spec/containers/0/lifecycle", "value": { "preStop": sleep } },
        { "op": "add", "path": "/spec/containers/1/lifecycle/preStop", "value": sleep },
        { "op": "add", "path": "/spec/terminationGracePeriodSeconds", "value": 50 },
        { "op": "add", "path": "/metadata/annotations/targetgate.dev~1drained", "value": "20/30" },
    ]);
    assert_eq!(patch(&answer), expected);
    let audit = json!({ "decision": "Injected", "bindings": "web=Injected", "drain": "Injected" });
    assert_eq!(answer["auditAnnotations"], audit);
    assert_eq!(answer.get("warnings"), None);
    fixture.assert_measured(r#"targetgate_drains_total{reason="Injected"} 1"#);
}

/// The hook reads containers together with all else where it expects drain, and in a second pass where only the pod
/// asks.
#[tokio::test]
async fn whoever_asks_for_the_sleep_gets_the_same_patch() {
    let asking = json!({ "targetgate.dev/drain": "sleep" });
    let of = async |label, mode, annotations| {
        let mut fixture = labelled(label);
        fixture.policy.drain.mode = mode;
        let mut pod = annotated(annotations);
        let (_, answer) = answered(&fixture, pod.clone()).await;
        let owner = json!({ "apiVersion": "batch/v1", "kind": "Job", "name": "j", "uid": "u", "controller": true });
        pod["metadata"]["ownerReferences"] = json!([owner]);
        let (_, of_job) = answered(&fixture, pod).await;
        assert_eq!(drain(&of_job), Some("Job"));
        patch(&answer)
    };
    let (absent, other) = (DrainLabel::Absent, json!({ "a": "b" }));
    let by_pod = of(absent, DrainMode::Off, asking).await;
    assert_eq!(of(SLEEP, DrainMode::Off, other.clone()).await, by_pod);
    assert_eq!(of(absent, DrainMode::Sleep, other).await, by_pod);
}

#[tokio::test]
async fn a_pod_that_was_patched_gets_no_second_patch_until_a_container_is_added() {
    let fixture = labelled(SLEEP);
    let (mut pod, _) = answered(&fixture, annotated(json!({}))).await;
    let (_, again) = answered(&fixture, pod.clone()).await;
    assert_eq!(
        (drain(&again), again.get("patch")),
        (Some("AlreadyInjected"), None)
    );
    let containers = pod["spec"]["containers"].as_array_mut().unwrap();
    containers.insert(0, json!({ "name": "istio-proxy" }));
    let (pod, later) = answered(&fixture, pod).await;
    let path = "/spec/containers/0/lifecycle";
    let sleep = json!({ "preStop": { "sleep": { "seconds": 20 } } });
    assert_eq!(
        patch(&later),
        json!([{ "op": "add", "path": path, "value": sleep }])
    );
    assert_eq!(pod["spec"]["terminationGracePeriodSeconds"], 50);
}

#[rstest]
#[case::nobody_asks(DrainMode::Off, DrainLabel::Absent, json!({}), None)]
#[case::the_flag(DrainMode::Sleep, DrainLabel::Absent, json!({}), Some(20))]
#[case::the_label_over_the_flag(DrainMode::Sleep, OFF, json!({}), None)]
#[case::the_label(DrainMode::Off, SLEEP, json!({}), Some(20))]
#[case::the_annotation_over_the_label(DrainMode::Off, OFF, json!({ "targetgate.dev/drain": "sleep" }), Some(20))]
#[case::the_annotation_against_the_label(DrainMode::Sleep, SLEEP, json!({ "targetgate.dev/drain": "off" }), None)]
#[case::no_annotation_of_ours(DrainMode::Off, SLEEP, json!({ "targetgate.dev/drain": "maybe" }), Some(20))]
#[case::no_label_of_ours(DrainMode::Sleep, DrainLabel::Unreadable, json!({}), Some(20))]
#[tokio::test]
async fn the_annotation_comes_before_the_label_and_that_before_the_flag(
    #[case] flag: DrainMode,
    #[case] label: DrainLabel,
    #[case] annotations: Value,
    #[case] expected: Option<i64>,
) {
    let mut fixture = labelled(label);
    fixture.policy.drain.mode = flag;
    let (pod, answer) = answered(&fixture, annotated(annotations)).await;
    assert_eq!(slept(&pod), expected);
    let reason = if expected.is_some() {
        "Injected"
    } else {
        "Off"
    };
    fixture.assert_measured(&format!(
        r#"targetgate_drains_total{{reason="{reason}"}} 1"#
    ));
    let audited = expected.map(|_| reason);
    assert_eq!(drain(&answer), audited);
}

#[rstest]
#[case(&[Some(LoadBalancerKind::Alb)], 20)]
#[case(&[Some(LoadBalancerKind::Nlb)], 100)]
#[case(&[None], 100)]
#[case(&[Some(LoadBalancerKind::Nlb), Some(LoadBalancerKind::Alb)], 100)]
#[tokio::test]
async fn the_longest_time_that_a_load_balancer_of_the_pod_needs_counts(
    #[case] kinds: &[Option<LoadBalancerKind>],
    #[case] expected: i64,
) {
    let fixture = labelled(SLEEP);
    for (name, kind) in ["web", "api"].into_iter().zip(kinds) {
        bind(&fixture, name, *kind);
    }
    let elsewhere = Binding {
        service: "other".into(),
        load_balancer: Some(LoadBalancerKind::Nlb),
        ..binding("other")
    };
    let shop = Arc::from("shop");
    fixture
        .cache
        .write(|index| index.apply_binding(&shop, elsewhere));
    let (pod, _) = answered(&fixture, annotated(json!({}))).await;
    assert_eq!(slept(&pod), Some(expected));
}

#[rstest]
#[case("45", 45, 0)]
#[case("600", 600, 0)]
#[case("601", 20, 1)]
#[case("soon", 20, 1)]
#[tokio::test]
async fn the_seconds_of_the_pod_come_first_unless_they_cannot_be_read(
    #[case] seconds: &str,
    #[case] expected: i64,
    #[case] warnings: usize,
) {
    let fixture = labelled(SLEEP);
    let annotations = json!({ "targetgate.dev/drain-seconds": seconds });
    let (pod, answer) = answered(&fixture, annotated(annotations)).await;
    assert_eq!(slept(&pod), Some(expected));
    let warned = answer["warnings"].as_array().map_or(0, Vec::len);
    assert_eq!(warned, warnings, "{answer}");
}

#[rstest]
#[case::a_label(DrainLabel::Unreadable, json!({}), "the label targetgate.dev/drain of the Namespace is ignored")]
#[case::an_annotation(OFF, json!({ "targetgate.dev/drain": "yes" }), "annotation targetgate.dev/drain is ignored")]
#[tokio::test]
async fn a_mode_that_cannot_be_read_is_warned_about(
    #[case] label: DrainLabel,
    #[case] annotations: Value,
    #[case] expected: &str,
) {
    let (pod, answer) = answered(&labelled(label), annotated(annotations)).await;
    assert_eq!(slept(&pod), None);
    let warning = answer["warnings"][0].as_str().unwrap();
    assert!(warning.starts_with(expected), "{warning}");
}

#[tokio::test]
async fn a_pod_without_a_gate_is_left_as_it_is() {
    let fixture = labelled(SLEEP);
    let mut pod = annotated(json!({ "targetgate.dev/drain": "sleep" }));
    pod["metadata"]["labels"]["app"] = json!("batch");
    let (after, answer) = answered(&fixture, pod.clone()).await;
    assert_eq!((after, drain(&answer)), (pod, None));
}

#[tokio::test]
async fn a_gate_under_a_former_prefix_or_by_hand_counts_even_where_no_binding_is_known() {
    let mut fixture = labelled(SLEEP);
    let former: ConditionPrefix = "target-health.targetgate.dev".parse().unwrap();
    fixture.policy.prefixes.push(former);
    let mut pod = annotated(json!({ "targetgate.dev/drain": "sleep" }));
    pod["metadata"]["labels"]["app"] = json!("batch");
    pod["spec"]["readinessGates"] =
        json!([{ "conditionType": "target-health.targetgate.dev/batch" }]);
    for namespace in ["shop", "elsewhere"] {
        let mut review = review(pod.clone());
        review["request"]["namespace"] = json!(namespace);
        let answer = fixture.pod(&review).await;
        assert_eq!(drain(&answer), Some("Injected"), "{namespace}");
        let longest = "/spec/containers/0/lifecycle";
        assert_eq!(patch(&answer)[0]["path"], longest);
        assert_eq!(
            patch(&answer)[0]["value"]["preStop"]["sleep"]["seconds"],
            100
        );
    }
}

#[rstest]
#[case(None, "ServerUnknown")]
#[case(Some("30"), "ServerTooOld")]
#[tokio::test]
async fn an_api_server_that_may_refuse_the_sleep_gets_none_and_the_client_is_told(
    #[case] minor: Option<&str>,
    #[case] reason: &str,
) {
    let mut fixture = labelled(SLEEP);
    fixture.policy.server = Arc::default();
    if let Some(minor) = minor {
        fixture.policy.server.told(version(minor));
    }
    let (pod, answer) = answered(&fixture, annotated(json!({}))).await;
    assert_eq!((slept(&pod), drain(&answer)), (None, Some(reason)));
    assert_eq!(answer["auditAnnotations"]["decision"], "Injected");
    let warning = answer["warnings"][0].as_str().unwrap();
    assert!(
        warning.contains("without the sleep before its end"),
        "{warning}"
    );
}

#[rstest]
#[case(json!({}), "NotReady")]
#[case(json!({ "targetgate.dev/drain": "sleep" }), "Injected")]
#[tokio::test]
async fn before_the_namespaces_are_listed_only_the_pod_itself_can_ask(
    #[case] annotations: Value,
    #[case] reason: &str,
) {
    let mut fixture = labelled(SLEEP);
    fixture.policy.drain.mode = DrainMode::Sleep;
    let (namespaces, pending) = (WatchedResource::Namespaces, InitialList::Pending);
    fixture.cache.looked(namespaces, pending);
    let (_, answer) = answered(&fixture, annotated(annotations)).await;
    assert_eq!(drain(&answer), Some(reason));
}

#[rstest]
#[case::a_job(json!({ "apiVersion": "batch/v1", "kind": "Job", "controller": true }), "Job")]
#[case::a_job_that_is_no_controller(json!({ "apiVersion": "batch/v1", "kind": "Job" }), "Injected")]
#[case::a_job_of_another_group(json!({ "apiVersion": "x.io/v1", "kind": "Job", "controller": true }), "Injected")]
#[case::a_replica_set(json!({ "apiVersion": "apps/v1", "kind": "ReplicaSet", "controller": true }), "Injected")]
#[tokio::test]
async fn a_pod_of_a_job_is_left_alone(#[case] owner: Value, #[case] reason: &str) {
    let mut pod = annotated(json!({}));
    pod["metadata"]["ownerReferences"] = json!([{ "kind": "Other" }, owner]);
    let (_, answer) = answered(&labelled(SLEEP), pod).await;
    assert_eq!(drain(&answer), Some(reason));
}

#[rstest]
#[case::own(json!([{ "lifecycle": { "preStop": { "exec": { "command": ["x"] } } } }]), json!(30), "HasPreStop")]
#[case::own_sleep(json!([{ "lifecycle": { "preStop": { "sleep": { "seconds": 5 } } } }]), json!(30), "HasPreStop")]
#[case::an_empty_handler(json!([{ "lifecycle": { "preStop": {} } }]), json!(30), "HasPreStop")]
#[case::an_empty_sleep(json!([{ "lifecycle": { "preStop": { "sleep": {} } } }]), json!(30), "HasPreStop")]
#[case::no_handler(json!([{ "lifecycle": { "preStop": null } }]), json!(30), "Injected")]
#[case::no_lifecycle(json!([{ "lifecycle": null }]), json!(30), "Injected")]
#[case::no_grace(json!([{}]), json!(0), "GraceZero")]
#[case::no_containers(Value::Null, json!(30), "HasPreStop")]
#[case::no_list(json!({}), json!(30), "BadObject")]
#[case::no_container(json!([null]), json!(30), "BadObject")]
#[case::no_number(json!([{}]), json!("30"), "BadObject")]
#[case::a_fraction(json!([{}]), json!(30.5), "BadObject")]
#[tokio::test]
async fn containers_and_grace_of_any_shape_are_answered_with_the_gate(
    #[case] containers: Value,
    #[case] grace: Value,
    #[case] reason: &str,
) {
    let mut pod = annotated(json!({}));
    pod["spec"]["containers"] = containers;
    pod["spec"]["terminationGracePeriodSeconds"] = grace;
    let (after, answer) = answered(&labelled(SLEEP), pod).await;
    assert_eq!(drain(&answer), Some(reason));
    let gates = &after["spec"]["readinessGates"];
    assert_eq!(gates[0]["conditionType"], "target-health.elbv2.k8s.aws/web");
}

#[tokio::test]
async fn names_with_escapes_are_read_as_well() {
    let mut pod = pod_with("/metadata", "annotations", json!({}));
    let pre_stop = json!({ "exec": { "command": ["x"] } });
    pod["spec"]["containers"] = json!([{ "name": "web", "lifecycle": { "preStop": pre_stop } }]);
    let body = review(pod).to_string().replace("preStop", r"\u0070reStop");
    let response = labelled(SLEEP).post(POD_PATH, body).await;
    assert_eq!(drain(&fixture::answer(&response)), Some("HasPreStop"));
}
