//! The leader dies, hangs or leaves while a gate waits, and the other one takes over.

use std::net::IpAddr;
use std::time::Duration;

use targetgate_sandbox::elb::Health;
use targetgate_sandbox::elb::faults::On;
use targetgate_sandbox::elb::health::CheckFailure;
use targetgate_sandbox::elb::log::{Call, CallOutcome};
use tokio::time::sleep;

use crate::gated::{IP, PORT};
use crate::history::History;
use crate::install::{Replica, Site};
use crate::servers::until;

const LEASE: Duration = Duration::from_secs(15);
/// Beyond the bounds that the simulated tests hold exactly: this machine may have much else to do.
const SLACK: Duration = Duration::from_secs(10);
const WAITS: &str = "Elb.RegistrationInProgress";

/// Two replicas, of which the first leads, and pod `a`, whose gate waits.
struct Pair {
    leader: Replica,
    follower: Replica,
    history: History,
    site: Site,
}

impl Pair {
    async fn new() -> Self {
        let site = Site::new().await;
        site.bind().await;
        let leader = site.start("targetgate-a").await;
        leader.until_leads().await;
        let follower = site.start("targetgate-b").await;
        assert!(!follower.leads().await);
        let history = History::of(&site).await;
        site.waiting_pod().await;
        site.until_gate("False", WAITS).await;
        Self {
            leader,
            follower,
            history,
            site,
        }
    }

    async fn until_taken(&self) -> Duration {
        let took = self.history.until_taken_by("targetgate-b").await;
        self.follower.until_leads().await;
        took
    }
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
    pair.site.register(ip(), PORT);
    pair.site.until_gate("True", "").await;
}

#[tokio::test]
async fn a_leader_that_leaves_gives_the_lease_back_and_is_followed_at_once() {
    let mut pair = Pair::new().await;
    pair.leader.signal("TERM");
    let ended = pair.leader.until_ended().await;
    assert!(ended.success(), "{ended}:\n{}", pair.leader.log());
    let took = pair.until_taken().await;
    println!("left: the other leads {took:?} after the release");
    assert_eq!(pair.history.releases(), 1);
    assert!(took < SLACK, "{took:?}");
    pair.site.register(ip(), PORT);
    pair.site.until_gate("True", "").await;
}

#[tokio::test]
async fn a_leader_that_hangs_changes_nothing_when_it_goes_on() {
    let pair = Pair::new().await;
    let elb = &pair.site.elb;
    let elb_says = |health| elb.script(&pair.site.arn, ip(), PORT, health).unwrap();
    // It is stopped while ELB's answer, which will open the gate, is on its way to it.
    let describe = On::action("DescribeTargetHealth");
    elb.faults().hang(describe.clone());
    elb.until(|elb| in_flight(elb.calls().last())).await;
    pair.leader.signal("STOP");
    let asked = elb.calls().len();
    elb_says(Health::healthy());
    elb.faults().release(&describe);
    elb.until(|elb| !in_flight(elb.calls().last())).await;
    elb_says(Health::unhealthy(CheckFailure::Status(503)));

    let took = pair.until_taken().await;
    println!("stopped: the other leads {took:?} after the last renewal");
    assert!((LEASE..LEASE + SLACK).contains(&took), "{took:?}");
    let closed = ("False", "Target.ResponseCodeMismatch");
    pair.site.until_gate(closed.0, closed.1).await;

    pair.leader.signal("CONT");
    until("it knows that it leads no more", async || {
        let metrics = pair.leader.admin("/metrics").await?;
        metrics.contains("\ntargetgate_leader 0\n").then_some(())
    })
    .await;
    // And that it has taken in ELB's answer, which lay in its socket, or has given it up.
    until("it has heard of every call", async || {
        let metrics = pair.leader.admin("/metrics").await?;
        (calls_heard_of(&metrics) == asked).then_some(())
    })
    .await;
    for _ in 0..20 {
        let gate = pair.site.gate().await.unwrap();
        assert_eq!((&*gate.0, &*gate.1), closed);
        sleep(Duration::from_millis(100)).await;
    }
    assert!(pair.follower.leads().await);
    elb_says(Health::healthy());
    pair.site.until_gate("True", "").await;
}

fn in_flight(call: Option<&Call>) -> bool {
    call.is_some_and(|call| call.outcome == CallOutcome::Pending)
}

/// How many calls of ELB a process has counted, however they ended.
fn calls_heard_of(metrics: &str) -> usize {
    let calls = |line: &str| {
        let (_, count) = line
            .strip_prefix("targetgate_elb_calls_total{")?
            .rsplit_once(' ')?;
        count.parse::<usize>().ok()
    };
    metrics.lines().filter_map(calls).sum()
}
