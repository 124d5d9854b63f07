//! Sweep: which target groups AWS is asked about next although no pod waits for them, so that a group that
//! bindings name and AWS does not have is found within five minutes (contract 5.7).
//!
//! One `DescribeTargetGroups` asks about many groups, and fails as a whole for one that does not exist: a failed
//! batch is halved until that one is alone. Time is passed in.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use crate::names::{AssumedRole, GroupKey, Quota, TargetGroupArn};

/// Each group is asked about so often. Chosen, so that a missing one is told within five minutes (contract 5.7).
const PERIOD: Duration = Duration::from_secs(240);
/// A group is asked about first so long after a binding names it, or this replica leads. Chosen: the hook has
/// just checked a new binding, and groups that become known together are asked about together.
const FIRST: Duration = Duration::from_secs(120);
/// A batch whose call failed is asked about again after this pause. Chosen.
const RETRY: Duration = Duration::from_secs(60);
/// The groups that bindings name are taken in so often. Chosen: it costs a walk over all bindings.
const NAMES_EVERY: Duration = Duration::from_secs(15);
/// The pause between two calls. Chosen: 9,600 groups are asked about in a period.
const PAUSE: Duration = Duration::from_millis(500);
/// A batch that is overdue by this time does not leave the saved share of the burst to the polls any more. Chosen.
const PATIENCE: Duration = Duration::from_secs(30);
/// The pause between two such calls. Chosen: a tenth of the lowest rate.
const PAUSE_UNDER_PRESSURE: Duration = Duration::from_secs(5);
/// The most ARNs of one call. AWS.
const MOST_ARNS: usize = 20;

/// The groups that bindings name, and what is known of each.
#[derive(Debug, Default)]
pub struct Sweep {
    groups: BTreeMap<GroupKey, Checked>,
    missing: BTreeSet<GroupKey>,
    /// The halves of batches that failed, which go first.
    halves: VecDeque<Vec<GroupKey>>,
    /// No group is due before this time; `None` where that has to be looked up.
    next_due: Option<Instant>,
    named_at: Option<Instant>,
    /// No call is made before this time.
    paused_until: Option<Instant>,
}

/// What is known of a group.
#[derive(Debug)]
struct Checked {
    /// When it is to be asked about.
    due: Instant,
    /// Whether it is asked about alone, because it would fail the call for others.
    alone: bool,
}

/// One call to make: groups of one quota, asked about by one role.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    /// At least one group, and at most 20.
    pub groups: Vec<GroupKey>,
    /// Whether the call has waited for so long that it does not leave the saved share of the burst to others.
    pub urgent: bool,
}

impl Batch {
    /// The quota that the call counts against.
    pub fn quota(&self) -> Option<Quota> {
        Some(Quota::of(&self.groups.first()?.arn))
    }

    /// The role that makes the call.
    pub fn role(&self) -> Option<&AssumedRole> {
        self.groups.first()?.role.as_ref()
    }
}

/// How the call of a batch ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Swept<'a> {
    /// AWS has these groups.
    Found(&'a [TargetGroupArn]),
    /// AWS does not have one of the groups.
    NotFound,
    /// AWS rejects one of the ARNs.
    Rejected,
    /// The call says nothing about the groups.
    Failed,
}

impl Sweep {
    /// Whether it is time to take in the groups that bindings name.
    pub fn wants_names(&self, now: Instant) -> bool {
        self.named_at.is_none_or(|at| now >= at + NAMES_EVERY)
    }

    /// Takes in the groups that bindings name by now.
    pub fn name(&mut self, named: BTreeSet<GroupKey>, now: Instant) {
        self.named_at = Some(now);
        self.next_due = None;
        self.groups.retain(|group, _| named.contains(group));
        self.missing.retain(|group| named.contains(group));
        for group in named {
            let new = || Checked {
                due: now + FIRST,
                alone: false,
            };
            self.groups.entry(group).or_insert_with(new);
        }
    }

