//! Requests that are not reviews of a pod: each gets the right status, or is allowed with a warning.

use std::cell::RefCell;
use std::sync::Once;

use axum::body::Body;
use http::Request;
use rstest::rstest;
use serde_json::{Value, json};
use targetgate::admission::{MUTATE_BINDING_PATH, POD_PATH};

use crate::fixture::{Fixture, UID, answer, pod, pod_with, refusal, review};

/// A text that an answer must not repeat.
const SECRET: &str = "s3cret, expected never to be seen";

fn deep(levels: usize) -> Value {
    let mut value = json!(SECRET);
    for _ in 0..levels {
        value = json!([value]);
    }
    value
}

#[rstest]
#[case::gates_are_no_list(pod_with("/spec", "readinessGates", json!(SECRET)), "expected a sequence")]
#[case::a_gate_is_no_object(pod_with("/spec", "readinessGates", json!([SECRET])), "expected an object")]
#[case::a_gate_is_a_list(pod_with("/spec", "readinessGates", json!([["a"]])), "expected an object")]
#[case::a_gate_has_no_type(pod_with("/spec", "readinessGates", json!([{ "a": SECRET }])), "missing field")]
#[case::a_gate_is_a_number(
    pod_with("/spec", "readinessGates", json!([{ "conditionType": 5 }])),
    "expected a string"
)]
#[case::a_label_is_a_number(pod_with("/metadata/labels", "app", json!(5)), "expected a string")]
#[case::labels_are_a_text(pod_with("/metadata", "labels", json!(SECRET)), "expected an object of labels")]
#[case::our_annotation_is_a_bool(
    pod_with("/metadata", "annotations", json!({ "targetgate.dev/gate": false })),
    "expected a string"
)]
#[case::deep_in_a_label(pod_with("/metadata/labels", "app", deep(100)), "expected a string")]
#[case::deep_in_the_gates(pod_with("/spec", "readinessGates", deep(100)), "expected an object")]
#[case::spec_is_a_list(json!({ "kind": "Pod", "spec": [SECRET] }), "expected an object")]
#[case::no_spec(json!({ "kind": "Pod", "metadata": { "name": SECRET } }), "it has no spec")]
#[case::another_kind(json!({ "kind": "Secret", "data": SECRET, "spec": {} }), "not of kind Pod")]
#[case::a_text(json!(SECRET), "expected an object")]
#[case::null(Value::Null, "there is none")]
#[tokio::test]
async fn an_object_that_is_not_a_pod_is_allowed_with_a_warning(
    #[case] object: Value,
    #[case] problem: &str,
) {
    let fixture = Fixture::default();
    let answer = fixture.pod(&review(object)).await;
    let warning = answer["warnings"][0].as_str().unwrap_or_default();
    assert!(warning.contains(problem), "{warning}");
    assert!(
        !warning.contains("s3cret") && warning.len() < 350,
        "{warning}"
    );
    let golden = json!({
        "uid": UID,
        "allowed": true,
        "warnings": [warning],
        "auditAnnotations": { "decision": "BadObject" },
    });
    assert_eq!(answer, golden);
    fixture.assert_measured(r#"targetgate_admissions_total{hook="pod",reason="BadObject"} 1"#);
}

thread_local! {
    static LOG: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Collects the log of each thread, and so of each test.
///
/// One subscriber serves the whole process. With one for each test, an event that is first used on a thread
/// without a subscriber would stay disabled for all threads.
struct Log;

impl Log {
    fn start() {
        static ONCE: Once = Once::new();
        ONCE.call_once(|| {
            tracing_subscriber::fmt()
                .with_ansi(false)
                .with_writer(|| Log)
                .init();
        });
        // With a single test thread, all tests run on it one after the other.
        LOG.take();
    }

    fn text() -> String {
        LOG.with_borrow(|log| String::from_utf8(log.clone()).unwrap())
    }
}

impl std::io::Write for Log {
    fn write(&mut self, text: &[u8]) -> std::io::Result<usize> {
        LOG.with_borrow_mut(|log| log.extend_from_slice(text));
        Ok(text.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[rstest]
#[case::an_object(review(json!({ "kind": "Pod", "spec": [SECRET] })).to_string(), "BadObject")]
#[case::a_review(cut_off_at_the_object(), "BadReview")]
#[case::no_review(json!({ "a": SECRET }).to_string(), "400")]
#[tokio::test]
async fn trouble_is_one_log_line_without_the_content(#[case] body: String, #[case] word: &str) {
    Log::start();
    Fixture::default().post(POD_PATH, body).await;

    let text = Log::text();
    assert_eq!(text.lines().count(), 1, "{text}");
    assert!(text.contains("WARN") && text.contains(word), "{text}");
    assert!(!text.contains("s3cret"), "{text}");
}

#[tokio::test]
async fn an_absent_object_is_allowed_with_a_warning() {
    let mut review = review(pod());
    review["request"].as_object_mut().unwrap().remove("object");
    let answer = Fixture::default().pod(&review).await;
    assert_eq!(answer["auditAnnotations"]["decision"], "BadObject");
}

/// The request of a review up to its object, with the `uid` first, as kube-apiserver writes it.
fn cut_off_at_the_object() -> String {
    let request = format!(r#"{{"uid":"{UID}","namespace":"shop","object":{{"a":"{SECRET}"#);
    format!(r#"{{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1","request":{request}"#)
}

fn changed(change: impl FnOnce(&mut Value)) -> String {
    let mut review = review(pod());
    change(&mut review);
    review.to_string()
}

#[rstest]
#[case::another_version(changed(|r| r["apiVersion"] = json!("admission.k8s.io/v1beta1")), "no AdmissionReview")]
#[case::another_kind(changed(|r| r["kind"] = json!("SubjectAccessReview")), "no AdmissionReview")]
#[case::no_version(changed(|r| drop(r.as_object_mut().unwrap().remove("apiVersion"))), "missing field")]
#[case::the_namespace_is_a_number(changed(|r| r["request"]["namespace"] = json!(5)), "expected a string")]
#[case::the_resource_is_a_list(
    changed(|r| r["request"]["resource"] = json!(["", "v1", "pods"])),
    "expected an object"
)]
#[case::cut_off(cut_off_at_the_object(), "EOF")]
#[tokio::test]
async fn a_bad_review_with_a_uid_is_allowed_with_a_warning(
    #[case] body: String,
    #[case] problem: &str,
) {
    let fixture = Fixture::default();
    let answer = answer(&fixture.post(POD_PATH, body).await);
    let warning = answer["warnings"][0].as_str().unwrap_or_default();
    assert!(warning.contains(problem), "{warning}");
    assert!(!warning.contains("s3cret"), "{warning}");
    let golden = json!({
        "uid": UID,
        "allowed": true,
        "warnings": [warning],
        "auditAnnotations": { "decision": "BadReview" },
    });
    assert_eq!(answer, golden);
    fixture.assert_measured(r#"targetgate_admissions_total{hook="pod",reason="BadReview"} 1"#);
}

#[rstest]
#[case::empty("".into())]
#[case::no_json("uid=5".into())]
#[case::no_object("[]".into())]
#[case::a_list_of_the_fields(json!(["admission.k8s.io/v1", "AdmissionReview", {}]).to_string())]
#[case::json_of_another_kind(pod().to_string())]
#[case::no_request(changed(|r| drop(r.as_object_mut().unwrap().remove("request"))))]
#[case::a_null_request(changed(|r| r["request"] = Value::Null))]
#[case::the_request_is_a_text(changed(|r| r["request"] = json!(SECRET)))]
#[case::no_uid(changed(|r| drop(r["request"].as_object_mut().unwrap().remove("uid"))))]
#[case::an_empty_uid(changed(|r| r["request"]["uid"] = json!("")))]
#[case::a_uid_that_is_too_long(changed(|r| r["request"]["uid"] = json!("u".repeat(129))))]
#[case::the_uid_is_a_number(changed(|r| r["request"]["uid"] = json!(5)))]
#[case::nothing_but_depth("[".repeat(10_000))]
#[tokio::test]
async fn a_body_without_a_uid_is_refused_with_a_sentence(
    #[case] body: String,
    #[values(POD_PATH, MUTATE_BINDING_PATH)] path: &str,
) {
    let fixture = Fixture::default();
    let (status, text) = refusal(&fixture.post(path, body).await);
    assert_eq!(status, 400);
    assert!(
        text.starts_with("this is no AdmissionReview that can be answered: "),
        "{text}"
    );
    assert!(!text.contains("s3cret"), "{text}");
    fixture.assert_measured(r#"targetgate_refusals_total{cause="NoReview"} 1"#);
}

#[rstest]
#[case::a_wrong_method("GET", POD_PATH, Some("application/json"), 405, "Method")]
#[case::a_wrong_path("POST", "/mutate-v1-pods", Some("application/json"), 404, "Path")]
#[case::the_root("GET", "/", None, 404, "Path")]
#[case::no_content_type("POST", POD_PATH, None, 415, "ContentType")]
#[case::a_wrong_content_type("POST", POD_PATH, Some("text/plain"), 415, "ContentType")]
#[case::a_longer_content_type("POST", POD_PATH, Some("application/jsonp"), 415, "ContentType")]
#[tokio::test]
async fn a_request_that_does_not_call_a_hook_is_refused(
    #[case] method: &str,
    #[case] path: &str,
    #[case] content_type: Option<&str>,
    #[case] status: u16,
    #[case] cause: &str,
) {
    let mut request = Request::builder().method(method).uri(path);
    if let Some(content_type) = content_type {
        request = request.header("content-type", content_type);
    }
    let fixture = Fixture::default();
    let body = Body::from(review(pod()).to_string());
    let response = fixture.send(request.body(body).unwrap()).await;
    assert_eq!(refusal(&response).0, status);
    fixture.assert_measured(&format!(
        r#"targetgate_refusals_total{{cause="{cause}"}} 1"#
    ));
}

#[tokio::test]
async fn a_content_type_may_have_parameters() {
    let request = Request::post(POD_PATH).header("content-type", "Application/JSON; charset=utf-8");
    let body = Body::from(review(pod()).to_string());
    let response = Fixture::default().send(request.body(body).unwrap()).await;
    assert_eq!(
        answer(&response)["auditAnnotations"]["decision"],
        "Injected"
    );
}
