//! Each gate that is not open has a reason.

use super::*;
use crate::gates::machine::action::Waiting;

impl World {
    /// Why the only gate of `web-1` waits.
    #[track_caller]
    fn waiting(&self) -> Waiting {
        let mut waiting = self.tracker.waiting(&key("web-1"));
        assert_eq!(waiting.len(), 1);
        waiting.remove(0)
    }

    #[track_caller]
    fn assert_waits_for(&self, reason: &str) {
        assert_eq!(self.waiting().reason.as_str(), reason);
    }
}

#[test]
fn a_gate_waits_for_its_pod_then_for_a_poll_and_then_for_what_elb_said() {
    let mut world = World::new();
    let not_ready = Pod {
        containers_ready: None,
        ..web("web-1", "10.0.0.1")
    };
    world.see(not_ready);
    world.assert_waits_for("PodNotDue");
    assert_eq!(world.waiting().next_poll, None);
    world.see(web("web-1", "10.0.0.1").version("2"));
    world.assert_waits_for("NotPolled");
    assert_eq!(world.waiting().next_poll, Some(world.now));
    world.round("web", &[initial("10.0.0.1")]);
    world.assert_waits_for("NotHealthy");
    assert!(
        world
            .waiting()
            .next_poll
            .is_some_and(|poll| poll > world.now)
    );
}

#[test]
fn a_gate_whose_call_is_in_flight_has_no_next_poll() {
    let mut world = World::new();
    world.see(web("web-1", "10.0.0.1"));
    assert_eq!(world.asks().as_deref(), Some("web"));
    assert_eq!(world.waiting().next_poll, None);
    world.assert_waits_for("NotPolled");
}

#[test]
fn a_gate_on_a_used_address_waits_for_an_answer_without_doubt() {
    let mut world = World::new();
    world.see(web("web-0", "10.0.0.1").condition(true, "", ""));
    world.index.delete_pod(&key("web-0"));
    world.see(web("web-1", "10.0.0.1"));
    world.round("web", &[healthy("10.0.0.1")]);
    world.assert_waits_for("AnswerDoubtful");
}

#[test]
fn a_healthy_answer_that_waited_too_long_for_its_write_is_stale() {
    let (mut world, write) = World::opening();
    world.assert_waits_for("Healthy");
    world.ended(&write, WriteOutcome::PutOff { retry_after: None });
    world.pass(31 * S);
    world.done();
    world.assert_waits_for("AnswerStale");
}

#[test]
fn a_gate_without_binding_waits_until_that_is_confirmed() {
    let mut world = World::new();
    world.see(web("web-1", "10.0.0.1"));
    world.unbind("web");
    world.assert_waits_for("AbsenceNotConfirmed");
    assert_eq!(world.waiting().next_poll, None);
}

#[test]
fn a_gate_whose_binding_names_no_group_says_so() {
    let mut world = World::empty();
    world.serve(web_service());
    world.bind(Binding {
        arn: None,
        ..binding("web")
    });
    world.see(web("web-1", "10.0.0.1"));
    world.assert_waits_for("TargetGroupUnknown");
    world.bind(Binding {
        arn: None,
        group_name: Some("web".into()),
        ..binding("web")
    });
    world.assert_waits_for("GroupNotResolved");
}

#[test]
fn a_gate_whose_group_aws_lacks_says_so() {
    let mut world = World::new();
    world.see(web("web-1", "10.0.0.1"));
    assert_eq!(world.asks().as_deref(), Some("web"));
    world.answer("web", world.now, Err(CallFailure::GroupNotFound));
    world.assert_waits_for("TargetGroupNotFound");
}

#[test]
fn an_open_gate_waits_for_nothing() {
    let (mut world, write) = World::opening();
    world.written(&write, "2");
    assert_eq!(world.tracker.waiting(&key("web-1")), []);
}
