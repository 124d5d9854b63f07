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
    /// The halves of batches that failed, which go first.
    halves: VecDeque<Vec<GroupKey>>,
    named_at: Option<Instant>,
    /// No call is made before this time.
    paused_until: Option<Instant>,
}

/// What is known of a group.
#[derive(Debug)]
struct Checked {
    /// When it is to be asked about.
    due: Instant,
    missing: bool,
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
        self.groups.retain(|group, _| named.contains(group));
        for group in named {
            let new = || Checked {
                due: now + FIRST,
                missing: false,
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
        let first = |missing: bool| {
            let groups = self.groups.iter();
            let groups = groups.filter(|(_, checked)| checked.missing == missing);
            groups.min_by_key(|(_, checked)| checked.due)
        };
        let (there, missing) = (first(false), first(true));
        let dues = [there, missing].into_iter().flatten();
        let due = |found: &(&GroupKey, &Checked)| found.1.due <= now;
        // Groups that are there go first: of a missing one, it has been told.
        let Some((group, checked)) = there.filter(due).or(missing.filter(due)) else {
            return Err(dues.map(|(_, checked)| checked.due).min());
        };
        let groups = match checked.missing {
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
        let there = groups.filter(|(other, checked)| !checked.missing && joins(other));
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
        self.postpone(&batch.groups, now + RETRY);
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
                self.postpone(groups, now + PERIOD);
                vec![]
            }
            // The batch is asked about again after its pause.
            Swept::Failed => vec![],
        }
    }

    /// Notes that AWS has a group, as an answer to any call shows.
    pub fn found(&mut self, group: &GroupKey, now: Instant) {
        if let Some(checked) = self.groups.get_mut(group) {
            let due = now + PERIOD;
            *checked = Checked {
                due,
                missing: false,
            };
        }
    }

    /// Notes that AWS does not have a group. Returns whether that is new.
    pub fn missing(&mut self, group: &GroupKey, now: Instant) -> bool {
        let checked = Checked {
            due: now + PERIOD,
            missing: true,
        };
        let before = self.groups.insert(group.clone(), checked);
        before.is_none_or(|before| !before.missing)
    }

    /// The number of groups that AWS does not have.
    pub fn missing_groups(&self) -> usize {
        let groups = self.groups.values();
        groups.filter(|checked| checked.missing).count()
    }

    /// Notes groups as missing. Returns those that are newly so.
    fn note_missing(&mut self, groups: Vec<&GroupKey>, now: Instant) -> Vec<GroupKey> {
        let groups = groups.into_iter();
        let newly = groups.filter(|group| self.missing(group, now));
        newly.cloned().collect()
    }

