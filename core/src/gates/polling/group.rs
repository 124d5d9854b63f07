//! One group's place in the schedule of calls.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use crate::gates::machine::action::GateId;
use crate::gates::polling::learned::Expected;
use crate::gates::polling::schedule;
use crate::gates::polling::schedule::{Worth, scope};
use crate::names::Quota;

/// Of the pods of a group, so many stand for all when groups are compared.
const SAMPLED: usize = 16;

/// A target: address and port.
pub(crate) type Target = (IpAddr, u16);

/// One group's place in the schedule, while gates wait for it.
#[derive(Debug)]
pub(crate) struct PolledGroup {
    /// What calls about it are paid from.
    pub(crate) quota: Quota,
    /// Who waits for it.
    pub(crate) waiting: BTreeMap<GateId, Waiter>,
    /// When it may be asked about again.
    pub(crate) next: Instant,
    /// Its place in the queue; `None` while it is asked about.
    pub(crate) queued: Option<Instant>,
    /// When the last call was sent.
    pub(crate) asked: Option<Instant>,
    /// When the last call that was answered for the whole group was sent.
    pub(crate) whole: Option<Instant>,
    /// The targets that the call under way asks for; empty for all.
    pub(crate) asking: Vec<Target>,
    /// Calls that failed in a row.
    pub(crate) failures: u32,
    /// Targets that the last answers named.
    pub(crate) registered: BTreeSet<Target>,
    /// Health check interval times healthy threshold, once someone needed to know.
    pub(crate) proving_time: Option<Duration>,
    /// Whether that is being asked for.
    pub(crate) proving: bool,
    /// Whether AWS does not know the group.
    pub(crate) missing: bool,
}

/// A due gate that waits for a group.
#[derive(Debug)]
pub(crate) struct Waiter {
    pub(crate) due: Instant,
    /// What ELB is asked about for it.
    pub(crate) targets: Vec<Target>,
    /// The last look since it was due.
    pub(crate) looked: Option<Instant>,
    pub(crate) shown: Shown,
}

/// What the last look has shown of a waiter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shown {
    /// Nothing, or that it is not healthy.
    Unhealthy,
    /// That it is healthy: only the write is to come.
    Healthy,
    /// The same, but the write did not come: by now the answer is forgotten, and another is needed.
    Forgotten,
}

impl Waiter {
    /// When it is to be looked at next, by itself.
    pub(crate) fn next(&self, expected: Expected, waiting: usize) -> Instant {
        if self.shown == Shown::Forgotten {
            return self.looked.unwrap_or(self.due);
        }
        let looked = self.looked.map(|at| at.saturating_duration_since(self.due));
        // A healthy pod's gate opens soon. If it does not, the window does not matter any more.
        let window = expected.known.filter(|_| self.shown == Shown::Unhealthy);
        self.due + schedule::next_look(looked, window, waiting)
    }

    fn worth(&self, expected: Expected, now: Instant) -> Worth {
        let looked = self.looked.unwrap_or(self.due);
        if self.shown == Shown::Forgotten {
            return schedule::worth_of_healthy(now.saturating_duration_since(looked));
        }
        let age = |at: Instant| at.saturating_duration_since(self.due);
        schedule::worth(age(looked), age(now), expected.guessed)
    }
}

impl PolledGroup {
    /// Nobody waits yet.
    pub(crate) fn new(quota: Quota, now: Instant) -> Self {
        Self {
            quota,
            waiting: BTreeMap::new(),
            next: now,
            queued: None,
            asked: None,
            whole: None,
            asking: vec![],
            failures: 0,
            registered: BTreeSet::new(),
            proving_time: None,
            proving: false,
            missing: false,
        }
    }

    /// Whether it is being asked about.
    pub(crate) fn is_in_flight(&self) -> bool {
        self.queued.is_none()
    }

    /// Those whom a look could show healthy.
    pub(crate) fn hopeful(&self) -> impl Iterator<Item = &Waiter> {
        let waiting = self.waiting.values();
        waiting.filter(|waiter| waiter.shown != Shown::Healthy)
    }

    /// Nothing is known of any of its pods any more.
    pub(crate) fn show_nothing(&mut self) {
        let waiting = self.waiting.values_mut();
        waiting.for_each(|waiter| waiter.shown = Shown::Unhealthy);
    }

    /// When it is its turn again, after a look that was answered.
    pub(crate) fn turn(&self, expected: Expected, now: Instant) -> Instant {
        let hopeful = self.hopeful().count();
        let nexts = self.waiting.values().map(|w| w.next(expected, hopeful));
        let next = nexts.min().unwrap_or(now);
        self.asked.map_or(next, |asked| {
            next.max(asked + schedule::shortest_round(expected.known, hopeful))
        })
    }

    /// Whether nothing at all is known of when its pods, or some of them, may be healthy.
    pub(crate) fn is_fresh(&self, expected: Expected) -> bool {
        let fresh = |waiter: &Waiter| waiter.looked.is_none();
        expected.guessed.is_none() && self.failures == 0 && self.hopeful().any(fresh)
    }

    /// What a look is worth now: the seconds that pods were healthy, and the share that is.
    pub(crate) fn worth(&self, expected: Expected, now: Instant) -> Worth {
        let hopeful = self.hopeful().count();
        let step = hopeful.div_ceil(SAMPLED).max(1);
        let (mut late, mut chance, mut sampled) = (0.0, 0.0, 0.0);
        for waiter in self.hopeful().step_by(step) {
            let worth = waiter.worth(expected, now);
            late += worth.late;
            chance += worth.chance;
            sampled += 1.0;
        }
        let trust = 0.5_f64.powi(self.failures.min(30) as i32);
        let shown = f64::max(sampled, 1.0);
        Worth {
            late: trust * late * hopeful as f64 / shown,
            chance: trust * chance / shown,
        }
    }

    /// The targets to ask for now; empty for all of the group.
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
