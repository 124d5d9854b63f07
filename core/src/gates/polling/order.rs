//! In which order due groups are polled, and which need not be ranked because the budget has just refused a call.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::time::Instant;

use crate::names::Quota;

/// The rank of a due group; the least is polled first.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rank {
    pub(crate) throttled: bool,
    pub(crate) waits_long: bool,
    pub(crate) fresh: bool,
    pub(crate) late: f64,
    pub(crate) since: Instant,
}

impl Rank {
    /// The order in which groups are polled.
    pub(crate) fn compare(&self, other: &Self) -> Ordering {
        let throttled = self.throttled.cmp(&other.throttled);
        throttled
            // Hundreds of groups whose pods have waited for long cost the others no call.
            .then(self.waits_long.cmp(&other.waits_long))
            // A group with pods that were never polled goes first (contract 5.7: freshest first).
            .then(other.fresh.cmp(&self.fresh))
            .then(other.late.total_cmp(&self.late))
            // Ties go to the group that is longest overdue.
            .then(self.since.cmp(&other.since))
    }
}

/// A refusal of the budget.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Refusal {
    /// Before this time, the budget is not asked again.
    pub(crate) until: Instant,
    /// Whether a likely poll was refused.
    pub(crate) likely: bool,
}

impl Refusal {
    /// Whether another poll, likely or not, would be refused as well: a likely one has to leave the fewest tokens.
    pub(crate) fn covers(self, likely: bool) -> bool {
        self.likely || !likely
    }
}

/// The quotas whose budget refused a call. Their due groups are not ranked until it may allow one.
#[derive(Debug, Default)]
pub(crate) struct Refusals(BTreeMap<Quota, Refusal>);

impl Refusals {
    /// Forgets what is over.
    pub(crate) fn expire(&mut self, now: Instant) {
        self.0.retain(|_, refusal| now < refusal.until);
    }

    /// Notes a refusal, while the next group of the quota becomes due at `next`.
    pub(crate) fn note(&mut self, quota: Quota, refusal: Refusal, next: Option<Instant>) {
        self.0.insert(quota.clone(), refusal);
        if let Some(next) = next {
            self.due_at(&quota, next);
        }
    }

    /// A group of the quota becomes due: it may be likely, and then need not wait for what was refused.
    pub(crate) fn due_at(&mut self, quota: &Quota, next: Instant) {
        let refusal = self.0.get_mut(quota);
        if let Some(refusal) = refusal.filter(|refusal| !refusal.covers(true)) {
            refusal.until = refusal.until.min(next);
        }
    }

    pub(crate) fn has(&self, quota: &Quota) -> bool {
        self.0.contains_key(quota)
    }

    /// When the first refusal is over.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.0.values().map(|refusal| refusal.until).min()
    }
}
