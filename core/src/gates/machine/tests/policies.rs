//! Gates that open although ELB does not call their target healthy, because an annotation says so (contract 5.6).

use std::num::NonZeroU32;

use super::*;
use crate::gates::machine::action::Subject;
use crate::model::{Namespace, Policies, WhenUnused};

fn after(seconds: u32) -> Policies {
    Policies {
        open_after: NonZeroU32::new(seconds),
        ..Policies::default()
    }
}

fn when_unused(what: WhenUnused) -> Policies {
    Policies {
        when_unused: Some(what),
        ..Policies::default()
    }
}

fn annotated(policies: Policies) -> Pod {
    Pod {
        policies,
        ..web("web-1", "10.0.0.1")
    }
}

fn unused(ip: &str) -> TargetHealth {
    health(ip, TargetState::Unused, "Target.NotInUse")
}

impl World {
    /// The Event that tells of the opening.
    #[track_caller]
    fn assert_told(&mut self, reason: &str) {
        self.pass(Duration::ZERO);
        let actions = self.done();
        let [
            Action::Report {
                about,
                reason: told,
                ..
            },
        ] = &actions[..]
        else {
            panic!("an Event, not {actions:?}");
        };
        let pod = Subject::Pod(key("web-1"), "uid-web-1".into());
        assert_eq!((about, told.as_str()), (&pod, reason));
    }
}

#[test]
fn a_gate_opens_after_the_annotated_time_and_says_what_kept_it_closed() {
    let mut world = World::new();
    world.see(annotated(after(60)));
    world.round("web", &[initial("10.0.0.1")]);
    let write = world.write();
    world.written(&write, "2");
    world.pass(59 * S);
    world.round("web", &[initial("10.0.0.1")]);
    assert_eq!(world.done(), vec![]);
    assert_eq!(world.tracker.next_tick(world.now), Some(world.now + S));
    world.pass(S);
    let write = world.write();
    assert_eq!(
        (words(&write).0, write.reason, words(&write).1),
        (true, "GateTimeout", "GateTimeout")
    );
    assert_eq!(
        words(&write).2,
        "Not open after 60s (targetgate.dev/open-after): NotHealthy"
    );
    world.written(&write, "3");
    world.assert_told("GateTimeout");
}

#[test]
fn an_opening_is_told_though_the_watch_shows_it_before_the_write_is_answered() {
    let mut world = World::new();
    world.see(annotated(after(1)));
    world.pass(S);
    let write = world.write();
    let shown = annotated(after(1)).version("2");
    world.see(shown.condition(true, "GateTimeout", ""));
    world.written(&write, "2");
    world.assert_told("GateTimeout");
}

#[test]
fn a_gate_opens_after_the_annotated_time_though_elb_never_answers() {
    let mut world = World::new();
    world.see(annotated(after(60)));
    assert!(world.asks().is_some());
    world.answer("web", world.now, Err(CallFailure::Other));
    world.pass(60 * S);
    assert_eq!(world.write().reason, "GateTimeout");
}

#[test]
fn a_gate_that_is_healthy_by_then_opens_as_healthy() {
    let mut world = World::new();
    world.see(annotated(after(1)));
    world.round("web", &[healthy("10.0.0.1")]);
    let write = world.write();
    world.ended(&write, WriteOutcome::Failed);
    world.pass(S);
    assert_eq!(world.write().reason, "Healthy");
}

#[test]
fn the_time_counts_anew_for_a_pod_that_is_due_anew() {
    let mut world = World::new();
    world.see(annotated(after(60)));
    world.pass(30 * S);
    world.see(Pod {
        containers_ready: None,
        ..annotated(after(60)).version("2")
    });
    world.see(annotated(after(60)).version("3"));
    world.pass(59 * S);
    assert_eq!(world.done(), vec![]);
    world.pass(S);
    assert_eq!(world.write().reason, "GateTimeout");
}

#[test]
fn the_time_counts_anew_at_another_address_though_the_service_is_gone() {
    let mut world = World::new();
    world.see(annotated(after(60)));
    world.pass(S);
    world.index.delete_service(&key("web"));
    world.settle();
    world.pass(9 * S);
    // A watch may show only the last of several versions.
    let moved = Pod {
        policies: after(60),
        ..web("web-1", "10.0.0.2").version("3")
    };
    world.see(moved);
    world.serve(web_service());
    world.pass(50 * S);
    assert_eq!(world.done(), vec![]);
    world.pass(10 * S);
    assert_eq!(world.write().reason, "GateTimeout");
}

#[test]
fn without_annotation_no_time_opens_a_gate_and_an_unused_group_keeps_it_closed() {
    let mut world = World::new();
    world.see(web("web-1", "10.0.0.1"));
    world.round("web", &[unused("10.0.0.1")]);
    let write = world.write();
    assert_eq!(words(&write).1, "Target.NotInUse");
    world.written(&write, "2");
    world.pass(24 * 3600 * S);
    assert_eq!(world.done(), vec![]);
}

#[test]
fn a_gate_opens_for_an_unused_group_where_its_annotation_says_so() {
    let mut world = World::new();
    world.see(annotated(when_unused(WhenUnused::Open)));
    world.round("web", &[initial("10.0.0.1")]);
    let write = world.write();
    assert!(!write.condition.status, "any other state is waited for");
    world.written(&write, "2");
    world.pass(S);
    world.round("web", &[unused("10.0.0.1")]);
    let write = world.write();
    assert_eq!(
        (words(&write).0, words(&write).1),
        (true, "TargetGroupUnused")
    );
    world.written(&write, "3");
    world.assert_told("TargetGroupUnused");
}

#[test]
fn the_pods_annotation_counts_before_the_bindings_and_that_before_the_namespaces() {
    let (open, wait) = (when_unused(WhenUnused::Open), when_unused(WhenUnused::Wait));
    let none = Policies::default();
    for (pod, binding_says, namespace, opens) in [
        (none, none, open, true),
        (none, wait, open, false),
        (none, open, wait, true),
        (wait, open, open, false),
        (open, wait, wait, true),
    ] {
        let mut world = World::new();
        world.see(annotated(pod));
        world.round("web", &[unused("10.0.0.1")]);
        world.bind(Binding {
            policies: binding_says,
            ..binding("web")
        });
        let policies = namespace;
        world.index.apply_namespace(
            &"shop".into(),
            Namespace {
                opted_in: true,
                policies,
                ..Namespace::default()
            },
        );
        world.settle();
        assert_eq!(
            world.write().condition.status,
            opens,
            "{pod:?} {binding_says:?}"
        );
    }
}
