//! The floor: a target leaves for another reason than the end of its own pod only while enough healthy ones stay, so
//! that no common cause empties a group (contract 8).
//!
//! A broken dependency fails all readiness probes, but not in the same instant. So a target that has left because its
//! pod is not ready goes on counting, as long as the pod lives and is not ready.

use std::collections::BTreeSet;
use std::net::IpAddr;

use crate::model::TargetState;
use crate::targets::Target;
use crate::targets::difference::Listing;
use crate::targets::wanted::GroupWants;

/// What the floor of one group remembers, from the first target that ceases to be wanted until none of them is left.
#[derive(Debug, Default)]
pub struct Floor {
    /// How many targets were healthy and wanted just before the first of them ceased to be wanted, or at once at any
    /// time since.
    before: Option<usize>,
    /// Targets that have left because their pods were not ready.
    departed: BTreeSet<Target>,
}

/// Whether targets may leave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Leave,
    /// Only `healthy` of the `needed` wanted targets are healthy.
    Held {
        healthy: usize,
        needed: usize,
    },
}

impl Floor {
    /// Judges the targets that are to leave above the floor. `is_held` says whether a pod has an address.
    pub fn judge(
        &mut self,
        leaving: &BTreeSet<Target>,
        wants: &GroupWants,
        listing: &Listing,
        is_held: impl Fn(IpAddr) -> bool,
    ) -> Verdict {
        self.departed
            .retain(|target| wants.unready.contains(target));
        if leaving.is_empty() && self.departed.is_empty() {
            self.before = None;
            return Verdict::Leave;
        }
        let healthy = listing
            .iter()
            .filter(|(_, listed)| listed.state == TargetState::Healthy);
        let wanted = healthy
            .clone()
            .filter(|(target, _)| wants.wanted.contains_key(*target));
        let (wanted, leave) = (
            wanted.count(),
            healthy.filter(|(t, _)| leaving.contains(*t)).count(),
        );
        // A group may grow beside a pod that is never ready: what is healthy and wanted since then counts as well.
        let before = self
            .before
            .map_or(wanted + leave, |before| before.max(wanted));
        self.before = Some(before);
        // Pods that have ended since cannot be healthy any more, so they do not raise what is needed: a Service that
        // is scaled down in between would be held for ever.
        // That an endpoint without a pod lives, ELB alone can say.
        let is_healthy = |target: &Target| {
            let listed = listing.get(target);
            listed.is_some_and(|listed| listed.state == TargetState::Healthy)
        };
        let lives =
            |target: &&Target| is_held(target.0) || (wants.may_be_podless && is_healthy(target));
        let living = leaving.iter().filter(lives);
        let living: BTreeSet<&Target> = living.chain(&self.departed).collect();
        let others = living
            .iter()
            .filter(|target| !wants.wanted.contains_key(**target));
        let living = wants.wanted.len() + others.count();
        let needed = before.min(living).div_ceil(2).max(1);
        match wanted >= needed {
            true => Verdict::Leave,
            false => Verdict::Held {
                healthy: wanted,
                needed,
            },
        }
    }

    /// Takes in that these targets were deregistered above the floor.
    pub fn left(&mut self, targets: &BTreeSet<Target>, wants: &GroupWants) {
        self.departed.extend(targets.intersection(&wants.unready));
    }
}

#[cfg(test)]
mod tests {
    use fastrand::Rng;
    use rstest::rstest;

    use super::*;
    use crate::names::ObjectKey;
    use crate::packed::PackedUid;
    use crate::targets::difference::{Difference, Listed, Scene};
    use crate::targets::wanted::Want;

    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    enum Pod {
        Ready,
        Unready,
        Unselected,
        Ended,
    }

    /// A group whose targets are all registered by us. The number of a pod is its address.
    struct World {
        floor: Floor,
        pods: Vec<Pod>,
        recorded: BTreeSet<Target>,
        listing: Listing,
    }

    fn target(pod: usize) -> Target {
        ([10, 0, 0, u8::try_from(pod).unwrap()].into(), 80)
    }

    fn listed(state: TargetState) -> Listed {
        Listed { state, zone: None }
    }

    impl World {
        fn of(pods: usize) -> Self {
            let targets = || (0..pods).map(target);
            Self {
                floor: Floor::default(),
                pods: vec![Pod::Ready; pods],
                recorded: targets().collect(),
                listing: targets()
                    .map(|t| (t, listed(TargetState::Healthy)))
                    .collect(),
            }
        }

