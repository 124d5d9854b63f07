//! Calls of ELB for the measurement alone (`--measure-drain`): at most one at a time, and one a second in all.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::names::GroupKey;

/// The pause between two calls. Contract 9.
const PAUSE: Duration = Duration::from_secs(1);
/// A group whose call failed is asked again after this pause. Chosen: the measurement has no hurry.
const AFTER_FAILURE: Duration = Duration::from_secs(30);
/// A call names at most this many targets. Chosen, as for polls (docs/schedule.md).
const MOST_NAMED: usize = 100;

/// A call of `DescribeTargetHealth` for the measurement alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Look {
    pub group: GroupKey,
    /// The targets that the call names, at least one.
    pub targets: BTreeSet<(IpAddr, u16)>,
}

impl Look {
    pub(crate) fn new(group: GroupKey, targets: impl Iterator<Item = (IpAddr, u16)>) -> Self {
        let targets = targets.take(MOST_NAMED).collect();
        Self { group, targets }
    }
}

/// When which group may be asked.
#[derive(Debug, Default)]
pub(crate) struct Looks {
    /// No call before this time.
    paused_until: Option<Instant>,
    in_flight: bool,
    /// When each group was asked last, or from when on it may be asked again.
    asked: BTreeMap<GroupKey, Instant>,
}

impl Looks {
    /// The group to ask now: the one that was asked first of those that may be asked. The error is when one may be.
    pub(crate) fn next(
        &self,
        awaited: &BTreeMap<GroupKey, BTreeSet<Arc<str>>>,
        now: Instant,
    ) -> Result<GroupKey, Option<Instant>> {
        // The end of the call in flight wakes the loop.
        if self.in_flight || awaited.is_empty() {
            return Err(None);
        }
        if let Some(until) = self.paused_until.filter(|until| now < *until) {
            return Err(Some(until));
        }
        let asked = |group: &&GroupKey| self.asked.get(*group).copied();
        let group = awaited.keys().min_by_key(asked).ok_or(None)?;
        match asked(&group).filter(|at| now < *at) {
            Some(at) => Err(Some(at)),
            None => Ok(group.clone()),
        }
    }

    pub(crate) fn begin(&mut self, group: &GroupKey, now: Instant) {
        self.in_flight = true;
        self.paused_until = Some(now + PAUSE);
        self.asked.insert(group.clone(), now);
    }

    pub(crate) fn put_off(&mut self, group: &GroupKey, now: Instant) {
        self.asked.insert(group.clone(), now + PAUSE);
    }

    pub(crate) fn end(&mut self, group: &GroupKey, failed: bool, now: Instant) {
        self.in_flight = false;
        if failed {
            self.asked.insert(group.clone(), now + AFTER_FAILURE);
        }
    }

    /// Forgets the groups that are not awaited any more.
    pub(crate) fn retain(&mut self, awaited: &BTreeMap<GroupKey, BTreeSet<Arc<str>>>) {
        self.asked.retain(|group, _| awaited.contains_key(group));
    }
}
