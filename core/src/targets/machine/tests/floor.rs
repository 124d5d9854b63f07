//! What the floor counts from.

use super::*;

fn unready(number: u8) -> Pod {
    Pod {
        containers_ready: None,
        ..web(number)
    }
}

/// A dependency breaks: one pod after the other ceases to be ready.
fn fail_one_by_one(world: &mut World, pods: impl IntoIterator<Item = u8>) {
    for number in pods {
        world.apply(unready(number));
        world.pass(2 * S);
    }
    world.pass(60 * S);
}

#[test]
fn a_leader_that_begins_while_a_pod_is_unready_keeps_half_of_the_group_all_the_same() {
    let mut world = with_pods(20);
    world.apply(unready(1));
    world.fail_over(true);
    world.pass(20 * S);
    assert_eq!(world.registered("web"), targets(2..=20));
    assert!(!world.told("HeldByFloor"), "19 are healthy");
    fail_one_by_one(&mut world, 2..=20);
    assert_eq!(world.registered("web").len(), 10);
}

#[test]
fn a_takeover_under_a_selector_that_finds_one_pod_takes_nothing_out() {
    let mut world = World::new(3);
    world.serve("web", web_service());
    world.apply(web(1));
    (2..=20).for_each(|number| world.apply(web(number).label("app", "wbe")));
    (1..=20).for_each(|number| world.register("web", target(number)));
    // They become healthy.
    world.pass(S);
    let mut theirs = binding("web");
    theirs.uid = Some("uid-web".into());
    theirs.registration.incumbent_finalizer = true;
    world.bind(theirs);
    world.pass(120 * S);
    assert_eq!(world.finalizers("web"), (true, false));
    assert_eq!(world.registered("web"), targets(1..=20));
    assert!(world.told("HeldByFloor"));
}

#[test]
fn a_group_that_grows_beside_an_unready_pod_keeps_half_of_what_it_has_become() {
    let mut world = with_pods(2);
    world.apply(unready(1));
    world.pass(5 * S);
    assert_eq!(world.registered("web"), targets([2]));
    (3..=21).for_each(|number| world.apply(web(number)));
    world.pass(15 * S);
    assert_eq!(world.registered("web"), targets(2..=21));
    fail_one_by_one(&mut world, 2..=21);
    assert_eq!(world.registered("web").len(), 10);
}
