//! The parsing of bodies, and the annotations of answers.

use std::sync::Arc;

use proptest::prelude::*;
use rstest::rstest;
use serde_json::{Value, json};
use targetgate_core::fixtures::{binding, service};
use targetgate_core::index::services::ServiceIndex;
use targetgate_core::model::{Binding, Labels};
use targetgate_core::selector::LabelSet as _;

use super::*;

fn is_borrowed(text: &str, body: &str) -> bool {
    body.as_bytes().as_ptr_range().contains(&text.as_ptr())
}

#[test]
fn labels_and_gates_are_borrowed_from_the_body() {
    let body = r#"{
        "metadata": { "labels": { "app": "web" } },
        "spec": { "readinessGates": [{ "conditionType": "a/b" }] }
    }"#;
    let Object(pod): Object<Pod<'_>> = serde_json::from_str(body).unwrap();
    let labels = pod.metadata.unwrap().0.labels.unwrap();
    assert!(is_borrowed(labels.value("app").unwrap(), body));
    let gates = pod.spec.unwrap().0.readiness_gates.unwrap();
    assert!(is_borrowed(&gates[0].0.condition_type, body));
}

#[rstest]
#[case(r#"{ "targetgate.dev/gate": "false" }"#, true)]
#[case(r#"{ "other": { "deep": [] }, "targetgate.dev/gate": "false" }"#, true)]
#[case(r#"{ "targetgate.dev/gate": "true" }"#, false)]
#[case(r#"{ "other": "false" }"#, false)]
#[case("{}", false)]
fn only_the_word_false_in_our_annotation_opts_out(#[case] json: &str, #[case] opted_out: bool) {
    let read: OwnAnnotations = serde_json::from_str(json).unwrap();
    assert_eq!(read.opted_out, opted_out);
}

#[test]
fn of_a_label_that_stands_twice_the_last_counts() {
    let labels: LabelList<'_> = serde_json::from_str(r#"{ "a": "1", "a": "2" }"#).unwrap();
    assert_eq!(labels.value("a"), Some("2"));
}

/// The `bindings` annotation of a pod `app=web` where these bindings are.
fn audit(bindings: Vec<Binding>) -> String {
    let mut routes = ServiceIndex::default();
    routes.apply_service(&"web".into(), service().selecting("app", "web"));
    for binding in bindings {
        routes.apply_binding(binding);
    }
    let pod = NewPod {
        labels: &Labels::from([("app".into(), "web".into())]),
        gates: &[],
        opted_out: false,
    };
    by_binding(&inject::decide(&pod, &routes, &GatePolicy::default()))
}

/// A binding of Service `none`, which does not exist.
fn orphan(name: &str) -> Binding {
    Binding {
        service: "none".into(),
        ..binding(name)
    }
}

#[test]
fn the_audit_names_each_binding_the_injected_ones_first() {
    let text = audit(vec![orphan("a"), binding("b"), orphan("c")]);
    assert_eq!(text, "b=Injected,a=ServiceMissing,c=ServiceMissing");
}

#[test]
fn a_long_audit_is_cut_after_the_injected_ones() {
    let mut bindings: Vec<_> = (0..100)
        .map(|n| orphan(&format!("binding-{n:03}")))
        .collect();
    bindings.push(binding("z"));
    let text = audit(bindings);
    assert!(text.starts_with("z=Injected,binding-000=ServiceMissing,"));
    assert!(text.ends_with("=ServiceMissing…"));
    // Another `,binding-NNN=ServiceMissing` would have exceeded the limit.
    assert!(
        (MAX_AUDIT - 27..=MAX_AUDIT).contains(&text.len()),
        "{}",
        text.len()
    );
}

/// The creation of a pod, its fields in the order in which kube-apiserver writes them.
fn review(object: &Value) -> Vec<u8> {
    let resource = r#"{"group":"","version":"v1","resource":"pods"}"#;
    let request =
        format!(r#"{{"uid":"u-1","resource":{resource},"operation":"CREATE","object":{object}}}"#);
    let envelope = r#"{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1","request":"#;
    format!("{envelope}{request}}}").into()
}

/// Any JSON, a few levels deep.
fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 24, 4, |inner| {
        let key = prop_oneof![
            Just("labels".to_owned()),
            Just("readinessGates".to_owned()),
            Just("conditionType".to_owned()),
            any::<String>(),
        ];
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::btree_map(key, inner, 0..4).prop_map(|m| json!(m)),
        ]
    })
}

