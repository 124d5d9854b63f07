//! The ends of pods, in virtual time.

use jiff::SignedDuration;

use super::*;
use crate::drain::LoadBalancerKind::{Alb, Nlb};
use crate::fixtures::{arn, epoch, pod};
use crate::model::TargetState;
use crate::reason::Reason;

const S: Duration = Duration::from_secs(1);
const WALL: &str = "2026-11-21T09:00:00Z";

struct World {
    endings: Endings,
    begun: Instant,
    now: Instant,
}

impl World {
    fn new(measure: bool) -> Self {
        let seconds = DrainSeconds::default();
        let now = epoch();
        Self {
            endings: Endings::new(Settings { seconds, measure }),
            begun: now,
            now,
        }
    }

    /// The deletion of a pod behind a group of this kind is seen now.
    fn begin(&mut self, ip: &str, group: &str, kind: LoadBalancerKind) {
        self.begin_requested(ip, &[target(ip, group, kind)], None);
    }

    fn begin_requested(
        &mut self,
        ip: &str,
        targets: &[EndingTarget],
        requested: Option<Timestamp>,
    ) {
        let (pod, targets) = (web(ip), targets.to_vec());
        self.endings.begin(&pod, targets, requested, self.now);
    }

    fn end(&mut self, ip: &str) -> Option<(LoadBalancerKind, String)> {
        let passed = SignedDuration::try_from(self.now - self.begun).unwrap();
        let wall = wall() + passed;
        let early = self.endings.end(&web(ip), self.now, wall)?;
        assert_eq!(early.finding.reason, Reason::EndedEarly);
        Some((early.kind, early.finding.message))
    }

    /// ELB answers now to a call for the whole group that was sent now.
    fn answer(&mut self, group: &str, registered: &[&str]) -> Vec<(LoadBalancerKind, u64)> {
        self.answer_to(group, &[], registered, self.now)
    }

    fn answer_to(
        &mut self,
        group: &str,
        named: &[&str],
        registered: &[&str],
        requested: Instant,
    ) -> Vec<(LoadBalancerKind, u64)> {
        let named = named.iter().map(|ip| address(ip)).collect();
        let answer: Vec<TargetHealth> = registered.iter().map(|ip| healthy(ip)).collect();
        let key = key(group);
        let deregistered = self
            .endings
            .answered(&key, &named, &answer, requested, self.now);
        let each = deregistered
            .iter()
            .map(|seen| (seen.kind, seen.after.as_secs()));
        each.collect()
    }

    /// The names of the group and targets that are asked about now; the call is answered at once.
    fn look(&mut self, failed: bool) -> Option<(String, usize)> {
        let look = self.endings.next_look(self.now).ok()?;
        self.endings.begin_look(&look, self.now);
        self.endings.end_look(&look, failed, self.now);
        Some((look.group.arn.name().to_owned(), look.targets.len()))
    }

    fn is_empty(&mut self) -> bool {
        self.endings.forget_old(self.now);
        self.endings.pods.is_empty() && self.endings.by_group.is_empty()
    }
}

fn wall() -> Timestamp {
    WALL.parse().unwrap()
}

fn key(group: &str) -> GroupKey {
    GroupKey {
        arn: arn(group),
        role: None,
    }
}

fn address(ip: &str) -> (IpAddr, u16) {
    (ip.parse().unwrap(), 80)
}

fn target(ip: &str, group: &str, kind: LoadBalancerKind) -> EndingTarget {
    EndingTarget {
        group: key(group),
        target: address(ip),
        kind,
    }
}

/// A pod that is named after its address.
fn web(ip: &str) -> Arc<Pod> {
    Arc::new(pod(ip).ip(ip).ready())
}

fn healthy(ip: &str) -> TargetHealth {
    health(ip, TargetState::Healthy, "")
}

fn health(ip: &str, state: TargetState, reason: &str) -> TargetHealth {
    TargetHealth {
        target: address(ip),
        zone: None,
        state,
        reason: reason.into(),
        description: "".into(),
    }
}

const A: &str = "10.0.0.1";
const B: &str = "10.0.0.2";

#[test]
fn the_first_answer_without_the_target_shows_that_it_drains() {
    let mut world = World::new(false);
    world.begin(A, "web", Alb);
    world.now += 2 * S;
    assert_eq!(world.answer("web", &[A, B]), []);
    world.now += 3 * S;
    assert_eq!(world.answer("web", &[B]), [(Alb, 5)]);
    assert_eq!(world.answer("web", &[B]), []);
}

