//! Several replicas: one writes, and another takes over when the first dies, hangs, leaves or is cut off.

use std::time::Duration;

use jiff::SignedDuration;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use serde_json::json;
use targetgate_sandbox::api::{Away, Verb};
use targetgate_sandbox::elb::Health;
use targetgate_sandbox::elb::health::CheckFailure;
use tokio::time::{Instant, sleep};

use super::replicas::{lease, leases, renewed};
use super::stage::{Stage, address};
use crate::random::Random;
use crate::replica::Replica;

const S: Duration = Duration::from_secs(1);
const LEASE: Duration = Duration::from_secs(15);
const RENEW_DEADLINE: Duration = Duration::from_secs(10);
const OPEN: (&str, &str) = ("True", "");
const WAITS: (&str, &str) = ("False", "Elb.RegistrationInProgress");
const YEAR: SignedDuration = SignedDuration::from_hours(24 * 365);

/// A stage with two replicas, of which `a` leads.
async fn two() -> (Stage, Replica, Replica) {
    let stage = Stage::without_product().await;
    let a = stage.starts("a").await;
    a.until_leads().await;
    let b = stage.starts("b").await;
    (stage, a, b)
}

fn status_patches(stage: &Stage) -> usize {
    stage.api.calls().count(Verb::Patch, "pods/status")
}

