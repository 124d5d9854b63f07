//! What was learned of groups in earlier rollouts, timings above all, kept while no pod waits for the group.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::gates::polling::schedule::{Flip, History, Window};
use crate::names::GroupKey;

/// Timings of at most this many groups are kept, and the least recently used is evicted. Chosen
/// (docs/schedule.md).
const MOST_GROUPS: usize = 4096;
/// The history of a group keeps this many answers. Chosen (docs/schedule.md).
const ANSWERS: usize = 32;
/// Timings are kept for at most this many values of interval × threshold; one more clears them all.
/// Chosen: it bounds the memory.
const MOST_CHECKS: usize = 64;
/// The history shared by groups with the same checks keeps this many answers, as much as 16 groups have.
/// Chosen.
const ANSWERS_OF_SAME_CHECKS: usize = 512;

/// Timings of each group, and of all groups with the same checks together.
#[derive(Debug, Default)]
pub(crate) struct Learned {
    groups: BTreeMap<GroupKey, GroupTimings>,
    /// The groups in the order of their last use, for eviction.
    order: BTreeMap<u64, GroupKey>,
    uses: u64,
    same_checks: BTreeMap<Option<Duration>, History>,
}

#[derive(Debug)]
struct GroupTimings {
    history: History,
    /// Health check interval times healthy threshold.
    checks: Option<Duration>,
    /// Whether ELB has rejected a call that named targets.
    rejects_names: bool,
    used: u64,
}

/// When the pods of a group are expected to become healthy.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Expected {
    /// The window of the group's own polls, if it is sharp enough to poll rarely before it opens.
    pub(crate) known: Option<Window>,
    /// The same, or else the window of groups with the same checks, which is good enough to rank groups.
    pub(crate) guessed: Option<Window>,
}

impl Learned {
    /// When the pods of this group are expected to become healthy.
    pub(crate) fn expected(&self, group: &GroupKey) -> Expected {
        let own = self.groups.get(group);
        let known = own.and_then(|own| own.history.window());
        let known = known.filter(|window| window.sharp);
        let checks = own.and_then(|own| own.checks);
        let same_checks = || self.same_checks.get(&checks)?.window();
        Expected {
            known,
            guessed: known.or_else(same_checks),
        }
    }

    /// Learns from an answer that showed these pods of a group healthy for the first time, out of `waiting`.
    pub(crate) fn learn(&mut self, group: &GroupKey, flips: &[Flip], waiting: usize) {
        if flips.is_empty() {
            return;
        }
        let known = self.known(group);
        known.history.learn(flips, waiting);
        // Without a history, the group is polled each second and shows precisely when its pods become healthy.
        if known.history.is_outdated() {
            known.history = History::new(ANSWERS);
        }
        let checks = known.checks;
        if !self.same_checks.contains_key(&checks) && self.same_checks.len() >= MOST_CHECKS {
            self.same_checks.clear();
        }
        let of_same_checks = || History::new(ANSWERS_OF_SAME_CHECKS);
        let history = self
            .same_checks
            .entry(checks)
            .or_insert_with(of_same_checks);
        history.learn(flips, waiting);
    }

    /// Notes the group's health check interval times healthy threshold. Another value than before discards
    /// the group's timings.
    pub(crate) fn note_checks(&mut self, group: &GroupKey, checks: Duration) {
        let known = self.known(group);
        if known.checks.is_some_and(|before| before != checks) {
            known.history = History::new(ANSWERS);
        }
        known.checks = Some(checks);
    }

    /// Notes that ELB has rejected a call about the group that named targets.
    pub(crate) fn note_names_rejected(&mut self, group: &GroupKey) {
        self.known(group).rejects_names = true;
    }

    /// Whether calls about the group must not name targets.
    pub(crate) fn rejects_names(&self, group: &GroupKey) -> bool {
        let known = self.groups.get(group);
        known.is_some_and(|known| known.rejects_names)
    }

    fn known(&mut self, group: &GroupKey) -> &mut GroupTimings {
        self.uses += 1;
        let used = self.uses;
        if let Some(known) = self.groups.get(group) {
            self.order.remove(&known.used);
        } else if self.groups.len() >= MOST_GROUPS
            && let Some((_, oldest)) = self.order.pop_first()
        {
            self.groups.remove(&oldest);
        }
        self.order.insert(used, group.clone());
        let known = self
            .groups
            .entry(group.clone())
            .or_insert_with(|| GroupTimings {
                history: History::new(ANSWERS),
                checks: None,
                rejects_names: false,
                used,
            });
        known.used = used;
        known
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::arn;

    const S: Duration = Duration::from_secs(1);

    fn group(name: &str) -> GroupKey {
        GroupKey {
            arn: arn(name),
            role: None,
        }
    }

    fn at(seconds: u32) -> [Flip; 1] {
        [Flip {
            after: seconds * S - S,
            by: seconds * S,
        }]
    }

    #[test]
    fn a_group_is_expected_as_it_was_seen_and_others_as_their_kind() {
        let mut learned = Learned::default();
        learned.learn(&group("web"), &at(20), 5);
        let web = learned.expected(&group("web"));
        assert_eq!(web.known, web.guessed);
        assert!(web.known.is_some());
        let api = learned.expected(&group("api"));
        assert_eq!((api.known, api.guessed.is_some()), (None, true));
    }

    #[test]
    fn groups_of_other_health_checks_are_of_another_kind() {
        let mut learned = Learned::default();
        learned.note_checks(&group("web"), 30 * S);
        learned.note_checks(&group("api"), 150 * S);
        learned.learn(&group("web"), &at(20), 5);
        assert!(learned.expected(&group("api")).guessed.is_none());
    }

    #[test]
    fn what_was_learned_under_other_health_checks_is_forgotten() {
        let mut learned = Learned::default();
        learned.note_checks(&group("web"), 30 * S);
        learned.learn(&group("web"), &at(20), 5);
        learned.note_checks(&group("web"), 30 * S);
        assert!(learned.expected(&group("web")).known.is_some());
        learned.note_checks(&group("web"), 10 * S);
        assert!(learned.expected(&group("web")).known.is_none());
    }

    #[test]
    fn groups_that_were_not_used_for_longest_are_forgotten() {
        let mut learned = Learned::default();
        learned.learn(&group("first"), &at(20), 5);
        learned.learn(&group("second"), &at(20), 5);
        for number in 2..MOST_GROUPS {
            learned.learn(&group(&format!("g-{number}")), &at(20), 5);
        }
        learned.learn(&group("first"), &at(20), 5);
        learned.learn(&group("last"), &at(20), 5);
        assert_eq!(
            (learned.groups.len(), learned.order.len()),
            (MOST_GROUPS, MOST_GROUPS)
        );
        assert!(learned.expected(&group("first")).known.is_some());
        assert!(learned.expected(&group("second")).known.is_none());
    }
}
