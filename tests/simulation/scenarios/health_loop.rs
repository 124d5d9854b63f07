//! The health loop: which gates open, and when, and which stay closed.

use std::time::Duration;

use http::StatusCode;
use kube::api::{DeleteParams, Patch, PatchParams};
use serde_json::json;
use targetgate_sandbox::api::{Away, Match, Status, Verb, When};
use targetgate_sandbox::elb::check::CheckOutcome;
use targetgate_sandbox::elb::faults::On;
use targetgate_sandbox::elb::health::CheckFailure;
use targetgate_sandbox::elb::{Health, LoadBalancerKind, TargetGroupSpec};

use tokio::time::Instant;

use super::stage::{GATE, Stage, address, condition};

const S: Duration = Duration::from_secs(1);
const OPEN: (&str, &str) = ("True", "");
const HEALTH: &str = "DescribeTargetHealth";

#[tokio::test(start_paused = true)]
async fn a_gate_opens_soon_after_elb_says_healthy() {
    let stage = Stage::new().await;
    let arn = stage.bind("web").await;
    stage.pod("web-1", "10.0.0.1", &["web"]).await;
    stage
        .until_gate("web-1", ("False", "Elb.RegistrationInProgress"))
        .await;
    stage.register(&arn, "10.0.0.1");
    stage.until_gate("web-1", OPEN).await;
    let healthy = stage.elb.log().last().unwrap().at;
    let pod = stage.pods().get("web-1").await.unwrap();
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
    let stage = Stage::new().await;
    let arn = stage.bind("web").await;
    for n in 1..=20 {
        let ip = format!("10.0.0.{n}");
        stage.pod(&format!("web-{n}"), &ip, &["web"]).await;
        stage.register(&arn, &ip);
    }
    for n in 1..=20 {
        stage.until_gate(&format!("web-{n}"), OPEN).await;
    }
    assert!(
        stage.calls(HEALTH) < 40,
        "{} calls for 20 pods",
        stage.calls(HEALTH)
    );
}

#[tokio::test(start_paused = true)]
async fn no_group_is_polled_while_no_gate_waits() {
    let stage = Stage::new().await;
    let arn = stage.bind("web").await;
    stage.register(&arn, "10.0.0.1");
    stage.pod("web-1", "10.0.0.1", &["web"]).await;
    stage.until_gate("web-1", OPEN).await;
    let calls = stage.calls(HEALTH);
    stage.gate_after(600 * S, "web-1").await;
    assert_eq!(stage.calls(HEALTH), calls);
}

#[tokio::test(start_paused = true)]
async fn a_pod_behind_two_groups_has_two_gates_that_open_on_their_own() {
    let stage = Stage::new().await;
    let (inside, outside) = (stage.bind("web").await, stage.bind("public").await);
    stage.pod("web-1", "10.0.0.1", &["web", "public"]).await;
    stage.register(&inside, "10.0.0.1");
    stage.until_gate("web-1", OPEN).await;
    let public = "target-health.elbv2.k8s.aws/public";
    let pod = stage.pods().get("web-1").await.unwrap();
    assert_eq!(condition(&pod, public).unwrap().0, "False");
    stage.register(&outside, "10.0.0.1");
    stage.until_condition("web-1", public, OPEN).await;
}

#[tokio::test(start_paused = true)]
async fn an_unhealthy_pod_stays_closed_with_elbs_own_reason() {
    let stage = Stage::new().await;
    let arn = stage.bind("web").await;
    let failed = CheckOutcome::Failed(CheckFailure::Status(503));
    stage.probe.answer(address("10.0.0.1"), Some(failed));
    stage.pod("web-1", "10.0.0.1", &["web"]).await;
    stage.register(&arn, "10.0.0.1");
    stage
        .until_gate("web-1", ("False", "Target.ResponseCodeMismatch"))
        .await;
    stage
        .probe
        .answer(address("10.0.0.1"), Some(CheckOutcome::Passed));
    stage.until_gate("web-1", OPEN).await;
}

