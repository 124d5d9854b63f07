//! Open gates that close when ELB does not call their target healthy any more, because an annotation says so
//! (contract 5.6).

use std::num::NonZeroU32;

use super::*;
use crate::model::{AfterOpen, Namespace, Policies, WhenUnused};

const FOLLOW: Policies = Policies {
    when_unused: None,
    open_after: None,
    after_open: Some(AfterOpen::Follow),
};
const HOLD: Policies = Policies {
    after_open: Some(AfterOpen::Hold),
    ..FOLLOW
};
const NONE: Policies = Policies {
    after_open: None,
    ..FOLLOW
};
/// The words of a gate that `open-after` opened.
const TIMEOUT: (&str, &str) = ("GateTimeout", "Not open after 60s");

/// A due pod with an open gate.
fn open(policies: Policies) -> Pod {
    let pod = web("web-1", "10.0.0.1").condition(true, "", "");
    Pod { policies, ..pod }
}

fn unhealthy(ip: &str) -> TargetHealth {
    health(ip, TargetState::Unhealthy, "Target.Timeout")
}

fn unused(ip: &str) -> TargetHealth {
    health(ip, TargetState::Unused, "Target.NotInUse")
}

impl World {
    /// A world in which the gate of `web-1` is open and follows ELB, which has just called the target healthy.
    fn following(policies: Policies) -> Self {
        let mut world = Self::new();
        world.see(open(policies));
        world.round("web", &[healthy("10.0.0.1")]);
        assert_eq!(world.done(), vec![]);
        world
    }

    /// A world in which that gate is closed again.
    fn closed_again(policies: Policies) -> Self {
        let mut world = Self::following(policies);
        world.pass(30 * S);
        world.round("web", &[unhealthy("10.0.0.1")]);
        let write = world.write();
        assert!(write.closes);
        world.written(&write, "2");
        world
    }

    /// Rechecks after half a minute, and asserts that nothing follows from the answer.
    #[track_caller]
    fn assert_stays_open(&mut self, answer: Result<&[TargetHealth], CallFailure>) {
        self.pass(30 * S);
        assert_eq!(self.asks().as_deref(), Some("web"));
        self.answer("web", self.now, answer);
        let mut done = self.done();
        done.retain(|action| !matches!(action, Action::MissingGroup(_)));
        assert_eq!(done, vec![]);
        assert_eq!(self.tracker.pending(), 0);
    }

    fn annotate(&mut self, policies: Policies) {
        let namespace = Namespace {
            opted_in: true,
            policies,
            ..Namespace::default()
        };
        self.index.apply_namespace(&"shop".into(), namespace);
        self.settle();
    }
}

#[test]
fn an_open_gate_closes_once_elb_says_unhealthy_and_opens_again_once_it_says_healthy() {
    let mut world = World::following(FOLLOW);
    world.pass(29 * S);
    assert_eq!(world.asks(), None);
    world.pass(S);
    world.round("web", &[unhealthy("10.0.0.1")]);
    let write = world.write();
    assert_eq!(words(&write), (false, "Target.Timeout", ""));
    assert_eq!((write.reason, write.transition), ("NotHealthy", true));
    assert!(write.closes);
    world.written(&write, "2");
    assert_eq!(world.tracker.pending(), 1);
    world.pass(S);
    world.round("web", &[healthy("10.0.0.1")]);
    let write = world.write();
    assert_eq!(words(&write), (true, "", ""));
    assert!(write.reopens && write.transition);
    world.written(&write, "3");
    world.see(open(FOLLOW).version("3"));
    assert_eq!(world.tracker.pending(), 0);
    world.pass(30 * S);
    world.round("web", &[unhealthy("10.0.0.1")]);
    assert!(world.write().closes);
}

#[test]
fn a_gate_that_opens_is_followed_from_then_on() {
    let mut world = World::new();
    let pod = Pod {
        policies: FOLLOW,
        ..web("web-1", "10.0.0.1")
    };
    world.see(pod);
    world.round("web", &[healthy("10.0.0.1")]);
    let write = world.write();
    assert!(!write.reopens);
    world.written(&write, "2");
    world.see(open(FOLLOW).version("2"));
    assert_eq!(world.asks(), None);
    world.pass(30 * S);
    world.round("web", &[unhealthy("10.0.0.1")]);
    assert!(world.write().closes);
}

#[test]
fn an_open_gate_that_holds_is_not_kept_in_memory() {
    for policies in [NONE, HOLD] {
        let mut world = World::new();
        world.see(open(policies));
        assert!(world.tracker.pods.is_empty());
        assert_eq!((world.asks(), world.next_turn()), (None, None));
    }
}

