//! Tests of the model as a function: events in, target states out.

use std::time::Duration;

use super::*;
use crate::elb::health::{CheckFailure, State};

const GROUP: &str = "group";
const BALANCER: &str = "balancer";
const FAILED: CheckOutcome = CheckOutcome::Failed(CheckFailure::Timeout);

/// A model with one group behind one load balancer, and a clock.
struct World {
    model: Model,
    now: Instant,
}

impl World {
    fn with(spec: TargetGroupSpec, delays: Delays, zones: &[&str]) -> Self {
        let mut world = Self {
            model: Model::new(7),
            now: Instant::now(),
        };
        let kind = spec.kind();
        let zones = zones.iter().map(|&zone| zone.to_owned()).collect();
        world.model.add_group(GROUP.to_owned(), spec, delays);
        world.model.add_balancer(BALANCER.to_owned(), kind, zones);
        world.listen(true);
        world
    }

    fn alb() -> Self {
        Self::with(TargetGroupSpec::http("web"), Delays::alb(), &[])
    }

    fn nlb() -> Self {
        Self::with(TargetGroupSpec::tcp("web"), Delays::nlb(), &[])
    }

    fn listen(&mut self, on: bool) {
        let forward = on.then(|| vec![(GROUP.to_owned(), 1)]);
        self.model.set_listener(BALANCER, forward, self.now);
    }

    fn register(&mut self, target: u8) {
        self.model.register(GROUP, address(target), None, self.now);
    }

    fn deregister(&mut self, target: u8) {
        self.model.deregister(GROUP, address(target), self.now);
    }

    /// Lets time pass, with health checks whose outcome for each target is that of `outcome`.
    fn pass(&mut self, time: Duration, outcome: impl Fn(u8) -> CheckOutcome) {
        let end = self.now + time;
        while let Some(next) = self.model.next_event().filter(|next| *next <= end) {
            self.now = next;
            self.model.advance(next);
            for check in self.model.begin_checks(next) {
                let found = outcome(number(check.target));
                self.model.finish_check(&check, found, next);
            }
        }
        self.now = end;
        self.model.advance(end);
    }

    fn pass_well(&mut self, time: Duration) {
        self.pass(time, |_| CheckOutcome::Passed);
    }

    fn state(&self, target: u8) -> String {
        match self.model.groups[GROUP].health(address(target)) {
            None => "absent".to_owned(),
            Some(Health { state, reason, .. }) => match reason {
                Some(reason) => format!("{state}/{reason}"),
                None => state.to_string(),
            },
        }
    }

    /// The targets of the next six requests.
    fn picks(&mut self) -> Vec<u8> {
        let picks = (0..6).filter_map(|_| self.model.pick(BALANCER, self.now));
        picks.map(|(_, pick)| number(pick.target)).collect()
    }
}

fn address(target: u8) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, target], 80))
}

fn number(address: SocketAddr) -> u8 {
    match address.ip() {
        IpAddr::V4(ip) => ip.octets()[3],
        IpAddr::V6(_) => 0,
    }
}

const fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

#[test]
fn a_target_of_a_group_without_a_listener_is_unused_until_there_is_one() {
    let mut world = World::alb();
    world.listen(false);
    world.register(1);
    world.pass_well(seconds(600));
    assert_eq!(world.state(1), "unused/Target.NotInUse");
    world.listen(true);
    assert_eq!(world.state(1), "initial/Elb.RegistrationInProgress");
    world.pass_well(seconds(19));
    assert_eq!(world.state(1), "healthy");
    world.listen(false);
    assert_eq!(world.state(1), "unused/Target.NotInUse");
    world.deregister(1);
    assert_eq!(world.state(1), "absent");
}

