//! What was learned of groups, kept while no pod waits for them.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::gates::polling::schedule::{Flip, History, Window};
use crate::names::GroupKey;

/// Groups that are remembered; who was not asked about for longest goes first.
const MOST_GROUPS: usize = 4096;
/// Answers that are remembered of each.
const ANSWERS: usize = 32;
/// Kinds of groups that are remembered: those of equal health checks are of one kind.
const MOST_KINDS: usize = 64;
/// Answers that are remembered of each kind.
const ANSWERS_OF_A_KIND: usize = 512;

/// Histories of groups, and of all groups of a kind.
#[derive(Debug, Default)]
pub(crate) struct Learned {
    groups: BTreeMap<GroupKey, GroupTimings>,
    /// The groups by the time of their last use.
    order: BTreeMap<u64, GroupKey>,
    uses: u64,
    kinds: BTreeMap<Option<Duration>, History>,
}

#[derive(Debug)]
struct GroupTimings {
    history: History,
    /// Health check interval times healthy threshold.
    checks: Option<Duration>,
    used: u64,
}

/// When the pods of a group may be expected.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Expected {
    /// As the group's own looks have shown: good enough to look rarely before.
    pub(crate) known: Option<Window>,
    /// As that, or as groups of its kind have shown: good enough to say which group comes first.
    pub(crate) guessed: Option<Window>,
}

impl Learned {
    /// When the pods of this group may be expected.
    pub(crate) fn expected(&self, group: &GroupKey) -> Expected {
        let own = self.groups.get(group);
        let known = own.and_then(|own| own.history.window());
        let known = known.filter(|window| window.sharp);
        let checks = own.and_then(|own| own.checks);
        let kind = || self.kinds.get(&checks)?.window();
        Expected {
            known,
            guessed: known.or_else(kind),
        }
    }

    /// An answer showed pods of a group healthy for the first time, out of so many that waited.
    pub(crate) fn learn(&mut self, group: &GroupKey, flips: &[Flip], waiting: usize) {
        if flips.is_empty() {
            return;
        }
        let known = self.known(group);
        known.history.learn(flips, waiting);
        let kind = known.checks;
        if !self.kinds.contains_key(&kind) && self.kinds.len() >= MOST_KINDS {
            self.kinds.clear();
        }
        let of_a_kind = || History::new(ANSWERS_OF_A_KIND);
        let history = self.kinds.entry(kind).or_insert_with(of_a_kind);
        history.learn(flips, waiting);
    }

    /// The group's health check interval times healthy threshold. What was learned under another one
    /// is forgotten.
    pub(crate) fn note_checks(&mut self, group: &GroupKey, checks: Duration) {
        let known = self.known(group);
        if known.checks.is_some_and(|before| before != checks) {
            known.history = History::new(ANSWERS);
        }
        known.checks = Some(checks);
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
        let mut memory = Learned::default();
        memory.learn(&group("web"), &at(20), 5);
        let web = memory.expected(&group("web"));
        assert_eq!(web.known, web.guessed);
        assert!(web.known.is_some());
        let api = memory.expected(&group("api"));
        assert_eq!((api.known, api.guessed.is_some()), (None, true));
    }

    #[test]
    fn groups_of_other_health_checks_are_of_another_kind() {
        let mut memory = Learned::default();
        memory.note_checks(&group("web"), 30 * S);
        memory.note_checks(&group("api"), 150 * S);
        memory.learn(&group("web"), &at(20), 5);
        assert!(memory.expected(&group("api")).guessed.is_none());
    }

    #[test]
    fn what_was_learned_under_other_health_checks_is_forgotten() {
        let mut memory = Learned::default();
        memory.note_checks(&group("web"), 30 * S);
        memory.learn(&group("web"), &at(20), 5);
        memory.note_checks(&group("web"), 30 * S);
        assert!(memory.expected(&group("web")).known.is_some());
        memory.note_checks(&group("web"), 10 * S);
        assert!(memory.expected(&group("web")).known.is_none());
    }

    #[test]
    fn groups_that_were_not_used_for_longest_are_forgotten() {
        let mut memory = Learned::default();
        memory.learn(&group("first"), &at(20), 5);
        memory.learn(&group("second"), &at(20), 5);
        for number in 2..MOST_GROUPS {
            memory.learn(&group(&format!("g-{number}")), &at(20), 5);
        }
        memory.learn(&group("first"), &at(20), 5);
        memory.learn(&group("last"), &at(20), 5);
        assert_eq!(
            (memory.groups.len(), memory.order.len()),
            (MOST_GROUPS, MOST_GROUPS)
        );
        assert!(memory.expected(&group("first")).known.is_some());
        assert!(memory.expected(&group("second")).known.is_none());
    }
}
