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
fn an_arn_that_aws_rejects_is_not_missing_and_spoils_no_batch() {
    let start = epoch();
    let mut sweep = Sweep::default();
    sweep.name(groups(0..2), start);
    let mut now = start + FIRST;
    for _ in 0..3 {
        let batch = sweep.next(now).unwrap();
        sweep.begin(&batch, now);
        let rejected = batch.groups.contains(&group("g-0"));
        let arns: Vec<_> = batch.groups.iter().map(|group| group.arn.clone()).collect();
        let outcome = match rejected {
            true => Swept::Rejected,
            false => Swept::Found(&arns),
        };
        assert_eq!(sweep.ended(&batch.groups, outcome, now), []);
        now += PAUSE;
    }
    assert_eq!(sweep.missing_groups(), 0);
    now += PERIOD;
    assert_eq!(sweep.next(now).unwrap().groups, [group("g-1")]);
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
