//! Size, time, number and memory of reviews are bounded. Beyond the bounds a pod is still allowed.

use std::convert::Infallible;
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use futures::{StreamExt as _, stream};
use serde_json::json;
use targetgate::admission::{POD_PATH, VALIDATE_BINDING_PATH};

use crate::fixture::{Fixture, UID, answer, pod, pod_with, refusal, review};

const LIMIT: usize = 7 << 20;

/// A body in chunks, without a length.
fn chunked(body: &[u8]) -> Body {
    let pieces: Vec<_> = body.chunks(1000).map(Bytes::copy_from_slice).collect();
    Body::from_stream(stream::iter(pieces.into_iter().map(Ok::<_, Infallible>)))
}

/// A review of the greatest length that a body may have.
fn longest() -> String {
    let mut review = review(pod()).to_string();
    review.push_str(&" ".repeat(LIMIT - review.len()));
    review
}

#[tokio::test]
async fn a_body_of_7_mib_is_read() {
    let fixture = Fixture::default();
    let whole = fixture.post(POD_PATH, longest()).await;
    assert_eq!(answer(&whole)["auditAnnotations"]["decision"], "Injected");
    let pieces = fixture.post(POD_PATH, chunked(longest().as_bytes())).await;
    assert_eq!(answer(&pieces)["auditAnnotations"]["decision"], "Injected");
}

