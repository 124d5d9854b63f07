//! Which group is asked about next: the schedule of `DescribeTargetHealth` calls (contract 5.7).
//!
//! Only groups with due pods waiting are called, one call at a time for each, so that a slow group
//! delays no other. A group's turn comes when its pods may have become healthy, as
//! [`schedule`] has it; of those whose turn has come, the one goes first whose pods have
//! most likely been healthy for longest. Those of an account and Region that AWS throttles come last,
//! and hold up nobody else while no call of theirs is allowed.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::mem;
use std::time::{Duration, Instant};

use crate::gates::BACKOFF;
use crate::gates::machine::action::GateId;
use crate::gates::polling::group::{PolledGroup, Shown, Target, Waiter};
use crate::gates::polling::learned::Learned;
use crate::gates::polling::schedule;
use crate::gates::polling::schedule::Flip;
use crate::names::{GroupKey, Quota};

/// A call is likely to find what is waited for from this chance on.
const PROMISING: f64 = 0.8;
/// Of the groups of an account and Region whose turn has come, so many are compared, those first whose turn
/// is longest past.
const COMPARED: usize = 1000;
/// Which group comes first is decided anew this often while none can be asked about.
const COMPARED_AGAIN: Duration = Duration::from_millis(250);

/// One call of `DescribeTargetHealth`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// The group to ask about.
    pub group: GroupKey,
    /// The targets to ask for; empty for all of the group.
    pub targets: Vec<(std::net::IpAddr, u16)>,
}

/// A group whose turn has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NextPoll {
    group: GroupKey,
    /// What a call is paid from.
    pub quota: Quota,
    /// When its turn came.
    pub since: Instant,
    /// How many groups' turn has come that are paid from the same.
    pub groups: usize,
    /// Whether it is likely to find healthy pods, or nothing is known of it.
    pub likely_healthy: bool,
}

/// The calls to make now.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Started {
    /// Their groups count as being asked about from now on.
    pub calls: Vec<Call>,
    /// When to look for more; `None` while nobody waits for a turn.
    pub again: Option<Instant>,
}

/// How soon a group's turn has to come, of all whose turn it is: the least goes first.
#[derive(Debug, Clone, Copy)]
struct Rank {
    throttled: bool,
    fresh: bool,
    late: f64,
    since: Instant,
}

impl Rank {
    fn compare(&self, other: &Self) -> Ordering {
        let throttled = self.throttled.cmp(&other.throttled);
        throttled
            .then(other.fresh.cmp(&self.fresh))
            .then(other.late.total_cmp(&self.late))
            // Of equals the first, whose turn is longest past.
            .then(self.since.cmp(&other.since))
    }
}

/// The schedule.
#[derive(Debug, Default)]
pub(crate) struct PollQueue {
    groups: BTreeMap<GroupKey, PolledGroup>,
    /// The groups that are not being asked about, by their turn.
    queues: BTreeMap<Quota, BTreeSet<(Instant, GroupKey)>>,
    memory: Learned,
}

impl PollQueue {
    /// A due gate waits for a group to tell of these targets.
    pub(crate) fn join(
        &mut self,
        group: &GroupKey,
        gate: &GateId,
        targets: Vec<Target>,
        due: Instant,
        now: Instant,
    ) {
        let is_new = !self.groups.contains_key(group);
        let new = || PolledGroup::new(Quota::of(&group.arn), now);
        let round = self.groups.entry(group.clone()).or_insert_with(new);
        let joined = round.waiting.get(gate);
        if joined.is_some_and(|waiter| waiter.due == due && waiter.targets == targets) {
            return;
        }
        let expected = self.memory.expected(group);
        let waiter = Waiter {
            due,
            targets,
            looked: None,
            shown: Shown::Unhealthy,
        };
        let first_look = waiter.next(expected, round.waiting.len() + 1);
        round.waiting.insert(gate.clone(), waiter);
        // A fresh pod is looked at as soon as one whose wait has only begun.
        if is_new {
            round.next = first_look;
        } else if round.failures == 0 {
            let shortest = schedule::shortest_round(expected.known, round.waiting.len());
            let soon = round
                .asked
                .map_or(first_look, |asked| first_look.max(asked + shortest));
            round.next = round.next.min(soon);
        }
        if is_new || !round.is_in_flight() {
            self.enqueue(group);
        }
    }

    /// Nothing is known any more: it is every group's turn.
    pub(crate) fn restart(&mut self, now: Instant) {
        let groups: Vec<GroupKey> = self.groups.keys().cloned().collect();
        for group in &groups {
            let Some(round) = self.groups.get_mut(group) else {
                continue;
            };
            round.next = now;
            round.failures = 0;
            round.show_nothing();
            if !round.is_in_flight() {
                self.enqueue(group);
            }
        }
    }

