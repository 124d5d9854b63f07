//! How soon gates open and how many calls that takes: the schedule and the budget against a model of
//! ELB, in virtual time. `cargo test -p targetgate-core pace -- --nocapture` prints the figures.
//!
//! Targets are healthy 20 to 25 s after they are due, a call takes 40 ms, and a gate opens 200 ms after
//! the answer that says so.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use fastrand::Rng;

use crate::elb::adaptive_bucket::Bucket;
use crate::elb::buckets::{Admissions, Buckets, Limits, PollRequest};
use crate::fixtures::{arn, epoch};
use crate::gates::machine::action::{CallFailure, GateId};
use crate::gates::polling::group::Due;
use crate::gates::polling::queue::{Call, NextPoll, PollQueue};
use crate::names::{ConditionPrefix, GroupKey, ObjectKey, Quota};

const CALL: Duration = Duration::from_millis(40);
const SLOW_CALL: Duration = Duration::from_millis(100);
/// How long a throttled call takes.
const REFUSAL: Duration = Duration::from_millis(5);
/// How long a call takes that ELB never answers.
const TIMEOUT: Duration = Duration::from_secs(10);
/// How long a call about very many targets takes.
const HUGE_CALL: Duration = Duration::from_secs(1);
const WRITE: Duration = Duration::from_millis(200);
/// Within which the pods of a rollout become due.
const SPREAD: f64 = 0.5;

/// The polling queue and the budget, ELB, and the events to come.
struct Pace {
    now: Instant,
    rounds: PollQueue,
    buckets: Buckets,
    /// AWS's own bucket, where it throttles.
    aws: Option<Bucket>,
    call: Duration,
    /// Between how many seconds after they are due targets are healthy.
    healthy_after: (f64, f64),
    random: Rng,
    events: BTreeMap<(Instant, usize), Event>,
    numbered: usize,
    pods: BTreeMap<GateId, Pod>,
    result: Figures,
}

struct Pod {
    group: GroupKey,
    due: Instant,
    healthy: Instant,
}

enum Event {
    Due(GateId),
    Failed(Call),
    Answered(Call, Instant),
    Throttled(Call, Instant),
    Opened(GateId),
}

/// Of one rollout.
#[derive(Debug, Default)]
struct Figures {
    latencies: Vec<f64>,
    calls: usize,
    calls_by_group: BTreeMap<GroupKey, usize>,
    throttled: usize,
}

impl Figures {
    /// Seconds from healthy to open that this share of the gates stays below.
    fn quantile(&self, share: f64) -> f64 {
        let mut sorted = self.latencies.clone();
        sorted.sort_by(f64::total_cmp);
        sorted[((sorted.len() as f64 * share).ceil() as usize).max(1) - 1]
    }

    fn check(&self, p50: f64, p99: f64, calls: usize) {
        let (median, high) = (self.quantile(0.5), self.quantile(0.99));
        assert!(median <= p50 && high <= p99, "{median:.2}/{high:.2}");
        assert!(self.calls <= calls, "{} calls", self.calls);
        assert!(
            self.throttled * 20 < self.calls,
            "{} throttled",
            self.throttled
        );
    }
}

impl Pace {
    fn new(seed: u64, aws: Option<f64>) -> Self {
        let now = epoch();
        let limits = Limits {
            rate: 10.0,
            highest: 40.0,
            burst: 40,
        };
        Self {
            now,
            rounds: PollQueue::default(),
            buckets: Buckets::new(limits, now),
            call: if aws.is_some() { SLOW_CALL } else { CALL },
            aws: aws.map(|rate| Bucket::new(rate, rate, 40, now)),
            healthy_after: (20.0, 25.0),
            random: Rng::with_seed(seed),
            events: BTreeMap::new(),
            numbered: 0,
            pods: BTreeMap::new(),
            result: Figures::default(),
        }
    }

