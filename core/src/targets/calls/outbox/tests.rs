use fastrand::Rng;
use rstest::rstest;

use super::*;
use crate::fixtures::{arn, epoch};
use crate::names::GroupKey;

const MS: Duration = Duration::from_millis(1);
const S: Duration = Duration::from_secs(1);

fn target(number: usize) -> Target {
    let [.., high, low] = u32::try_from(number).unwrap().to_be_bytes();
    ([10, 0, high, low].into(), 80)
}

fn targets(numbers: std::ops::Range<usize>) -> Vec<Target> {
    numbers.map(target).collect()
}

fn call_of(kind: Kind, targets: Vec<Named>, begun: Instant) -> Call {
    let group = GroupKey {
        arn: arn("web"),
        role: None,
    };
    Call {
        kind,
        group,
        targets,
        begun,
    }
}

fn refusal(kind: CallErrorKind, message: &str) -> CallError {
    CallError {
        kind,
        code: format!("{kind:?}").into(),
        message: message.into(),
    }
}

/// ELB with one group, to which the outbox sends what waits.
struct Elb {
    outbox: Outbox,
    now: Instant,
    waiting: Vec<Target>,
    registered: BTreeSet<Target>,
    bad: BTreeSet<Target>,
    outside: BTreeSet<Target>,
    limit: usize,
    calls: Vec<usize>,
}

impl Elb {
    fn with(waiting: Vec<Target>) -> Self {
        Self {
            outbox: Outbox::new(Kind::Register),
            now: epoch(),
            waiting,
            registered: BTreeSet::new(),
            bad: BTreeSet::new(),
            outside: BTreeSet::new(),
            limit: usize::MAX,
            calls: vec![],
        }
    }

    /// What becomes of a call.
    fn answer(&mut self, call: &Call) -> Result<(), CallError> {
        self.calls.push(call.targets.len());
        assert!((1..=MOST_TARGETS).contains(&call.targets.len()));
        if call
            .targets
            .iter()
            .any(|named| self.bad.contains(&named.target))
        {
            return Err(refusal(CallErrorKind::Target, "the target is bad"));
        }
        let wrong = call.targets.iter().find(|named| {
            self.outside.contains(&named.target) != (named.zone.as_deref() == Some("all"))
        });
        if let Some(wrong) = wrong {
            return Err(match wrong.zone {
                None => refusal(CallErrorKind::Target, "the address is not in the VPC"),
                Some(_) => refusal(
                    CallErrorKind::Target,
                    "it is within the VPC, and cannot have its Availability Zone overridden to 'all'",
                ),
            });
        }
        if self.registered.len() + call.targets.len() > self.limit {
            return Err(refusal(CallErrorKind::TooManyTargets, "too many"));
        }
        self.registered
            .extend(call.targets.iter().map(|named| named.target));
        Ok(())
    }

    /// Makes a call if one is due, and else lets time pass until one may be. Returns whether a call was made.
    fn step(&mut self) -> bool {
        self.waiting
            .retain(|target| !self.registered.contains(target));
        self.outbox.wait(&self.waiting, self.now);
        let Some(next) = self.outbox.next(&self.waiting, self.now) else {
            let due = self.outbox.due(self.now);
            self.now = due.map_or(self.now + S, |due| due.max(self.now + MS));
            return false;
        };
        let call = call_of(Kind::Register, next.targets, self.now);
        self.outbox.begin(&call);
        assert!(self.outbox.is_busy());
        let answer = self.answer(&call);
        self.now += MS;
        self.outbox.ended(&call, answer.as_ref().copied(), self.now);
        true
    }

    /// Runs for this long.
    fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        while self.now < end && !self.waiting.is_empty() {
            self.step();
            self.now = self.now.min(end);
        }
    }
}

#[test]
fn targets_that_come_together_share_calls_of_two_hundred() {
    let mut elb = Elb::with(targets(0..500));
    elb.pass(S);
    assert_eq!(elb.calls, [200, 200, 100]);
}

#[test]
fn a_call_waits_for_targets_that_come_a_little_later() {
    let mut elb = Elb::with(targets(0..1));
    let start = elb.now;
    for more in 1..5 {
        assert!(!elb.step());
        elb.now = start + u32::try_from(more).unwrap() * 10 * MS;
        elb.waiting.push(target(more));
    }
    elb.pass(S);
    assert_eq!(elb.calls, [5]);
}

#[rstest]
#[case::alone(1, 0)]
#[case::among_a_hundred(101, 57)]
#[case::first_of_two_hundred(200, 0)]
#[case::last_of_five_hundred(500, 499)]
fn one_bad_target_holds_up_none_of_the_others(#[case] all: usize, #[case] bad: usize) {
    // B3.
    let mut elb = Elb::with(targets(0..all));
    elb.bad = [target(bad)].into();
    elb.pass(S);
    assert_eq!(elb.registered.len(), all - 1);
    assert!(elb.calls.len() <= 2 + 2 * 9, "{:?}", elb.calls);
    let why = elb.outbox.why(&target(bad)).unwrap();
    assert_eq!(
        (why.reason, &*why.error.message),
        (Reason::TargetRefused, "the target is bad")
    );
    let before = elb.calls.len();
    elb.pass(600 * S);
    let tried = elb.calls.split_off(before);
    assert!(
        tried.iter().all(|targets| *targets == 1) && tried.len() <= 6,
        "{tried:?}"
    );
    elb.bad.clear();
    elb.pass(300 * S);
    assert_eq!(elb.registered.len(), all);
}