#[test]
fn a_target_that_elb_says_is_draining_or_not_registered_drains() {
    for drains in [
        health(A, TargetState::Draining, "Target.DeregistrationInProgress"),
        health(A, TargetState::UnhealthyDraining, ""),
        health(A, TargetState::Unused, "Target.NotRegistered"),
    ] {
        let mut world = World::new(false);
        world.begin(A, "web", Nlb);
        let (now, named) = (world.now, BTreeSet::new());
        let deregistered = world
            .endings
            .answered(&key("web"), &named, &[drains], now, now);
        assert_eq!(deregistered.len(), 1);
    }
}

#[test]
fn an_unhealthy_target_is_registered() {
    let mut world = World::new(false);
    world.begin(A, "web", Nlb);
    let (now, named) = (world.now, BTreeSet::new());
    let unhealthy = health(A, TargetState::Unhealthy, "Target.Timeout");
    let deregistered = world
        .endings
        .answered(&key("web"), &named, &[unhealthy], now, now);
    assert_eq!(deregistered, []);
}

#[test]
fn an_answer_that_was_requested_before_the_deletion_was_seen_shows_nothing() {
    let mut world = World::new(false);
    let before = world.now;
    world.now += S;
    world.begin(A, "web", Alb);
    assert_eq!(world.answer_to("web", &[], &[], before), []);
    assert_eq!(world.answer("web", &[]), [(Alb, 0)]);
}

#[test]
fn an_answer_about_other_targets_or_groups_shows_nothing() {
    let mut world = World::new(false);
    world.begin(A, "web", Alb);
    let now = world.now;
    assert_eq!(world.answer_to("web", &[B], &[], now), []);
    assert_eq!(world.answer("api", &[]), []);
    assert_eq!(world.answer_to("web", &[A], &[], now), [(Alb, 0)]);
}

#[test]
fn a_look_after_a_long_time_without_any_tells_no_time() {
    let mut world = World::new(false);
    world.begin(A, "web", Alb);
    world.begin(B, "web", Alb);
    world.now += 10 * S;
    assert_eq!(world.answer("web", &[B]), [(Alb, 10)]);
    world.now += 11 * S;
    assert_eq!(world.answer("web", &[]), []);
}

#[test]
fn each_group_of_a_pod_drains_by_itself() {
    let mut world = World::new(false);
    let both = [target(A, "web", Alb), target(A, "tcp", Nlb)];
    world.begin_requested(A, &both, None);
    world.now += S;
    assert_eq!(world.answer("web", &[]), [(Alb, 1)]);
    world.now += S;
    assert_eq!(world.answer("tcp", &[]), [(Nlb, 2)]);
}

#[test]
fn of_pods_that_ended_before_this_replica_led_no_time_is_known() {
    let mut world = World::new(true);
    world.begin(A, "web", Alb);
    world.endings.lead();
    world.begin(B, "web", Alb);
    world.now += S;
    assert_eq!(world.answer("web", &[]), [(Alb, 1)]);
    assert!(world.end(A).is_some());
}

#[test]
fn a_pod_that_ends_sooner_than_its_load_balancer_needs_ended_early() {
    let mut world = World::new(false);
    world.begin(A, "web", Alb);
    world.begin(B, "web", Alb);
    world.now += 19 * S;
    let message = "The pod ended 19 s after its deletion began, and its ALB needs 20 s";
    assert_eq!(world.end(A), Some((Alb, message.to_owned())));
    assert_eq!(world.end(A), None, "once");
    world.now += S;
    assert_eq!(world.end(B), None);
}

#[test]
fn the_slowest_load_balancer_of_a_pod_counts() {
    let mut world = World::new(false);
    let both = [target(A, "tcp", Nlb), target(A, "web", Alb)];
    world.begin_requested(A, &both, None);
    world.now += 50 * S;
    assert_eq!(world.end(A).unwrap().0, Nlb);
}

#[test]
fn a_pod_whose_draining_was_seen_can_still_end_early() {
    let mut world = World::new(false);
    world.begin(A, "web", Alb);
    world.now += S;
    world.answer("web", &[]);
    world.now += S;
    assert!(!world.is_empty());
    assert!(world.end(A).is_some());
    world.now += S;
    assert!(world.is_empty());
}

#[test]
fn a_watch_that_was_late_blames_no_pod() {
    let mut world = World::new(false);
    let requested = wall() - SignedDuration::from_secs(40);
    world.begin_requested(A, &[target(A, "web", Alb)], Some(requested));
    world.now += S;
    assert_eq!(world.end(A), None);
}

