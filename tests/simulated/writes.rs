//! How conditions are written when many are due at once, and when the API server has too much to do.

use std::time::Duration;

use serde_json::json;
use targetgate_sandbox::api::{Match, Status, Verb, When};
use targetgate_sandbox::elb::Health;
use tokio::time::sleep;

use crate::world::{World, address};

const S: Duration = Duration::from_secs(1);
const OPEN: (&str, &str) = ("True", "");

fn status_patches(world: &World) -> usize {
    world.api.calls().count(Verb::Patch, "pods/status")
}

/// A world in which ELB checks so many pods behind group `web`. Returns its ARN.
async fn checking(pods: usize) -> (World, String) {
    let world = World::new().await;
    let arn = world.bind("web").await;
    for n in 1..=pods {
        let ip = format!("10.0.0.{n}");
        script(&world, &arn, &ip, Health::checking());
        world.pod(&format!("web-{n}"), &ip, &["web"]).await;
    }
    for n in 1..=pods {
        let waits = ("False", "Elb.InitialHealthChecking");
        world.until_gate(&format!("web-{n}"), waits).await;
    }
    (world, arn)
}

fn script(world: &World, arn: &str, ip: &str, health: Health) {
    let ip = address(ip).ip();
    world.elb.script(arn, ip, 8080, health).unwrap();
}

#[tokio::test(start_paused = true)]
async fn gates_of_a_pod_that_turn_at_once_share_one_patch() {
    let world = World::new().await;
    let (inside, outside) = (world.bind("web").await, world.bind("public").await);
    world.pod("web-1", "10.0.0.1", &["web", "public"]).await;
    let public = "target-health.elbv2.k8s.aws/public";
    let waits = ("False", "Elb.RegistrationInProgress");
    world.until_gate("web-1", waits).await;
    world.until_condition("web-1", public, waits).await;
    let before = status_patches(&world);
    for arn in [&inside, &outside] {
        script(&world, arn, "10.0.0.1", Health::healthy());
    }
    world.until_gate("web-1", OPEN).await;
    world.until_condition("web-1", public, OPEN).await;
    assert_eq!(status_patches(&world), before + 1);
}

#[tokio::test(start_paused = true)]
async fn all_writes_wait_when_the_api_server_puts_off_one() {
    const PODS: usize = 50;
    let (world, arn) = checking(PODS).await;
    let mut busy = Status::new(429, "TooManyRequests", "slow down");
    busy.details = json!({ "retryAfterSeconds": 20 });
    let patch = Match::new(Verb::Patch, "pods/status");
    world.api.faults().fail(1, patch, busy, When::Before);
    for n in 1..=PODS {
        script(&world, &arn, &format!("10.0.0.{n}"), Health::healthy());
    }
    let before = status_patches(&world);
    while status_patches(&world) == before {
        sleep(S / 100).await;
    }
    let refused = status_patches(&world);
    assert!(refused - before < PODS, "all were sent at once");
    sleep(20 * S - S / 100).await;
    assert_eq!(status_patches(&world), refused);
    for n in 1..=PODS {
        world.until_gate(&format!("web-{n}"), OPEN).await;
    }
    // Each once, and the one that was put off once more: nothing was decided anew.
    assert_eq!(status_patches(&world), before + PODS + 1);
}