    /// The call that is due; the error is when to ask for one again, `None` while there are no groups.
    ///
    /// # Errors
    /// No call is due.
    pub fn next(&mut self, now: Instant) -> Result<Batch, Option<Instant>> {
        if let Some(until) = self.paused_until.filter(|until| now < *until) {
            return Err(Some(until));
        }
        while let Some(half) = self.halves.front_mut() {
            half.retain(|group| self.groups.contains_key(group));
            if !half.is_empty() {
                let groups = half.clone();
                let urgent = true;
                return Ok(Batch { groups, urgent });
            }
            self.halves.pop_front();
        }
        if let Some(due) = self.next_due.filter(|due| now < *due) {
            return Err(Some(due));
        }
        let first = |alone: bool| {
            let groups = self.groups.iter();
            let groups = groups.filter(|(_, checked)| checked.alone == alone);
            groups.min_by_key(|(_, checked)| checked.due)
        };
        let (joined, alone) = (first(false), first(true));
        let due = |found: &(&GroupKey, &Checked)| found.1.due <= now;
        // Of those that are asked about alone, it is known what is the matter.
        let Some((group, checked)) = joined.filter(due).or(alone.filter(due)) else {
            let dues = [joined, alone].into_iter().flatten();
            self.next_due = dues.map(|(_, checked)| checked.due).min();
            return Err(self.next_due);
        };
        let groups = match checked.alone {
            true => vec![group.clone()],
            false => self.batch_with(group),
        };
        let urgent = now >= checked.due + PATIENCE;
        Ok(Batch { groups, urgent })
    }

    /// The groups that one call asks about together with this one: those that are due first.
    fn batch_with(&self, group: &GroupKey) -> Vec<GroupKey> {
        let quota = Quota::of(&group.arn);
        let joins = |other: &GroupKey| other.role == group.role && Quota::of(&other.arn) == quota;
        let groups = self.groups.iter();
        let there = groups.filter(|(other, checked)| !checked.alone && joins(other));
        let mut there: Vec<(Instant, &GroupKey)> =
            there.map(|(other, checked)| (checked.due, other)).collect();
        there.sort();
        let first = there.into_iter().take(MOST_ARNS);
        first.map(|(_, group)| group.clone()).collect()
    }

    /// Notes that the call of this batch was sent.
    pub fn begin(&mut self, batch: &Batch, now: Instant) {
        let is_half = self.halves.front() == Some(&batch.groups);
        if is_half {
            self.halves.pop_front();
        }
        let pause = match batch.urgent && !is_half {
            true => PAUSE_UNDER_PRESSURE,
            false => PAUSE,
        };
        self.paused_until = Some(now + pause);
        for group in &batch.groups {
            self.set(group, |checked| checked.due = now + RETRY);
        }
    }

    /// Takes in how the call of a batch ended. Returns the groups that are newly missing.
    pub fn ended(
        &mut self,
        groups: &[GroupKey],
        outcome: Swept<'_>,
        now: Instant,
    ) -> Vec<GroupKey> {
        match outcome {
            Swept::Found(arns) => {
                let (there, gone): (Vec<_>, Vec<_>) =
                    groups.iter().partition(|group| arns.contains(&group.arn));
                there.into_iter().for_each(|group| self.found(group, now));
                self.note_missing(gone, now)
            }
            Swept::NotFound | Swept::Rejected if groups.len() > 1 => {
                let (first, second) = groups.split_at(groups.len() / 2);
                self.halves.extend([first.to_vec(), second.to_vec()]);
                vec![]
            }
            Swept::NotFound => self.note_missing(groups.iter().collect(), now),
            // Whether a group of another account exists is not ours to know.
            Swept::Rejected => {
                for group in groups {
                    let (due, alone) = (now + PERIOD, true);
                    self.set(group, |checked| *checked = Checked { due, alone });
                }
                vec![]
            }
            // The batch is asked about again after its pause.
            Swept::Failed => vec![],
        }
    }

    /// Notes that AWS has a group, as an answer to any call shows.
    pub fn found(&mut self, group: &GroupKey, now: Instant) {
        self.missing.remove(group);
        let (due, alone) = (now + PERIOD, false);
        self.set(group, |checked| *checked = Checked { due, alone });
    }

    /// Notes that AWS does not have a group. Returns whether that is new.
    pub fn missing(&mut self, group: &GroupKey, now: Instant) -> bool {
        let (due, alone) = (now + PERIOD, true);
        self.groups.insert(group.clone(), Checked { due, alone });
        self.next_due = None;
        self.missing.insert(group.clone())
    }

    /// The number of groups that AWS does not have.
    pub fn missing_groups(&self) -> usize {
        self.missing.len()
    }

    /// Notes groups as missing. Returns those that are newly so.
    fn note_missing(&mut self, groups: Vec<&GroupKey>, now: Instant) -> Vec<GroupKey> {
        let groups = groups.into_iter();
        let newly = groups.filter(|group| self.missing(group, now));
        newly.cloned().collect()
    }

    fn set(&mut self, group: &GroupKey, change: impl FnOnce(&mut Checked)) {
        if let Some(checked) = self.groups.get_mut(group) {
            change(checked);
            let due = checked.due;
            self.next_due = self.next_due.map(|next| next.min(due));
        }
    }
}

#[cfg(test)]
mod tests;
