//! What ELB answered, and what a gate makes of it.

use std::collections::{BTreeMap, BTreeSet};

use crate::gates::condition;
use crate::gates::polling::group::Target;
use crate::model::TargetHealth;

/// What ELB answered about one group.
pub(crate) struct PollResult<'a> {
    /// The targets that were asked for; empty for all of the group. Of others it says nothing.
    asked: BTreeSet<Target>,
    told: BTreeMap<Target, &'a TargetHealth>,
}

impl<'a> PollResult<'a> {
    /// `told` in answer to a call for the targets `asked`.
    pub(crate) fn new(asked: BTreeSet<Target>, told: &'a [TargetHealth]) -> Self {
        Self {
            asked,
            told: told.iter().map(|health| (health.target, health)).collect(),
        }
    }

    /// The targets that are registered.
    pub(crate) fn registered(&self) -> BTreeSet<Target> {
        let told = self.told.iter();
        let registered = told.filter(|(_, health)| condition::is_in_group(health));
        registered.map(|(target, _)| *target).collect()
    }

    /// The health of a target; `None` where the group has no such target.
    pub(crate) fn of(&self, target: &Target) -> Option<&'a TargetHealth> {
        self.told.get(target).copied()
    }

    /// Whether it says anything of a target.
    pub(crate) fn is_about(&self, target: &Target) -> bool {
        self.asked.is_empty() || self.asked.contains(target)
    }
}

/// What a gate has heard.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct CheckResult {
    /// The group's proving time is needed to go on.
    pub(crate) unproven: bool,
    /// ELB said healthy, and meant this pod.
    pub(crate) healthy: bool,
}
