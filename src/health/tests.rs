//! The tracker, fed by hand: what it does about each thing that can happen to a gate.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use crate::health::action::{Action, CallFailure, Fresh, GateId, Settings, Write, WriteOutcome};
use crate::health::tracker::Tracker;
use crate::index::{BindingKey, Index};
use crate::model::{Binding, Pod, Service, TargetHealth, TargetState};
use crate::names::{BindingApi, Group, ObjectKey};
use crate::rules::fixtures::{arn, binding, pod, service};

const S: Duration = Duration::from_secs(1);
const ORPHAN_AFTER: Duration = Duration::from_secs(300);

/// A tracker, the index that it looks at, and a clock that only [`World::pass`] moves.
struct World {
    index: Index,
    tracker: Tracker,
    now: Instant,
    actions: Vec<Action>,
}

impl World {
    /// A namespace in which Service `web` is bound to group `web`.
    fn new() -> Self {
        let mut world = Self::empty();
        world.serve(web_service());
        world.bind(binding("web"));
        world
    }

    fn empty() -> Self {
        Self {
            index: Index::default(),
            tracker: Tracker::new(Settings {
                apis: vec![BindingApi::Elbv2],
                orphan_after: ORPHAN_AFTER,
            }),
            now: Instant::now(),
            actions: vec![],
        }
    }

    fn serve(&mut self, service: Service) {
        self.index.apply_service(&key("web"), service);
        self.settle();
    }

    fn bind(&mut self, binding: Binding) {
        self.index.apply_binding(&"shop".into(), binding);
        self.settle();
    }

    fn unbind(&mut self, name: &str) {
        self.index.delete_binding(&BindingKey {
            object: key(name),
            api: BindingApi::Elbv2,
        });
        self.settle();
    }

    fn see(&mut self, pod: Pod) {
        self.index.apply_pod(pod);
        self.settle();
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
        self.actions.extend(self.tracker.tick(self.now));
    }

    fn settle(&mut self) {
        for key in self.index.take_dirty() {
            let actions = self.tracker.observe(&key, &self.index, self.now);
            self.actions.extend(actions);
        }
    }

    /// The group whose turn it is, by its name.
    fn asks(&mut self) -> Option<String> {
        let group = self.tracker.next_call(self.now)?;
        Some(group.arn.name().to_owned())
    }

    /// Asks about a group and is answered at once.
    fn round(&mut self, name: &str, targets: &[TargetHealth]) {
        assert_eq!(self.asks().as_deref(), Some(name));
        self.answer(name, self.now, Ok(targets));
    }

    fn answer(
        &mut self,
        name: &str,
        requested: Instant,
        answer: Result<&[TargetHealth], CallFailure>,
    ) {
        let actions = self
            .tracker
            .answered(&group(name), requested, answer, self.now);
        self.actions.extend(actions);
    }

    fn done(&mut self) -> Vec<Action> {
        std::mem::take(&mut self.actions)
    }

    /// The only write that is due: status, reason and message.
    fn write(&mut self) -> Write {
        let mut actions = self.done();
        match (actions.pop(), actions.len()) {
            (Some(Action::Write(write)), 0) => write,
            (last, others) => panic!("one write, not {last:?} after {others} others"),
        }
    }

    fn written(&mut self, write: &Write, version: &str) {
        let outcome = WriteOutcome::Written(version.into());
        self.tracker.written(&write.id, outcome, self.now);
    }
}

fn key(name: &str) -> ObjectKey {
    ObjectKey::new("shop", name)
}

fn group(name: &str) -> Group {
    Group {
        arn: arn(name),
        role: None,
    }
}

fn web_service() -> Service {
    service().selecting("app", "web").port("http", 80, None)
}

/// A due pod behind binding `web`, whose gate has no condition yet.
fn web(name: &str, ip: &str) -> Pod {
    pod(name).label("app", "web").gate("web").ip(ip).ready()
}

fn health(ip: &str, state: TargetState, reason: &str) -> TargetHealth {
    TargetHealth {
        target: (ip.parse().unwrap(), 80),
        state,
        reason: reason.into(),
        description: "".into(),
    }
}

fn healthy(ip: &str) -> TargetHealth {
    health(ip, TargetState::Healthy, "")
}

fn initial(ip: &str) -> TargetHealth {
    health(ip, TargetState::Initial, "Elb.InitialHealthChecking")
}

fn words(write: &Write) -> (bool, &str, &str) {
    let condition = &write.condition;
    (condition.status, &condition.reason, &condition.message)
}

