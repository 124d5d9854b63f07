//! What `explain` is told of the gates.

use super::*;
use crate::gates::machine::known::GateKnown;
use crate::reason::Reason;

impl World {
    fn known(&self, pod: Option<&str>) -> Vec<GateKnown> {
        self.tracker.known("shop", pod, 10).0
    }
}

#[test]
fn a_gate_is_known_with_elbs_last_answer_and_its_place_in_the_queue() {
    let mut world = World::new();
    world.see(web("web-1", "10.0.0.1"));
    let due = world.now;
    let known = &world.known(None)[0];
    assert_eq!((known.reason, known.due), (Reason::NotPolled, Some(due)));
    let group = known.targets[0].group.unwrap();
    assert_eq!((group.next_poll, group.place), (Some(due), Some((1, 1))));
    assert_eq!(known.targets[0].answer, None);

    assert_eq!(world.asks().as_deref(), Some("web"));
    let group = world.known(None)[0].targets[0].group.unwrap();
    assert!(group.in_flight);
    assert_eq!((group.next_poll, group.place), (None, None));

    world.answer("web", due, Ok(&[initial("10.0.0.1")]));
    let known = &world.known(Some("web-1"))[0];
    assert_eq!((known.reason, known.open), (Reason::NotHealthy, false));
    let (said, requested) = known.targets[0].answer.clone().unwrap();
    assert_eq!((said.reason, requested), (Reason::NotHealthy, due));
    assert!(known.targets[0].group.unwrap().next_poll > Some(due));
}

#[test]
fn calls_that_fail_in_a_row_are_counted() {
    let mut world = World::new();
    world.see(web("web-1", "10.0.0.1"));
    assert!(world.asks().is_some());
    world.answer("web", world.now, Err(CallFailure::Other));
    let group = world.known(None)[0].targets[0].group.unwrap();
    assert_eq!((group.failures, group.in_flight), (1, false));
}

#[test]
fn only_so_many_gates_are_told_of_and_only_of_the_pod_or_namespace_that_is_asked_about() {
    let mut world = World::new();
    for number in 1..=5 {
        let (name, ip) = (format!("web-{number}"), format!("10.0.0.{number}"));
        world.see(web(&name, &ip));
    }
    let (known, left_out) = world.tracker.known("shop", None, 3);
    assert_eq!((known.len(), left_out), (3, 2));
    let names: Vec<GateKnown> = world.known(Some("web-2"));
    assert_eq!(names.len(), 1);
    assert_eq!(&*names[0].pod.name, "web-2");
    assert!(world.known(Some("web")).is_empty());
    assert!(world.tracker.known("sho", None, 10).0.is_empty());
    assert!(world.tracker.known("shop2", None, 10).0.is_empty());
}
