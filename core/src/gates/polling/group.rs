//! One group in the polling queue, with the gates that wait for it, and the open ones that follow it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use crate::gates::machine::action::GateId;
use crate::gates::polling::learned::Expected;
use crate::gates::polling::schedule;
use crate::gates::polling::schedule::{Demand, Flip, Worth, scope};
use crate::names::Quota;

/// When groups are ranked, at most this many pods stand for all of a group. Chosen: it bounds the cost of
/// ranking large groups.
const SAMPLED: usize = 16;

/// The worth of a group whose last call failed is halved, because the next call will probably fail as well, but
/// not again for further failures: worth grows with the square of the time since the last call, so that such a
/// group waits 1.4 times as long for its turn as another of its age. Chosen.
const TRUST_AFTER_FAILURE: f64 = 0.5;

/// A target of a group, as address and port.
pub(crate) type Target = (IpAddr, u16);

/// A group in the polling queue, while gates wait for it or follow it.
#[derive(Debug)]
pub(crate) struct PolledGroup {
    pub(crate) quota: Quota,
    /// When the first gate joined it.
    pub(crate) since: Instant,
    pub(crate) waiting: BTreeMap<GateId, Waiter>,
    /// The open gates that follow the group.
    pub(crate) followed: BTreeSet<GateId>,
    /// When the group may be polled again for those that wait.
    pub(crate) next: Instant,
    /// The key under which the group is queued for those that wait, and for those that follow it; `None` while a
    /// call is in flight.
    pub(crate) queued: Option<Instant>,
    pub(crate) recheck: Option<Instant>,
    pub(crate) in_flight: bool,
    /// The slot of the next poll, while all of its pods have waited for long.
    pub(crate) slot: Option<Instant>,
    /// When the last call was sent.
    pub(crate) requested: Option<Instant>,
    /// When the last call that ELB answered for the whole group was sent.
    pub(crate) whole: Option<Instant>,
    /// When the last call for the whole group was sent, answered or not.
    pub(crate) whole_sent: Option<Instant>,
    /// When the newest answer that was taken in was requested, whoever did that.
    pub(crate) answered: Option<Instant>,
    /// The targets that the call in flight names; empty for the whole group.
    pub(crate) in_call: Vec<Target>,
    /// Calls that failed in a row.
    pub(crate) failures: u32,
    /// The targets that ELB listed in its last answers.
    pub(crate) registered: BTreeSet<Target>,
    /// Health check interval times healthy threshold, once a doubtful target needed it.
    pub(crate) proving_time: Option<Duration>,
    /// Whether a request for the proving time is in flight.
    pub(crate) proving: bool,
    /// Whether AWS does not know the group.
    pub(crate) missing: bool,
}

/// Since when a gate's pod is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Due {
    pub(crate) at: Instant,
    /// Whether the pod was seen to become due at that time. A pod that was due at our first sight of it, as
    /// after a start, has been so for longer.
    pub(crate) observed: bool,
}

/// A due gate that waits for a group.
#[derive(Debug)]
pub(crate) struct Waiter {
    pub(crate) due: Instant,
    /// Since when the schedule counts: since it is due, and since its target went in, where we register it.
    pub(crate) from: Instant,
    /// Whether `due` was observed, so that a flip tells how long the pod took.
    pub(crate) observed: bool,
    pub(crate) targets: Vec<Target>,
    /// When the last answered poll since `due` was requested.
    pub(crate) polled_at: Option<Instant>,
    pub(crate) shown: Shown,
}

/// What the last poll has shown of a waiter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shown {
    /// Not healthy, or not polled yet.
    Unhealthy,
    /// Healthy: only the write is outstanding.
    Healthy,
    /// Healthy, but the answer became stale before the write succeeded, so another poll is needed.
    Forgotten,
}

impl Waiter {
    /// Takes in what an answer to a call that was sent at `requested` shows. Returns the flip, if it is one.
    pub(crate) fn show(&mut self, healthy: bool, requested: Instant) -> Option<Flip> {
        let shown = match healthy {
            true => Shown::Healthy,
            false => Shown::Unhealthy,
        };
        // Only the first healthy answer is a flip. A waiter whose answer was forgotten was healthy before, so
        // the time of this answer says nothing about when it became so.
        let flips = (self.shown, shown) == (Shown::Unhealthy, Shown::Healthy);
        let age = |at: Instant| at.saturating_duration_since(self.from);
        let flip = flips.then(|| Flip {
            after: self.polled_at.map_or(Duration::ZERO, age),
            by: age(requested),
        });
        self.shown = shown;
        self.polled_at = Some(requested);
        flip
    }

    /// Takes in that targets went in at `now`: the schedule begins anew, if it waits for one of them. What polls showed
    /// before says nothing of how long the target takes.
    pub(crate) fn registered(&mut self, targets: &BTreeSet<Target>, now: Instant) -> Option<()> {
        let its = self.targets.iter().any(|target| targets.contains(target));
        if !its || self.shown != Shown::Unhealthy {
            return None;
        }
        (self.from, self.polled_at) = (self.due.max(now), None);
        Some(())
    }