#[test]
fn a_gate_opens_when_elb_says_healthy() {
    let mut world = World::new();
    world.see(web("web-1", "10.0.0.1"));
    world.round("web", &[healthy("10.0.0.1")]);
    let write = world.write();
    assert_eq!(words(&write), (true, "", ""));
    assert_eq!((write.reason, write.transition), ("Healthy", true));
}

#[test]
fn one_answer_serves_all_pods_of_a_group() {
    let mut world = World::new();
    world.see(web("web-1", "10.0.0.1"));
    world.see(web("web-2", "10.0.0.2"));
    world.round("web", &[healthy("10.0.0.1"), healthy("10.0.0.2")]);
    assert_eq!(world.done().len(), 2);
    assert_eq!(world.asks(), None);
}

#[test]
fn a_pod_whose_containers_are_not_ready_is_not_asked_about() {
    let mut world = World::new();
    let mut starting = web("web-1", "10.0.0.1");
    starting.containers_ready = None;
    world.see(starting);
    assert_eq!((world.asks(), world.done()), (None, vec![]));
}

#[test]
fn a_gate_that_is_true_is_left_alone() {
    let mut world = World::new();
    world.see(web("web-1", "10.0.0.1").condition(true, "", ""));
    assert_eq!((world.asks(), world.done()), (None, vec![]));
}

#[test]
fn the_same_state_twice_is_written_once() {
    let mut world = World::new();
    world.see(web("web-1", "10.0.0.1"));
    world.round("web", &[initial("10.0.0.1")]);
    let write = world.write();
    assert_eq!(words(&write), (false, "Elb.InitialHealthChecking", ""));
    world.written(&write, "2");
    world.pass(S);
    world.round("web", &[initial("10.0.0.1")]);
    assert_eq!(world.done(), vec![]);
}

#[test]
fn the_time_of_a_condition_moves_only_with_its_status() {
    let mut world = World::new();
    let reason = "Elb.InitialHealthChecking";
    world.see(web("web-1", "10.0.0.1").condition(false, reason, ""));
    world.round("web", &[]);
    assert!(!world.write().transition);
}

#[test]
fn no_second_write_starts_while_one_is_under_way() {
    let mut world = World::new();
    world.see(web("web-1", "10.0.0.1"));
    world.round("web", &[initial("10.0.0.1")]);
    let write = world.write();
    world.pass(S);
    world.round("web", &[healthy("10.0.0.1")]);
    assert_eq!(world.done(), vec![]);
    world.written(&write, "2");
    world.pass(S);
    world.round("web", &[healthy("10.0.0.1")]);
    assert!(world.write().condition.status);
}

#[test]
fn an_old_sight_of_a_pod_does_not_undo_our_write() {
    let mut world = World::new();
    world.see(web("web-1", "10.0.0.1").version("7"));
    world.round("web", &[healthy("10.0.0.1")]);
    let write = world.write();
    world.written(&write, "9");
    world.see(web("web-1", "10.0.0.1").version("8"));
    assert_eq!((world.asks(), world.done()), (None, vec![]));
    world.see(
        web("web-1", "10.0.0.1")
            .version("9")
            .condition(true, "", ""),
    );
    assert_eq!((world.asks(), world.tracker.pending().count()), (None, 0));
}

#[test]
fn a_gate_that_somebody_closed_again_waits_again() {
    let mut world = World::new();
    world.see(web("web-1", "10.0.0.1").version("7"));
    world.round("web", &[healthy("10.0.0.1")]);
    let write = world.write();
    world.written(&write, "9");
    world.see(
        web("web-1", "10.0.0.1")
            .version("10")
            .condition(false, "Theirs", ""),
    );
    world.pass(S);
    world.round("web", &[healthy("10.0.0.1")]);
    assert!(world.write().condition.status);
}

#[test]
fn an_answer_requested_before_the_pod_was_due_opens_nothing() {
    let mut world = World::new();
    world.see(web("web-1", "10.0.0.1"));
    assert_eq!(world.asks().as_deref(), Some("web"));
    let requested = world.now;
    world.pass(S);
    world.see(web("web-2", "10.0.0.2"));
    let both = [initial("10.0.0.1"), healthy("10.0.0.2")];
    world.answer("web", requested, Ok(&both));
    assert_eq!(world.write().id.pod, key("web-1"));
}