#[test]
fn a_target_in_a_zone_that_is_not_enabled_is_unused() {
    let mut world = World::with(TargetGroupSpec::http("web"), Delays::alb(), &["a"]);
    world.model.place(address(1).ip(), "a".to_owned());
    world.model.place(address(2).ip(), "b".to_owned());
    (1..=3).for_each(|target| world.register(target));
    world.pass_well(seconds(19));
    let states = [1, 2, 3].map(|target| world.state(target));
    assert_eq!(states, ["healthy", "unused/Target.NotInUse", "healthy"]);
    let described = world.model.groups[GROUP].health(address(2)).unwrap();
    assert_eq!(described, Health::zone_not_enabled());
}

#[test]
fn an_alb_takes_a_target_in_within_registration_and_one_interval() {
    let mut world = World::alb();
    world.register(1);
    world.pass_well(seconds(4) - Duration::from_millis(1));
    assert_eq!(world.state(1), "initial/Elb.RegistrationInProgress");
    world.pass_well(Duration::from_millis(1));
    assert_eq!(world.state(1), "initial/Elb.InitialHealthChecking");
    world.pass_well(seconds(15));
    assert_eq!(world.state(1), "healthy");
}

#[test]
fn an_nlb_needs_its_threshold_of_checks() {
    let mut world = World::nlb();
    world.register(1);
    world.pass_well(seconds(60 + 20));
    assert_eq!(world.state(1), "initial/Elb.InitialHealthChecking");
    world.pass_well(seconds(10));
    assert_eq!(world.state(1), "healthy");
}

#[test]
fn targets_are_checked_at_times_of_their_own() {
    let mut world = World::alb();
    (1..=50).for_each(|target| world.register(target));
    world.pass_well(seconds(19));
    let healthy: Vec<Instant> = world
        .model
        .take_changes()
        .into_iter()
        .filter(|change| change.to == Some(Health::healthy()))
        .map(|change| change.at)
        .collect();
    assert_eq!(healthy.len(), 50);
    let times: BTreeSet<Instant> = healthy.into_iter().collect();
    assert!(times.len() > 40, "only {} moments", times.len());
}

#[test]
fn a_draining_target_leaves_after_the_delay_and_each_change_is_told_once() {
    let mut world = World::alb();
    world.register(1);
    world.pass_well(seconds(30));
    world.deregister(1);
    world.deregister(1);
    assert_eq!(world.state(1), "draining/Target.DeregistrationInProgress");
    world.pass_well(seconds(300) - Duration::from_millis(1));
    assert_eq!(world.state(1), "draining/Target.DeregistrationInProgress");
    world.pass_well(Duration::from_millis(1));
    assert_eq!(world.state(1), "absent");
    let states: Vec<Option<State>> = world
        .model
        .take_changes()
        .into_iter()
        .map(|change| change.to.map(|health| health.state))
        .collect();
    let expected = [
        Some(State::Initial),
        Some(State::Initial),
        Some(State::Healthy),
        Some(State::Draining),
        None,
    ];
    assert_eq!(states, expected);
}

#[test]
fn a_target_registered_again_while_draining_starts_anew() {
    let mut world = World::alb();
    world.register(1);
    world.pass_well(seconds(30));
    world.deregister(1);
    world.pass_well(seconds(100));
    world.register(1);
    assert_eq!(world.state(1), "initial/Elb.RegistrationInProgress");
    world.pass_well(seconds(300));
    assert_eq!(world.state(1), "healthy");
}

#[test]
fn registering_twice_changes_nothing() {
    let mut world = World::alb();
    world.register(1);
    world.pass_well(seconds(30));
    world.register(1);
    assert_eq!(world.state(1), "healthy");
}

#[test]
fn a_check_that_began_before_a_new_registration_does_not_count() {
    let mut world = World::alb();
    world.register(1);
    world.pass_well(seconds(30));
    world.now += seconds(15);
    let stale = world.model.begin_checks(world.now);
    assert_eq!(stale.len(), 1);
    world.deregister(1);
    world.register(1);
    world.now += seconds(4);
    world.model.advance(world.now);
    world
        .model
        .finish_check(&stale[0], CheckOutcome::Passed, world.now);
    assert_eq!(world.state(1), "initial/Elb.InitialHealthChecking");
}