    /// What a group has shown of a gate is forgotten: where that was health, another look is due at once.
    pub(crate) fn forget(&mut self, group: &GroupKey, gate: &GateId) {
        let Some(round) = self.groups.get_mut(group) else {
            return;
        };
        let waiter = round.waiting.get_mut(gate);
        let Some(waiter) = waiter.filter(|waiter| waiter.shown == Shown::Healthy) else {
            return;
        };
        waiter.shown = Shown::Forgotten;
        if round.failures > 0 || round.is_in_flight() {
            return;
        }
        let expected = self.memory.expected(group);
        let shortest = schedule::shortest_round(expected.known, round.hopeful().count());
        let soon = round.asked.map_or(round.next, |asked| asked + shortest);
        round.next = round.next.min(soon);
        self.enqueue(group);
    }

    /// A gate waits for a group no more. A group for which none waits is forgotten, but for what was
    /// learned of it.
    pub(crate) fn leave(&mut self, group: &GroupKey, gate: &GateId) {
        if let Some(round) = self.groups.get_mut(group) {
            round.waiting.remove(gate);
            if round.waiting.is_empty() && !round.is_in_flight() {
                self.remove(group);
            }
        }
    }

    /// Whether the last answer about a group named this target.
    pub(crate) fn is_registered(&self, group: &GroupKey, target: Target) -> bool {
        let round = self.groups.get(group);
        round.is_some_and(|round| round.registered.contains(&target))
    }

    /// Starts the calls whose turn it is, those first that matter most, as far as `take` pays for them: it
    /// tells when to ask again where it does not. `throttled` are those whom AWS throttled a moment ago.
    pub(crate) fn start(
        &mut self,
        throttled: &BTreeSet<Quota>,
        now: Instant,
        mut take: impl FnMut(&NextPoll) -> Result<(), Instant>,
    ) -> Started {
        let mut calls = vec![];
        // Where no more calls are allowed, and until when.
        let mut spent = BTreeMap::<Quota, Instant>::new();
        for turn in self.turns(throttled, now) {
            if spent.contains_key(&turn.quota) {
                continue;
            }
            match take(&turn) {
                Ok(()) => calls.extend(self.begin(turn.group, now)),
                Err(again) => {
                    spent.insert(turn.quota, again.min(now + COMPARED_AGAIN));
                }
            }
        }
        let others = self.queues.iter();
        let others = others.filter(|(quota, _)| !spent.contains_key(*quota));
        let next = others.filter_map(|(_, queue)| Some(queue.first()?.0));
        let again = spent.values().copied().chain(next).min();
        Started { calls, again }
    }

    /// All whose turn has come, in the order in which they are to be asked about.
    fn turns(&self, throttled: &BTreeSet<Quota>, now: Instant) -> Vec<NextPoll> {
        let mut ranked = vec![];
        let mut counts = BTreeMap::new();
        for (quota, queue) in &self.queues {
            let ready = || queue.iter().take_while(|(next, _)| *next <= now);
            counts.insert(quota, ready().count());
            let throttled = throttled.contains(quota);
            for (since, group) in ready().take(COMPARED) {
                let Some(round) = self.groups.get(group) else {
                    continue;
                };
                let expected = self.memory.expected(group);
                let worth = round.worth(expected, now);
                let rank = Rank {
                    throttled,
                    fresh: round.is_fresh(expected),
                    late: worth.late,
                    since: *since,
                };
                let likely_healthy = expected.guessed.is_none() || worth.chance >= PROMISING;
                ranked.push((rank, quota, group, likely_healthy));
            }
        }
        ranked.sort_by(|(one, ..), (other, ..)| one.compare(other));
        let turn = |(rank, quota, group, likely_healthy): (Rank, &Quota, &GroupKey, bool)| {
            let waiting = counts.get_mut(quota)?;
            let groups = *waiting;
            *waiting -= 1;
            Some(NextPoll {
                group: group.clone(),
                quota: quota.clone(),
                since: rank.since,
                groups,
                likely_healthy,
            })
        };
        ranked.into_iter().filter_map(turn).collect()
    }

    /// A group counts as being asked about from now on.
    fn begin(&mut self, group: GroupKey, now: Instant) -> Option<Call> {
        self.dequeue(&group);
        let round = self.groups.get_mut(&group)?;
        round.asked = Some(now);
        round.asking = round.targets(now);
        Some(Call {
            targets: round.asking.clone(),
            group,
        })
    }

    /// The gates that wait for a group.
    pub(crate) fn waiting(&self, group: &GroupKey) -> Vec<GateId> {
        let round = self.groups.get(group);
        round.map_or(vec![], |round| round.waiting.keys().cloned().collect())
    }

    /// The targets that the call under way asks for; empty for all of the group.
    pub(crate) fn asking(&self, group: &GroupKey) -> BTreeSet<Target> {
        let round = self.groups.get(group);
        round.map_or(BTreeSet::new(), |r| r.asking.iter().copied().collect())
    }

