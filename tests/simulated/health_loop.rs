//! The health loop: which gates open, when, and which do not.

use std::time::Duration;

use http::StatusCode;
use kube::api::{DeleteParams, Patch, PatchParams};
use serde_json::json;
use targetgate_sandbox::api::{Away, Match, Status, Verb, When};
use targetgate_sandbox::elb::Health;
use targetgate_sandbox::elb::check::CheckOutcome;
use targetgate_sandbox::elb::faults::On;
use targetgate_sandbox::elb::health::CheckFailure;

use crate::world::{GATE, World, address, condition};

const S: Duration = Duration::from_secs(1);
const OPEN: (&str, &str) = ("True", "");
const HEALTH: &str = "DescribeTargetHealth";

#[tokio::test(start_paused = true)]
async fn a_gate_opens_soon_after_elb_says_healthy() {
    let world = World::new().await;
    let arn = world.bind("web").await;
    world.pod("web-1", "10.0.0.1", &["web"]).await;
    world
        .until_gate("web-1", ("False", "Elb.RegistrationInProgress"))
        .await;
    world.register(&arn, "10.0.0.1");
    world.until_gate("web-1", OPEN).await;
    let healthy = world.elb.log().last().unwrap().at;
    let pod = world.pods().get("web-1").await.unwrap();
    let conditions = pod.status.unwrap().conditions.unwrap();
    let gate = conditions
        .iter()
        .find(|condition| condition.type_ == GATE)
        .unwrap();
    let opened = gate.last_transition_time.as_ref().unwrap().0;
    let late = opened.duration_since(healthy).as_secs_f64();
    assert!((-1.0..3.0).contains(&late), "{late} s after ELB's own log");
}

#[tokio::test(start_paused = true)]
async fn one_call_answers_for_all_pods_of_a_group() {
    let world = World::new().await;
    let arn = world.bind("web").await;
    for n in 1..=20 {
        let ip = format!("10.0.0.{n}");
        world.pod(&format!("web-{n}"), &ip, &["web"]).await;
        world.register(&arn, &ip);
    }
    for n in 1..=20 {
        world.until_gate(&format!("web-{n}"), OPEN).await;
    }
    assert!(
        world.calls(HEALTH) < 40,
        "{} calls for 20 pods",
        world.calls(HEALTH)
    );
}

#[tokio::test(start_paused = true)]
async fn nothing_is_called_while_no_gate_waits() {
    let world = World::new().await;
    let arn = world.bind("web").await;
    world.register(&arn, "10.0.0.1");
    world.pod("web-1", "10.0.0.1", &["web"]).await;
    world.until_gate("web-1", OPEN).await;
    let calls = world.elb.calls().len();
    world.gate_after(600 * S, "web-1").await;
    assert_eq!(world.elb.calls().len(), calls);
}

#[tokio::test(start_paused = true)]
async fn a_pod_behind_two_groups_has_two_gates_that_open_on_their_own() {
    let world = World::new().await;
    let (inside, outside) = (world.bind("web").await, world.bind("public").await);
    world.pod("web-1", "10.0.0.1", &["web", "public"]).await;
    world.register(&inside, "10.0.0.1");
    world.until_gate("web-1", OPEN).await;
    let public = "target-health.elbv2.k8s.aws/public";
    let pod = world.pods().get("web-1").await.unwrap();
    assert_eq!(condition(&pod, public).unwrap().0, "False");
    world.register(&outside, "10.0.0.1");
    world.until_condition("web-1", public, OPEN).await;
}

#[tokio::test(start_paused = true)]
async fn an_unhealthy_pod_stays_closed_with_elbs_own_reason() {
    let world = World::new().await;
    let arn = world.bind("web").await;
    let failed = CheckOutcome::Failed(CheckFailure::Status(503));
    world.probe.answer(address("10.0.0.1"), Some(failed));
    world.pod("web-1", "10.0.0.1", &["web"]).await;
    world.register(&arn, "10.0.0.1");
    world
        .until_gate("web-1", ("False", "Target.ResponseCodeMismatch"))
        .await;
    world
        .probe
        .answer(address("10.0.0.1"), Some(CheckOutcome::Passed));
    world.until_gate("web-1", OPEN).await;
}