    fn at(&mut self, time: Instant, event: Event) {
        self.numbered += 1;
        self.events.insert((time, self.numbered), event);
    }

    fn between(&mut self, low: f64, high: f64) -> Duration {
        Duration::from_secs_f64(low + self.random.f64() * (high - low))
    }

    /// So many pods of each of so many groups become due, and all gates are opened.
    fn roll(&mut self, row: &str, groups: usize, pods: usize) -> Figures {
        for group in 0..groups {
            for pod in 0..pods {
                self.create(group, pod);
            }
        }
        let start = self.now;
        while !self.pods.is_empty() {
            self.step(start + Duration::from_secs(300));
        }
        let result = std::mem::take(&mut self.result);
        let (p50, p99) = (result.quantile(0.5), result.quantile(0.99));
        let (calls, throttled) = (result.calls, result.throttled);
        #[expect(
            clippy::disallowed_macros,
            reason = "the figures are for whoever runs it"
        )]
        {
            println!("{row}: {p50:.2} / {p99:.2} s, {calls} calls, {throttled} throttled");
        }
        // The next rollout comes when the bursts are there again.
        self.pass(Duration::from_secs(30));
        result
    }

    /// Lets time pass without rollouts. Returns the figures of that time.
    fn pass(&mut self, time: Duration) -> Figures {
        let end = self.now + time;
        while self.now < end {
            self.step(end);
        }
        std::mem::take(&mut self.result)
    }

    /// Does what is due, and lets time pass until something is again, but not beyond `end`.
    fn step(&mut self, end: Instant) {
        let turn = self.spend();
        let event = self.events.first_key_value().map(|((at, _), _)| *at);
        let wakes = [turn, event, Some(end)];
        let next = wakes.into_iter().flatten().min().unwrap();
        self.now = self.now.max(next);
        assert!(self.now < end || self.pods.is_empty(), "gates stay closed");
        self.take_in();
    }

    fn create(&mut self, group: usize, pod: usize) {
        let uid = format!("{}", self.numbered);
        let id = gate(&format!("g{group}-{pod}"), &uid);
        let due = self.now + self.between(0.0, SPREAD);
        let (low, high) = self.healthy_after;
        let healthy = due + self.between(low, high);
        let group = named(&format!("g{group}"));
        self.pods.insert(
            id.clone(),
            Pod {
                group,
                due,
                healthy,
            },
        );
        self.at(due, Event::Due(id));
    }

    /// Adds pods of a group that will never be healthy.
    fn trouble(&mut self, group: &str, pods: usize) {
        self.trouble_since(group, pods, self.now);
    }

    /// The same, of pods that are due since then.
    fn trouble_since(&mut self, group: &str, pods: usize, since: Instant) {
        for pod in 0..pods {
            let id = gate(&format!("{group}-{pod}"), "troubled");
            self.rounds
                .join(&named(group), &id, vec![], due(since), self.now);
        }
    }

    /// 600 groups of five pods each that have waited for an hour.
    fn beside_hopeless(seed: u64) -> Self {
        let mut pace = Self::new(seed, None);
        let since = pace.now;
        pace.now += Duration::from_secs(3600);
        for number in 0..600 {
            pace.trouble_since(&format!("never-{number}"), 5, since);
        }
        pace.pass(Duration::from_secs(300));
        pace
    }

    /// Makes the calls that the loop would make. Returns when to call again.
    fn spend(&mut self) -> Option<Instant> {
        let now = self.now;
        let throttled = self.buckets.all_throttled(now);
        let take = |turn: &NextPoll| {
            let wish = PollRequest {
                groups: turn.groups,
                likely_healthy: turn.likely_healthy,
            };
            let nobody = Admissions::default();
            let taken = self
                .buckets
                .try_take_for_loop(&turn.quota, wish, nobody, now);
            taken.map_err(|wait| now + wait)
        };
        let started = self.rounds.start(&throttled, now, take);
        for call in started.calls {
            self.result.calls += 1;
            let of_group = &mut self.result.calls_by_group;
            *of_group.entry(call.group.clone()).or_default() += 1;
            match call.group.arn.name().split('-').next() {
                Some("hung") => self.at(now + TIMEOUT, Event::Failed(call)),
                Some("denied") => self.at(now + self.call, Event::Failed(call)),
                Some("huge") => self.at(now + HUGE_CALL, Event::Answered(call, now)),
                Some("theirs") => self.at(now + REFUSAL, Event::Throttled(call, now)),
                _ => self.send(call, now),
            }
        }
        started.again
    }

    fn send(&mut self, call: Call, now: Instant) {
        let served = self.aws.as_mut().map(|aws| aws.try_take(0.0, now));
        match served {
            Some(Err(_)) => self.at(now + REFUSAL, Event::Throttled(call, now)),
            _ => self.at(now + self.call, Event::Answered(call, now)),
        }
    }

    fn take_in(&mut self) {
        let now = self.now;
        while let Some(first) = self.events.first_entry().filter(|e| e.key().0 <= now) {
            match first.remove() {
                Event::Due(id) => {
                    let pod = &self.pods[&id];
                    self.rounds.join(&pod.group, &id, vec![], due(pod.due), now);
                }
                Event::Failed(call) => self.rounds.failed(&call.group, CallFailure::Other, now),
                Event::Throttled(call, sent) => {
                    let quota = Quota::of(&call.group.arn);
                    self.result.throttled += usize::from(!is_theirs(&call.group));
                    self.buckets.throttled(&quota, sent, now);
                    self.rounds.failed(&call.group, CallFailure::Throttled, now);
                }
                Event::Answered(call, sent) => self.answer(&call, sent, now),
                Event::Opened(id) => self.open(&id, now),
            }
        }
    }

    fn answer(&mut self, call: &Call, sent: Instant, now: Instant) {
        let waiting = self.rounds.waiting(&call.group).into_iter();
        let is_healthy = |id: &GateId| {
            let pod = self.pods.get(id);
            pod.is_some_and(|pod| pod.healthy <= now && pod.due <= sent)
        };
        let healthy: BTreeSet<GateId> = waiting.filter(is_healthy).collect();
        let group = &call.group;
        self.rounds.answered(group, BTreeSet::new(), &healthy, now);
        for id in healthy {
            self.at(now + WRITE, Event::Opened(id));
        }
    }

    fn open(&mut self, id: &GateId, now: Instant) {
        if let Some(pod) = self.pods.remove(id) {
            let late = now - pod.healthy;
            self.result.latencies.push(late.as_secs_f64());
            self.rounds.leave(&pod.group, id);
        }
    }
}