#[tokio::test(start_paused = true)]
async fn a_group_that_hangs_delays_no_other() {
    let stage = Stage::new().await;
    let (stuck, arn) = (stage.bind("stuck").await, stage.bind("web").await);
    stage.elb.faults().hang(On::arn(&stuck));
    stage.pod("stuck-1", "10.0.0.9", &["stuck"]).await;
    stage.pod("web-1", "10.0.0.1", &["web"]).await;
    stage.register(&arn, "10.0.0.1");
    let took = stage.until_gate("web-1", OPEN).await;
    assert!(took < 30 * S, "{took:?} beside a group that hangs");
    stage.elb.faults().release(&On::arn(&stuck));
    stage.register(&stuck, "10.0.0.9");
    stage
        .until_condition("stuck-1", "target-health.elbv2.k8s.aws/stuck", OPEN)
        .await;
}

#[tokio::test(start_paused = true)]
async fn errors_of_aws_leave_the_gate_as_it_is() {
    let stage = Stage::new().await;
    let arn = stage.bind("web").await;
    stage.register(&arn, "10.0.0.1");
    stage.elb.faults().fail(
        On::action(HEALTH),
        "AccessDenied",
        StatusCode::FORBIDDEN,
        None,
    );
    stage.pod("web-1", "10.0.0.1", &["web"]).await;
    assert_eq!(stage.gate_after(300 * S, "web-1").await, None);
    assert!(
        stage.calls(HEALTH) < 20,
        "{} calls in vain",
        stage.calls(HEALTH)
    );
    stage.elb.faults().clear_failures();
    stage.until_gate("web-1", OPEN).await;
}