#[tokio::test(start_paused = true)]
async fn a_group_that_hangs_delays_no_other() {
    let world = World::new().await;
    let (stuck, arn) = (world.bind("stuck").await, world.bind("web").await);
    world.elb.faults().hang(On::arn(&stuck));
    world.pod("stuck-1", "10.0.0.9", &["stuck"]).await;
    world.pod("web-1", "10.0.0.1", &["web"]).await;
    world.register(&arn, "10.0.0.1");
    let took = world.until_gate("web-1", OPEN).await;
    assert!(took < 30 * S, "{took:?} beside a group that hangs");
    world.elb.faults().release(&On::arn(&stuck));
    world.register(&stuck, "10.0.0.9");
    world
        .until_condition("stuck-1", "target-health.elbv2.k8s.aws/stuck", OPEN)
        .await;
}

#[tokio::test(start_paused = true)]
async fn errors_of_aws_leave_the_gate_as_it_is() {
    let world = World::new().await;
    let arn = world.bind("web").await;
    world.register(&arn, "10.0.0.1");
    world.elb.faults().fail(
        On::action(HEALTH),
        "AccessDenied",
        StatusCode::FORBIDDEN,
        None,
    );
    world.pod("web-1", "10.0.0.1", &["web"]).await;
    assert_eq!(world.gate_after(300 * S, "web-1").await, None);
    assert!(
        world.calls(HEALTH) < 20,
        "{} calls in vain",
        world.calls(HEALTH)
    );
    world.elb.faults().clear_failures();
    world.until_gate("web-1", OPEN).await;
}

