//! The leader dies, hangs or leaves while a gate waits, and the other replica takes over.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use targetgate_sandbox::elb::Health;
use targetgate_sandbox::elb::health::CheckFailure;
use targetgate_sandbox::harness::Process;
use targetgate_sandbox::harness::waiting::until;

use super::gated::{Gated, IP, leads, until_ended, until_leads};
use super::history::History;
use super::line::Line;
use crate::install::PORT;

const LEASE: Duration = Duration::from_secs(15);
/// Added to the exact bounds of the simulated tests, because this machine may be busy. Chosen.
const SLACK: Duration = Duration::from_secs(10);
const WAITS: &str = "Elb.RegistrationInProgress";

/// Two replicas, of which the first leads, and pod `a`, whose gate waits.
struct Pair {
    leader: Process,
    follower: Process,
    /// The proxy between the leader and the API server.
    line: Line,
    history: History,
    site: Gated,
}

impl Pair {
    async fn new() -> Self {
        let site = Gated::new().await;
        site.bind().await;
        let (line, kubeconfig) = line(&site).await;
        let leader = site.start_with("targetgate-a", &kubeconfig).await;
        until_leads(&leader).await;
        let follower = site.start("targetgate-b").await;
        assert!(!leads(&follower).await);
        let history = History::of(&site).await;
        site.waiting_pod().await;
        site.until_gate("False", WAITS).await;
        Self {
            leader,
            follower,
            line,
            history,
            site,
        }
    }

    async fn until_taken(&self) -> Duration {
        let took = self.history.until_taken_by("targetgate-b").await;
        until_leads(&self.follower).await;
        took
    }
}

/// A proxy before the API server, and a kubeconfig that leads to it.
async fn line(site: &Gated) -> (Line, PathBuf) {
    let text = std::fs::read_to_string(&site.program.kubeconfig).unwrap();
    let (_, server) = text.split_once("https://").unwrap();
    let (server, _) = server.split_once('"').unwrap();
    let line = Line::to(server.parse().unwrap()).await;
    let kubeconfig = site.program.files.path().join("line.kubeconfig");
    let through = text.replace(server, &line.address.to_string());
    std::fs::write(&kubeconfig, through).unwrap();
    (line, kubeconfig)
}

fn ip() -> IpAddr {
    IP.parse().unwrap()
}

#[tokio::test]
async fn a_leader_that_is_killed_is_followed_when_its_lease_runs_out() {
    let mut pair = Pair::new().await;
    pair.leader.kill();
    let took = pair.until_taken().await;
    println!("killed: the other leads {took:?} after the last renewal");
    assert!((LEASE..LEASE + SLACK).contains(&took), "{took:?}");
    pair.site.register(&pair.site.arn, IP);
    pair.site.until_gate("True", "").await;
}

#[tokio::test]
async fn a_leader_that_leaves_gives_the_lease_back_and_is_followed_at_once() {
    let mut pair = Pair::new().await;
    pair.leader.signal("TERM").unwrap();
    let ended = until_ended(&mut pair.leader).await;
    assert!(ended.success(), "{ended}:\n{}", pair.leader.log());
    let took = pair.until_taken().await;
    println!("left: the other leads {took:?} after the release");
    assert_eq!(pair.history.releases(), 1);
    assert!(took < SLACK, "{took:?}");
    pair.site.register(&pair.site.arn, IP);
    pair.site.until_gate("True", "").await;
}

#[tokio::test]
async fn what_a_hung_leader_has_sent_arrives_late_and_changes_nothing() {
    let pair = Pair::new().await;
    let elb_says = |health| {
        let elb = &pair.site.elb;
        elb.script(&pair.site.arn, ip(), PORT, health).unwrap();
    };
    elb_says(Health::checking());
    let checking = ("False", "Elb.InitialHealthChecking");
    pair.site.until_gate(checking.0, checking.1).await;
    // The leader is stopped while the write that opens the gate, and a renewal of each Lease, are on their way. Its
    // watches have a connection of their own, on which it sends nothing for as long as events come.
    pair.line.hold(true);
    elb_says(Health::healthy());
    until("the three requests are held up", async || {
        (pair.line.held() >= 3).then_some(())
    })
    .await;
    pair.leader.signal("STOP").unwrap();
    elb_says(Health::unhealthy(CheckFailure::Status(503)));

    let took = pair.until_taken().await;
    println!("stopped: the other leads {took:?} after the last renewal");
    assert!((LEASE..LEASE + SLACK).contains(&took), "{took:?}");
    let closed = ("False", "Target.ResponseCodeMismatch");
    pair.site.until_gate(closed.0, closed.1).await;

    pair.line.hold(false);
    until("the write arrives, and is refused", async || {
        refused_writes(&pair.site).await
    })
    .await;
    pair.leader.signal("CONT").unwrap();
    until("the former leader knows", async || {
        (!leads(&pair.leader).await).then_some(())
    })
    .await;
    let gate = pair.site.gate().await.unwrap();
    assert_eq!((&*gate.0, &*gate.1), closed);
    assert!(leads(&pair.follower).await);
    elb_says(Health::healthy());
    pair.site.until_gate("True", "").await;
}

/// Returns once the API server has refused a write of a pod's status with 409.
async fn refused_writes(site: &Gated) -> Option<()> {
    let events = site.cluster.control_plane().audit_log().unwrap();
    let refused = events.iter().any(|event| {
        let object = event.object_ref.as_ref();
        let status = event.response_status.as_ref();
        object.is_some_and(|object| {
            object.namespace == site.cluster.namespace && object.subresource == "status"
        }) && status.is_some_and(|status| status.code == 409)
    });
    refused.then_some(())
}