#[tokio::test(start_paused = true)]
async fn one_of_two_replicas_leads_and_the_follower_polls_and_writes_nothing() {
    let stage = Stage::without_product().await;
    let foreign = json!({
        "metadata": { "name": "targetgate" },
        "spec": { "holderIdentity": "another", "leaseDurationSeconds": 3600 },
    });
    let foreign = serde_json::from_value(foreign).unwrap();
    let params = PostParams::default();
    leases(&stage).create(&params, &foreign).await.unwrap();
    let replica = stage.starts("a").await;
    let arn = stage.bind("web").await;
    stage.register(&arn, "10.0.0.1");
    stage.pod("web-1", "10.0.0.1", &["web"]).await;
    let by_kubelet = status_patches(&stage);
    assert_eq!(stage.gate_after(3_000 * S, "web-1").await, None);
    assert_eq!(
        (stage.elb.calls().len(), status_patches(&stage)),
        (0, by_kubelet)
    );
    assert_eq!(replica.metric("targetgate_leader"), "0");
    assert_eq!(replica.metric("targetgate_gates_pending"), "0");
    stage.until_gate("web-1", OPEN).await;
    assert_eq!(replica.metric("targetgate_leader"), "1");
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_dies_is_followed_within_the_lease_and_a_second_of_its_last_renewal() {
    let (stage, mut a, b) = two().await;
    let arn = stage.bind("web").await;
    stage.pod("web-1", "10.0.0.1", &["web"]).await;
    stage.until_gate("web-1", WAITS).await;
    // The leader dies somewhere between two renewals.
    sleep(Duration::from_millis(1_234)).await;
    let last = renewed(&stage).await;
    a.crash(&stage);
    b.until_leads().await;
    let took = (stage.now)().duration_since(last).unsigned_abs();
    assert!((LEASE..=LEASE + S).contains(&took), "{took:?}");
    stage.register(&arn, "10.0.0.1");
    stage.until_gate("web-1", OPEN).await;
    assert_eq!(lease(&stage).await.lease_transitions, Some(1));
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_leaves_is_followed_within_a_second() {
    let (stage, mut a, mut b) = two().await;
    stage.bind("web").await;
    stage.pod("web-1", "10.0.0.1", &["web"]).await;
    stage.until_gate("web-1", WAITS).await;
    let leaving = Instant::now();
    a.ends(&stage).await;
    b.until_leads().await;
    assert!(leaving.elapsed() <= S, "{:?}", leaving.elapsed());
    let taken = lease(&stage).await;
    assert_eq!(taken.holder_identity.as_deref(), Some(b.identity()));
    assert_eq!(taken.lease_transitions, Some(1));
    b.ends(&stage).await;
    let released = lease(&stage).await;
    assert_eq!(released.holder_identity.as_deref(), Some(""));
    assert_eq!(released.lease_duration_seconds, Some(1));
}

#[tokio::test(start_paused = true)]
async fn what_a_hung_leader_sends_late_changes_nothing() {
    let (stage, a, b) = two().await;
    let arn = stage.bind("web").await;
    let ip = address("10.0.0.1").ip();
    let elb_says = |health| stage.elb.script(&arn, ip, 8080, health).unwrap();
    elb_says(Health::checking());
    stage.pod("web-1", "10.0.0.1", &["web"]).await;
    stage
        .until_gate("web-1", ("False", "Elb.InitialHealthChecking"))
        .await;
    // The leader hangs while the write that opens the gate is on its way.
    a.hold_up(true);
    elb_says(Health::healthy());
    sleep(5 * S).await;
    elb_says(Health::unhealthy(CheckFailure::Status(503)));
    a.until_follows().await;
    b.until_leads().await;
    let closed = ("False", "Target.ResponseCodeMismatch");
    stage.until_gate("web-1", closed).await;
    let before = status_patches(&stage);
    a.hold_up(false);
    sleep(S).await;
    assert!(status_patches(&stage) > before, "nothing was sent late");
    let gate = stage.gate_after(30 * S, "web-1").await.unwrap();
    assert_eq!((&*gate.0, &*gate.1), closed);
    assert!(!a.leads() && b.leads());
}

#[tokio::test(start_paused = true)]
async fn writes_that_wait_for_others_are_not_sent_once_the_lead_is_lost() {
    const PODS: usize = 100;
    let (stage, a, b) = two().await;
    let arn = stage.bind("web").await;
    let mut pods = vec![];
    for n in 1..=PODS {
        let (pod, ip) = (format!("web-{n}"), format!("10.0.0.{n}"));
        let checking = Health::checking();
        stage
            .elb
            .script(&arn, address(&ip).ip(), 8080, checking)
            .unwrap();
        stage.pod(&pod, &ip, &["web"]).await;
        pods.push((pod, ip));
    }
    for (pod, _) in &pods {
        let waits = ("False", "Elb.InitialHealthChecking");
        stage.until_gate(pod, waits).await;
    }
    a.hold_up(true);
    for (_, ip) in &pods {
        let healthy = Health::healthy();
        stage
            .elb
            .script(&arn, address(ip).ip(), 8080, healthy)
            .unwrap();
    }
    a.until_follows().await;
    // Each write that was begun is over before another replica may lead.
    b.until_leads().await;
    let failed = a.metric("targetgate_condition_writes_total{result=\"Failed\"}");
    let sent: usize = failed.parse().unwrap();
    assert!((1..PODS).contains(&sent), "{sent} were sent");
    sleep(60 * S).await;
    let later = a.metric("targetgate_condition_writes_total{result=\"Failed\"}");
    assert_eq!(later, failed);
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_is_cut_off_ceases_to_write_before_another_begins() {
    let (_stage, a, b) = two().await;
    sleep(7 * S).await;
    a.hold_up(true);
    let follows = a.until_follows().await;
    let leads = follows + b.until_leads().await;
    assert!(follows <= RENEW_DEADLINE, "{follows:?}");
    assert!(leads > follows + 4 * S && leads <= LEASE + S, "{leads:?}");
    a.hold_up(false);
    sleep(60 * S).await;
    assert!(!a.leads() && b.leads());
}

#[tokio::test(start_paused = true)]
async fn while_the_api_server_is_down_no_replica_leads_and_soon_after_one_does() {
    let (stage, a, b) = two().await;
    let arn = stage.bind("web").await;
    stage.pod("web-1", "10.0.0.1", &["web"]).await;
    stage.until_gate("web-1", WAITS).await;
    stage.register(&arn, "10.0.0.1");
    stage.api.faults().away(Some(Away::Refusing));
    sleep(RENEW_DEADLINE).await;
    assert!(!a.leads() && !b.leads());
    sleep(300 * S).await;
    stage.api.faults().away(None);
    // Neither sees pods before its watch works: it is tried each ten seconds at most.
    sleep(12 * S).await;
    assert_ne!(a.leads(), b.leads());
    stage.until_gate("web-1", OPEN).await;
}

#[tokio::test(start_paused = true)]
async fn the_wall_clocks_of_replicas_may_differ_by_years() {
    let stage = Stage::without_product().await;
    let mut a = stage.starts_skewed("a", -YEAR).await;
    a.until_leads().await;
    let b = stage.starts_skewed("b", YEAR).await;
    sleep(600 * S).await;
    assert!(a.leads() && !b.leads());
    let before = renewed(&stage).await;
    a.crash(&stage);
    let took = b.until_leads().await;
    assert!(took > LEASE - 3 * S && took <= LEASE + S, "{took:?}");
    assert!(renewed(&stage).await > before + YEAR);
    assert_eq!(lease(&stage).await.lease_transitions, Some(1));
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_is_deleted_or_labelled_stays_with_the_leader() {
    let (stage, a, b) = two().await;
    let params = PatchParams::default();
    let label = Patch::Merge(json!({ "metadata": { "labels": { "by": "hand" } } }));
    leases(&stage)
        .patch("targetgate", &params, &label)
        .await
        .unwrap();
    sleep(60 * S).await;
    assert!(a.leads() && !b.leads());
    let labels = leases(&stage)
        .get("targetgate")
        .await
        .unwrap()
        .metadata
        .labels;
    assert_eq!(labels.unwrap()["by"], "hand");
    let now = DeleteParams::default();
    leases(&stage).delete("targetgate", &now).await.unwrap();
    sleep(60 * S).await;
    assert!(a.leads() && !b.leads());
    assert_eq!(
        lease(&stage).await.holder_identity.as_deref(),
        Some(a.identity())
    );
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_has_not_seen_pods_for_a_minute_is_followed_by_one_that_does() {
    let (stage, a, mut b) = two().await;
    let arn = stage.bind("web").await;
    sleep(10 * S).await;
    a.weather.lock().no_pods = true;
    stage.api.faults().close_watches();
    let gave_up = a.until_follows().await;
    let taken = gave_up + b.until_leads().await;
    assert!((59 * S..=61 * S).contains(&gave_up), "{gave_up:?}");
    assert!(taken <= gave_up + 4 * S, "{taken:?}");
    assert_eq!(a.metric("targetgate_leader"), "0");
    stage.register(&arn, "10.0.0.1");
    stage.pod("web-1", "10.0.0.1", &["web"]).await;
    stage.until_gate("web-1", OPEN).await;
    // It does not stand while it is blind, and does as soon as it sees.
    b.crash(&stage);
    sleep(120 * S).await;
    assert!(!a.leads());
    a.weather.lock().no_pods = false;
    let stands = a.until_leads().await;
    assert!(stands <= 12 * S, "{stands:?}");
}

#[tokio::test(start_paused = true)]
async fn a_leader_whose_watch_of_pods_breaks_for_less_than_a_minute_stays() {
    let (stage, a, b) = two().await;
    for _ in 0..5 {
        a.weather.lock().no_pods = true;
        stage.api.faults().close_watches();
        sleep(45 * S).await;
        a.weather.lock().no_pods = false;
        sleep(12 * S).await;
    }
    assert!(a.leads() && !b.leads());
}

#[tokio::test(start_paused = true)]
async fn a_replica_that_sees_no_pods_makes_the_first_certificate() {
    let stage = Stage::without_product().await;
    stage.register_hooks(None).await;
    let mut replica = stage.replica_with_its_own_certificate("a");
    replica.weather.lock().no_pods = true;
    replica.start(&stage, &mut Random::new(1));
    sleep(40 * S).await;
    assert!(!replica.leads(), "its index is not warm");
    assert_eq!(replica.metric("targetgate_certificates_leader"), "1");
    assert_eq!(replica.metric("targetgate_certificate_trusted"), "1");
}