#[test]
fn a_server_whose_clock_is_ahead_hides_no_pod() {
    let mut world = World::new(false);
    let requested = wall() + SignedDuration::from_secs(40);
    world.begin_requested(A, &[target(A, "web", Alb)], Some(requested));
    world.now += S;
    assert!(world.end(A).is_some());
}

#[test]
fn pods_that_were_in_no_load_balancer_or_were_not_seen_to_end_are_not_blamed() {
    let mut world = World::new(true);
    world.begin_requested(A, &[], None);
    let unready = Arc::new(pod(B).ip(B));
    let targets = vec![target(B, "web", Alb)];
    world.endings.begin(&unready, targets, None, world.now);
    assert_eq!((world.end(A), world.end(B)), (None, None));
    assert_eq!(world.look(false), None);
    world.begin(A, "web", Alb);
    world.endings.miss(&web(A));
    assert_eq!(world.end(A), None);
    assert!(world.is_empty());
}

#[test]
fn without_the_flag_no_call_is_made() {
    let mut world = World::new(false);
    world.begin(A, "web", Alb);
    assert_eq!(world.look(false), None);
}

#[test]
fn one_call_a_second_goes_to_the_group_that_was_asked_first() {
    let mut world = World::new(true);
    world.begin(A, "web", Alb);
    world.begin(B, "api", Alb);
    let mut asked = vec![];
    for _ in 0..40 {
        asked.extend(world.look(false).map(|(group, _)| group));
        world.now += S / 10;
    }
    assert_eq!(asked, ["api", "web", "api", "web"]);
}

#[test]
fn no_call_is_made_while_one_is_in_flight() {
    let mut world = World::new(true);
    world.begin(A, "web", Alb);
    let look = world.endings.next_look(world.now).unwrap();
    world.endings.begin_look(&look, world.now);
    world.now += 30 * S;
    assert_eq!(world.endings.next_look(world.now), Err(None));
    world.endings.end_look(&look, false, world.now);
    assert!(world.look(false).is_some());
}

#[test]
fn a_group_whose_call_failed_rests_and_the_others_do_not() {
    let mut world = World::new(true);
    world.begin(A, "web", Alb);
    world.begin(B, "api", Alb);
    assert_eq!(world.look(true).unwrap().0, "api");
    let mut asked = vec![];
    for _ in 0..31 {
        world.now += S;
        asked.extend(world.look(false).map(|(group, _)| group));
    }
    let of_api = asked.iter().position(|group| group == "api");
    assert_eq!((asked.len(), of_api), (31, Some(30)));
}

#[test]
fn looks_end_once_draining_is_seen_or_the_pod_is_gone_for_long() {
    let mut world = World::new(true);
    world.begin(A, "web", Alb);
    world.begin(B, "web", Alb);
    assert_eq!(world.look(false), Some(("web".to_owned(), 2)));
    world.answer("web", &[B]);
    world.now += S;
    assert_eq!(world.look(false), Some(("web".to_owned(), 1)));
    world.end(B);
    world.now += 59 * S;
    assert!(world.look(false).is_some());
    world.now += S;
    assert_eq!(world.look(false), None);
    world.end(A);
    world.now += S;
    assert!(world.is_empty());
}

#[test]
fn a_pod_that_never_ends_is_followed_for_ten_minutes() {
    let mut world = World::new(true);
    world.begin(A, "web", Alb);
    world.now += 599 * S;
    assert!(!world.is_empty());
    world.now += S;
    assert!(world.is_empty());
}

#[test]
fn a_pod_of_which_all_is_seen_is_forgotten() {
    let mut world = World::new(true);
    world.begin(A, "web", Alb);
    world.answer("web", &[]);
    world.now += 19 * S;
    world.endings.forget_old(world.now);
    assert_eq!(world.endings.pods.len(), 1);
    world.now += S;
    assert!(world.is_empty());
}

#[test]
fn so_many_pods_are_followed_and_so_many_targets_named() {
    let mut world = World::new(true);
    let ips = (0..=MOST).map(|number| {
        let [.., high, low] = u32::try_from(number).unwrap().to_be_bytes();
        format!("10.1.{high}.{low}")
    });
    ips.for_each(|ip| world.begin(&ip, "web", Alb));
    assert_eq!(world.endings.pods.len(), MOST);
    assert_eq!(world.look(false), Some(("web".to_owned(), 100)));
}