#[test]
fn one_address_on_two_ports_is_two_targets() {
    let mut world = World::alb();
    world.register(1);
    let other = SocketAddr::new(address(1).ip(), 81);
    world.model.register(GROUP, other, None, world.now);
    world.pass_well(seconds(30));
    world.deregister(1);
    let group = &world.model.groups[GROUP];
    assert_eq!(group.health(other), Some(Health::healthy()));
    assert_eq!(group.health(address(1)), Some(Health::draining()));
}

#[test]
fn requests_go_in_turn_to_the_targets_in_service_only() {
    let mut world = World::alb();
    (1..=4).for_each(|target| world.register(target));
    let ill = |target| {
        if target == 3 {
            FAILED
        } else {
            CheckOutcome::Passed
        }
    };
    world.pass(seconds(60), ill);
    world.register(5);
    assert_eq!(world.picks(), [1, 2, 4, 1, 2, 4]);
}

#[test]
fn a_deregistered_target_gets_new_requests_for_the_lag_and_no_longer() {
    let mut world = World::alb();
    (1..=2).for_each(|target| world.register(target));
    world.pass_well(seconds(30));
    world.deregister(1);
    world.pass_well(seconds(5) - Duration::from_millis(1));
    assert_eq!(world.picks(), [1, 2, 1, 2, 1, 2]);
    world.pass_well(Duration::from_millis(1));
    assert_eq!(world.picks(), [2; 6]);
}

#[test]
fn without_a_target_in_service_all_known_ones_get_requests() {
    let mut world = World::alb();
    (1..=2).for_each(|target| world.register(target));
    world.pass(seconds(60), |_| FAILED);
    world.register(3);
    assert_eq!(world.picks(), [1, 2, 1, 2, 1, 2], "3 is not known yet");
    world.pass(seconds(4), |_| FAILED);
    assert_eq!(world.picks(), [3, 1, 2, 3, 1, 2], "3 is being checked");
}

#[test]
fn a_group_whose_targets_are_all_being_registered_has_none() {
    let mut world = World::alb();
    world.register(1);
    assert_eq!(world.picks(), [0; 0]);
}

#[test]
fn traffic_follows_a_script() {
    let mut world = World::alb();
    (1..=2).for_each(|target| world.register(target));
    world.pass_well(seconds(30));
    let unhealthy = Health::failed_checks();
    world
        .model
        .script(GROUP, address(1), Some(unhealthy), world.now);
    assert_eq!(world.picks(), [2; 6]);
}

#[test]
fn connections_live_until_the_target_leaves_or_turns_unhealthy() {
    let mut world = World::nlb();
    (1..=2).for_each(|target| world.register(target));
    world.pass_well(seconds(120));
    let pick = |target, out_of_service| Pick {
        target: address(target),
        out_of_service,
    };
    world.deregister(1);
    world.pass(seconds(299), |_| FAILED);
    assert!(
        world.model.keeps_connection(GROUP, pick(1, false)),
        "draining"
    );
    assert!(
        !world.model.keeps_connection(GROUP, pick(2, false)),
        "turned unhealthy"
    );
    assert!(
        world.model.keeps_connection(GROUP, pick(2, true)),
        "was so before"
    );
    world.pass(seconds(1), |_| FAILED);
    assert!(!world.model.keeps_connection(GROUP, pick(1, false)), "gone");
}

#[test]
fn a_removed_group_takes_its_targets_along() {
    let mut world = World::alb();
    world.register(1);
    world.model.take_changes();
    world.model.remove_group(GROUP, world.now);
    let changes = world.model.take_changes();
    assert_eq!(changes.len(), 1);
    assert_eq!(changes[0].to, None);
    assert_eq!(world.picks(), [0; 0]);
}