#[test]
fn targets_that_come_while_a_bad_one_waits_go_in_at_once() {
    let mut elb = Elb::with(targets(0..10));
    elb.bad = [target(3)].into();
    elb.pass(S);
    elb.waiting.push(target(10));
    elb.pass(S);
    assert!(elb.registered.contains(&target(10)));
}

#[test]
fn zones_are_learned_from_what_elb_says() {
    // B4: half of the targets are outside the VPC.
    let outside: Vec<Target> = (0..50).map(|n| ([100, 64, n, 1].into(), 80)).collect();
    let mut elb = Elb::with([targets(0..50), outside.clone()].concat());
    elb.outside = outside.into_iter().collect();
    elb.pass(2 * S);
    assert_eq!(elb.registered.len(), 100);
    let before = elb.calls.len();
    let more: Target = ([100, 64, 99, 2].into(), 80);
    elb.outside.insert(more);
    elb.waiting.push(more);
    elb.pass(S);
    assert_eq!(elb.calls[before..], [1]);
}

#[test]
fn what_fits_into_a_full_group_goes_in_in_order() {
    // B8: room for four of six.
    let mut elb = Elb::with(targets(0..6));
    elb.limit = 4;
    elb.pass(S);
    assert_eq!(elb.registered, targets(0..4).into_iter().collect());
    assert_eq!(
        elb.outbox.why(&target(5)).unwrap().reason,
        Reason::GroupFull
    );
    let calls = elb.calls.len();
    elb.pass(14 * S);
    assert_eq!(elb.calls.len(), calls, "no retry faster than the backoff");
    // A target leaves, and there is room at once.
    elb.registered.remove(&target(0));
    elb.outbox.has_room(elb.now);
    elb.pass(S);
    assert!(elb.registered.contains(&target(4)) && !elb.registered.contains(&target(5)));
}

#[rstest]
#[case::no_group(CallErrorKind::GroupNotFound, 15, Reason::TargetGroupNotFound)]
#[case::no_right(CallErrorKind::Denied, 15, Reason::CallRefused)]
#[case::no_answer(CallErrorKind::Other, 1, Reason::CallRefused)]
fn a_failure_of_another_kind_pauses_all_calls(
    #[case] kind: CallErrorKind,
    #[case] seconds: u64,
    #[case] reason: Reason,
) {
    let (mut outbox, now) = (Outbox::new(Kind::Deregister), epoch());
    let all = targets(0..3);
    outbox.wait(&all, now);
    let at = now + 20 * MS;
    assert_eq!((outbox.next(&all, now), outbox.due(now)), (None, Some(at)));
    let next = outbox.next(&all, at).unwrap();
    let call = call_of(Kind::Deregister, next.targets, at);
    outbox.begin(&call);
    assert_eq!(outbox.due(at), None);
    outbox.ended(&call, Err(&refusal(kind, "no")), at);
    let again = at + Duration::from_secs(seconds);
    assert_eq!((outbox.due(at), outbox.next(&all, at)), (Some(again), None));
    assert_eq!(outbox.paused().unwrap().reason, reason);
    assert_eq!(outbox.next(&all, again).unwrap().targets.len(), 3);
}

#[test]
fn a_call_that_was_not_sent_goes_again_at_once_and_one_that_was_throttled_after_a_pause() {
    let (mut outbox, now) = (Outbox::new(Kind::Register), epoch());
    let all = targets(0..3);
    outbox.wait(&all, now);
    let at = now + 50 * MS;
    for kind in [CallErrorKind::Unsent, CallErrorKind::Throttled] {
        let next = outbox.next(&all, at).unwrap();
        let call = call_of(Kind::Register, next.targets, at);
        outbox.begin(&call);
        outbox.ended(&call, Err(&refusal(kind, "")), at);
    }
    assert_eq!(outbox.due(at), Some(at + S));
    assert_eq!(outbox.next(&all, at), None);
    outbox.wait(&[], at);
    assert_eq!((outbox.due(at), outbox.next(&all, at)), (None, None));
}

#[test]
fn throttling_is_told_once_it_lasts_and_no_more_once_a_call_is_through() {
    let (mut outbox, mut now) = (Outbox::new(Kind::Deregister), epoch());
    let all = targets(0..3);
    outbox.wait(&all, now);
    let mut call = |outcome: Result<(), &CallError>| {
        now = outbox.due(now).unwrap().max(now);
        let targets = outbox.next(&all, now).unwrap().targets;
        let call = call_of(Kind::Deregister, targets, now);
        outbox.begin(&call);
        outbox.ended(&call, outcome, now);
        outbox.paused().map(|told| told.reason)
    };
    let throttled = refusal(CallErrorKind::Throttled, "Rate exceeded");
    for _ in 0..3 {
        assert_eq!(call(Err(&throttled)), None);
    }
    assert_eq!(call(Err(&throttled)), Some(Reason::CallRefused));
    assert_eq!(call(Ok(())), None);
}

#[test]
fn all_good_targets_go_in_whatever_elb_refuses_and_in_a_bounded_number_of_calls() {
    for seed in 0..200 {
        let mut random = Rng::with_seed(seed);
        let all = random.usize(1..400);
        let mut elb = Elb::with(targets(0..all));
        elb.bad = (0..random.usize(0..6))
            .map(|_| target(random.usize(..all)))
            .collect();
        if random.bool() {
            elb.outside = targets(0..random.usize(..=all)).into_iter().collect();
        }
        let bad = elb.bad.len();
        elb.pass(10 * S);
        assert_eq!(elb.registered.len(), all - bad, "seed {seed}");
        assert!(
            elb.calls.len() <= 3 + 20 * (bad + 4),
            "seed {seed}: {:?}",
            elb.calls
        );
    }
}
