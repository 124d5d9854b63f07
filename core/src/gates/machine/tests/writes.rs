//! Which pods are written to when, which conditions go together, and when writes pause.

use super::*;

/// A world with a pod that has a gate for each of two bindings, at version 7.
fn twice_bound() -> World {
    let mut world = World::new();
    world.bind(binding("public"));
    world.see(web("web-1", "10.0.0.1").gate("public").version("7"));
    world
}

/// A world with so many pods in namespace `shop`, the last at 10.0.0.N.
fn crowded(pods: u8) -> World {
    let mut world = World::new();
    for n in 1..=pods {
        world.see(web(&format!("web-{n}"), &format!("10.0.0.{n}")));
    }
    world
}

impl World {
    /// All pods are healthy behind group `web`.
    fn all_healthy(&mut self, pods: u8) {
        let targets: Vec<_> = (1..=pods)
            .map(|n| healthy(&format!("10.0.0.{n}")))
            .collect();
        self.round("web", &targets);
    }

    fn patches(&mut self) -> Vec<Write> {
        let only_writes = |action| match action {
            Action::Write(write) => write,
            other => panic!("a write, not {other:?}"),
        };
        self.done().into_iter().map(only_writes).collect()
    }

    fn all_patched(&mut self, writes: &[Write], outcome: &WriteOutcome) {
        for write in writes {
            self.patched(write, outcome.clone());
        }
    }
}

fn opens(write: &Write) -> Vec<(&str, bool)> {
    let changes = write.changes.iter();
    changes
        .map(|change| (change.gate.name(), change.condition.status))
        .collect()
}

fn put_off(seconds: u32) -> WriteOutcome {
    WriteOutcome::PutOff {
        retry_after: Some(seconds * S),
    }
}

#[test]
fn gates_of_a_pod_that_open_together_are_written_together() {
    let mut world = twice_bound();
    world.round("public", &[healthy("10.0.0.1")]);
    world.round("web", &[healthy("10.0.0.1")]);
    let both = world.patch();
    assert_eq!(opens(&both), [("public", true), ("web", true)]);
    assert_eq!(&*both.version, "7");
    world.patched(&both, WriteOutcome::Written("8".into()));
    world.pass(S);
    let left = (world.asks(), world.done(), world.tracker.pending());
    assert_eq!(left, (None, vec![], 0));
}

#[test]
fn a_gate_that_opens_takes_the_words_of_the_other_along() {
    let mut world = twice_bound();
    world.round("public", &[initial("10.0.0.1")]);
    world.round("web", &[healthy("10.0.0.1")]);
    assert_eq!(opens(&world.patch()), [("public", false), ("web", true)]);
}

#[test]
fn writes_of_one_pod_wait_for_each_other() {
    let mut world = twice_bound();
    world.round("public", &[healthy("10.0.0.1")]);
    let first = world.write();
    world.round("web", &[healthy("10.0.0.1")]);
    assert_eq!(world.done(), vec![]);
    world.written(&first, "8");
    let second = world.write();
    assert_ne!(first.id.gate, second.id.gate);
    assert_eq!(&*second.version, "8");
}

#[test]
fn a_conflict_of_two_conditions_is_decided_anew_for_both() {
    let mut world = twice_bound();
    world.round("public", &[healthy("10.0.0.1")]);
    world.round("web", &[healthy("10.0.0.1")]);
    let both = world.patch();
    world.patched(&both, WriteOutcome::Conflict);
    assert_eq!(world.done(), vec![]);
    let seen = web("web-1", "10.0.0.1").gate("public").version("9");
    world.see(seen);
    let again = world.patch();
    assert_eq!(opens(&again), [("public", true), ("web", true)]);
    assert_eq!(&*again.version, "9");
}

#[test]
fn a_watch_that_is_ahead_of_two_conditions_just_written_is_believed() {
    let mut world = twice_bound();
    world.round("public", &[healthy("10.0.0.1")]);
    world.round("web", &[healthy("10.0.0.1")]);
    let both = world.patch();
    // Another client closes one right after us, and the watch shows that before the API server answers us.
    let mut seen = web("web-1", "10.0.0.1").gate("public").version("9");
    let condition = |status| Condition {
        status,
        reason: "".into(),
        message: "".into(),
    };
    for (gate, status) in seen.gates.iter_mut().zip([true, false]) {
        gate.1 = Some(condition(status));
    }
    world.see(seen);
    world.patched(&both, WriteOutcome::Written("8".into()));
    let again = world.patch();
    assert_eq!(opens(&again), [("public", true)]);
    assert_eq!(&*again.version, "9");
}