#[test]
fn neither_a_failure_nor_a_missing_group_closes_an_open_gate() {
    let mut world = World::following(FOLLOW);
    for failure in [
        CallFailure::Other,
        CallFailure::Throttled,
        CallFailure::Invalid,
        CallFailure::GroupNotFound,
    ] {
        world.assert_stays_open(Err(failure));
    }
    world.assert_stays_open(Ok(&[healthy("10.0.0.1")]));
}

#[test]
fn an_answer_that_was_requested_before_the_pod_was_due_closes_no_gate() {
    let mut world = World::following(FOLLOW);
    world.pass(30 * S);
    assert!(world.asks().is_some());
    let requested = world.now;
    world.pass(S);
    let restarting = Pod {
        containers_ready: None,
        ..open(FOLLOW).version("2")
    };
    world.see(restarting);
    world.see(open(FOLLOW).version("3"));
    world.answer("web", requested, Ok(&[unhealthy("10.0.0.1")]));
    assert_eq!(world.done(), vec![]);
}

#[test]
fn nobody_is_asked_about_a_pod_whose_containers_are_not_ready() {
    let mut world = World::new();
    world.see(Pod {
        containers_ready: None,
        ..open(FOLLOW)
    });
    assert_eq!((world.asks(), world.next_turn()), (None, None));
}

#[test]
fn an_answer_that_has_become_stale_closes_no_gate() {
    let mut world = World::following(FOLLOW);
    world.pass(30 * S);
    world.round("web", &[unhealthy("10.0.0.1")]);
    let write = world.write();
    world.ended(&write, WriteOutcome::Failed);
    world.pass(31 * S);
    assert_eq!(world.done(), vec![]);
    world.round("web", &[healthy("10.0.0.1")]);
    assert_eq!(world.done(), vec![]);
}

#[test]
fn a_target_that_is_deregistered_closes_the_gate_unless_its_binding_is_being_deleted() {
    let mut world = World::following(FOLLOW);
    world.pass(30 * S);
    world.round("web", &[]);
    let write = world.write();
    assert_eq!(words(&write).1, "Elb.RegistrationInProgress");
    assert_eq!(write.reason, "NotRegistered");
    let mut world = World::following(FOLLOW);
    world.bind(Binding {
        terminating: true,
        ..binding("web")
    });
    world.assert_stays_open(Ok(&[]));
    world.unbind("web");
    world.pass(3600 * S);
    assert_eq!((world.asks(), world.done()), (None, vec![]));
}

#[test]
fn an_unused_group_closes_the_gate_unless_its_annotation_opens_it() {
    let mut world = World::following(FOLLOW);
    world.pass(30 * S);
    world.round("web", &[unused("10.0.0.1")]);
    assert_eq!(words(&world.write()).1, "Target.NotInUse");
    let mut world = World::following(Policies {
        when_unused: Some(WhenUnused::Open),
        ..FOLLOW
    });
    world.assert_stays_open(Ok(&[unused("10.0.0.1")]));
}

#[test]
fn a_gate_that_was_opened_for_another_reason_closes_only_after_elb_has_said_healthy() {
    let opened = open(FOLLOW).condition(true, TIMEOUT.0, TIMEOUT.1);
    let mut world = World::new();
    world.see(opened);
    world.round("web", &[initial("10.0.0.1")]);
    assert_eq!(world.done(), vec![]);
    world.assert_stays_open(Ok(&[unhealthy("10.0.0.1")]));
    world.pass(30 * S);
    world.round("web", &[healthy("10.0.0.1")]);
    let write = world.write();
    assert_eq!(words(&write), (true, "", ""));
    assert!(!write.transition && !write.reopens);
    world.written(&write, "2");
    world.pass(30 * S);
    world.round("web", &[unhealthy("10.0.0.1")]);
    assert!(world.write().closes);
}

#[test]
fn a_gate_that_was_closed_again_opens_by_its_age_counted_from_then() {
    let mut world = World::new();
    let policies = Policies {
        open_after: NonZeroU32::new(60),
        ..FOLLOW
    };
    world.see(open(policies));
    for _ in 0..10 {
        assert!(world.asks().is_some());
        world.answer("web", world.now, Ok(&[healthy("10.0.0.1")]));
        world.pass(30 * S);
    }
    world.round("web", &[unhealthy("10.0.0.1")]);
    let write = world.write();
    assert!(write.closes);
    world.written(&write, "2");
    world.pass(59 * S);
    world.round("web", &[unhealthy("10.0.0.1")]);
    assert_eq!(world.done(), vec![]);
    world.pass(S);
    assert_eq!(world.write().reason, "GateTimeout");
}

