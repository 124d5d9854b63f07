//! Large groups, of which a call names only the waiting targets.

use super::*;

/// A group of 100 targets, one of which is the waiting pod's, after one poll of the whole group.
fn large() -> World {
    let mut world = World::new();
    world.see(web("web-1", "10.0.0.1"));
    let call = world.calls().unwrap();
    assert_eq!(call.targets, []);
    world.answer("web", world.now, Ok(&whole()));
    let write = world.write();
    world.written(&write, "2");
    world.pass(S);
    world
}

/// All targets of the group: 10.0.0.1 is not healthy yet.
fn whole() -> Vec<TargetHealth> {
    let others = (2..=100).map(|n| healthy(&format!("10.0.0.{n}")));
    std::iter::once(initial("10.0.0.1")).chain(others).collect()
}

fn target(ip: &str) -> (std::net::IpAddr, u16) {
    (ip.parse().unwrap(), 80)
}

#[test]
fn of_a_large_group_the_waiting_targets_are_asked_for() {
    let mut world = large();
    assert_eq!(world.calls().unwrap().targets, [target("10.0.0.1")]);
    world.answer("web", world.now, Ok(&[healthy("10.0.0.1")]));
    assert!(world.write().condition.status);
}

#[test]
fn a_target_that_was_not_asked_for_is_not_taken_for_absent() {
    let mut world = large();
    // The pod is due, but its Service selects it only while the call is in flight.
    let mut other = web("web-2", "10.0.0.2");
    other.template = std::sync::Arc::default();
    world.see(other.clone());
    world.done();
    world.pass(S);
    assert_eq!(world.calls().unwrap().targets, [target("10.0.0.1")]);
    let requested = world.now;
    other.template = web("web-2", "10.0.0.2").template;
    other.resource_version = "2".into();
    world.see(other);
    world.pass(S);
    world.answer("web", requested, Ok(&[initial("10.0.0.1")]));
    assert_eq!(world.done(), vec![]);
    // The pod's address was registered before, so a healthy target may be the previous pod's.
    world.round("web", &[initial("10.0.0.1"), healthy("10.0.0.2")]);
    assert_eq!(world.done(), vec![Action::Prove(group("web"))]);
}

#[test]
fn what_the_whole_group_told_stays_known_after_an_answer_about_some() {
    let mut world = large();
    assert!(world.calls().is_some());
    world.answer("web", world.now, Ok(&[initial("10.0.0.1")]));
    world.pass(S);
    world.see(web("web-2", "10.0.0.3"));
    world.see(web("web-3", "10.0.0.200"));
    assert_eq!(world.calls().unwrap().targets.len(), 3);
    let healthy = [healthy("10.0.0.3"), healthy("10.0.0.200")];
    let answer = [&[initial("10.0.0.1")], &healthy[..]].concat();
    world.answer("web", world.now, Ok(&answer));
    let mut actions = world.done();
    // 10.0.0.3 was there before web-2 was due.
    assert_eq!(actions.remove(0), Action::Prove(group("web")));
    let opened = actions.iter().map(|action| match action {
        Action::Write(write) => &write.pod,
        other => panic!("{other:?}"),
    });
    assert_eq!(opened.collect::<Vec<_>>(), [&key("web-3")]);
}

#[test]
fn the_whole_group_is_asked_for_again_every_ten_seconds() {
    let mut world = large();
    let mut whole_asked = vec![];
    for second in 1..=30 {
        if let Some(call) = world.calls() {
            if call.targets.is_empty() {
                whole_asked.push(second);
            }
            world.answer("web", world.now, Ok(&whole()));
        }
        world.pass(S);
    }
    assert!((2..=3).contains(&whole_asked.len()), "{whole_asked:?}");
    assert!((10..=11).contains(&whole_asked[0]), "{whole_asked:?}");
}

#[test]
fn a_call_that_names_a_wrong_target_is_followed_by_one_for_the_whole_group() {
    let mut world = large();
    assert_eq!(world.calls().unwrap().targets.len(), 1);
    world.answer("web", world.now, Err(CallFailure::Other));
    world.pass(S);
    assert_eq!(world.calls().unwrap().targets, []);
}

#[test]
fn a_group_whose_named_targets_elb_rejects_is_never_asked_for_names_again() {
    let mut world = large();
    assert_eq!(world.calls().unwrap().targets.len(), 1);
    world.answer("web", world.now, Err(CallFailure::Invalid));
    for _ in 0..3 {
        world.pass(2 * S);
        assert_eq!(world.calls().unwrap().targets, []);
        world.answer("web", world.now, Ok(&whole()));
    }
}

#[test]
fn a_call_that_names_targets_and_is_not_answered_says_nothing_against_names() {
    let mut world = large();
    assert_eq!(world.calls().unwrap().targets.len(), 1);
    world.answer("web", world.now, Err(CallFailure::Other));
    world.pass(S);
    assert_eq!(world.calls().unwrap().targets, []);
    world.answer("web", world.now, Ok(&whole()));
    world.pass(2 * S);
    assert_eq!(world.calls().unwrap().targets.len(), 1);
}