        /// Adds pods that ELB calls healthy, or not yet.
        fn with(mut self, pods: usize, state: TargetState) -> Self {
            for _ in 0..pods {
                let new = target(self.pods.len());
                self.pods.push(Pod::Ready);
                self.recorded.insert(new);
                self.listing.insert(new, listed(state));
            }
            self
        }

        fn wants(&self) -> GroupWants {
            let of = |kind: Pod| {
                let pods = self.pods.iter().enumerate();
                pods.filter(move |(_, pod)| **pod == kind)
                    .map(|(pod, _)| target(pod))
            };
            let want = || Want {
                ready: None,
                pod: Some((ObjectKey::new("shop", "web"), PackedUid::of(&"uid".into()))),
                bindings: BTreeSet::new(),
            };
            GroupWants {
                wanted: of(Pod::Ready).map(|target| (target, want())).collect(),
                unready: of(Pod::Unready).collect(),
                ..GroupWants::default()
            }
        }

        /// Judges, and lets leave what may. Returns how many left above the floor, and the verdict.
        fn step(&mut self) -> (usize, Verdict) {
            let wants = self.wants();
            let ended: BTreeSet<Target> = (0..self.pods.len())
                .filter(|pod| self.pods[*pod] == Pod::Ended)
                .map(target)
                .collect();
            let scene = Scene {
                wants: &wants,
                recorded: &self.recorded,
                listing: &self.listing,
                ended: &ended,
                given_up: &BTreeSet::new(),
            };
            let Difference {
                register,
                leave_at_once,
                leave_above_floor: leaving,
                ..
            } = Difference::of(scene, |_| true);
            let is_held = |ip: IpAddr| !ended.contains(&(ip, 80));
            let verdict = self.floor.judge(&leaving, &wants, &self.listing, is_held);
            let mut gone = leave_at_once;
            if verdict == Verdict::Leave {
                self.floor.left(&leaving, &wants);
                gone.extend(&leaving);
            }
            for target in &gone {
                self.recorded.remove(target);
                self.listing.remove(target);
            }
            for target in register {
                self.recorded.insert(target);
                self.listing.insert(target, listed(TargetState::Initial));
            }
            (gone.intersection(&leaving).count(), verdict)
        }

        fn become_all(&mut self, pods: impl IntoIterator<Item = usize>, now: Pod) {
            pods.into_iter().for_each(|pod| self.pods[pod] = now);
        }
    }

    #[test]
    fn one_of_twenty_that_is_not_ready_leaves_at_the_next_call() {
        let mut world = World::of(20);
        world.become_all([7], Pod::Unready);
        assert_eq!(world.step(), (1, Verdict::Leave));
    }

    #[rstest]
    #[case::unready(Pod::Unready)]
    #[case::unselected(Pod::Unselected)]
    fn a_common_cause_empties_nothing(#[case] cause: Pod) {
        // B5: all of them within a second.
        let mut world = World::of(20);
        world.become_all(0..20, cause);
        let held = Verdict::Held {
            healthy: 0,
            needed: 10,
        };
        assert_eq!(world.step(), (0, held));
        assert_eq!((world.step(), world.listing.len()), ((0, held), 20));
        world.become_all(0..20, Pod::Ready);
        assert_eq!(world.step(), (0, Verdict::Leave));
    }

    #[test]
    fn a_common_cause_that_comes_pod_by_pod_leaves_half_of_them() {
        let mut random = Rng::with_seed(5);
        for _ in 0..200 {
            let pods = random.usize(1..30);
            let mut world = World::of(pods);
            let mut order: Vec<usize> = (0..pods).collect();
            random.shuffle(&mut order);
            for pod in order {
                world.become_all([pod], Pod::Unready);
                if random.u8(..4) > 0 {
                    world.step();
                }
            }
            world.step();
            assert!(
                world.listing.len() >= pods.div_ceil(2),
                "{} of {pods}",
                world.listing.len()
            );
            world.become_all(0..pods, Pod::Ready);
            world.step();
            assert!(world.floor.before.is_none() && world.floor.departed.is_empty());
            assert_eq!(world.listing.len(), pods);
        }
    }