#[test]
fn a_failed_call_changes_nothing_and_is_made_again_after_a_growing_pause() {
    let mut world = World::new();
    world.see(web("web-1", "10.0.0.1"));
    for pause in [1, 2, 4, 8, 16, 30, 30] {
        assert_eq!(world.asks().as_deref(), Some("web"));
        world.answer("web", world.now, Err(CallFailure::Other));
        world.pass(pause * S - Duration::from_millis(1));
        assert_eq!(world.asks(), None, "before {pause} s");
        world.pass(Duration::from_millis(1));
    }
    assert_eq!(world.done(), vec![]);
}

#[test]
fn a_group_that_aws_does_not_know_is_said_so_once() {
    let mut world = World::new();
    world.see(web("web-1", "10.0.0.1"));
    assert!(world.asks().is_some());
    world.answer("web", world.now, Err(CallFailure::GroupNotFound));
    let [Action::Write(write), Action::MissingGroup { binding, .. }] = &world.done()[..] else {
        panic!("a write and the news");
    };
    assert_eq!(
        (&*write.condition.reason, &binding.0),
        ("TargetGroupNotFound", &key("web"))
    );
    let write = write.clone();
    world.written(&write, "2");
    world.pass(S);
    assert!(world.asks().is_some());
    world.answer("web", world.now, Err(CallFailure::GroupNotFound));
    assert_eq!(world.done(), vec![]);
    world.pass(2 * S);
    world.round("web", &[healthy("10.0.0.1")]);
    assert!(world.write().condition.status);
}

#[test]
fn a_group_in_flight_delays_no_other() {
    let mut world = World::new();
    world.bind(binding("api"));
    world.see(web("web-1", "10.0.0.1"));
    world.see(web("web-2", "10.0.0.2").gate("api"));
    let both = [world.asks(), world.asks()].map(Option::unwrap);
    assert_eq!(both, ["api", "web"]);
    assert_eq!(world.asks(), None);
    world.answer("api", world.now, Ok(&[healthy("10.0.0.2")]));
    assert_eq!(world.write().id.gate.name(), "api");
}

#[test]
fn groups_with_fresh_pods_come_first() {
    let mut world = World::new();
    world.bind(binding("api"));
    world.see(web("web-1", "10.0.0.1"));
    world.round("web", &[]);
    world.done();
    world.pass(S);
    world.see(
        pod("api-1")
            .label("app", "web")
            .gate("api")
            .ip("10.0.0.2")
            .ready(),
    );
    assert_eq!(world.asks().as_deref(), Some("api"));
    assert_eq!(world.asks().as_deref(), Some("web"));
}

#[test]
fn groups_that_have_long_waited_are_asked_less_often() {
    let mut world = World::new();
    world.see(web("web-1", "10.0.0.1"));
    world.pass(100 * S);
    world.round("web", &[]);
    assert_eq!(world.tracker.next_turn(), Some(world.now + 5 * S));
    world.pass(1000 * S);
    world.round("web", &[]);
    assert_eq!(world.tracker.next_turn(), Some(world.now + 15 * S));
}

#[test]
fn a_used_address_counts_only_after_it_was_seen_not_healthy() {
    let mut world = World::new();
    world.see(web("web-0", "10.0.0.1").condition(true, "", ""));
    world.index.delete_pod(&key("web-0"));
    world.see(web("web-1", "10.0.0.1"));
    world.round("web", &[healthy("10.0.0.1")]);
    assert_eq!(world.done(), vec![Action::Prove(group("web"))]);
    world.pass(S);
    world.round("web", &[]);
    let write = world.write();
    assert_eq!(words(&write).1, "Elb.RegistrationInProgress");
    world.written(&write, "2");
    world.pass(S);
    world.round("web", &[healthy("10.0.0.1")]);
    assert!(world.write().condition.status);
}

#[test]
fn a_used_address_counts_once_the_checks_had_time_to_notice() {
    let mut world = World::new();
    world.see(web("web-0", "10.0.0.1").condition(true, "", ""));
    world.index.delete_pod(&key("web-0"));
    world.see(web("web-1", "10.0.0.1"));
    world.round("web", &[healthy("10.0.0.1")]);
    world.done();
    world.tracker.proven(&group("web"), Some(10 * S));
    world.pass(9 * S);
    world.round("web", &[healthy("10.0.0.1")]);
    assert_eq!(world.done(), vec![]);
    world.pass(S);
    world.round("web", &[healthy("10.0.0.1")]);
    assert!(world.write().condition.status);
}

