//! A Service that is gone, or only seems to be.

use rstest::rstest;

use super::*;

#[rstest]
#[case::a_late_watch(true)]
#[case::a_broken_watch(false)]
fn a_service_that_only_a_watch_lacks_takes_nothing_out(#[case] works: bool) {
    let mut world = with_pods(3);
    world.remove_service("web");
    // The absence is confirmed, and then the Service is made anew.
    world.pass(60 * S);
    world.unseen = Some(web_service());
    world.works(works);
    world.pass(600 * S);
    assert_eq!(world.registered("web"), targets(1..=3));
    world.unseen = None;
    world.works(true);
    world.pass(340 * S);
    assert_eq!(world.registered("web"), targets([]));
}

#[test]
fn a_watch_that_breaks_freezes_what_leaves_for_a_service_that_has_long_been_gone() {
    let mut world = with_pods(3);
    world.remove_service("web");
    world.works(false);
    world.pass(600 * S);
    assert_eq!(world.registered("web"), targets(1..=3));
    world.works(true);
    world.pass(5 * S);
    assert_eq!(world.registered("web"), targets([]));
}

#[test]
fn a_service_that_goes_long_after_its_port_is_given_up_five_minutes_later() {
    let mut world = with_pods(3);
    world.serve("web", service().selecting("app", "web"));
    world.pass(400 * S);
    world.remove_service("web");
    world.pass(320 * S);
    assert_eq!(world.registered("web"), targets(1..=3));
    world.pass(30 * S);
    assert_eq!(world.registered("web"), targets([]));
}

#[test]
fn a_replica_that_leads_again_does_not_count_an_absence_of_before() {
    let mut world = with_pods(3);
    world.remove_service("web");
    world.pass(60 * S);
    world.registrar.follow();
    world.serve("web", web_service());
    world.pass(600 * S);
    world.remove_service("web");
    world.registrar.lead(world.now);
    world.sync();
    world.pass(320 * S);
    assert_eq!(world.registered("web"), targets(1..=3));
    world.pass(30 * S);
    assert_eq!(world.registered("web"), targets([]));
}

#[test]
fn a_service_that_was_gone_before_the_takeover_is_confirmed_gone_after_it() {
    let mut world = World::new(5);
    world.incumbent = Incumbent::Leads;
    (1..=2).for_each(|number| world.apply(web(number)));
    (1..=2).for_each(|number| world.register("web", target(number)));
    let mut theirs = binding("web");
    theirs.uid = Some("uid-web".into());
    theirs.registration.incumbent_finalizer = true;
    world.bind(theirs);
    world.pass(60 * S);
    world.incumbent = Incumbent::Gone;
    world.pass(300 * S);
    assert_eq!(world.registered("web"), targets(1..=2));
    world.pass(60 * S);
    assert_eq!(world.registered("web"), targets([]));
}