#[tokio::test(start_paused = true)]
async fn throttling_slows_the_calls_and_every_gate_opens_nevertheless() {
    let stage = Stage::new().await;
    stage.elb.faults().throttle(2.0, 5);
    for n in 1..=10 {
        let name = format!("web-{n}");
        let arn = stage.bind(&name).await;
        let ip = format!("10.0.0.{n}");
        stage.pod(&name, &ip, &[&name]).await;
        stage.register(&arn, &ip);
    }
    for n in 1..=10 {
        let gate = format!("target-health.elbv2.k8s.aws/web-{n}");
        stage
            .until_condition(&format!("web-{n}"), &gate, OPEN)
            .await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_group_deleted_in_aws_is_reported_in_the_condition_and_an_event() {
    let stage = Stage::new().await;
    let arn =
        "arn:aws:elasticloadbalancing:eu-west-1:123456789012:targetgroup/gone/0123456789abcdef";
    stage.bind_to("web", arn).await;
    stage.pod("web-1", "10.0.0.1", &["web"]).await;
    stage
        .until_gate("web-1", ("False", "TargetGroupNotFound"))
        .await;
    assert_eq!(stage.until_event("TargetGroupNotFound").await, "web");
}

#[tokio::test(start_paused = true)]
async fn a_new_pod_is_not_opened_by_the_health_of_the_one_that_had_its_address() {
    let stage = Stage::new().await;
    let arn = stage.bind("web").await;
    stage.register(&arn, "10.0.0.1");
    stage.pod("web-0", "10.0.0.1", &["web"]).await;
    stage.until_gate("web-0", OPEN).await;
    stage.elb.freeze(&arn).unwrap();
    let now = DeleteParams::default().grace_period(0);
    stage.pods().delete("web-0", &now).await.unwrap();
    stage.pod("web-0", "10.0.0.1", &["web"]).await;
    // There are 15 s between two checks, and two of them are needed. So for 30 s the health may be the former
    // pod's.
    assert_eq!(stage.gate_after(29 * S, "web-0").await, None);
    stage.until_gate("web-0", OPEN).await;
}

#[tokio::test(start_paused = true)]
async fn a_gate_whose_binding_is_deleted_opens() {
    let stage = Stage::new().await;
    stage.bind("web").await;
    stage.pod("web-1", "10.0.0.1", &["web"]).await;
    stage
        .until_gate("web-1", ("False", "Elb.RegistrationInProgress"))
        .await;
    stage
        .bindings()
        .delete("web", &DeleteParams::default())
        .await
        .unwrap();
    let took = stage.until_gate("web-1", OPEN).await;
    assert!((30 * S..40 * S).contains(&took), "{took:?}");
    let pod = stage.pods().get("web-1").await.unwrap();
    assert_eq!(
        condition(&pod, GATE).unwrap().2,
        "Target Group Binding is deleted"
    );
}

#[tokio::test(start_paused = true)]
async fn a_gate_whose_binding_was_deleted_while_targetgate_was_down_opens() {
    let mut stage = Stage::without_product().await;
    stage.pod("web-1", "10.0.0.1", &["web"]).await;
    stage.start();
    let took = stage.until_gate("web-1", OPEN).await;
    assert!((300 * S..310 * S).contains(&took), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_is_no_longer_selected_opens() {
    let stage = Stage::new().await;
    stage.bind("web").await;
    stage.pod("web-1", "10.0.0.1", &["web"]).await;
    stage
        .until_gate("web-1", ("False", "Elb.RegistrationInProgress"))
        .await;
    let green = Patch::Merge(json!({ "spec": { "selector": { "app": "green" } } }));
    stage
        .services()
        .patch("web", &PatchParams::default(), &green)
        .await
        .unwrap();
    stage.until_gate("web-1", ("True", "NotSelected")).await;
}

#[tokio::test(start_paused = true)]
async fn a_gate_stays_closed_while_the_bindings_crd_is_not_served() {
    let stage = Stage::new().await;
    stage.bind("web").await;
    stage.pod("web-1", "10.0.0.1", &["web"]).await;
    stage
        .until_gate("web-1", ("False", "Elb.RegistrationInProgress"))
        .await;
    stage.delete_crd().await;
    let gate = stage.gate_after(1200 * S, "web-1").await;
    assert_eq!(gate.unwrap().0, "False");
    stage.create_crd().await;
    let arn = stage.bind("web").await;
    stage.register(&arn, "10.0.0.1");
    stage.until_gate("web-1", OPEN).await;
}

#[tokio::test(start_paused = true)]
async fn a_write_that_fails_is_decided_and_made_again() {
    let stage = Stage::new().await;
    let arn = stage.bind("web").await;
    stage.register(&arn, "10.0.0.1");
    let patch = Match::new(Verb::Patch, "pods/status");
    stage.pod("web-1", "10.0.0.1", &["web"]).await;
    stage.api.faults().fail(
        3,
        patch.clone(),
        Status::new(409, "Conflict", "it was modified"),
        When::Before,
    );
    stage.api.faults().fail(
        3,
        patch,
        Status::new(504, "Timeout", "it worked"),
        When::After,
    );
    stage.until_gate("web-1", OPEN).await;
}

#[tokio::test(start_paused = true)]
async fn watches_that_break_and_a_server_that_is_down_leave_no_gate_stuck() {
    let stage = Stage::new().await;
    let arn = stage.bind("web").await;
    stage.pod("web-1", "10.0.0.1", &["web"]).await;
    stage
        .until_gate("web-1", ("False", "Elb.RegistrationInProgress"))
        .await;
    stage.api.faults().close_watches();
    stage.api.forget_history();
    stage.api.faults().away(Some(Away::Refusing));
    stage.register(&arn, "10.0.0.1");
    tokio::time::sleep(120 * S).await;
    stage.api.faults().away(None);
    stage.pod("web-2", "10.0.0.2", &["web"]).await;
    stage.register(&arn, "10.0.0.2");
    stage.until_gate("web-1", OPEN).await;
    stage.until_gate("web-2", OPEN).await;
}

#[tokio::test(start_paused = true)]
async fn a_crash_in_the_middle_loses_nothing() {
    let mut stage = Stage::new().await;
    let arn = stage.bind("web").await;
    stage.pod("web-1", "10.0.0.1", &["web"]).await;
    stage
        .until_gate("web-1", ("False", "Elb.RegistrationInProgress"))
        .await;
    stage.stop();
    stage.register(&arn, "10.0.0.1");
    assert_eq!(stage.gate_after(120 * S, "web-1").await.unwrap().0, "False");
    stage.start();
    let took = stage.until_gate("web-1", OPEN).await;
    assert!(took < 5 * S, "{took:?} after the start");
}

/// Before the cut-over of a blue/green deployment no load balancer uses the new group.
#[tokio::test(start_paused = true)]
async fn a_group_on_no_load_balancer_opens_its_gates_where_the_namespace_says_so() {
    let stage = Stage::new().await;
    stage
        .annotate(json!({ "targetgate.dev/when-unused": "open" }))
        .await;
    let arn = stage.bind("web").await;
    stage
        .elb
        .script(&arn, address("10.0.0.1").ip(), 8080, Health::not_in_use())
        .unwrap();
    stage.pod("web-1", "10.0.0.1", &["web"]).await;
    stage
        .until_gate("web-1", ("True", "TargetGroupUnused"))
        .await;
    assert_eq!(stage.until_event("TargetGroupUnused").await, "web-1");
}

#[tokio::test(start_paused = true)]
async fn a_gate_that_nothing_opens_opens_after_the_time_of_its_annotation() {
    let stage = Stage::new().await;
    stage
        .annotate(json!({ "targetgate.dev/open-after": "10m" }))
        .await;
    stage.bind("web").await;
    stage.pod("web-1", "10.0.0.1", &["web"]).await;
    let took = stage.until_gate("web-1", ("True", "GateTimeout")).await;
    assert!((595..605).contains(&took.as_secs()), "{took:?}");
    assert_eq!(stage.until_event("GateTimeout").await, "web-1");
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_waits_for_a_minute_is_told_and_so_is_that_its_target_is_healthy() {
    let stage = Stage::new().await;
    let arn = stage.bind("web").await;
    let begun = Instant::now();
    stage.pod("web-1", "10.0.0.1", &["web"]).await;
    assert_eq!(stage.until_event("WaitingForTarget").await, "web-1");
    let took = begun.elapsed().as_secs();
    assert!((60..75).contains(&took), "{took} s");
    stage.register(&arn, "10.0.0.1");
    stage.until_gate("web-1", OPEN).await;
    assert_eq!(stage.until_event("TargetHealthy").await, "web-1");
}

/// A weight decides who gets traffic, and not whether the group is in use: ELB checks its targets.
#[tokio::test(start_paused = true)]
async fn a_group_of_weight_0_is_in_use_and_its_gates_open_as_healthy() {
    let stage = Stage::new().await;
    let arn = stage.elb.create_target_group(TargetGroupSpec::http("web"));
    let balancer = stage
        .elb
        .create_load_balancer("web", LoadBalancerKind::Application, &[]);
    stage.elb.add_listener(&balancer, &[(&arn, 0)]).unwrap();
    stage.bind_to("web", &arn).await;
    stage.pod("web-1", "10.0.0.1", &["web"]).await;
    stage.register(&arn, "10.0.0.1");
    stage.until_gate("web-1", OPEN).await;
}

#[tokio::test(start_paused = true)]
async fn a_group_on_no_load_balancer_keeps_its_gates_closed_and_says_so() {
    let stage = Stage::new().await;
    let arn = stage.bind("web").await;
    stage
        .elb
        .script(&arn, address("10.0.0.1").ip(), 8080, Health::not_in_use())
        .unwrap();
    stage.pod("web-1", "10.0.0.1", &["web"]).await;
    stage
        .until_gate("web-1", ("False", "Target.NotInUse"))
        .await;
}
