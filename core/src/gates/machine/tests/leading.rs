//! A leader acts, a follower only watches, and writes of other clients are taken in before ours go on.

use super::*;

#[test]
fn a_follower_polls_nothing_and_writes_nothing() {
    let mut world = World::new();
    world.tracker.follow();
    world.see(web("web-1", "10.0.0.1"));
    world.see(pod("web-2").gate("gone").ip("10.0.0.2").ready());
    world.pass(2 * ORPHAN_AFTER);
    let now = world.now;
    let turns = (world.next_turn(), world.tracker.next_tick(now));
    assert_eq!(
        (world.asks(), world.done(), turns),
        (None, vec![], (None, None))
    );
}

#[test]
fn a_new_leader_goes_by_what_it_saw_as_a_follower() {
    let mut world = World::new();
    world.tracker.follow();
    world.see(web("web-1", "10.0.0.1"));
    world.see(pod("web-2").gate("gone").ip("10.0.0.2").ready());
    let seen_at = world.now;
    world.pass(ORPHAN_AFTER);
    world.lead();
    assert!(matches!(&world.done()[..], [Action::Confirm(id)] if id.gate.name() == "gone"));
    assert_eq!(world.asks().as_deref(), Some("web"));
    // The pod is due since the follower saw it, so an answer that is requested now counts.
    assert!(seen_at < world.now);
    world.answer("web", world.now, Ok(&[healthy("10.0.0.1")]));
    let write = world.write();
    assert_eq!(
        (&*write.id.pod.name, write.condition.status),
        ("web-1", true)
    );
}

#[test]
fn an_answer_from_before_the_lead_is_old_news() {
    let mut world = World::new();
    world.see(web("web-1", "10.0.0.1"));
    assert!(world.asks().is_some());
    let requested = world.now;
    world.tracker.follow();
    world.pass(20 * S);
    world.lead();
    world.answer("web", requested, Ok(&[healthy("10.0.0.1")]));
    assert_eq!(world.done(), vec![]);
    world.pass(S);
    world.round("web", &[initial("10.0.0.1")]);
    assert!(!world.write().condition.status);
}

#[test]
fn what_was_heard_under_a_former_lead_is_forgotten() {
    let (mut world, write) = World::opening();
    world.tracker.follow();
    world.ended(&write, WriteOutcome::Unsent);
    world.pass(20 * S);
    world.lead();
    assert_eq!(world.done(), vec![]);
    world.round("web", &[initial("10.0.0.1")]);
    assert!(!world.write().condition.status);
}

#[test]
fn a_write_names_the_newest_version_that_is_known() {
    let mut world = World::new();
    world.see(web("web-1", "10.0.0.1").version("7"));
    world.round("web", &[initial("10.0.0.1")]);
    let first = world.write();
    assert_eq!(&*first.version, "7");
    world.written(&first, "9");
    world.pass(S);
    world.round("web", &[healthy("10.0.0.1")]);
    assert_eq!(&*world.write().version, "9");
}

#[test]
fn a_conflict_is_decided_anew_as_soon_as_the_watch_tells_what_it_was() {
    let (mut world, write) = World::opening();
    world.ended(&write, WriteOutcome::Conflict);
    world.see(web("web-1", "10.0.0.1").version("1"));
    assert_eq!(world.done(), vec![]);
    world.see(web("web-1", "10.0.0.1").version("2"));
    let again = world.write();
    assert_eq!((again.condition.status, &*again.version), (true, "2"));
}

#[test]
fn a_conflict_with_a_client_that_opened_the_gate_needs_no_write() {
    let (mut world, write) = World::opening();
    world.ended(&write, WriteOutcome::Conflict);
    let opened = web("web-1", "10.0.0.1")
        .version("2")
        .condition(true, "", "");
    world.see(opened);
    world.pass(60 * S);
    assert_eq!((world.asks(), world.done()), (None, vec![]));
}

#[test]
fn a_conflict_that_was_told_before_we_hear_of_it_is_decided_anew_at_once() {
    let (mut world, write) = World::opening();
    world.see(web("web-1", "10.0.0.1").version("2"));
    assert_eq!(world.done(), vec![]);
    world.ended(&write, WriteOutcome::Conflict);
    let again = world.write();
    assert_eq!((again.condition.status, &*again.version), (true, "2"));
}

#[test]
fn a_conflict_that_is_told_late_is_decided_on_what_elb_said_in_the_last_half_minute() {
    for (late, decided) in [(29, true), (31, false)] {
        let (mut world, write) = World::opening();
        world.ended(&write, WriteOutcome::Conflict);
        world.now += late * S;
        world.see(web("web-1", "10.0.0.1").version("2"));
        assert_eq!(world.done().len(), usize::from(decided), "{late}");
    }
}