#[test]
fn an_address_of_another_port_is_not_a_used_one() {
    let mut world = World::new();
    let named = Some(crate::model::PortRef::Name("http".into()));
    world.serve(service().selecting("app", "web").port("http", 80, named));
    let host = |name: &str, port| web(name, "10.0.0.1").named_port("http", port);
    world.see(host("web-0", 8080).condition(true, "", ""));
    world.see(host("web-1", 8081));
    let mut answer = healthy("10.0.0.1");
    answer.target.1 = 8081;
    world.round("web", &[answer]);
    assert!(world.write().condition.status);
}

#[test]
fn a_target_that_was_registered_before_its_pod_was_due_is_not_believed_at_once() {
    let mut world = World::new();
    world.see(web("web-1", "10.0.0.1"));
    world.round("web", &[initial("10.0.0.1"), healthy("10.0.0.2")]);
    world.done();
    world.see(web("web-2", "10.0.0.2"));
    world.pass(S);
    world.round("web", &[initial("10.0.0.1"), healthy("10.0.0.2")]);
    assert_eq!(world.done(), vec![Action::Prove(group("web"))]);
}

#[test]
fn a_pod_replaced_under_its_name_starts_anew() {
    let mut world = World::new();
    world.see(web("web-0", "10.0.0.1").uid("first"));
    assert!(world.asks().is_some());
    let requested = world.now;
    world.pass(S);
    world.see(web("web-0", "10.0.0.1").uid("second"));
    world.answer("web", requested, Ok(&[healthy("10.0.0.1")]));
    assert_eq!(world.done(), vec![]);
    assert_eq!(world.tracker.pending().count(), 1);
}

#[test]
fn a_terminating_pod_is_forgotten() {
    let mut world = World::new();
    world.see(web("web-1", "10.0.0.1"));
    let mut ending = web("web-1", "10.0.0.1");
    ending.terminating = true;
    world.see(ending);
    assert_eq!((world.asks(), world.tracker.pending().count()), (None, 0));
}

/// What an uncached read finds.
fn fresh(bindings: &[Binding], services: &[(&str, Service)]) -> Fresh {
    let services = services.iter().map(|(name, s)| ((*name).into(), s.clone()));
    Fresh {
        bindings: bindings.to_vec(),
        services: services.collect::<BTreeMap<_, _>>(),
    }
}

impl World {
    /// Lets time pass until something is to be confirmed, and confirms it with `found`.
    fn confirm(&mut self, after: Duration, found: Option<&Fresh>) -> GateId {
        self.pass(after - Duration::from_millis(1));
        assert_eq!(self.done(), vec![], "before {after:?}");
        self.pass(Duration::from_millis(1));
        let actions = self.done();
        let [Action::Confirm(id)] = &actions[..] else {
            panic!("a confirmation, not {actions:?}");
        };
        let actions = self.tracker.confirmed(id, found, self.now);
        self.actions.extend(actions);
        id.clone()
    }
}

#[test]
fn a_gate_whose_binding_is_gone_opens_after_30_seconds_and_a_look_past_the_cache() {
    let mut world = World::new();
    world.see(web("web-1", "10.0.0.1"));
    world.unbind("web");
    world.confirm(30 * S, Some(&fresh(&[], &[])));
    let write = world.write();
    assert_eq!(words(&write), (true, "", "Target Group Binding is deleted"));
    assert_eq!(write.reason, "BindingGone");
}

#[test]
fn a_gate_whose_binding_was_never_seen_waits_as_long_as_orphans_do() {
    let mut world = World::empty();
    world.see(web("web-1", "10.0.0.1"));
    world.confirm(ORPHAN_AFTER, Some(&fresh(&[], &[])));
    assert_eq!(world.write().reason, "BindingGone");
}

#[test]
fn a_binding_that_only_the_cache_lacks_keeps_its_gate_closed() {
    let mut world = World::new();
    world.see(web("web-1", "10.0.0.1"));
    world.unbind("web");
    let found = fresh(&[binding("web")], &[("web", web_service())]);
    world.confirm(30 * S, Some(&found));
    assert_eq!(world.done(), vec![]);
    world.confirm(30 * S, Some(&fresh(&[], &[])));
    assert_eq!(world.write().reason, "BindingGone");
}