#[test]
fn a_gate_that_was_closed_again_is_polled_as_one_that_has_just_begun_to_wait() {
    let mut world = World::new();
    world.see(open(FOLLOW));
    for _ in 0..40 {
        world.round("web", &[healthy("10.0.0.1")]);
        world.pass(30 * S);
    }
    world.round("web", &[unhealthy("10.0.0.1")]);
    let write = world.write();
    world.written(&write, "2");
    for _ in 0..5 {
        world.pass(S);
        world.round("web", &[unhealthy("10.0.0.1")]);
    }
    assert_eq!(
        world.tracker.oldest(),
        None,
        "its containers are ready for long"
    );
}

#[test]
fn the_annotation_of_binding_and_namespace_may_change_while_gates_are_open() {
    let mut world = World::new();
    world.see(open(NONE));
    world.annotate(FOLLOW);
    assert_eq!(world.asks().as_deref(), Some("web"));
    world.answer("web", world.now, Ok(&[healthy("10.0.0.1")]));
    let held = || Binding {
        policies: HOLD,
        ..binding("web")
    };
    world.bind(held());
    assert!(world.tracker.pods.is_empty());
    world.pass(60 * S);
    assert_eq!((world.asks(), world.next_turn()), (None, None));
    world.bind(binding("web"));
    world.round("web", &[unhealthy("10.0.0.1")]);
    assert!(world.write().closes);
}

#[test]
fn a_gate_that_was_closed_again_goes_on_by_the_usual_rules_without_the_annotation() {
    let mut world = World::closed_again(FOLLOW);
    let reason = "Target.Timeout";
    let pod = web("web-1", "10.0.0.1").version("2");
    world.see(pod.condition(false, reason, ""));
    world.pass(S);
    world.round("web", &[unhealthy("10.0.0.1")]);
    assert_eq!(world.done(), vec![]);
    world.pass(S);
    world.round("web", &[healthy("10.0.0.1")]);
    let write = world.write();
    world.written(&write, "3");
    let pod = web("web-1", "10.0.0.1").version("3");
    world.see(pod.condition(true, "", ""));
    assert!(world.tracker.pods.is_empty());
}

#[test]
fn the_polls_for_waiting_pods_answer_for_the_open_ones_of_their_group() {
    let mut world = World::following(FOLLOW);
    world.see(web("web-2", "10.0.0.2"));
    for _ in 0..40 {
        world.pass(S);
        if world.asks().is_some() {
            let targets = [healthy("10.0.0.1"), initial("10.0.0.2")];
            world.answer("web", world.now, Ok(&targets));
        }
        assert!(world.next_turn() <= Some(world.now + 2 * S));
    }
    assert_eq!(world.done().len(), 1, "the words of the waiting one");
    let targets = [unhealthy("10.0.0.1"), initial("10.0.0.2")];
    while world.asks().is_none() {
        world.pass(S);
    }
    world.answer("web", world.now, Ok(&targets));
    assert!(world.write().closes);
}

#[test]
fn a_leader_follows_what_opened_before_it_led() {
    let mut world = World::new();
    world.tracker.follow();
    world.see(open(FOLLOW));
    assert_eq!(world.asks(), None);
    world.pass(S);
    world.lead();
    world.round("web", &[unhealthy("10.0.0.1")]);
    assert!(world.write().closes);
}

#[test]
fn rechecks_are_started_after_all_polls_for_waiting_pods_and_only_while_none_is_refused() {
    let mut world = World::new();
    world.bind(binding("other"));
    world.see(open(FOLLOW));
    world.pass(60 * S);
    world.see(web("web-2", "10.0.0.2").gate("other"));
    let mut order = vec![];
    let throttled = BTreeSet::new();
    let now = world.now;
    world
        .tracker
        .start_calls(&throttled, now, |next: &NextPoll| {
            order.push(next.recheck);
            Err(now + S)
        });
    assert_eq!(order, [false], "the budget is not asked for a recheck");
    world.pass(2 * S);
    order.clear();
    let now = world.now;
    world
        .tracker
        .start_calls(&throttled, now, |next: &NextPoll| {
            order.push(next.recheck);
            Ok(())
        });
    assert!(order.is_sorted() && order.len() == 2, "{order:?}");
}

#[test]
fn a_pod_that_goes_leaves_nothing_to_recheck() {
    let mut world = World::following(FOLLOW);
    world.index.delete_pod(&key("web-1"));
    world.settle();
    world.pass(60 * S);
    assert_eq!((world.asks(), world.next_turn()), (None, None));
    assert!(world.tracker.pods.is_empty());
}