#[test]
fn an_answer_to_a_write_ends_no_later_one() {
    let mut world = World::new();
    world.see(web("web-1", "10.0.0.1").version("7"));
    world.round("web", &[healthy("10.0.0.1")]);
    let first = world.write();
    // The watch shows our write, and that another client closed the gate, before the API server answers us.
    let seen = |version: &str, status| {
        let pod = web("web-1", "10.0.0.1").version(version);
        pod.condition(status, "", "")
    };
    world.see(seen("8", true));
    world.see(seen("9", false));
    world.pass(S);
    world.round("web", &[healthy("10.0.0.1")]);
    let second = world.write();
    world.written(&first, "8");
    assert_eq!(world.done(), vec![]);
    world.written(&second, "10");
    assert_eq!((world.done(), world.tracker.pending()), (vec![], 0));
}

#[test]
fn what_waits_is_decided_when_its_turn_comes() {
    let mut world = crowded(100);
    world.all_healthy(100);
    let first = world.patches();
    assert!(first.len() < 50, "{} at once", first.len());
    world.pass(S);
    world.round("web", &[]);
    assert_eq!(world.done(), vec![]);
    world.all_patched(&first, &WriteOutcome::Written("2".into()));
    let second = world.patches();
    assert_eq!(second.len(), first.len());
    for write in second {
        assert_eq!(
            &*write.changes[0].condition.reason,
            "Elb.RegistrationInProgress"
        );
    }
}

#[test]
fn a_write_that_opens_a_gate_goes_before_a_message_only_one() {
    let mut world = crowded(100);
    world.round("web", &[]);
    let words = world.patches();
    let turned = healthy("10.0.0.99");
    world.pass(S);
    world.round("web", &[turned]);
    let next = &words[0];
    world.patched(next, WriteOutcome::Written("2".into()));
    assert_eq!(&*world.write().id.pod.name, "web-99");
}

#[test]
fn one_pod_of_another_namespace_does_not_wait_for_all_of_a_large_one() {
    let mut world = crowded(100);
    let mut other = web("api-1", "10.0.1.1");
    other.key = ObjectKey::new("zoo", "api-1");
    world
        .index
        .apply_service(&ObjectKey::new("zoo", "web"), web_service());
    world.index.apply_binding(&"zoo".into(), binding("zeta"));
    world.see(other.gate("zeta"));
    world.all_healthy(100);
    let first = world.patches();
    world.round("zeta", &[healthy("10.0.1.1")]);
    world.patched(&first[0], WriteOutcome::Written("2".into()));
    world.patched(&first[1], WriteOutcome::Written("2".into()));
    let next = world.patches();
    assert!(
        next.iter().any(|write| &*write.pod.namespace == "zoo"),
        "{next:?}"
    );
}

#[test]
fn an_api_server_that_asks_to_wait_is_obeyed_by_all_writes() {
    let mut world = crowded(100);
    world.all_healthy(100);
    let first = world.patches();
    world.patched(&first[0], put_off(5));
    world.all_patched(&first[1..], &WriteOutcome::Written("2".into()));
    assert_eq!(world.done(), vec![]);
    let resumed = world.tracker.next_tick(world.now).unwrap();
    assert!((5 * S..7 * S).contains(&(resumed - world.now)));
    world.pass(5 * S - Duration::from_millis(1));
    assert_eq!(world.done(), vec![]);
    world.pass(2 * S);
    let second = world.patches();
    assert!(second.len() < first.len(), "{} again at once", second.len());
    // The write that was put off is still decided, and is queued among the others.
    world.all_patched(&second, &WriteOutcome::Written("3".into()));
    let mut all: Vec<_> = first[1..].iter().chain(&second).cloned().collect();
    loop {
        let more = world.patches();
        if more.is_empty() {
            break;
        }
        world.all_patched(&more, &WriteOutcome::Written("4".into()));
        all.extend(more);
    }
    assert!(all.iter().any(|write| write.pod == first[0].pod));
    assert_eq!((all.len(), world.tracker.pending()), (100, 0));
}

#[test]
fn what_elb_said_half_a_minute_ago_opens_nothing() {
    let (mut world, write) = World::opening();
    world.ended(&write, put_off(30));
    world.pass(40 * S);
    assert_eq!(world.done(), vec![]);
    world.round("web", &[initial("10.0.0.1")]);
    assert!(!world.write().condition.status);
}

#[test]
fn a_replica_that_stops_leading_drops_its_queued_writes() {
    let mut world = crowded(100);
    world.all_healthy(100);
    let first = world.patches();
    world.tracker.follow();
    world.all_patched(&first, &WriteOutcome::Unsent);
    assert_eq!(world.done(), vec![]);
    world.lead();
    assert_eq!(world.done(), vec![]);
    world.pass(S);
    world.all_healthy(100);
    assert_eq!(world.patches().len(), first.len());
}

#[test]
fn nothing_is_left_of_pods_that_are_gone() {
    let mut world = crowded(100);
    world.all_healthy(100);
    for n in 1..=100 {
        world.index.delete_pod(&key(&format!("web-{n}")));
    }
    world.settle();
    let now = world.now;
    let left = (
        world.done(),
        world.tracker.next_tick(now),
        world.tracker.pending(),
    );
    assert_eq!(left, (vec![], None, 0));
    assert_eq!(world.tracker.oldest(), None);
}
