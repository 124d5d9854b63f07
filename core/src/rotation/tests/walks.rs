//! Walks through the model: every one of some length, and many long ones by chance.

use std::collections::HashSet;
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};

use proptest::prelude::*;
use rstest::rstest;

use super::super::*;
use crate::rotation::tests::model::{Event, LIFETIMES, Part, REPLICAS, World};

/// What may still happen in a walk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Budget {
    ticks: u32,
    crashes: u32,
    disasters: u32,
}

/// Walks every interleaving from here on, through each state once. Returns the numbers of states, and
/// of those in which every replica serves a leaf of a CA that no replica served at the start.
fn every_walk(start: &World, budget: Budget, disaster: Event) -> (usize, usize) {
    let hasher = BuildHasherDefault::<DefaultHasher>::default();
    // Only the states' hashes are kept, since 64 bits distinguish a few million of them.
    let mut seen = HashSet::new();
    let mut ahead = vec![(start.clone(), budget)];
    let before = start.serving();
    let mut rotated = 0;
    while let Some((world, budget)) = ahead.pop() {
        if !seen.insert(hasher.hash_one((&world, budget))) {
            continue;
        }
        let is_new = |ca: &Option<Fingerprint>| ca.is_some() && !before.contains(ca);
        rotated += usize::from(world.serving().iter().all(is_new));
        for (event, budget) in possible(budget, disaster) {
            let mut next = world.clone();
            next.happens(event);
            if let Some(violation) = next.violation() {
                panic!("after {event:?}: {violation}\n{next:#?}");
            }
            ahead.push((next, budget));
        }
    }
    (seen.len(), rotated)
}

fn possible(budget: Budget, disaster: Event) -> Vec<(Event, Budget)> {
    let mut events: Vec<_> = (0..REPLICAS).map(|r| (Event::Step(r), budget)).collect();
    if let Some(ticks) = budget.ticks.checked_sub(1) {
        events.push((Event::Tick, Budget { ticks, ..budget }));
    }
    if let Some(crashes) = budget.crashes.checked_sub(1) {
        let left = Budget { crashes, ..budget };
        events.extend((0..REPLICAS).map(|r| (Event::Crash(r), left)));
    }
    if let Some(disasters) = budget.disasters.checked_sub(1) {
        let left = Budget {
            disasters,
            ..budget
        };
        events.push((disaster, left));
    }
    events
}

#[rstest]
#[case::of_a_first_start(World::new(), 2, 0, Event::Lose)]
#[case::of_a_rotation(World::settled(39), 2, 0, Event::Lose)]
#[case::of_a_lost_secret(World::settled(5), 1, 1, Event::Lose)]
#[case::of_a_broken_secret(World::settled(5), 1, 1, Event::Break(Part::Everything))]
#[case::of_a_broken_ca(World::settled(5), 1, 1, Event::Break(Part::Authority))]
#[case::of_a_first_start_and_a_lost_secret(World::new(), 1, 1, Event::Lose)]
#[case::of_an_upgrade_before_the_first_certificate(World::new().of_two_releases(), 2, 1, Event::Replace(0))]
#[case::of_an_upgrade_in_a_rotation(World::settled(39).of_two_releases(), 2, 1, Event::Replace(0))]
#[case::of_a_return_in_a_rotation(World::settled(39).of_two_releases(), 2, 1, Event::Replace(1))]
#[case::of_two_releases_and_a_lost_secret(World::settled(5).of_two_releases(), 1, 1, Event::Lose)]
fn no_interleaving_serves_what_an_api_server_may_not_trust(
    #[case] start: World,
    #[case] ticks: u32,
    #[case] disasters: u32,
    #[case] disaster: Event,
) {
    let budget = Budget {
        ticks,
        crashes: 1,
        disasters,
    };
    let (states, rotated) = every_walk(&start, budget, disaster);
    // The walk has reached the state that matters, and all others.
    assert!(rotated > 100 && states > 20_000, "{states} {rotated}");
}

fn event() -> impl Strategy<Value = Event> {
    let part = prop_oneof![
        Just(Part::Leaf),
        Just(Part::Authority),
        Just(Part::Staged),
        Just(Part::Retired),
        Just(Part::Stranger),
        Just(Part::Everything),
    ];
    prop_oneof![
        300 => (0..REPLICAS).prop_map(Event::Step),
        40 => Just(Event::Tick),
        8 => (0..REPLICAS).prop_map(Event::Crash),
        4 => (0..REPLICAS).prop_map(Event::Replace),
        1 => Just(Event::Lose),
        2 => part.prop_map(Event::Break),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 60,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn no_long_walk_does_either_and_all_is_well_after_each(
        events in prop::collection::vec(event(), 2000),
    ) {
        let mut world = World::settled(10);
        for (number, event) in events.into_iter().enumerate() {
            world.happens(event);
            if let Some(violation) = world.violation() {
                panic!("after {number} events, the last {event:?}: {violation}\n{world:#?}");
            }
        }
        for _ in 0..3 {
            world.round();
            world.happens(Event::Tick);
        }
        prop_assert!(world.is_well(), "{world:#?}");
    }
}

#[test]
fn cas_take_turns_and_the_bundles_do_not_grow() {
    let mut served = HashSet::new();
    let mut world = World::settled(10);
    for _ in 0..500 {
        world.round();
        assert!(world.is_well(), "{world:#?}");
        served.extend(world.serving());
        let held = world.most_held();
        assert!(held <= 2, "{held} CAs in a bundle");
        world.happens(Event::Tick);
    }
    let expected = 500 / LIFETIMES.ca.as_secs() as usize;
    assert!(served.len() > expected, "{} CAs", served.len());
}
