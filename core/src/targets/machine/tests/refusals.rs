//! What the gates are told of targets that AWS does not take.

use super::*;

/// The reasons that the gates of group `web` know, by the last part of the address.
fn known(world: &World) -> BTreeMap<u8, Reason> {
    let refused = world.refused.get("web").into_iter().flatten();
    let last = |target: &Target| match target.0 {
        std::net::IpAddr::V4(ip) => ip.octets()[3],
        std::net::IpAddr::V6(_) => 0,
    };
    refused
        .map(|(target, refusal)| (last(target), refusal.reason))
        .collect()
}

#[test]
fn a_refused_target_is_told_with_elbs_words_once_and_until_it_is_in() {
    let mut world = with_pods(2);
    world.bad = targets([4]);
    (3..=6).for_each(|number| world.apply(web(number)));
    world.pass(3 * S);
    assert_eq!(known(&world), [(4, Reason::TargetRefused)].into());
    let words = &world.refused["web"][&target(4)].message;
    assert_eq!(
        &**words,
        "RegisterTargets of 10.0.0.4 port 8080 failed: Refused: no"
    );
    // It is refused again and again, and no other call fails.
    world.pass(300 * S);
    assert_eq!((known(&world).len(), world.refusals_told), (1, 1));
    world.bad.clear();
    world.pass(300 * S);
    assert_eq!((known(&world).len(), world.refusals_told), (0, 2));
}

#[test]
fn targets_that_wait_for_room_are_told_so_until_they_are_in_or_their_pods_end() {
    let mut world = with_pods(2);
    world.quota = 4;
    (3..=6).for_each(|number| world.apply(web(number)));
    world.pass(60 * S);
    let full = |numbers: [u8; 2]| numbers.map(|number| (number, Reason::GroupFull)).into();
    assert_eq!(known(&world), full([5, 6]));
    let told = world.refusals_told;
    world.apply(web(7));
    world.pass(S);
    assert_eq!(known(&world).len(), 3, "it waits as well");
    world.lose("web-7");
    world.pass(600 * S);
    assert_eq!(
        (known(&world), world.refusals_told),
        (full([5, 6]), told + 2)
    );
    let ends = |number| Pod {
        terminating: true,
        ..web(number)
    };
    world.apply(ends(5));
    world.apply(ends(1));
    world.pass(20 * S);
    assert_eq!(world.registered("web"), targets([2, 3, 4, 6]));
    assert!(known(&world).is_empty());
}

#[test]
fn a_role_that_may_not_register_is_told_of_all_targets_that_wait() {
    let mut world = with_pods(2);
    world.denied = true;
    world.apply(web(3));
    world.pass(S);
    assert_eq!(known(&world), [(3, Reason::CallRefused)].into());
    assert!(
        world.refused["web"][&target(3)]
            .message
            .starts_with("RegisterTargets failed")
    );
}

#[test]
fn a_call_that_is_not_answered_is_no_word_of_elbs() {
    let mut world = with_pods(2);
    world.faults = 100;
    world.apply(web(3));
    world.pass(60 * S);
    assert_eq!(world.refusals_told, 0);
}

#[test]
fn nothing_is_said_of_a_binding_that_is_not_ours_any_more_or_is_gone() {
    let refused = || {
        let mut world = with_pods(2);
        world.bad = targets([3]);
        world.apply(web(3));
        world.pass(S);
        assert_eq!(known(&world).len(), 1);
        world
    };
    let mut world = refused();
    world.change_binding("web", |binding| binding.registration.asked = Some(false));
    world.pass(10 * S);
    assert!(known(&world).is_empty());
    let mut world = refused();
    world.delete_binding("web");
    world.pass(30 * S);
    assert!(!world.is_bound("web") && known(&world).is_empty());
}

#[test]
fn a_throttled_registration_is_tried_again_with_a_backoff() {
    let mut world = with_pods(2);
    world.throttled = true;
    world.apply(web(3));
    world.pass(60 * S);
    assert!((5..=7).contains(&world.calls.len()), "{:?}", world.calls);
    world.throttled = false;
    world.pass(31 * S);
    assert_eq!(world.registered("web"), targets(1..=3));
}

#[test]
fn a_throttled_deregistration_waits_for_no_more_than_two_seconds_after_the_last() {
    let mut world = with_pods(2);
    world.throttled = true;
    world.apply(Pod {
        terminating: true,
        ..web(1)
    });
    world.pass(60 * S);
    assert_eq!(world.registered("web"), targets(1..=2));
    world.throttled = false;
    world.pass(2 * S + 500 * MS);
    assert_eq!(world.registered("web"), targets([2]));
}

#[rstest::rstest]
#[case::our_role(|world: &mut World| world.denied = true, Reason::CallRefused)]
#[case::a_full_group(|world: &mut World| world.quota = 2, Reason::GroupFull)]
fn a_binding_is_told_why_calls_are_refused_until_no_target_waits_for_one(
    #[case] refuse: fn(&mut World),
    #[case] reason: Reason,
) {
    let mut world = with_pods(2);
    refuse(&mut world);
    world.apply(web(3));
    world.pass(20 * S);
    assert_eq!(world.statuses.last(), Some(&(false, reason)));
    // What was recorded for the registration leaves.
    world.denied = false;
    world.apply(Pod {
        terminating: true,
        ..web(3)
    });
    world.pass(5 * S);
    assert_eq!(world.statuses.last(), Some(&(true, Reason::Registered)));
}
