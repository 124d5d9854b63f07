//! Which group is polled when, and what happens to writes that fail.

use super::*;

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
    assert_eq!(world.next_turn(), Some(world.now + 5 * S));
    world.pass(1000 * S);
    world.round("web", &[]);
    assert_eq!(world.next_turn(), Some(world.now + 15 * S));
}

#[test]
fn a_write_that_fails_is_tried_again_after_a_growing_pause_without_another_poll() {
    for outcome in [WriteOutcome::Failed, WriteOutcome::Conflict] {
        let (mut world, mut write) = World::opening();
        for pause in [1, 2, 4, 8] {
            world.ended(&write, outcome.clone());
            world.pass(pause * S - Duration::from_millis(1));
            assert_eq!(world.done(), vec![], "before {pause} s");
            world.pass(Duration::from_millis(1));
            write = world.write();
            assert!(write.condition.status);
        }
    }
}

#[test]
fn a_gate_whose_answer_is_forgotten_is_asked_about_at_once_however_long_it_has_waited() {
    let mut world = World::new();
    world.see(web("web-1", "10.0.0.1"));
    world.pass(300 * S);
    world.round("web", &[healthy("10.0.0.1")]);
    let write = world.write();
    world.ended(&write, WriteOutcome::Unsent);
    world.pass(S);
    world.round("web", &[healthy("10.0.0.1")]);
    assert!(world.write().condition.status);
}

#[test]
fn a_gate_about_which_there_is_another_question_is_asked_about_at_once() {
    let mut world = World::empty();
    world.tracker = Tracker::new(Settings {
        apis: BindingApi::ALL.to_vec(),
        orphan_after: ORPHAN_AFTER,
        seed: 1,
    });
    world.lead();
    world.serve(web_service());
    world.bind(binding("web"));
    world.see(web("web-1", "10.0.0.1"));
    world.pass(300 * S);
    world.round("web", &[healthy("10.0.0.1")]);
    let write = world.write();
    world.ended(&write, WriteOutcome::Failed);
    let mut other = binding("web");
    other.api = BindingApi::Eks;
    world.bind(other);
    world.pass(S);
    assert_eq!(world.done(), vec![]);
    assert_eq!(world.asks().as_deref(), Some("web"));
}

#[test]
fn a_pod_that_is_gone_when_written_to_is_no_error() {
    let (mut world, write) = World::opening();
    world.ended(&write, WriteOutcome::Gone);
    assert_eq!((world.asks(), world.tracker.pending()), (None, 0));
}

/// A rollout of one pod that was healthy 20 s after it was due.
fn roll(world: &mut World, name: &str, ip: &str) {
    world.see(starting(name, ip));
    finish(world, name, ip);
}

/// A pod whose containers are not ready.
fn starting(name: &str, ip: &str) -> Pod {
    let mut pod = web(name, ip);
    pod.containers_ready = None;
    pod.resource_version = "0".into();
    pod
}

/// The rest of a rollout, from when the containers are ready.
fn finish(world: &mut World, name: &str, ip: &str) {
    world.see(web(name, ip));
    let due = world.now;
    while world.now < due + 60 * S {
        let state = if world.now < due + 20 * S {
            initial(ip)
        } else {
            healthy(ip)
        };
        if world.asks().is_some() {
            world.answer("web", world.now, Ok(&[state]));
        }
        for action in world.done() {
            let Action::Write(write) = action else {
                continue;
            };
            let version = write.version.parse::<u64>().unwrap() + 1;
            world.patched(&write, WriteOutcome::Written(version.to_string().into()));
        }
        world.pass(S / 4);
    }
}

#[test]
fn a_group_with_timings_is_polled_rarely_before_the_first_can_be_healthy() {
    let mut world = World::new();
    roll(&mut world, "web-1", "10.0.0.1");
    assert_eq!(world.tracker.pending(), 0);
    let looks = looks(&mut world, "web-2", "10.0.0.2");
    assert!(looks[0] <= 3 * S, "{looks:?}");
    assert!(looks[1] >= 15 * S, "{looks:?}");
    assert!(looks.len() <= 6, "{looks:?}");
}

/// When the pods of a group are looked at in the 19 s after they are due, in seconds since due.
fn looks(world: &mut World, name: &str, ip: &str) -> Vec<Duration> {
    world.see(web(name, ip));
    let due = world.now;
    let mut looks = vec![];
    while world.now < due + 19 * S {
        if world.asks().is_some() {
            looks.push(world.now - due);
            world.answer("web", world.now, Ok(&[initial(ip)]));
        }
        world.pass(S / 4);
    }
    looks
}

#[test]
fn a_pod_that_was_ready_at_our_first_sight_of_it_teaches_nothing() {
    // As after a start: the list of bindings comes last, and the containers have been ready for long.
    let mut world = World::empty();
    world.see(web("web-1", "10.0.0.1"));
    world.serve(web_service());
    world.bind(binding("web"));
    finish(&mut world, "web-1", "10.0.0.1");
    assert_eq!(world.tracker.pending(), 0);
    let looks = looks(&mut world, "web-2", "10.0.0.2");
    assert!(looks.len() > 10, "{looks:?}");
}