/// The group of this name; names that begin with `theirs-` are of another account.
fn named(group: &str) -> GroupKey {
    let ours = GroupKey {
        arn: arn(group),
        role: None,
    };
    if !is_theirs(&ours) {
        return ours;
    }
    let arn = ours
        .arn
        .as_str()
        .replace(ours.arn.account(), "210987654321");
    GroupKey {
        arn: arn.parse().unwrap(),
        role: None,
    }
}

fn is_theirs(group: &GroupKey) -> bool {
    group.arn.name().starts_with("theirs-")
}

fn due(at: Instant) -> Due {
    Due { at, observed: true }
}

fn gate(pod: &str, uid: &str) -> GateId {
    GateId {
        pod: ObjectKey::new("shop", pod),
        uid: uid.into(),
        gate: ConditionPrefix::default().gate("web"),
    }
}

const SEEDS: std::ops::Range<u64> = 0..2;

#[test]
fn twenty_groups_of_five_open_within_a_second_and_the_second_time_with_few_calls() {
    for seed in SEEDS {
        let mut pace = Pace::new(seed, None);
        pace.roll("20 x 5, first", 20, 5).check(0.9, 1.9, 520);
        for _ in 0..3 {
            let again = pace.roll("20 x 5, again", 20, 5);
            again.check(0.95, 2.2, 120);
        }
    }
}