proptest! {
    #[test]
    fn labels_read_as_serde_json_reads_them(
        labels in proptest::collection::btree_map(any::<String>(), any::<String>(), 0..20),
    ) {
        let text = serde_json::to_string(&labels).unwrap();
        let read: LabelList<'_> = serde_json::from_str(&text).unwrap();
        for (key, value) in &labels {
            prop_assert_eq!(read.value(key), Some(value.as_str()));
        }
        prop_assert_eq!(read.value("not there, as it is so long a text that none makes it up"), None);
    }

    #[test]
    fn a_pod_of_any_shape_is_allowed_under_its_uid(metadata in any_json(), spec in any_json()) {
        let body = review(&json!({ "kind": "Pod", "metadata": metadata, "spec": spec }));
        let reply = reply(&body, &Cache::default(), &PodPolicy::default()).unwrap();
        prop_assert_eq!(&*reply.uid, "u-1");
        prop_assert!(reply.answer.denied.is_none());
        prop_assert!(reply.answer.patch.is_empty());
        let reason = reply.answer.reason;
        prop_assert!([Reason::NotReady, Reason::BadObject].contains(&reason), "{}", reason);
    }

    #[test]
    fn any_bytes_are_answered_without_a_panic(body in any::<Vec<u8>>()) {
        let read = reply(&body, &Cache::default(), &PodPolicy::default());
        let refused = matches!(read, Err(Refusal::NoReview { .. }));
        prop_assert!(refused);
    }

    #[test]
    fn a_review_cut_anywhere_is_allowed_once_its_uid_is_there(cut in 0.0..1.0f64) {
        let body = review(&json!({ "kind": "Pod", "spec": { "containers": ["ä", { "a": 1 }] } }));
        let length = (body.len() as f64 * cut) as usize;
        let at = |needle: &[u8]| body.windows(needle.len()).position(|w| w == needle).unwrap();
        let uid_ends = at(b"\"u-1\"") + b"\"u-1\"".len();
        match reply(&body[..length], &Cache::default(), &PodPolicy::default()) {
            Ok(reply) => {
                prop_assert!(length >= uid_ends);
                prop_assert_eq!(reply.answer.reason, Reason::BadReview);
            }
            Err(_) => prop_assert!(length < uid_ends),
        }
    }
}

#[test]
fn a_failure_inside_still_allows_the_pod() {
    let body = review(&Value::Null);
    let reply = caught(&body, || panic!("as a bug would")).unwrap();
    assert_eq!(&*reply.uid, "u-1");
    assert_eq!(reply.answer.reason, Reason::Internal);
    assert!(reply.answer.denied.is_none());
    assert_eq!(reply.answer.warnings.len(), 1);
}

#[test]
fn what_decides_need_not_include_pods_and_namespaces() {
    let cache = Arc::new(Cache::default());
    let policy = GatePolicy::default();
    assert!(!knows_what_decides(&cache, &policy));
    cache.looked(WatchedResource::Services, InitialList::Listed);
    assert!(!knows_what_decides(&cache, &policy));
    let elbv2 = WatchedResource::Bindings(targetgate_core::names::BindingApi::Elbv2);
    cache.looked(elbv2, InitialList::NotServed);
    assert!(knows_what_decides(&cache, &policy));
}

#[rstest]
#[case(
    r#""targetgate.dev/open-after": "soon", "targetgate.dev/when-unused": "open""#,
    "open-after"
)]
#[case(
    r#""targetgate.dev/after-open": "close", "targetgate.dev/open-after": "1h""#,
    "after-open"
)]
fn a_policy_that_cannot_be_read_is_warned_about(#[case] annotations: &str, #[case] named: &str) {
    let json =
        format!(r#"{{ "metadata": {{ "annotations": {{ {annotations} }} }}, "spec": {{}} }}"#);
    let Object(pod): Object<Pod<'_>> = serde_json::from_str(&json).unwrap();
    let view = NamespaceView::default();
    let (answer, _) = in_namespace(&pod, &[], Some(&view), true, &PodPolicy::default());
    let [warning] = &answer.warnings[..] else {
        panic!("one warning, not {:?}", answer.warnings);
    };
    assert!(
        warning.contains(&format!("targetgate.dev/{named} is ignored")),
        "{warning}"
    );
    assert!(answer.denied.is_none());
}
