//! What we remember of registrations: when a target that ELB does not list may be registered again.
//!
//! ELB's answer decides; this memory only says when it counts. An answer may miss a registration that has just
//! succeeded, and a target that something else removes again and again is not fought for without a pause.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::backoff::Backoff;
use crate::targets::Target;
use crate::targets::difference::{Listed, Listing};

/// An answer that was requested within this time of a registration may not show it yet. Chosen: AWS documents no bound
/// of its eventual consistency.
pub const SETTLING: Duration = Duration::from_secs(5);
/// A registration that no answer has confirmed or denied for so long may be sent again. The group is described once
/// the registration has settled, and a call that is not answered by then has timed out.
const UNCONFIRMED: Duration = Duration::from_secs(10);
/// So many removals by something else are a fight. Contract 8.
const FIGHT: u32 = 3;
/// The pause before a target is registered again in a fight. Contract 8 says minutes; these are chosen.
const PAUSE: Backoff = Backoff::new(Duration::from_secs(60), Duration::from_secs(600));
/// A target that has stayed for so long is not fought about any more. Chosen, above the longest pause.
const FORGIVEN: Duration = Duration::from_secs(1_200);

/// The registrations of one group that we remember.
#[derive(Debug, Default)]
pub struct Removals {
    known: BTreeMap<Target, Known>,
}

#[derive(Debug, Default)]
struct Known {
    /// When our last registration ended well; `None` once an answer has shown it, or lacked it for good.
    registered: Option<Instant>,
    /// Whether the last answer that counts listed it.
    listed: bool,
    removals: u32,
    /// When it was last removed, and until when it is not registered again. Few are, so that the others are small.
    removed: Option<Box<(Instant, Instant)>>,
}

impl Removals {
    /// Takes in that ELB accepted the registration of a target.
    pub fn registered(&mut self, target: Target, now: Instant) {
        self.known.entry(target).or_default().registered = Some(now);
    }

    /// Takes in that we deregister a target: that it is not listed any more is our own doing.
    pub fn deregistered(&mut self, target: &Target) {
        if let Some(known) = self.known.get_mut(target) {
            (known.registered, known.listed) = (None, false);
        }
    }

    /// Takes in an answer about the whole group. Returns the targets that something else has removed for the third
    /// time, or for a multiple of that.
    pub fn described(
        &mut self,
        listing: &Listing,
        requested: Instant,
        now: Instant,
    ) -> Vec<Target> {
        let mut fights = vec![];
        for (target, listed) in listing {
            if listed.is_registered() {
                self.known.entry(*target).or_default().listed = true;
            }
        }
        for (target, known) in &mut self.known {
            if listing.get(target).is_some_and(Listed::is_registered) {
                known.registered = None;
            } else if known.registered.is_none_or(|at| requested >= at + SETTLING) {
                // One that was accepted and never shows was removed as well, only sooner.
                let accepted = known.registered.take().is_some();
                let was_in = std::mem::take(&mut known.listed) || accepted;
                if was_in && known.remove(now) {
                    fights.push(*target);
                }
            }
        }
        self.known.retain(|_, known| !known.is_over(now));
        fights
    }

    /// From when a target that the last answer does not list may be registered; `None` if at once.
    pub fn not_before(&self, target: &Target, now: Instant) -> Option<Instant> {
        let known = self.known.get(target)?;
        let settled = known.registered.map(|at| at + UNCONFIRMED);
        let again = known.removed.as_ref().map(|removed| removed.1);
        settled.max(again).filter(|at| *at > now)
    }

    /// The number of targets that are fought about.
    pub fn fights(&self) -> usize {
        let known = self.known.values();
        known.filter(|known| known.removals >= FIGHT).count()
    }
}

impl Known {
    /// Counts a removal. Returns whether it is to be told.
    fn remove(&mut self, now: Instant) -> bool {
        self.removals += 1;
        let fights = self.removals.saturating_sub(FIGHT - 1);
        let pause = (fights > 0).then(|| PAUSE.after(fights));
        self.removed = Some(Box::new((now, now + pause.unwrap_or_default())));
        self.removals.is_multiple_of(FIGHT)
    }

    fn is_over(&mut self, now: Instant) -> bool {
        let removed = self.removed.as_ref();
        if removed.is_some_and(|removed| now >= removed.0 + FORGIVEN) {
            (self.removals, self.removed) = (0, None);
        }
        self.registered.is_none() && self.removed.is_none() && !self.listed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::epoch;
    use crate::model::TargetState;

    const S: Duration = Duration::from_secs(1);

    fn target() -> Target {
        ([10, 0, 0, 1].into(), 80)
    }

    fn listing(state: Option<TargetState>) -> Listing {
        let listed = state.map(|state| (target(), Listed { state, zone: None }));
        listed.into_iter().collect()
    }

    #[test]
    fn an_answer_that_misses_a_new_registration_counts_only_after_a_while() {
        let (mut removals, start) = (Removals::default(), epoch());
        removals.registered(target(), start);
        let soon = start + S;
        assert!(removals.described(&listing(None), soon, soon).is_empty());
        let unconfirmed = Some(start + UNCONFIRMED);
        assert_eq!(removals.not_before(&target(), soon), unconfirmed);
        let later = start + SETTLING;
        assert_eq!(removals.not_before(&target(), later), unconfirmed);
        removals.described(&listing(None), later, later);
        assert_eq!(removals.not_before(&target(), later), None);
    }

    #[test]
    fn a_target_that_is_removed_three_times_is_fought_for_in_minutes_alone() {
        // B15: another hand removes it every five seconds.
        let (mut removals, mut now) = (Removals::default(), epoch());
        let mut registrations = vec![];
        let mut told = 0;
        let start = now;
        while now < start + 600 * S {
            if removals.not_before(&target(), now).is_none() {
                registrations.push(now);
                removals.registered(target(), now);
                removals.described(&listing(Some(TargetState::Healthy)), now + S, now + S);
            }
            now += 10 * S;
            told += removals.described(&listing(None), now, now).len();
        }
        assert!(registrations.len() <= 8, "{}", registrations.len());
        assert_eq!((told, removals.fights()), (2, 1));
        let at = now;
        removals.registered(target(), at);
        now += FORGIVEN;
        removals.described(&listing(Some(TargetState::Healthy)), now, now);
        assert_eq!(removals.fights(), 0);
    }

    #[test]
    fn what_we_deregister_ourselves_is_no_removal() {
        let (mut removals, now) = (Removals::default(), epoch());
        for _ in 0..5 {
            removals.registered(target(), now);
            removals.described(&listing(Some(TargetState::Initial)), now, now);
            removals.deregistered(&target());
            removals.described(&listing(Some(TargetState::Draining)), now, now);
        }
        assert_eq!(
            (removals.fights(), removals.not_before(&target(), now)),
            (0, None)
        );
    }

    #[test]
    fn a_target_that_something_else_deregisters_is_registered_again_at_once() {
        let (mut removals, now) = (Removals::default(), epoch());
        removals.described(&listing(Some(TargetState::Healthy)), now, now);
        removals.described(&listing(Some(TargetState::Draining)), now, now);
        assert_eq!(removals.not_before(&target(), now), None);
        assert_eq!(
            removals.known.get(&target()).map(|known| known.removals),
            Some(1)
        );
    }
}