    /// When this waiter alone would be polled next.
    pub(crate) fn next(&self, expected: Expected, demand: Demand) -> Instant {
        if self.shown == Shown::Forgotten {
            return self.polled_at.unwrap_or(self.due);
        }
        let polled = self
            .polled_at
            .map(|at| at.saturating_duration_since(self.from));
        // The window predicts when a pod becomes healthy. Once a pod is healthy, only its write is
        // outstanding, and the window says nothing about that.
        let window = expected.known.filter(|_| self.shown == Shown::Unhealthy);
        self.from + schedule::next_poll(polled, window, demand)
    }

    fn waits_long(&self, expected: Expected, now: Instant) -> bool {
        let age = now.saturating_duration_since(self.from);
        self.shown != Shown::Forgotten && schedule::waits_long(age, expected.known)
    }

    /// What a poll is worth for this waiter. A call that failed at `tried` was as good a chance as a poll.
    fn worth(&self, expected: Expected, tried: Option<Instant>, now: Instant) -> Worth {
        let polled = self.polled_at.unwrap_or(self.from);
        let polled = tried.map_or(polled, |tried| polled.max(tried));
        if self.shown == Shown::Forgotten {
            return schedule::worth_of_healthy(now.saturating_duration_since(polled));
        }
        let age = |at: Instant| at.saturating_duration_since(self.from);
        schedule::worth(age(polled), age(now), expected.guessed)
    }
}

impl PolledGroup {
    /// A group for which no gate waits yet.
    pub(crate) fn new(quota: Quota, now: Instant) -> Self {
        Self {
            quota,
            since: now,
            waiting: BTreeMap::new(),
            followed: BTreeSet::new(),
            next: now,
            queued: None,
            recheck: None,
            in_flight: false,
            slot: None,
            requested: None,
            whole: None,
            whole_sent: None,
            answered: None,
            in_call: vec![],
            failures: 0,
            registered: BTreeSet::new(),
            proving_time: None,
            proving: false,
            missing: false,
        }
    }

    /// Whether no gate waits for the group or follows it.
    pub(crate) fn is_unused(&self) -> bool {
        self.waiting.is_empty() && self.followed.is_empty()
    }

    /// The waiters that a poll could show healthy.
    pub(crate) fn to_poll(&self) -> impl Iterator<Item = &Waiter> {
        let waiting = self.waiting.values();
        waiting.filter(|waiter| waiter.shown != Shown::Healthy)
    }

    /// Forgets what polls have shown of the waiters.
    pub(crate) fn forget_results(&mut self) {
        let waiting = self.waiting.values_mut();
        waiting.for_each(|waiter| waiter.shown = Shown::Unhealthy);
    }

    /// The next poll after one that ELB answered: the earliest that a waiter asks for, but not sooner than
    /// the shortest interval after the last call.
    pub(crate) fn next_poll(&self, expected: Expected, groups: usize, now: Instant) -> Instant {
        let pods = self.to_poll().count();
        let demand = Demand { pods, groups };
        let nexts = self.waiting.values().map(|w| w.next(expected, demand));
        let next = nexts.min().unwrap_or(now);
        self.requested.map_or(next, |requested| {
            next.max(requested + schedule::shortest_interval(expected.known, demand))
        })
    }

    /// Whether all of its pods have waited for long.
    pub(crate) fn waits_long(&self, expected: Expected, now: Instant) -> bool {
        let mut waiting = self.waiting.values();
        let all = waiting.all(|waiter| waiter.waits_long(expected, now));
        all && !self.waiting.is_empty()
    }

    /// Whether a pod was never polled while timings, of the group or of groups with the same checks, are
    /// unknown. A failing group is not fresh, or it would come first for ever.
    pub(crate) fn is_fresh(&self, expected: Expected) -> bool {
        let fresh = |waiter: &Waiter| waiter.polled_at.is_none();
        expected.guessed.is_none() && self.failures == 0 && self.to_poll().any(fresh)
    }

    /// What a poll is worth now: the expected seconds for which pods have been healthy, and the share of
    /// pods that are.
    pub(crate) fn worth(&self, expected: Expected, now: Instant) -> Worth {
        let to_poll = self.to_poll().count();
        let step = to_poll.div_ceil(SAMPLED).max(1);
        let tried = self.requested.filter(|_| self.failures > 0);
        let (mut late, mut chance, mut sampled) = (0.0, 0.0, 0.0);
        for waiter in self.to_poll().step_by(step) {
            let worth = waiter.worth(expected, tried, now);
            late += worth.late;
            chance += worth.chance;
            sampled += 1.0;
        }
        let trust = tried.map_or(1.0, |_| TRUST_AFTER_FAILURE);
        let shown = f64::max(sampled, 1.0);
        Worth {
            late: trust * late * to_poll as f64 / shown,
            chance: trust * chance / shown,
        }
    }

    /// The targets that the next call names; empty for the whole group.
    pub(crate) fn targets(&self, now: Instant) -> Vec<Target> {
        let targets = self.waiting.values().flat_map(|waiter| &waiter.targets);
        let waiting: BTreeSet<Target> = targets.copied().collect();
        let whole_ago = self.whole.map(|at| now.saturating_duration_since(at));
        match scope::by_name(waiting.len(), self.registered.len(), whole_ago) {
            true => waiting.into_iter().collect(),
            false => vec![],
        }
    }
}
