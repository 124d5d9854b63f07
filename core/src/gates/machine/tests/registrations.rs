//! What the tracker hears of the registrar.

use super::*;
use crate::gates::polling::group::Target;
use crate::gates::refusals::{Refusal, Refused};
use crate::reason::Reason;

const MS: Duration = Duration::from_millis(1);
const WORDS: &str = "RegisterTargets of 10.0.0.1 port 80 failed: InvalidTarget: not within the VPC";

fn target() -> Target {
    ([10, 0, 0, 1].into(), 80)
}

impl World {
    fn hear_of_registrar(&mut self, requested: Instant, targets: &[TargetHealth]) {
        let heard = self
            .tracker
            .heard(&group("web"), requested, targets, self.now);
        self.actions.extend(heard);
    }

    fn refuse(&mut self, refused: Refused) {
        let actions = self.tracker.refused(&arn("web"), refused, self.now);
        self.actions.extend(actions);
    }

    /// A pod whose target is not registered, and whose condition says so.
    fn unregistered() -> Self {
        let mut world = Self::new();
        world.see(web("web-1", "10.0.0.1"));
        world.round("web", &[]);
        let write = world.write();
        assert_eq!(words(&write).1, "Elb.RegistrationInProgress");
        world.written(&write, "2");
        world
    }

    /// The polls of the next minutes, until one finds the pod healthy, in seconds after now.
    fn polls(&mut self, healthy_after: Duration) -> Vec<f64> {
        let (begun, mut polls) = (self.now, vec![]);
        while self.now < begun + 1000 * S {
            self.pass(250 * MS);
            if self.asks().is_some() {
                polls.push((self.now - begun).as_secs_f64());
                let is_healthy = self.now >= begun + healthy_after;
                let answer = if is_healthy {
                    healthy("10.0.0.1")
                } else {
                    initial("10.0.0.1")
                };
                self.answer("web", self.now, Ok(&[answer]));
                if is_healthy {
                    return polls;
                }
            }
        }
        panic!("never polled again");
    }
}

fn refused() -> Refused {
    [(target(), Refusal::new(Reason::TargetRefused, WORDS))].into()
}

#[test]
fn the_words_of_elb_about_a_refused_target_stand_in_the_condition_until_it_is_taken() {
    let mut world = World::unregistered();
    world.refuse(refused());
    let write = world.write();
    assert_eq!(words(&write), (false, "TargetRefused", WORDS));
    assert!(!write.transition);
    world.written(&write, "3");
    // Equal state means no write.
    world.refuse(refused());
    world.pass(S);
    world.round("web", &[]);
    assert_eq!(world.done(), []);
    assert_eq!(
        world.tracker.waiting(&key("web-1"))[0].reason,
        Reason::TargetRefused
    );
    world.refuse(Refused::new());
    let write = world.write();
    assert_eq!(words(&write).1, "Elb.RegistrationInProgress");
}

#[test]
fn a_gate_opens_on_elbs_answer_whatever_was_refused() {
    let mut world = World::unregistered();
    world.refuse(refused());
    let write = world.write();
    world.written(&write, "3");
    world.pass(S);
    world.round("web", &[initial("10.0.0.1")]);
    let write = world.write();
    assert_eq!(words(&write).1, "Elb.InitialHealthChecking");
    world.written(&write, "4");
    world.pass(S);
    world.round("web", &[healthy("10.0.0.1")]);
    assert!(words(&world.write()).0);
}

#[test]
fn what_was_refused_before_a_pod_was_seen_is_told_of_it_once_elb_does_not_have_it() {
    let mut world = World::new();
    world.refuse(refused());
    world.see(web("web-1", "10.0.0.1"));
    assert_eq!(world.done(), []);
    world.round("web", &[]);
    assert_eq!(words(&world.write()).1, "TargetRefused");
    let actions = world.tracker.forget_refusals(world.now);
    assert_eq!(actions, []);
    world.see(web("web-2", "10.0.0.2"));
    assert!(world.tracker.waiting(&key("web-2"))[0].reason != Reason::TargetRefused);
}

#[test]
fn a_refusal_is_cut() {
    let long = "x".repeat(10_000);
    assert_eq!(
        Refusal::new(Reason::TargetRefused, &long).message.len(),
        512
    );
}

#[test]
fn an_answer_to_the_registrar_opens_a_gate_and_spares_a_poll() {
    let mut world = World::unregistered();
    world.pass(400 * MS);
    world.hear_of_registrar(world.now, &[initial("10.0.0.1")]);
    let write = world.write();
    world.written(&write, "3");
    world.pass(300 * MS);
    assert_eq!(world.asks(), None, "a poll was due 200 ms ago");
    world.pass(200 * MS);
    assert_eq!(world.asks().as_deref(), Some("web"));
    // Also while a poll is in flight.
    world.hear_of_registrar(world.now, &[healthy("10.0.0.1")]);
    assert!(words(&world.write()).0);
}

#[test]
fn an_answer_to_the_registrar_counts_only_if_it_was_requested_once_the_pod_was_due_and_we_led() {
    let mut world = World::new();
    let before = world.now;
    world.pass(S);
    world.see(web("web-1", "10.0.0.1"));
    world.hear_of_registrar(before, &[healthy("10.0.0.1")]);
    assert_eq!(world.done(), []);
    world.assert_is_closed();
    let led = world.now;
    world.pass(S);
    world.lead();
    world.hear_of_registrar(led, &[healthy("10.0.0.1")]);
    assert_eq!(world.done(), []);
}

#[test]
fn a_poll_whose_answer_comes_after_one_that_was_requested_later_tells_nothing() {
    let mut world = World::unregistered();
    world.pass(S);
    assert_eq!(world.asks().as_deref(), Some("web"));
    let requested = world.now;
    world.pass(S);
    world.hear_of_registrar(world.now, &[initial("10.0.0.1")]);
    let write = world.write();
    world.written(&write, "3");
    world.answer("web", requested, Ok(&[healthy("10.0.0.1")]));
    assert_eq!(world.done(), []);
    world.pass(S);
    world.round("web", &[healthy("10.0.0.1")]);
    assert!(words(&world.write()).0, "it is polled again");
}

#[test]
fn a_registration_moves_the_schedule_and_opens_nothing() {
    // The pod waited for ten minutes for room in its group, so that it is polled each 15 s.
    let polls = |registered: bool| {
        let mut world = World::unregistered();
        while world.now < world.begun + 590 * S {
            world.pass(S);
            if world.asks().is_some() {
                world.answer("web", world.now, Ok(&[]));
            }
        }
        if registered {
            world
                .tracker
                .registered(&arn("web"), &[target()].into(), world.now);
        }
        assert_eq!(world.done(), []);
        world.polls(10 * S)
    };
    let (moved, unmoved) = (polls(true), polls(false));
    assert!(moved[0] <= 1.0, "{moved:?}");
    assert!(moved.last().unwrap() <= &11.0, "{moved:?}");
    assert!(
        unmoved.last().unwrap() > moved.last().unwrap(),
        "{unmoved:?}"
    );
}

#[test]
fn a_registration_right_after_the_pod_is_due_costs_no_further_poll() {
    let polls = |registered: bool| {
        let mut world = World::unregistered();
        world.pass(300 * MS);
        if registered {
            world
                .tracker
                .registered(&arn("web"), &[target()].into(), world.now);
        }
        world.polls(2 * S).len()
    };
    assert_eq!(polls(true), polls(false));
}
