//! Rechecks: polls for the open gates that follow ELB (contract 5.6), of groups whose waiting pods have not been
//! polled for as long.
//!
//! They have a queue of their own, so that thousands of them neither crowd the groups of waiting pods out of the
//! ranking, nor wake the loop more often than their budget allows.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use crate::names::{GroupKey, Quota};

/// The time from a poll of a whole group until the recheck of its open gates. Contract 5.6.
const EVERY: Duration = Duration::from_secs(30);

/// When to recheck a group that is known `since` then, and was last asked for as a whole at `whole`.
pub(crate) fn next(whole: Option<Instant>, since: Instant) -> Instant {
    whole.map_or(since, |whole| whole + EVERY)
}

/// The groups with open gates that follow ELB, by their next recheck.
#[derive(Debug, Default)]
pub(crate) struct Rechecks {
    queues: BTreeMap<Quota, BTreeSet<(Instant, GroupKey)>>,
    /// The quotas whose budget refused a recheck, and until when.
    refused: BTreeMap<Quota, Instant>,
}

impl Rechecks {
    pub(crate) fn join(&mut self, quota: &Quota, at: Instant, group: &GroupKey) {
        let queue = self.queues.entry(quota.clone()).or_default();
        queue.insert((at, group.clone()));
    }

    pub(crate) fn leave(&mut self, quota: &Quota, at: Instant, group: &GroupKey) {
        if let Some(queue) = self.queues.get_mut(quota) {
            queue.remove(&(at, group.clone()));
            if queue.is_empty() {
                self.queues.remove(quota);
            }
        }
    }

    /// For each quota, the group that is longest due and when it became so, unless the budget has just refused one.
    pub(crate) fn due(&mut self, now: Instant) -> Vec<(Quota, Instant, GroupKey)> {
        self.refused.retain(|_, until| now < *until);
        let queues = self.queues.iter();
        let queues = queues.filter(|(quota, _)| !self.refused.contains_key(quota));
        let first = queues.filter_map(|(quota, queue)| Some((quota, queue.first()?)));
        let due = first.filter(|(_, (at, _))| *at <= now);
        due.map(|(quota, (at, group))| (quota.clone(), *at, group.clone()))
            .collect()
    }

    /// The budget refused a recheck of this quota.
    pub(crate) fn refuse(&mut self, quota: Quota, until: Instant) {
        self.refused.insert(quota, until);
    }

    /// When a recheck may be started next.
    pub(crate) fn next(&self) -> Option<Instant> {
        let nexts = self.queues.iter().filter_map(|(quota, queue)| {
            let (at, _) = queue.first()?;
            let refused = self.refused.get(quota);
            Some(refused.map_or(*at, |until| *at.max(until)))
        });
        nexts.min()
    }
}
