//! Open gates under `targetgate.dev/after-open: follow`.

use std::time::Duration;

use serde_json::json;
use targetgate_sandbox::elb::Health;

use super::stage::{Stage, address};

const S: Duration = Duration::from_secs(1);
const OPEN: (&str, &str) = ("True", "");
const HEALTH: &str = "DescribeTargetHealth";

/// A stage on which a pod with an open gate follows ELB, and the ARN of its group.
async fn following() -> (Stage, String) {
    let stage = Stage::new().await;
    stage
        .annotate(json!({ "targetgate.dev/after-open": "follow" }))
        .await;
    let arn = stage.bind("web").await;
    stage.pod("web-1", "10.0.0.1", &["web"]).await;
    stage.register(&arn, "10.0.0.1");
    stage.until_gate("web-1", OPEN).await;
    (stage, arn)
}

#[tokio::test(start_paused = true)]
async fn a_gate_closes_with_elbs_reason_within_half_a_minute_and_opens_again_soon() {
    let (stage, arn) = following().await;
    let ip = address("10.0.0.1").ip();
    let health = Health::failed_checks();
    stage.elb.script(&arn, ip, 8080, health).unwrap();
    let took = stage
        .until_gate("web-1", ("False", "Target.FailedHealthChecks"))
        .await;
    assert!(took < 33 * S, "{took:?} until it closes");
    stage.elb.unscript(&arn, ip, 8080).unwrap();
    let took = stage.until_gate("web-1", OPEN).await;
    assert!(took < 5 * S, "{took:?} until it opens");
    let metrics = stage.metrics();
    let closed = r#"targetgate_gates_closed_total{reason="NotHealthy"} 1"#;
    assert!(metrics.contains(closed), "{metrics}");
    assert!(
        metrics.contains("targetgate_open_seconds_count 1\n"),
        "{metrics}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_group_of_open_gates_is_asked_about_each_half_minute() {
    let (stage, _) = following().await;
    let before = stage.calls(HEALTH);
    stage.gate_after(600 * S, "web-1").await;
    let calls = stage.calls(HEALTH) - before;
    assert!((19..=21).contains(&calls), "{calls} calls in ten minutes");
}

#[tokio::test(start_paused = true)]
async fn open_gates_are_taken_up_again_after_a_start() {
    let (mut stage, arn) = following().await;
    stage.stop();
    let ip = address("10.0.0.1").ip();
    stage
        .elb
        .script(&arn, ip, 8080, Health::failed_checks())
        .unwrap();
    stage.start();
    let took = stage
        .until_gate("web-1", ("False", "Target.FailedHealthChecks"))
        .await;
    assert!(took < 5 * S, "{took:?} after the start");
}

#[tokio::test(start_paused = true)]
async fn a_gate_that_is_not_to_follow_any_more_holds() {
    let (stage, arn) = following().await;
    stage
        .annotate(json!({ "targetgate.dev/after-open": "hold" }))
        .await;
    stage.settle().await;
    let ip = address("10.0.0.1").ip();
    stage
        .elb
        .script(&arn, ip, 8080, Health::failed_checks())
        .unwrap();
    let before = stage.calls(HEALTH);
    let gate = stage.gate_after(600 * S, "web-1").await.unwrap();
    assert_eq!((gate.0.as_str(), stage.calls(HEALTH)), ("True", before));
}