    fn postpone(&mut self, groups: &[GroupKey], due: Instant) {
        for group in groups {
            if let Some(checked) = self.groups.get_mut(group) {
                checked.due = due;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::{arn, epoch};

    const S: Duration = Duration::from_secs(1);

    fn group(name: &str) -> GroupKey {
        GroupKey {
            arn: arn(name),
            role: None,
        }
    }

    fn groups(numbers: std::ops::Range<usize>) -> BTreeSet<GroupKey> {
        numbers
            .map(|number| group(&format!("g-{number}")))
            .collect()
    }

    /// AWS, which has all groups but these, and a budget that grants all calls.
    struct Aws {
        sweep: Sweep,
        now: Instant,
        gone: BTreeSet<GroupKey>,
        calls: usize,
        told: Vec<(GroupKey, Instant)>,
    }

    impl Aws {
        fn with(named: BTreeSet<GroupKey>) -> Self {
            let mut sweep = Sweep::default();
            sweep.name(named, epoch());
            Self {
                sweep,
                now: epoch(),
                gone: BTreeSet::new(),
                calls: 0,
                told: vec![],
            }
        }

        fn pass(&mut self, time: Duration) {
            let end = self.now + time;
            while self.now < end {
                match self.sweep.next(self.now) {
                    Ok(batch) => self.call(&batch),
                    Err(again) => self.now = again.unwrap_or(end).min(end),
                }
            }
        }

        fn call(&mut self, batch: &Batch) {
            assert!((1..=MOST_ARNS).contains(&batch.groups.len()));
            self.sweep.begin(batch, self.now);
            self.calls += 1;
            let arns: Vec<_> = batch.groups.iter().map(|group| group.arn.clone()).collect();
            let outcome = match batch.groups.iter().any(|group| self.gone.contains(group)) {
                true => Swept::NotFound,
                false => Swept::Found(&arns),
            };
            let newly = self.sweep.ended(&batch.groups, outcome, self.now);
            self.told
                .extend(newly.into_iter().map(|group| (group, self.now)));
        }
    }

    #[test]
    fn twenty_groups_cost_one_call_in_four_minutes() {
        let mut aws = Aws::with(groups(0..20));
        aws.pass(3600 * S);
        assert_eq!(aws.calls, 15);
        let mut aws = Aws::with(groups(0..41));
        aws.pass(3600 * S);
        assert!((40..=50).contains(&aws.calls), "{}", aws.calls);
    }

    #[test]
    fn groups_that_are_dropped_are_told_once_within_five_minutes() {
        for (all, gone) in [(1, 1), (20, 1), (100, 100), (500, 3)] {
            let mut aws = Aws::with(groups(0..all));
            aws.pass(1_000 * S);
            assert_eq!(aws.told, []);
            let dropped = aws.now;
            aws.gone = groups(0..gone);
            aws.pass(3_600 * S);
            let told: BTreeSet<_> = aws.told.iter().map(|(group, _)| group.clone()).collect();
            assert_eq!((told, aws.told.len()), (aws.gone.clone(), gone));
            let last = aws.told.iter().map(|(_, at)| *at - dropped).max();
            assert!(last.unwrap() <= 300 * S, "{all} {gone}: {last:?}");
            assert_eq!(aws.sweep.missing_groups(), gone);
        }
    }

    #[test]
    fn a_missing_group_costs_one_call_in_four_minutes_and_spoils_no_batch() {
        let mut aws = Aws::with(groups(0..20));
        aws.gone = groups(0..1);
        aws.pass(600 * S);
        aws.calls = 0;
        aws.pass(2_400 * S);
        assert!((20..=21).contains(&aws.calls), "{}", aws.calls);
    }

    #[test]
    fn a_group_that_is_there_again_is_missing_no_more_and_told_anew_when_it_goes() {
        let mut aws = Aws::with(groups(0..2));
        aws.gone = groups(0..1);
        aws.pass(600 * S);
        aws.gone.clear();
        aws.pass(600 * S);
        assert_eq!(aws.sweep.missing_groups(), 0);
        aws.gone = groups(0..1);
        aws.pass(600 * S);
        assert_eq!(aws.told.len(), 2);
    }

    #[test]
    fn a_group_that_no_binding_names_any_more_is_forgotten() {
        let mut aws = Aws::with(groups(0..2));
        aws.gone = groups(0..1);
        aws.pass(600 * S);
        aws.sweep.name(groups(1..2), aws.now);
        assert_eq!(aws.sweep.missing_groups(), 0);
        aws.sweep.name(BTreeSet::new(), aws.now);
        aws.now += 600 * S;
        assert_eq!(aws.sweep.next(aws.now), Err(None));
    }

    #[test]
    fn groups_of_another_account_or_role_are_asked_about_apart() {
        let ours = group("web");
        let mut role = ours.clone();
        role.role = Some(AssumedRole {
            arn: "arn:aws:iam::210987654321:role/r".into(),
            external_id: None,
        });
        let mut theirs = ours.clone();
        let arn = ours
            .arn
            .as_str()
            .replace(ours.arn.account(), "210987654321");
        theirs.arn = arn.parse().unwrap();
        let mut aws = Aws::with([ours, role, theirs].into());
        aws.pass(FIRST + 2 * S);
        assert_eq!(aws.calls, 3);
    }

    #[test]
    fn polls_that_find_a_group_spare_it_the_sweep() {
        let mut aws = Aws::with(groups(0..1));
        for _ in 0..100 {
            aws.pass(60 * S);
            aws.sweep.found(&group("g-0"), aws.now);
        }
        assert_eq!(aws.calls, 0);
        assert!(aws.sweep.missing(&group("g-0"), aws.now));
        assert!(!aws.sweep.missing(&group("g-0"), aws.now));
    }

    #[test]
    fn a_failed_call_says_nothing_and_is_made_again_after_a_minute() {
        let start = epoch();
        let mut sweep = Sweep::default();
        sweep.name(groups(0..3), start);
        let now = start + FIRST;
        let batch = sweep.next(now).unwrap();
        sweep.begin(&batch, now);
        assert_eq!(sweep.ended(&batch.groups, Swept::Failed, now), []);
        assert_eq!(sweep.next(now + S), Err(Some(now + RETRY)));
        assert!(sweep.next(now + RETRY).is_ok());
    }

    #[test]
    fn a_call_that_the_budget_keeps_waiting_becomes_urgent_and_is_then_made_rarely() {
        let start = epoch();
        let mut sweep = Sweep::default();
        sweep.name(groups(0..40), start);
        assert!(!sweep.next(start + FIRST).unwrap().urgent);
        let late = start + FIRST + PATIENCE;
        let batch = sweep.next(late).unwrap();
        assert!(batch.urgent);
        sweep.begin(&batch, late);
        assert_eq!(sweep.next(late), Err(Some(late + PAUSE_UNDER_PRESSURE)));
    }
}
