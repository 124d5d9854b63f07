//! The way of a review to the hooks for bindings and back.

use std::time::Duration;

use axum::body::Body;
use http::Request;
use rstest::rstest;
use serde_json::{Value, json};
use targetgate::admission::{MUTATE_BINDING_PATH, VALIDATE_BINDING_PATH};
use tokio::time::Instant;

use crate::fixture::{Aws, Fixture, UID, answer, refusal, review};

const ARN: &str =
    "arn:aws:elasticloadbalancing:eu-west-1:123456789012:targetgroup/web/0123456789abcdef";

/// The review of a new binding with this spec.
fn binding(spec: &Value) -> Value {
    review(json!({
        "apiVersion": "elbv2.k8s.aws/v1beta1",
        "kind": "TargetGroupBinding",
        "metadata": { "name": "web" },
        "spec": spec,
    }))
}

#[rstest]
#[case(MUTATE_BINDING_PATH, "binding-mutate", true, "Complete")]
#[case(VALIDATE_BINDING_PATH, "binding-validate", false, "Invalid")]
#[tokio::test]
async fn each_path_leads_to_its_hook(
    #[case] path: &str,
    #[case] label: &str,
    #[case] allowed: bool,
    #[case] reason: &str,
) {
    let fixture = Fixture::default();
    // The mutating hook has nothing to fill in, and the role is a fault for the validating one only.
    let spec = json!({
        "targetGroupARN": ARN,
        "targetType": "instance",
        "ipAddressType": "ipv4",
        "vpcID": "vpc-01234567",
        "targetGroupProtocol": "HTTP",
        "serviceRef": { "name": "web", "port": 80 },
        "iamRoleArnToAssume": "arn:aws:iam::210987654321:role/targets",
    });
    let answer = answer(&fixture.post(path, binding(&spec).to_string()).await);
    assert_eq!(
        (&answer["uid"], &answer["allowed"]),
        (&json!(UID), &json!(allowed)),
        "{answer}"
    );
    assert_eq!(answer["auditAnnotations"]["decision"], reason, "{answer}");
    let counted = format!(r#"targetgate_admissions_total{{hook="{label}",reason="{reason}"}} 1"#);
    fixture.assert_measured(&counted);
}

#[rstest]
#[case(MUTATE_BINDING_PATH)]
#[case(VALIDATE_BINDING_PATH)]
#[tokio::test]
async fn a_null_object_is_denied_as_none(#[case] path: &str) {
    let fixture = Fixture::default();
    let answer = answer(&fixture.post(path, review(Value::Null).to_string()).await);
    assert_eq!(answer["auditAnnotations"]["decision"], "Malformed");
    assert_eq!(answer["status"]["code"], 403);
}

#[tokio::test]
async fn a_hook_that_panics_answers_500_and_the_next_is_answered() {
    let fixture = Fixture {
        aws: Aws::Panics,
        ..Fixture::default()
    };
    // Without a target type the mutating hook asks AWS.
    let spec = json!({ "targetGroupARN": ARN, "serviceRef": { "name": "web", "port": 80 } });
    let body = binding(&spec).to_string();
    let router = fixture.router();
    let response = fixture.post_to(&router, MUTATE_BINDING_PATH, body).await;
    assert_eq!(refusal(&response).0, 500);
    fixture.assert_measured(r#"targetgate_refusals_total{cause="Internal"} 1"#);
    let body = review(Value::Null).to_string();
    let response = fixture.post_to(&router, MUTATE_BINDING_PATH, body).await;
    assert_eq!(answer(&response)["allowed"], false);
}

#[rstest]
#[case::a_second_before_it("3s", 2_000)]
#[case::half_of_a_short_one("1s", 500)]
#[tokio::test(start_paused = true)]
async fn the_answer_comes_before_the_timeout_of_the_request_while_aws_hangs(
    #[case] timeout: &str,
    #[case] millis: u64,
    #[values(MUTATE_BINDING_PATH, VALIDATE_BINDING_PATH)] path: &str,
) {
    let fixture = Fixture {
        aws: Aws::Hangs,
        ..Fixture::default()
    };
    // No other binding has this group.
    let spec = json!({
        "targetGroupARN": ARN.replace("/web/", "/api/"),
        "targetType": "ip",
        "serviceRef": { "name": "web", "port": 80 },
    });
    let request = Request::post(format!("{path}?timeout={timeout}"))
        .header("content-type", "application/json")
        .body(Body::from(binding(&spec).to_string()));
    let start = Instant::now();
    let answer = answer(&fixture.send(request.unwrap()).await);
    assert_eq!(start.elapsed(), Duration::from_millis(millis));
    let decision = &answer["auditAnnotations"]["decision"];
    assert_eq!(decision, "AwsUnavailable", "{answer}");
}

#[tokio::test]
async fn a_review_of_another_version_is_refused_not_let_through() {
    let mut review = review(json!({}));
    review["apiVersion"] = json!("admission.k8s.io/v1beta1");
    let response = Fixture::default()
        .post(VALIDATE_BINDING_PATH, review.to_string())
        .await;
    assert_eq!(refusal(&response).0, 400);
}
