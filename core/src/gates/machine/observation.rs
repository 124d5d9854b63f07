//! What ELB answered to one poll, and what that changed for a gate.

use std::collections::{BTreeMap, BTreeSet};

use crate::gates::condition;
use crate::gates::polling::group::Target;
use crate::model::TargetHealth;

/// The answer of ELB to one poll.
pub(crate) struct PollResult<'a> {
    /// The targets that the call named; empty for the whole group. Other targets are unknown, not absent.
    named: BTreeSet<Target>,
    listed: BTreeMap<Target, &'a TargetHealth>,
}

impl<'a> PollResult<'a> {
    /// The answer that lists `listed`, to a call that named `named`.
    pub(crate) fn new(named: BTreeSet<Target>, listed: &'a [TargetHealth]) -> Self {
        Self {
            named,
            listed: listed
                .iter()
                .map(|health| (health.target, health))
                .collect(),
        }
    }

    /// The targets that are registered.
    pub(crate) fn registered(&self) -> BTreeSet<Target> {
        let listed = self.listed.iter();
        let registered = listed.filter(|(_, health)| condition::is_in_group(health));
        registered.map(|(target, _)| *target).collect()
    }

    /// The health of a target; `None` where the group has no such target.
    pub(crate) fn of(&self, target: &Target) -> Option<&'a TargetHealth> {
        self.listed.get(target).copied()
    }

    /// Whether the call asked about a target.
    pub(crate) fn is_about(&self, target: &Target) -> bool {
        self.named.is_empty() || self.named.contains(target)
    }
}

/// What one answer changed for a gate.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct CheckResult {
    /// The gate needs the group's proving time to go on.
    pub(crate) unproven: bool,
    /// ELB called its targets healthy, and meant this pod.
    pub(crate) healthy: bool,
}
