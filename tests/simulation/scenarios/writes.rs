//! How conditions are written when many gates open at once, and when the API server throttles.

use std::time::Duration;

use serde_json::json;
use targetgate_sandbox::api::{Match, Status, Verb, When};
use targetgate_sandbox::elb::Health;
use tokio::time::sleep;

use super::stage::{Stage, address};

const S: Duration = Duration::from_secs(1);
const OPEN: (&str, &str) = ("True", "");

fn status_patches(stage: &Stage) -> usize {
    stage.api.calls().count(Verb::Patch, "pods/status")
}

/// A stage in which ELB checks this many pods behind group `web`. Returns the ARN of the group.
async fn checking(pods: usize) -> (Stage, String) {
    let stage = Stage::new().await;
    let arn = stage.bind("web").await;
    for n in 1..=pods {
        let ip = format!("10.0.0.{n}");
        script(&stage, &arn, &ip, Health::checking());
        stage.pod(&format!("web-{n}"), &ip, &["web"]).await;
    }
    for n in 1..=pods {
        let waits = ("False", "Elb.InitialHealthChecking");
        stage.until_gate(&format!("web-{n}"), waits).await;
    }
    (stage, arn)
}

fn script(stage: &Stage, arn: &str, ip: &str, health: Health) {
    let ip = address(ip).ip();
    stage.elb.script(arn, ip, 8080, health).unwrap();
}

#[tokio::test(start_paused = true)]
async fn gates_of_a_pod_that_turn_at_once_share_one_patch() {
    let stage = Stage::new().await;
    let (inside, outside) = (stage.bind("web").await, stage.bind("public").await);
    stage.pod("web-1", "10.0.0.1", &["web", "public"]).await;
    let public = "target-health.elbv2.k8s.aws/public";
    let waits = ("False", "Elb.RegistrationInProgress");
    stage.until_gate("web-1", waits).await;
    stage.until_condition("web-1", public, waits).await;
    let before = status_patches(&stage);
    for arn in [&inside, &outside] {
        script(&stage, arn, "10.0.0.1", Health::healthy());
    }
    stage.until_gate("web-1", OPEN).await;
    stage.until_condition("web-1", public, OPEN).await;
    assert_eq!(status_patches(&stage), before + 1);
}

#[tokio::test(start_paused = true)]
async fn all_writes_wait_when_the_api_server_throttles_one() {
    const PODS: usize = 50;
    let (stage, arn) = checking(PODS).await;
    let mut busy = Status::new(429, "TooManyRequests", "slow down");
    busy.details = json!({ "retryAfterSeconds": 20 });
    let patch = Match::new(Verb::Patch, "pods/status");
    stage.api.faults().fail(1, patch, busy, When::Before);
    for n in 1..=PODS {
        script(&stage, &arn, &format!("10.0.0.{n}"), Health::healthy());
    }
    let before = status_patches(&stage);
    while status_patches(&stage) == before {
        sleep(S / 100).await;
    }
    let refused = status_patches(&stage);
    assert!(refused - before < PODS, "all were sent at once");
    sleep(20 * S - S / 100).await;
    assert_eq!(status_patches(&stage), refused);
    for n in 1..=PODS {
        stage.until_gate(&format!("web-{n}"), OPEN).await;
    }
    // Each write is sent once, and the throttled one once more: no gate was decided anew.
    assert_eq!(status_patches(&stage), before + PODS + 1);
}
