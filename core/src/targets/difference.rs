//! What is to be registered and deregistered in one group: the difference between what is wanted, what our records
//! name, and what ELB itself answers (contract 8).

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use crate::model::TargetState;
use crate::targets::Target;
use crate::targets::wanted::GroupWants;

/// One target as `DescribeTargetHealth` lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    pub state: TargetState,
    /// `Target.AvailabilityZone`, with which the target is named again; `None` if ELB gives none.
    pub zone: Option<Arc<str>>,
}

impl Listed {
    /// Whether the target is registered: ELB goes on listing one that it deregisters.
    pub fn is_registered(&self) -> bool {
        self.state != TargetState::Draining
    }
}

/// ELB's answer about a whole group.
pub type Listing = BTreeMap<Target, Listed>;

/// What decides about one group.
#[derive(Debug, Clone, Copy)]
pub struct Scene<'a> {
    pub wants: &'a GroupWants,
    /// What the records of our bindings name.
    pub recorded: &'a BTreeSet<Target>,
    pub listing: &'a Listing,
    /// Targets whose own pod was seen to end.
    pub ended: &'a BTreeSet<Target>,
    /// Recorded targets of bindings alone that are being deleted, that name another group now, or whose Service has
    /// been gone for long.
    pub given_up: &'a BTreeSet<Target>,
}

/// The difference. Each target is in one of its sets at most.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Difference {
    /// Wanted, and not registered; the pod that has been ready longest first.
    pub register: Vec<Target>,
    /// Registered already, of living pods of ours, and not in a record yet.
    pub adopt: BTreeSet<Target>,
    /// Recorded, and to be deregistered at once.
    pub leave_at_once: BTreeSet<Target>,
    /// Recorded, and to be deregistered above the floor.
    pub leave_above_floor: BTreeSet<Target>,
    /// Registered by another. True where a pod has the address that is none of ours.
    pub foreign: BTreeMap<Target, bool>,
}

impl Difference {
    /// The difference of a scene. `is_held` says whether a pod has an address.
    pub fn of(scene: Scene<'_>, is_held: impl Fn(IpAddr) -> bool) -> Self {
        let wanted = &scene.wants.wanted;
        let mut register: Vec<Target> = wanted.keys().copied().collect();
        register.retain(|target| !scene.is_registered(target));
        register.sort_by_key(|target| (wanted.get(target).map(|want| want.ready), *target));
        let mut difference = Self {
            register,
            ..Self::default()
        };
        for target in scene
            .recorded
            .iter()
            .filter(|target| !wanted.contains_key(*target))
        {
            let at_once = scene.ended.contains(target) || scene.given_up.contains(target);
            match at_once {
                true => difference.leave_at_once.insert(*target),
                false => difference.leave_above_floor.insert(*target),
            };
        }
        let unrecorded = scene
            .listing
            .iter()
            .filter(|(target, listed)| listed.is_registered() && !scene.recorded.contains(*target));
        for (target, _) in unrecorded {
            let ours = wanted.contains_key(target) || scene.wants.unready.contains(target);
            match ours {
                true => _ = difference.adopt.insert(*target),
                false => _ = difference.foreign.insert(*target, is_held(target.0)),
            }
        }
        difference
    }
}

impl Scene<'_> {
    fn is_registered(&self, target: &Target) -> bool {
        let listed = self.listing.get(target);
        listed.is_some_and(Listed::is_registered)
    }
}

#[cfg(test)]
mod tests {
    use fastrand::Rng;
    use jiff::Timestamp;

    use super::*;
    use crate::names::ObjectKey;
    use crate::packed::PackedUid;
    use crate::targets::wanted::Want;

    fn target(last: u8) -> Target {
        ([10, 0, 0, last].into(), 80)
    }

    fn set(all: &[u8]) -> BTreeSet<Target> {
        all.iter().map(|last| target(*last)).collect()
    }

    fn want(ready: i64) -> Want {
        Want {
            ready: Timestamp::from_second(ready).ok(),
            pod: Some((
                ObjectKey::new("shop", "web-1"),
                PackedUid::of(&"uid-web-1".into()),
            )),
            bindings: BTreeSet::new(),
        }
    }

    fn listed(state: TargetState) -> Listed {
        Listed { state, zone: None }
    }

    #[test]
    fn each_target_goes_where_it_belongs() {
        let wants = GroupWants {
            wanted: [(1, 30), (2, 20), (3, 10), (4, 0)]
                .map(|(n, at)| (target(n), want(at)))
                .into(),
            unready: set(&[5, 6]),
            ..GroupWants::default()
        };
        let healthy = [4, 5, 6, 7, 8, 9, 10].map(|n| (target(n), listed(TargetState::Healthy)));
        let mut listing = Listing::from(healthy);
        listing.insert(target(3), listed(TargetState::Draining));
        listing.insert(target(11), listed(TargetState::Draining));
        let difference = Difference::of(
            Scene {
                wants: &wants,
                recorded: &set(&[3, 6, 7, 8]),
                listing: &listing,
                ended: &set(&[3, 8, 10]),
                given_up: &BTreeSet::new(),
            },
            |ip| ip == target(9).0,
        );
        assert_eq!(difference.register, [3, 2, 1].map(target));
        assert_eq!(difference.adopt, set(&[4, 5]));
        assert_eq!(difference.leave_at_once, set(&[8]));
        assert_eq!(difference.leave_above_floor, set(&[6, 7]));
        assert_eq!(
            difference.foreign,
            [(target(9), true), (target(10), false)].into()
        );
    }

    #[test]
    fn nothing_leaves_that_is_not_recorded_or_that_is_wanted() {
        let mut random = Rng::with_seed(16);
        for _ in 0..2_000 {
            let some =
                |random: &mut Rng| set(&(0..8).filter(|_| random.bool()).collect::<Vec<_>>());
            let (wanted, recorded) = (some(&mut random), some(&mut random));
            let (ended, given_up) = (some(&mut random), some(&mut random));
            let wants = GroupWants {
                wanted: wanted
                    .iter()
                    .map(|t| (*t, want(random.i64(0..9))))
                    .collect(),
                unready: &some(&mut random) - &wanted,
                ..GroupWants::default()
            };
            let states = [
                TargetState::Healthy,
                TargetState::Initial,
                TargetState::Draining,
            ];
            let listing: Listing = some(&mut random)
                .into_iter()
                .map(|target| (target, listed(states[random.usize(..3)])))
                .collect();
            let scene = Scene {
                wants: &wants,
                recorded: &recorded,
                listing: &listing,
                ended: &ended,
                given_up: &given_up,
            };
            let found = Difference::of(scene, |_| false);
            let leave = &found.leave_at_once | &found.leave_above_floor;
            assert_eq!(leave, &recorded - &wanted);
            assert!(found.leave_at_once.is_disjoint(&found.leave_above_floor));
            let register: BTreeSet<Target> = found.register.iter().copied().collect();
            let registered = listing.iter().filter(|(_, listed)| listed.is_registered());
            let registered: BTreeSet<Target> = registered.map(|(target, _)| *target).collect();
            assert_eq!(register, &wanted - &registered);
            let foreign: BTreeSet<Target> = found.foreign.keys().copied().collect();
            assert!(foreign.is_disjoint(&recorded) && foreign.is_disjoint(&wanted));
            let known = &(&recorded | &found.adopt) | &foreign;
            assert!(registered.is_subset(&known));
        }
    }
}
