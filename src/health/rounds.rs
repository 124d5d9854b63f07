//! Which group is asked about next: the schedule of `DescribeTargetHealth` calls (contract 5.7).
//!
//! Only groups with due pods waiting are called, one call at a time for each, so that a slow group
//! delays no other. Groups that were not looked at since their freshest pod became due come first,
//! then those whose turn is longest past.

use std::collections::{BTreeMap, BTreeSet};
use std::mem;
use std::net::IpAddr;
use std::time::Duration;

use tokio::time::Instant;

use crate::health::action::GateId;
use crate::names::Group;

/// Between two looks at a group whose pods became due lately.
const SHORTEST_ROUND: Duration = Duration::from_secs(1);
/// Between two looks at a group whose pods have long waited, and the cap of every backoff below 30 s.
const LONGEST_ROUND: Duration = Duration::from_secs(15);
/// The cap of the backoff after failures.
const LONGEST_BACKOFF: Duration = Duration::from_secs(30);
/// A round grows with the time waited: a gate opens late by at most a twentieth of its wait.
const WAIT_PER_ROUND: u32 = 20;

/// How long to wait after so many failures in a row: 1, 2, 4 … 30 s.
pub(super) fn backoff(failures: u32) -> Duration {
    let doubled = Duration::from_secs(1) * 2_u32.pow(failures.saturating_sub(1).min(5));
    doubled.min(LONGEST_BACKOFF)
}

/// One group's place in the schedule, while gates wait for it.
#[derive(Debug)]
struct Round {
    waiting: BTreeSet<GateId>,
    /// When the freshest of them became due.
    freshest: Instant,
    /// When it may be asked about again.
    next: Instant,
    /// When the last call was sent.
    asked: Option<Instant>,
    in_flight: bool,
    failures: u32,
    /// Targets that the last answer named.
    registered: BTreeSet<(IpAddr, u16)>,
    /// Health check interval times healthy threshold, once someone needed to know.
    proving_time: Option<Duration>,
    proving: bool,
    missing: bool,
}

/// The schedule.
#[derive(Debug, Default)]
pub(super) struct Rounds {
    groups: BTreeMap<Group, Round>,
}

impl Rounds {
    /// A due gate waits for a group.
    pub(super) fn join(&mut self, group: &Group, gate: &GateId, due: Instant, now: Instant) {
        let round = self.groups.entry(group.clone()).or_insert_with(|| Round {
            waiting: BTreeSet::new(),
            freshest: due,
            next: now,
            asked: None,
            in_flight: false,
            failures: 0,
            registered: BTreeSet::new(),
            proving_time: None,
            proving: false,
            missing: false,
        });
        let joins = round.waiting.insert(gate.clone());
        round.freshest = round.freshest.max(due);
        // A fresh pod is looked at as soon as one whose wait has only begun.
        if joins && round.failures == 0 {
            let soon = round.asked.map_or(now, |asked| asked + SHORTEST_ROUND);
            round.next = round.next.min(soon);
        }
    }

    /// Nothing is known any more: it is every group's turn.
    pub(super) fn restart(&mut self, now: Instant) {
        for round in self.groups.values_mut() {
            round.next = now;
            round.failures = 0;
        }
    }

    /// A gate waits for a group no more. A group for which none waits is forgotten.
    pub(super) fn leave(&mut self, group: &Group, gate: &GateId) {
        if let Some(round) = self.groups.get_mut(group) {
            round.waiting.remove(gate);
            if round.waiting.is_empty() {
                self.groups.remove(group);
            }
        }
    }

    /// Whether the last answer about a group named this target.
    pub(super) fn is_registered(&self, group: &Group, target: (IpAddr, u16)) -> bool {
        let round = self.groups.get(group);
        round.is_some_and(|round| round.registered.contains(&target))
    }

    /// The group to ask about now, if it is any group's turn; it counts as being asked about.
    pub(super) fn take(&mut self, now: Instant) -> Option<Group> {
        let ready = self
            .groups
            .iter_mut()
            .filter(|(_, r)| !r.in_flight && r.next <= now);
        let (group, round) = ready.min_by_key(|(_, round)| {
            let looked = round.asked.is_some_and(|asked| asked >= round.freshest);
            (looked, round.next)
        })?;
        round.in_flight = true;
        round.asked = Some(now);
        Some(group.clone())
    }

    /// When it will be the next group's turn.
    pub(super) fn next(&self) -> Option<Instant> {
        let idle = self.groups.values().filter(|round| !round.in_flight);
        idle.map(|round| round.next).min()
    }

    /// A group was answered about, with these targets. Returns the gates that wait for it.
    pub(super) fn answered(
        &mut self,
        group: &Group,
        registered: BTreeSet<(IpAddr, u16)>,
        now: Instant,
    ) -> Vec<GateId> {
        let Some(round) = self.groups.get_mut(group) else {
            return vec![];
        };
        round.in_flight = false;
        round.failures = 0;
        round.missing = false;
        round.registered = registered;
        let waited = now.saturating_duration_since(round.freshest);
        let pause = (waited / WAIT_PER_ROUND).clamp(SHORTEST_ROUND, LONGEST_ROUND);
        round.next = round.asked.unwrap_or(now) + pause;
        round.waiting.iter().cloned().collect()
    }

    /// A call about a group failed; it is asked again after a pause that grows. A throttled one is
    /// asked again soon: the budget, not the group, has to slow down. Returns the gates that wait.
    pub(super) fn failed(&mut self, group: &Group, throttled: bool, now: Instant) -> Vec<GateId> {
        let Some(round) = self.groups.get_mut(group) else {
            return vec![];
        };
        round.in_flight = false;
        if !throttled {
            round.failures = round.failures.saturating_add(1);
        }
        round.next = now + backoff(round.failures.max(1));
        round.waiting.iter().cloned().collect()
    }

    /// AWS does not know a group. Returns whether it did, or was not asked, before.
    pub(super) fn is_news_that_missing(&mut self, group: &Group) -> bool {
        let round = self.groups.get_mut(group);
        round.is_some_and(|round| !mem::replace(&mut round.missing, true))
    }

    /// The group's proving time, where it is known.
    pub(super) fn proving_time(&self, group: &Group) -> Option<Duration> {
        self.groups.get(group)?.proving_time
    }

    /// Whether the group's proving time is to be asked for now; it then counts as being asked for.
    pub(super) fn start_proving(&mut self, group: &Group) -> bool {
        let round = self.groups.get_mut(group);
        round.is_some_and(|round| !mem::replace(&mut round.proving, true))
    }

    /// The group's proving time was answered; `None` where the call failed.
    pub(super) fn proven(&mut self, group: &Group, time: Option<Duration>) {
        if let Some(round) = self.groups.get_mut(group) {
            round.proving = false;
            round.proving_time = time;
        }
    }
}