    #[test]
    fn a_selector_that_is_swapped_lets_the_old_ones_leave_once_half_as_many_new_ones_are_healthy() {
        let mut world = World::of(10).with(6, TargetState::Initial);
        world.become_all(0..10, Pod::Unselected);
        assert_eq!(
            world.step(),
            (
                0,
                Verdict::Held {
                    healthy: 0,
                    needed: 5
                }
            )
        );
        for (pod, left) in [(10, 0), (11, 0), (12, 0), (13, 0), (14, 10)] {
            world
                .listing
                .insert(target(pod), listed(TargetState::Healthy));
            assert_eq!(world.step().0, left);
        }
        assert_eq!(world.listing.len(), 6);
        // Of those six, three may be unready later on.
        world
            .listing
            .insert(target(15), listed(TargetState::Healthy));
        world.step();
        world.become_all([10, 11, 12], Pod::Unready);
        assert_eq!(world.step(), (3, Verdict::Leave));
    }

    #[test]
    fn a_typo_in_the_selector_that_finds_one_healthy_pod_takes_nothing_out() {
        let mut world = World::of(20).with(1, TargetState::Healthy);
        world.become_all(0..20, Pod::Unselected);
        assert_eq!(
            world.step(),
            (
                0,
                Verdict::Held {
                    healthy: 1,
                    needed: 11
                }
            )
        );
    }

    #[test]
    fn the_last_healthy_one_stays() {
        let mut world = World::of(1);
        world.become_all([0], Pod::Unready);
        assert_eq!(
            world.step(),
            (
                0,
                Verdict::Held {
                    healthy: 0,
                    needed: 1
                }
            )
        );
        world.become_all([0], Pod::Ended);
        world.step();
        assert!(world.listing.is_empty(), "its own end takes it out");
    }

    #[test]
    fn a_group_that_is_scaled_down_meanwhile_is_not_held_to_its_former_size() {
        let mut world = World::of(20);
        world.become_all([0], Pod::Unready);
        assert_eq!(world.step(), (1, Verdict::Leave));
        world.become_all(5..20, Pod::Ended);
        world.step();
        world.become_all([1], Pod::Unready);
        assert_eq!(world.step(), (1, Verdict::Leave));
        assert_eq!(world.listing.len(), 3);
    }

    #[rstest]
    #[case::that_elb_calls_healthy(TargetState::Healthy, 0)]
    #[case::that_elb_calls_unhealthy(TargetState::Unhealthy, 15)]
    fn endpoints_without_a_pod_that_are_gone_from_the_slices_count_while_they_live(
        #[case] state: TargetState,
        #[case] left: usize,
    ) {
        let mut world = World::of(20);
        let gone: BTreeSet<Target> = (5..20).map(target).collect();
        let mut wants = world.wants();
        wants.may_be_podless = true;
        wants.wanted.retain(|target, _| !gone.contains(target));
        let of_no_pod = |_| false;
        let mut judge = |listing: &Listing| world.floor.judge(&gone, &wants, listing, of_no_pod);
        let held = Verdict::Held {
            healthy: 5,
            needed: 10,
        };
        assert_eq!(judge(&world.listing), held);
        for target in &gone {
            world.listing.insert(*target, listed(state));
        }
        let leave = judge(&world.listing) == Verdict::Leave;
        assert_eq!(if leave { gone.len() } else { 0 }, left);
    }

    #[test]
    fn whatever_happens_nothing_leaves_unless_a_healthy_one_stays() {
        for seed in 0..300 {
            let mut random = Rng::with_seed(seed);
            let mut world = World::of(random.usize(1..25));
            for _ in 0..40 {
                let pod = random.usize(..world.pods.len());
                world.pods[pod] = [Pod::Ready, Pod::Unready, Pod::Unselected][random.usize(..3)];
                for listed in world.listing.values_mut() {
                    if random.u8(..8) == 0 {
                        listed.state =
                            [TargetState::Healthy, TargetState::Unhealthy][random.usize(..2)];
                    }
                }
                let (left, _) = world.step();
                let wants = world.wants();
                let healthy = world.listing.iter().filter(|(target, listed)| {
                    listed.state == TargetState::Healthy && wants.wanted.contains_key(*target)
                });
                let healthy = healthy.count();
                assert!(left == 0 || healthy >= 1, "seed {seed}");
            }
        }
    }
}