#[test]
fn two_hundred_groups_of_five_open_within_four_seconds() {
    for seed in SEEDS {
        let mut pace = Pace::new(seed, None);
        let first = pace.roll("200 x 5, first", 200, 5);
        first.check(3.6, 7.5, 900);
        let again = pace.roll("200 x 5, again", 200, 5);
        again.check(3.6, 7.5, 1300);
    }
}

#[test]
fn two_hundred_groups_of_five_open_while_aws_throttles() {
    for seed in SEEDS {
        let mut pace = Pace::new(seed, Some(10.0));
        let first = pace.roll("200 x 5, throttled, first", 200, 5);
        first.check(10.7, 21.5, 600);
        for _ in 0..2 {
            let again = pace.roll("200 x 5, throttled, again", 200, 5);
            again.check(9.4, 21.5, 600);
        }
    }
}

#[test]
fn two_groups_of_five_hundred_open_within_a_second() {
    for seed in SEEDS {
        let mut pace = Pace::new(seed, None);
        pace.roll("2 x 500, first", 2, 500).check(0.8, 1.0, 100);
        let again = pace.roll("2 x 500, again", 2, 500);
        again.check(0.8, 1.0, 40);
    }
}

#[test]
fn where_few_groups_are_polled_their_gates_open_within_a_second() {
    for seed in SEEDS {
        for groups in [1, 4] {
            let mut pace = Pace::new(seed, None);
            let first = pace.roll(&format!("{groups} x 5, first"), groups, 5);
            first.check(0.8, 1.1, 50 * groups);
            let again = pace.roll(&format!("{groups} x 5, again"), groups, 5);
            again.check(0.7, 0.9, 20 * groups);
        }
    }
}

#[test]
fn groups_that_hang_are_denied_or_huge_cost_the_others_nothing() {
    for seed in SEEDS {
        let mut pace = Pace::new(seed, None);
        for number in 0..5 {
            pace.trouble(&format!("hung-{number}"), 5);
            pace.trouble(&format!("denied-{number}"), 5);
        }
        pace.trouble("huge", 1000);
        let first = pace.roll("20 x 5 beside trouble, first", 20, 5);
        first.check(0.9, 1.9, 620);
        let again = pace.roll("20 x 5 beside trouble, again", 20, 5);
        again.check(0.95, 2.2, 150);
    }
}

/// The calls of ten minutes, by group, while so many groups have waited for most of an hour.
fn calls_for_hopeless(groups: usize) -> Figures {
    let mut pace = Pace::new(1, Some(10.0));
    for number in 0..groups {
        pace.trouble(&format!("never-{number}"), 1);
    }
    pace.pass(Duration::from_secs(50 * 60));
    pace.pass(Duration::from_secs(10 * 60))
}

#[test]
fn hundreds_of_groups_that_never_open_share_two_calls_a_second() {
    let figures = calls_for_hopeless(600);
    assert!(figures.calls <= 1_200, "{} calls", figures.calls);
    let least = figures.calls_by_group.values().min();
    assert_eq!(figures.calls_by_group.len(), 600);
    assert!(least >= Some(&1), "{least:?} calls of ten minutes");
}

#[test]
fn a_few_groups_that_never_open_are_polled_as_often_as_any() {
    for groups in [1, 25] {
        let figures = calls_for_hopeless(groups);
        let least = figures.calls_by_group.values().min();
        assert!((38..=40).contains(least.unwrap()), "{groups}: {least:?}");
    }
}

#[test]
fn hundreds_of_groups_that_never_open_slow_no_other() {
    for seed in SEEDS {
        let mut pace = Pace::beside_hopeless(seed);
        let first = pace.roll("20 x 5 beside 600 that never open, first", 20, 5);
        first.check(0.9, 1.9, 620);
        let again = pace.roll("20 x 5 beside 600 that never open, again", 20, 5);
        again.check(0.95, 2.2, 190);
    }
}