#[tokio::test(start_paused = true)]
async fn throttling_slows_the_calls_and_opens_every_gate_all_the_same() {
    let world = World::new().await;
    world.elb.faults().throttle(2.0, 5);
    for n in 1..=10 {
        let name = format!("web-{n}");
        let arn = world.bind(&name).await;
        let ip = format!("10.0.0.{n}");
        world.pod(&name, &ip, &[&name]).await;
        world.register(&arn, &ip);
    }
    for n in 1..=10 {
        let gate = format!("target-health.elbv2.k8s.aws/web-{n}");
        world
            .until_condition(&format!("web-{n}"), &gate, OPEN)
            .await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_group_that_is_gone_from_aws_is_said_in_the_condition_and_an_event() {
    let world = World::new().await;
    let arn =
        "arn:aws:elasticloadbalancing:eu-west-1:123456789012:targetgroup/gone/0123456789abcdef";
    world.bind_to("web", arn).await;
    world.pod("web-1", "10.0.0.1", &["web"]).await;
    world
        .until_gate("web-1", ("False", "TargetGroupNotFound"))
        .await;
    assert_eq!(world.until_event("TargetGroupNotFound").await, "web");
}

#[tokio::test(start_paused = true)]
async fn a_new_pod_is_not_opened_by_the_health_of_the_one_that_had_its_address() {
    let world = World::new().await;
    let arn = world.bind("web").await;
    world.register(&arn, "10.0.0.1");
    world.pod("web-0", "10.0.0.1", &["web"]).await;
    world.until_gate("web-0", OPEN).await;
    world.elb.freeze(&arn).unwrap();
    let now = DeleteParams::default().grace_period(0);
    world.pods().delete("web-0", &now).await.unwrap();
    world.pod("web-0", "10.0.0.1", &["web"]).await;
    // 15 s between checks, two of them: so long the health may be the former pod's.
    assert_eq!(world.gate_after(29 * S, "web-0").await, None);
    world.until_gate("web-0", OPEN).await;
}

#[tokio::test(start_paused = true)]
async fn a_gate_whose_binding_is_deleted_opens() {
    let world = World::new().await;
    world.bind("web").await;
    world.pod("web-1", "10.0.0.1", &["web"]).await;
    world
        .until_gate("web-1", ("False", "Elb.RegistrationInProgress"))
        .await;
    world
        .bindings()
        .delete("web", &DeleteParams::default())
        .await
        .unwrap();
    let took = world.until_gate("web-1", OPEN).await;
    assert!((30 * S..40 * S).contains(&took), "{took:?}");
    let pod = world.pods().get("web-1").await.unwrap();
    assert_eq!(
        condition(&pod, GATE).unwrap().2,
        "Target Group Binding is deleted"
    );
}

#[tokio::test(start_paused = true)]
async fn a_gate_whose_binding_went_while_nothing_of_ours_ran_opens() {
    let mut world = World::without_product().await;
    world.pod("web-1", "10.0.0.1", &["web"]).await;
    world.start();
    let took = world.until_gate("web-1", OPEN).await;
    assert!((300 * S..310 * S).contains(&took), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_is_no_longer_selected_opens() {
    let world = World::new().await;
    world.bind("web").await;
    world.pod("web-1", "10.0.0.1", &["web"]).await;
    world
        .until_gate("web-1", ("False", "Elb.RegistrationInProgress"))
        .await;
    let green = Patch::Merge(json!({ "spec": { "selector": { "app": "green" } } }));
    world
        .services()
        .patch("web", &PatchParams::default(), &green)
        .await
        .unwrap();
    world.until_gate("web-1", ("True", "NotSelected")).await;
}

#[tokio::test(start_paused = true)]
async fn a_gate_stays_closed_while_the_bindings_crd_is_not_served() {
    let world = World::new().await;
    world.bind("web").await;
    world.pod("web-1", "10.0.0.1", &["web"]).await;
    world
        .until_gate("web-1", ("False", "Elb.RegistrationInProgress"))
        .await;
    world.delete_crd().await;
    let gate = world.gate_after(1200 * S, "web-1").await;
    assert_eq!(gate.unwrap().0, "False");
    world.create_crd().await;
    let arn = world.bind("web").await;
    world.register(&arn, "10.0.0.1");
    world.until_gate("web-1", OPEN).await;
}

#[tokio::test(start_paused = true)]
async fn a_write_that_fails_is_decided_and_made_again() {
    let world = World::new().await;
    let arn = world.bind("web").await;
    world.register(&arn, "10.0.0.1");
    let patch = Match::new(Verb::Patch, "pods/status");
    world.pod("web-1", "10.0.0.1", &["web"]).await;
    world.api.faults().fail(
        3,
        patch.clone(),
        Status::new(409, "Conflict", "it was modified"),
        When::Before,
    );
    world.api.faults().fail(
        3,
        patch,
        Status::new(504, "Timeout", "it worked"),
        When::After,
    );
    world.until_gate("web-1", OPEN).await;
}

#[tokio::test(start_paused = true)]
async fn watches_that_break_and_a_server_that_is_away_leave_nobody_stuck() {
    let world = World::new().await;
    let arn = world.bind("web").await;
    world.pod("web-1", "10.0.0.1", &["web"]).await;
    world
        .until_gate("web-1", ("False", "Elb.RegistrationInProgress"))
        .await;
    world.api.faults().close_watches();
    world.api.forget_history();
    world.api.faults().away(Some(Away::Refusing));
    world.register(&arn, "10.0.0.1");
    tokio::time::sleep(120 * S).await;
    world.api.faults().away(None);
    world.pod("web-2", "10.0.0.2", &["web"]).await;
    world.register(&arn, "10.0.0.2");
    world.until_gate("web-1", OPEN).await;
    world.until_gate("web-2", OPEN).await;
}

#[tokio::test(start_paused = true)]
async fn a_crash_in_the_middle_loses_nothing() {
    let mut world = World::new().await;
    let arn = world.bind("web").await;
    world.pod("web-1", "10.0.0.1", &["web"]).await;
    world
        .until_gate("web-1", ("False", "Elb.RegistrationInProgress"))
        .await;
    world.stop();
    world.register(&arn, "10.0.0.1");
    assert_eq!(world.gate_after(120 * S, "web-1").await.unwrap().0, "False");
    world.start();
    let took = world.until_gate("web-1", OPEN).await;
    assert!(took < 5 * S, "{took:?} after the start");
}

#[tokio::test(start_paused = true)]
async fn a_group_on_no_load_balancer_keeps_its_gates_closed_and_says_so() {
    let world = World::new().await;
    let arn = world.bind("web").await;
    world
        .elb
        .script(&arn, address("10.0.0.1").ip(), 8080, Health::not_in_use())
        .unwrap();
    world.pod("web-1", "10.0.0.1", &["web"]).await;
    world
        .until_gate("web-1", ("False", "Target.NotInUse"))
        .await;
}