    /// A group was answered about, with these targets `registered`, and the gates of these pods can be
    /// opened.
    pub(crate) fn answered(
        &mut self,
        group: &GroupKey,
        registered: BTreeSet<Target>,
        healthy: &BTreeSet<GateId>,
        now: Instant,
    ) {
        let Some(round) = self.groups.get_mut(group) else {
            return;
        };
        round.failures = 0;
        round.missing = false;
        let asked = mem::take(&mut round.asking);
        if asked.is_empty() {
            round.registered = registered;
            round.whole = round.asked;
        } else {
            round.registered.retain(|target| !asked.contains(target));
            round.registered.extend(registered);
        }
        let requested = round.asked.unwrap_or(now);
        let unhealthy = |w: &&Waiter| w.shown == Shown::Unhealthy && w.due <= requested;
        let hopeful = round.hopeful().filter(unhealthy).count();
        let mut flips = vec![];
        for (gate, waiter) in &mut round.waiting {
            let was_asked = asked.is_empty() || waiter.targets.iter().all(|t| asked.contains(t));
            if waiter.due > requested || !was_asked {
                continue;
            }
            let shown = match healthy.contains(gate) {
                true => Shown::Healthy,
                false => Shown::Unhealthy,
            };
            if (waiter.shown, shown) == (Shown::Unhealthy, Shown::Healthy) {
                let age = |at: Instant| at.saturating_duration_since(waiter.due);
                flips.push(Flip {
                    after: waiter.looked.map_or(Duration::ZERO, age),
                    by: age(requested),
                });
            }
            waiter.shown = shown;
            waiter.looked = Some(requested);
        }
        self.memory.learn(group, &flips, hopeful);
        if let Some(round) = self.groups.get_mut(group) {
            round.next = round.turn(self.memory.expected(group), now);
        }
        self.settle(group);
    }

    /// A call about a group failed; it is asked again after a pause that grows. A throttled one is
    /// asked again soon: the budget, not the group, has to slow down.
    pub(crate) fn failed(&mut self, group: &GroupKey, throttled: bool, now: Instant) {
        let Some(round) = self.groups.get_mut(group) else {
            return;
        };
        if !throttled {
            round.failures = round.failures.saturating_add(1);
            // One wrong target fails a whole call.
            round.whole = None;
        }
        round.asking.clear();
        round.next = now + BACKOFF.after(round.failures);
        self.settle(group);
    }

    /// AWS does not know a group. Returns whether it did, or was not asked, before.
    pub(crate) fn is_news_that_missing(&mut self, group: &GroupKey) -> bool {
        let Some(round) = self.groups.get_mut(group) else {
            return false;
        };
        round.show_nothing();
        !mem::replace(&mut round.missing, true)
    }

    /// The group's proving time, where it is known.
    pub(crate) fn proving_time(&self, group: &GroupKey) -> Option<Duration> {
        self.groups.get(group)?.proving_time
    }

    /// Whether the group's proving time is to be asked for now; it then counts as being asked for.
    pub(crate) fn start_proving(&mut self, group: &GroupKey) -> bool {
        let round = self.groups.get_mut(group);
        round.is_some_and(|round| !mem::replace(&mut round.proving, true))
    }

    /// The group's proving time was answered; `None` where the call failed.
    pub(crate) fn proven(&mut self, group: &GroupKey, time: Option<Duration>) {
        if let Some(round) = self.groups.get_mut(group) {
            round.proving = false;
            round.proving_time = time;
        }
        if let Some(time) = time {
            self.note_checks(group, time);
        }
    }

    /// A group's health check interval times its healthy threshold, as AWS described it.
    pub(crate) fn note_checks(&mut self, group: &GroupKey, time: Duration) {
        self.memory.note_checks(group, time);
    }

    /// A call has ended: the group waits for its turn again, if anyone waits for it.
    fn settle(&mut self, group: &GroupKey) {
        let waits = self
            .groups
            .get(group)
            .map(|round| !round.waiting.is_empty());
        match waits {
            Some(true) => self.enqueue(group),
            _ => self.remove(group),
        }
    }

    fn enqueue(&mut self, group: &GroupKey) {
        self.dequeue(group);
        if let Some(round) = self.groups.get_mut(group) {
            round.queued = Some(round.next);
            let queue = self.queues.entry(round.quota.clone()).or_default();
            queue.insert((round.next, group.clone()));
        }
    }

    fn dequeue(&mut self, group: &GroupKey) {
        let round = self.groups.get_mut(group);
        let queued = round.and_then(|round| Some((round.queued.take()?, &round.quota)));
        let Some((queued, quota)) = queued else {
            return;
        };
        if let Some(queue) = self.queues.get_mut(quota) {
            queue.remove(&(queued, group.clone()));
            if queue.is_empty() {
                self.queues.remove(quota);
            }
        }
    }

    fn remove(&mut self, group: &GroupKey) {
        self.dequeue(group);
        self.groups.remove(group);
    }
}