#[test]
fn what_cannot_be_confirmed_stays_closed_and_is_tried_again() {
    let mut world = World::new();
    world.see(web("web-1", "10.0.0.1"));
    world.unbind("web");
    world.confirm(30 * S, None);
    world.confirm(10 * S, None);
    assert_eq!(world.done(), vec![]);
    world.confirm(10 * S, Some(&fresh(&[], &[])));
    assert_eq!(world.write().reason, "BindingGone");
}

#[test]
fn a_binding_that_comes_back_is_asked_about_again() {
    let mut world = World::new();
    world.see(web("web-1", "10.0.0.1"));
    world.unbind("web");
    world.pass(20 * S);
    world.bind(binding("web"));
    world.pass(100 * S);
    assert_eq!(world.done(), vec![]);
    world.round("web", &[healthy("10.0.0.1")]);
    assert_eq!(world.write().reason, "Healthy");
}

#[test]
fn a_pod_that_its_service_no_longer_selects_opens_as_not_selected() {
    let mut world = World::new();
    world.see(web("web-1", "10.0.0.1"));
    let switched = service().selecting("app", "green").port("http", 80, None);
    world.serve(switched.clone());
    assert_eq!(world.asks(), None);
    world.confirm(
        30 * S,
        Some(&fresh(&[binding("web")], &[("web", switched)])),
    );
    let write = world.write();
    assert_eq!(
        (write.reason, words(&write).1),
        ("NotSelected", "NotSelected")
    );
}

#[test]
fn a_binding_whose_service_is_gone_opens_its_gates() {
    let mut world = World::new();
    world.see(web("web-1", "10.0.0.1"));
    world.index.delete_service(&key("web"));
    world.settle();
    world.confirm(30 * S, Some(&fresh(&[binding("web")], &[])));
    let write = world.write();
    assert_eq!(
        (write.reason, words(&write).2),
        ("ServiceGone", "Target Group Binding is deleted")
    );
}

#[test]
fn a_conflict_is_decided_again_with_a_new_answer() {
    let mut world = World::new();
    world.see(web("web-1", "10.0.0.1"));
    world.round("web", &[healthy("10.0.0.1")]);
    let write = world.write();
    world
        .tracker
        .written(&write.id, WriteOutcome::Conflict, world.now);
    world.pass(S);
    assert_eq!(world.done(), vec![]);
    world.round("web", &[initial("10.0.0.1")]);
    assert!(!world.write().condition.status);
}

#[test]
fn an_api_server_that_asks_to_wait_is_obeyed() {
    let mut world = World::new();
    world.see(web("web-1", "10.0.0.1"));
    world.round("web", &[healthy("10.0.0.1")]);
    let write = world.write();
    let retry_after = Some(5 * S);
    world
        .tracker
        .written(&write.id, WriteOutcome::Failed { retry_after }, world.now);
    world.pass(4 * S);
    world.round("web", &[healthy("10.0.0.1")]);
    assert_eq!(world.done(), vec![]);
    world.pass(S);
    assert!(world.write().condition.status);
}

#[test]
fn a_pod_that_is_gone_when_written_to_is_no_error() {
    let mut world = World::new();
    world.see(web("web-1", "10.0.0.1"));
    world.round("web", &[healthy("10.0.0.1")]);
    let write = world.write();
    world
        .tracker
        .written(&write.id, WriteOutcome::Gone, world.now);
    assert_eq!((world.asks(), world.tracker.pending().count()), (None, 0));
}

#[test]
fn a_gate_that_both_apis_share_opens_when_both_groups_say_healthy() {
    let mut world = World::empty();
    let apis = BindingApi::ALL.to_vec();
    let orphan_after = ORPHAN_AFTER;
    world.tracker = Tracker::new(Settings { apis, orphan_after });
    world.serve(web_service());
    world.bind(binding("web"));
    world.bind(binding("web").of_api(BindingApi::Eks).of_group("auto"));
    world.see(web("web-1", "10.0.0.1"));
    world.round("auto", &[healthy("10.0.0.1")]);
    assert_eq!(world.done(), vec![]);
    world.round("web", &[healthy("10.0.0.1")]);
    assert!(world.write().condition.status);
}

#[test]
fn a_named_port_that_the_pod_lacks_is_written_without_asking_elb() {
    let mut world = World::new();
    let named = Some(crate::model::PortRef::Name("grpc".into()));
    world.serve(service().selecting("app", "web").port("http", 80, named));
    world.see(web("web-1", "10.0.0.1"));
    assert_eq!(world.asks(), None);
    assert_eq!(&*world.write().condition.reason, "PortNotFound");
}