#[test]
fn a_pod_that_joins_a_group_that_never_opened_is_polled_at_once() {
    let mut pace = Pace::beside_hopeless(1);
    pace.trouble("never-0", 6);
    let figures = pace.pass(Duration::from_secs(60));
    let calls = figures.calls_by_group[&named("never-0")];
    assert!(calls >= 20, "{calls} calls in a minute");
}

/// The slowest of a hundred gates of twenty groups, first and again, beside so many groups of another account
/// that AWS throttles for good.
fn beside_throttled(seed: u64, theirs: usize) -> [f64; 2] {
    let mut pace = Pace::new(seed, None);
    for number in 0..theirs {
        pace.trouble(&format!("theirs-{number}"), 1);
    }
    let row = |time| format!("20 x 5 beside {theirs} throttled, {time}");
    let first = pace.roll(&row("first"), 20, 5);
    let again = pace.roll(&row("again"), 20, 5);
    [first, again].map(|figures| figures.quantile(0.99))
}

#[test]
fn an_account_that_is_throttled_for_good_slows_no_other() {
    for seed in SEEDS {
        let alone = beside_throttled(seed, 0);
        for theirs in [1, 3, 200] {
            let beside = beside_throttled(seed, theirs);
            for (alone, beside) in alone.into_iter().zip(beside) {
                assert!(beside <= 1.2 * alone, "{beside} beside {theirs}, {alone}");
            }
        }
    }
}

#[test]
fn of_a_group_whose_targets_became_faster_two_batches_are_late() {
    for seed in SEEDS {
        for (slow, fast) in [((20.0, 25.0), (6.0, 8.0)), ((40.0, 45.0), (8.0, 12.0))] {
            let mut pace = Pace::new(seed, None);
            pace.healthy_after = slow;
            for _ in 0..8 {
                pace.roll("1 x 2, slow", 1, 2);
            }
            pace.healthy_after = fast;
            let late = (0..12).map(|_| pace.roll("1 x 2, fast", 1, 2).quantile(1.0));
            let late: Vec<f64> = late.collect();
            let later = late.iter().skip(2);
            assert!(later.into_iter().all(|late| *late < 3.0), "{late:.1?}");
        }
    }
}

#[test]
fn one_whose_answer_is_forgotten_is_asked_about_soon_however_many_others_wait() {
    let start = epoch();
    let mut now = start;
    let mut rounds = PollQueue::default();
    let late = (named("late"), gate("late", "1"));
    rounds.join(&late.0, &late.1, vec![], due(now), now);
    for number in 0..200 {
        let group = format!("g{number}");
        rounds.join(&named(&group), &gate(&group, "1"), vec![], due(now), now);
    }
    let mut asked = vec![];
    // Ten calls a second, each of which is answered at once.
    for _ in 0..1_000 {
        now += Duration::from_millis(100);
        let mut paid = false;
        let take = |_: &NextPoll| match std::mem::replace(&mut paid, true) {
            false => Ok(()),
            true => Err(now),
        };
        let started = rounds.start(&BTreeSet::new(), now, take);
        for call in started.calls {
            let (group, gate) = &late;
            let found = call.group == *group;
            let healthy = found.then(|| gate.clone());
            let healthy = healthy.into_iter().collect();
            rounds.answered(&call.group, BTreeSet::new(), &healthy, now);
            asked.extend(found.then_some(now - start));
        }
        if now - start == Duration::from_secs(60) {
            rounds.forget(&late.0, &late.1);
        }
    }
    let again = asked.into_iter().find(|at| at.as_secs() >= 60);
    let again = again.expect("it is asked about again");
    assert!(again < Duration::from_secs(62), "{again:?}");
}