#[tokio::test]
async fn a_longer_body_is_refused_with_a_length_and_without() {
    let fixture = Fixture::default();
    let longer = longest() + " ";
    let sentence = "the body is longer than 7340032 bytes, which no review is".to_owned();
    let whole = fixture.post(POD_PATH, longer.clone()).await;
    assert_eq!(refusal(&whole), (413, sentence.clone()));
    let pieces = fixture.post(POD_PATH, chunked(longer.as_bytes())).await;
    assert_eq!(refusal(&pieces), (413, sentence));
    fixture.assert_measured(r#"targetgate_refusals_total{cause="TooLarge"} 2"#);
}

#[tokio::test(start_paused = true)]
async fn a_body_that_does_not_arrive_is_refused() {
    let fixture = Fixture::default();
    let never = Body::from_stream(stream::pending::<Result<Bytes, Infallible>>());
    let response = fixture.post(POD_PATH, never).await;
    let sentence = "the body did not arrive within 8 s".to_owned();
    assert_eq!(refusal(&response), (408, sentence));
}

#[tokio::test]
async fn a_body_that_breaks_off_is_refused() {
    let broken = Body::from_stream(stream::iter([Err::<Bytes, _>("gone")]));
    let response = Fixture::default().post(POD_PATH, broken).await;
    assert_eq!(refusal(&response).0, 400);
}

/// A review whose object is larger than the part that is kept of a body that is not read.
fn large() -> String {
    let text = "x".repeat(100_000);
    let object = pod_with("/metadata", "annotations", json!({ "text": text }));
    // The `uid` comes first, as in a review from kube-apiserver.
    let request = format!(r#"{{"uid":"{UID}","object":{object}}}"#);
    format!(
        r#"{{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1","request":{request}}}"#
    )
}

fn overloaded(answer: &serde_json::Value) {
    let warning =
        "the pod was admitted without readiness gates of targetgate: targetgate is overloaded";
    let golden = json!({
        "uid": UID,
        "allowed": true,
        "warnings": [warning],
        "auditAnnotations": { "decision": "Overloaded" },
    });
    assert_eq!(*answer, golden);
}

#[tokio::test]
async fn beyond_the_limit_of_reviews_a_pod_is_allowed_with_a_warning() {
    let mut fixture = Fixture::default();
    fixture.limits.reviews = 0;
    overloaded(&answer(&fixture.post(POD_PATH, large()).await));
    overloaded(&answer(
        &fixture.post(POD_PATH, chunked(large().as_bytes())).await,
    ));
    fixture.assert_measured(r#"targetgate_admissions_total{hook="pod",reason="Overloaded"} 2"#);
}

#[tokio::test]
async fn beyond_the_memory_for_bodies_a_pod_is_allowed_with_a_warning() {
    let mut fixture = Fixture::default();
    fixture.limits.bodies = 50_000;
    overloaded(&answer(&fixture.post(POD_PATH, large()).await));
    let small = fixture.pod(&review(pod())).await;
    assert_eq!(small["auditAnnotations"]["decision"], "Injected");
}

#[tokio::test(start_paused = true)]
async fn where_memory_is_short_the_slowest_body_is_refused_and_a_quick_one_is_decided() {
    use tower::ServiceExt as _;

    let mut fixture = Fixture::default();
    fixture.limits.bodies = 300_000;
    let router = fixture.router();
    let post = |body| {
        let request = http::Request::post(POD_PATH).header("content-type", "application/json");
        router.clone().oneshot(request.body(body).unwrap())
    };
    let piece = stream::iter([Ok::<_, Infallible>(Bytes::from(vec![b' '; 100_000]))]);
    let held_back = Body::from_stream(piece.chain(stream::pending()));
    let held_back = tokio::spawn(post(held_back));
    tokio::time::sleep(Duration::from_millis(100)).await;

    let annotations = json!({ "text": "x".repeat(100_000) });
    let quick = review(pod_with("/metadata", "annotations", annotations)).to_string();
    post(chunked(quick.as_bytes())).await.unwrap();
    fixture.assert_measured(r#"targetgate_admissions_total{hook="pod",reason="Injected"} 1"#);
    assert_eq!(held_back.await.unwrap().unwrap().status(), 503);
    fixture.assert_measured(r#"targetgate_refusals_total{cause="SlowestBody"} 1"#);
}

#[tokio::test]
async fn a_place_is_free_again_after_an_answer_and_after_a_refusal() {
    use tower::ServiceExt as _;

    let mut fixture = Fixture::default();
    fixture.limits.reviews = 1;
    fixture.limits.bodies = 10_000;
    let router = fixture.router();
    for body in [
        "{}".to_owned(),
        review(pod()).to_string(),
        review(pod()).to_string(),
    ] {
        let request = http::Request::post(POD_PATH).header("content-type", "application/json");
        let request = request.body(Body::from(body)).unwrap();
        router.clone().oneshot(request).await.unwrap();
    }
    fixture.assert_measured(r#"targetgate_admissions_total{hook="pod",reason="Injected"} 2"#);
}

#[tokio::test]
async fn overload_without_a_uid_in_reach_is_a_503() {
    let mut fixture = Fixture::default();
    fixture.limits.reviews = 0;
    let late = " ".repeat(5000) + &large();
    let response = fixture.post(POD_PATH, late.clone()).await;
    assert_eq!(refusal(&response).0, 503);
    // The kept part is not larger for a body in chunks.
    let response = fixture.post(POD_PATH, chunked(late.as_bytes())).await;
    assert_eq!(refusal(&response).0, 503);
}

#[tokio::test]
async fn overload_does_not_let_a_binding_through() {
    let mut fixture = Fixture::default();
    fixture.limits.reviews = 0;
    let response = fixture.post(VALIDATE_BINDING_PATH, large()).await;
    assert_eq!(
        refusal(&response),
        (503, "targetgate is overloaded, try again".to_owned())
    );
}

#[tokio::test(start_paused = true)]
async fn clients_that_send_slowly_take_no_place_from_others() {
    use tower::ServiceExt as _;

    let mut fixture = Fixture::default();
    fixture.limits.reviews = 1;
    let router = fixture.router();
    let slow = || {
        let silence = futures::stream::pending::<Result<axum::body::Bytes, std::io::Error>>();
        let request = http::Request::post(POD_PATH).header("content-type", "application/json");
        let request = request.header("content-length", "7000000");
        tokio::spawn(
            router
                .clone()
                .oneshot(request.body(Body::from_stream(silence)).unwrap()),
        )
    };
    let slow: Vec<_> = (0..100).map(|_| slow()).collect();
    tokio::task::yield_now().await;
    let request = http::Request::post(POD_PATH).header("content-type", "application/json");
    let request = request.body(Body::from(review(pod()).to_string())).unwrap();
    router.clone().oneshot(request).await.unwrap();
    fixture.assert_measured(r#"targetgate_admissions_total{hook="pod",reason="Injected"} 1"#);
    for client in slow {
        assert_eq!(client.await.unwrap().unwrap().status(), 408);
    }
}
