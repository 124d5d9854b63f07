//! Polling queue: which group is polled next with `DescribeTargetHealth` (contract 5.7).
//!
//! The queue polls only groups for which due pods wait, or which open gates follow, and makes one call at a time for
//! each, so that a slow group does not delay another. [`schedule`] sets the next poll of a group to when its pods may
//! have become healthy. Among the groups that are due, the queue prefers the one whose pods have most
//! likely been healthy for longest. Groups of an account and Region that AWS throttles come last, and do
//! not block the others while the budget refuses their calls.

use std::collections::{BTreeMap, BTreeSet};
use std::mem;
use std::time::{Duration, Instant};

use crate::gates::BACKOFF;
use crate::gates::machine::action::{CallFailure, GateId};
use crate::gates::polling::group::{Due, PolledGroup, Shown, Target, Waiter};
use crate::gates::polling::learned::Learned;
use crate::gates::polling::order::Refusals;
use crate::gates::polling::rechecks;
use crate::gates::polling::rechecks::Rechecks;
use crate::gates::polling::schedule;
use crate::gates::polling::schedule::{Demand, LONGEST_INTERVAL, Slots};
use crate::names::{GroupKey, Quota};

mod heard;
mod starting;

/// One call of `DescribeTargetHealth`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    pub group: GroupKey,
    /// The targets that the call names; empty for the whole group.
    pub targets: Vec<(std::net::IpAddr, u16)>,
}

/// A group that is due to be polled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NextPoll {
    pub(crate) group: GroupKey,
    /// The quota that the call counts against.
    pub quota: Quota,
    /// When the group became due.
    pub since: Instant,
    /// How many due groups of the same quota remain, this one included.
    pub groups: usize,
    /// Whether the poll is likely to find healthy pods; also set while nothing is known of the group, and once
    /// a group whose calls fail is overdue for long.
    pub likely_healthy: bool,
    /// Whether it is a recheck: no poll is due for a waiting pod of the group, only one for open gates.
    pub recheck: bool,
}

/// The calls that the queue has started.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Started {
    /// Their groups count as in flight from now on.
    pub calls: Vec<Call>,
    /// When to start more calls; `None` while the queue is empty.
    pub again: Option<Instant>,
}

/// The groups that pods wait for, by their next poll.
#[derive(Debug, Default)]
pub(crate) struct PollQueue {
    pub(super) groups: BTreeMap<GroupKey, PolledGroup>,
    /// The groups that are not in flight, by their next poll.
    pub(super) queues: BTreeMap<Quota, BTreeSet<(Instant, GroupKey)>>,
    /// The quotas whose budget refused a call, and whose due groups need not be ranked until it may allow one.
    refusals: Refusals,
    rechecks: Rechecks,
    /// The slots of the groups all of whose pods have waited for long.
    slots: Slots,
    learned: Learned,
}

impl PollQueue {
    /// Adds a due gate that waits for these targets of a group.
    pub(crate) fn join(
        &mut self,
        group: &GroupKey,
        gate: &GateId,
        targets: Vec<Target>,
        due: Due,
        now: Instant,
    ) {
        let new = || PolledGroup::new(Quota::of(&group.arn), now);
        let groups = self.groups_polled_with(group);
        let polled = self.groups.entry(group.clone()).or_insert_with(new);
        let is_first = polled.waiting.is_empty();
        let joined = polled.waiting.get(gate);
        if joined.is_some_and(|waiter| waiter.due == due.at && waiter.targets == targets) {
            return;
        }
        let expected = self.learned.expected(group);
        let waiter = Waiter {
            due: due.at,
            from: due.at,
            observed: due.observed,
            targets,
            polled_at: None,
            shown: Shown::Unhealthy,
        };
        let pods = polled.waiting.len() + 1;
        let demand = Demand { pods, groups };
        let first_poll = waiter.next(expected, demand);
        polled.waiting.insert(gate.clone(), waiter);
        // A pod that joins pulls the group's next poll forward, as if the group's wait had just begun, but
        // not below the shortest interval since the last call. A failing group keeps its backoff.
        if polled.failures == 0 {
            let shortest = schedule::shortest_interval(expected.known, demand);
            let soon = polled
                .requested
                .map_or(first_poll, |requested| first_poll.max(requested + shortest));
            polled.next = match is_first {
                true => soon,
                false => polled.next.min(soon),
            };
        }
        if !polled.in_flight {
            self.enqueue(group);
        }
    }

    /// Adds an open gate that follows a group.
    pub(crate) fn join_open(&mut self, group: &GroupKey, gate: &GateId, now: Instant) {
        let new = || PolledGroup::new(Quota::of(&group.arn), now);
        let polled = self.groups.entry(group.clone()).or_insert_with(new);
        let is_new = polled.followed.insert(gate.clone());
        if is_new && !polled.in_flight {
            self.enqueue(group);
        }
    }

    /// Removes an open gate from a group that it followed.
    pub(crate) fn leave_open(&mut self, group: &GroupKey, gate: &GateId) {
        if let Some(polled) = self.groups.get_mut(group)
            && polled.followed.remove(gate)
            && !polled.in_flight
        {
            self.settle(group);
        }
    }

    /// Forgets all results and makes every group due, because this replica begins to lead.
    pub(crate) fn restart(&mut self, now: Instant) {
        self.refusals = Refusals::default();
        let groups: Vec<GroupKey> = self.groups.keys().cloned().collect();
        for group in &groups {
            let Some(polled) = self.groups.get_mut(group) else {
                continue;
            };
            polled.next = now;
            polled.failures = 0;
            polled.whole_sent = None;
            polled.forget_results();
            if !polled.in_flight {
                self.enqueue(group);
            }
        }
    }

    /// Forgets a gate's healthy result that has become stale, and makes the group due at once.
    pub(crate) fn forget(&mut self, group: &GroupKey, gate: &GateId) {
        let groups = self.groups_polled_with(group);
        let Some(polled) = self.groups.get_mut(group) else {
            return;
        };
        let waiter = polled.waiting.get_mut(gate);
        let Some(waiter) = waiter.filter(|waiter| waiter.shown == Shown::Healthy) else {
            return;
        };
        waiter.shown = Shown::Forgotten;
        if polled.failures > 0 || polled.in_flight {
            return;
        }
        let expected = self.learned.expected(group);
        let pods = polled.to_poll().count();
        let shortest = schedule::shortest_interval(expected.known, Demand { pods, groups });
        let soon = polled
            .requested
            .map_or(polled.next, |requested| requested + shortest);
        polled.next = polled.next.min(soon);
        self.enqueue(group);
    }

    /// Removes a waiting gate from a group. The last gate to leave removes the group, but not its timings.
    pub(crate) fn leave(&mut self, group: &GroupKey, gate: &GateId) {
        if let Some(polled) = self.groups.get_mut(group) {
            polled.waiting.remove(gate);
            if polled.waiting.is_empty() && !polled.in_flight {
                self.settle(group);
            }
        }
    }

    /// When a group is polled next; `None` while a call is in flight, and for a group without waiting gates.
    pub(crate) fn next_poll(&self, group: &GroupKey) -> Option<Instant> {
        self.groups.get(group)?.queued
    }

    /// Whether the last answer about a group named this target.
    pub(crate) fn is_registered(&self, group: &GroupKey, target: Target) -> bool {
        let polled = self.groups.get(group);
        polled.is_some_and(|polled| polled.registered.contains(&target))
    }

    /// The gates that wait for a group.
    pub(crate) fn waiting(&self, group: &GroupKey) -> Vec<GateId> {
        let polled = self.groups.get(group);
        polled.map_or(vec![], |polled| polled.waiting.keys().cloned().collect())
    }

    /// The open gates that follow a group.
    pub(crate) fn followed(&self, group: &GroupKey) -> Vec<GateId> {
        let polled = self.groups.get(group);
        polled.map_or(vec![], |polled| polled.followed.iter().cloned().collect())
    }

    /// The targets that the call in flight names; empty for the whole group.
    pub(crate) fn in_call(&self, group: &GroupKey) -> BTreeSet<Target> {
        let polled = self.groups.get(group);
        polled.map_or(BTreeSet::new(), |r| r.in_call.iter().copied().collect())
    }

    /// Takes in an answer of ELB: the targets that are `registered`, and the gates whose targets are all
    /// `healthy`.
    pub(crate) fn answered(
        &mut self,
        group: &GroupKey,
        registered: BTreeSet<Target>,
        healthy: &BTreeSet<GateId>,
        now: Instant,
    ) {
        let Some(polled) = self.groups.get_mut(group) else {
            return;
        };
        let named = mem::take(&mut polled.in_call);
        let requested = polled.requested.unwrap_or(now);
        self.show(group, &named, registered, healthy, requested);
        self.end_call(group, now);
    }

    /// How many groups are polled, this one included. Those of which a call is in flight do not count, nor those all of
    /// whose pods have waited for long: these have slots.
    fn groups_polled_with(&self, group: &GroupKey) -> usize {
        let queued: usize = self.queues.values().map(BTreeSet::len).sum();
        let itself = self.groups.get(group).and_then(|polled| polled.queued);
        let others = queued.saturating_sub(self.slots.taken() + usize::from(itself.is_some()));
        others + 1
    }

    /// Sets the next poll after a call that ELB answered.
    fn end_call(&mut self, group: &GroupKey, now: Instant) {
        let groups = self.groups_polled_with(group);
        if let Some(polled) = self.groups.get_mut(group) {
            polled.next = polled.next_poll(self.learned.expected(group), groups, now);
        }
        self.take_slot(group, now);
        self.settle(group);
    }

    /// Takes in the answer to a call that was sent at `requested` and named these targets, or asked for the whole group.
    fn show(
        &mut self,
        group: &GroupKey,
        named: &[Target],
        registered: BTreeSet<Target>,
        healthy: &BTreeSet<GateId>,
        requested: Instant,
    ) {
        let Some(polled) = self.groups.get_mut(group) else {
            return;
        };
        polled.failures = 0;
        polled.missing = false;
        polled.answered = Some(requested);
        if named.is_empty() {
            polled.registered = registered;
            polled.whole = Some(requested);
        } else {
            polled.registered.retain(|target| !named.contains(target));
            polled.registered.extend(registered);
        }
        let unhealthy = |w: &&Waiter| w.shown == Shown::Unhealthy && w.due <= requested;
        let waiting = polled.to_poll().filter(unhealthy).count();
        let mut flips = vec![];
        for (gate, waiter) in &mut polled.waiting {
            // An answer shows nothing of a waiter that became due after the request (contract 5.4), or that
            // joined with other targets while the call was in flight.
            let was_polled = named.is_empty() || waiter.targets.iter().all(|t| named.contains(t));
            if waiter.due <= requested && was_polled {
                let flip = waiter.show(healthy.contains(gate), requested);
                flips.extend(flip.filter(|_| waiter.observed));
            }
        }
        self.learned.learn(group, &flips, waiting);
    }

    /// The answer to a call came after one that was requested later, and tells nothing.
    pub(crate) fn overtaken(&mut self, group: &GroupKey, now: Instant) {
        if let Some(polled) = self.groups.get_mut(group) {
            polled.in_call.clear();
        }
        self.end_call(group, now);
    }

    /// A call about a group failed; it is asked again after a pause that grows. A throttled one is
    /// polled again soon: the budget has to slow down, and not the group.
    pub(crate) fn failed(&mut self, group: &GroupKey, failure: CallFailure, now: Instant) {
        let Some(polled) = self.groups.get_mut(group) else {
            return;
        };
        if failure != CallFailure::Throttled {
            polled.failures = polled.failures.saturating_add(1);
            // ELB fails the whole call for one invalid target, so the next call names none.
            polled.whole = None;
        }
        // A named target outside of the group's VPC needs its zone, a QUIC target its server: where ELB rejects
        // names once, it rejects them again.
        if failure == CallFailure::Invalid && !polled.in_call.is_empty() {
            self.learned.note_names_rejected(group);
        }
        polled.in_call.clear();
        polled.next = now + BACKOFF.after(polled.failures);
        self.take_slot(group, now);
        self.settle(group);
    }

    /// Postpones the next poll of a group whose call has ended to a slot, if all of its pods have waited for
    /// long. [`Self::dequeue`] frees the slot.
    fn take_slot(&mut self, group: &GroupKey, now: Instant) {
        let expected = self.learned.expected(group);
        if let Some(polled) = self.groups.get_mut(group)
            && polled.in_flight
            && polled.waits_long(expected, now)
        {
            polled.next = self.slots.take(polled.next.max(now + LONGEST_INTERVAL));
            polled.slot = Some(polled.next);
        }
    }

    /// Notes that AWS does not know a group. Returns whether that is new.
    pub(crate) fn mark_missing(&mut self, group: &GroupKey) -> bool {
        let Some(polled) = self.groups.get_mut(group) else {
            return false;
        };
        polled.forget_results();
        !mem::replace(&mut polled.missing, true)
    }

    /// The group's proving time, if AWS has described the group.
    pub(crate) fn proving_time(&self, group: &GroupKey) -> Option<Duration> {
        self.groups.get(group)?.proving_time
    }

    /// Starts a request for the group's proving time. Returns `false` while one is in flight.
    pub(crate) fn start_proving(&mut self, group: &GroupKey) -> bool {
        let polled = self.groups.get_mut(group);
        polled.is_some_and(|polled| !mem::replace(&mut polled.proving, true))
    }

    /// Takes in the group's proving time; `None` where the call failed.
    pub(crate) fn proven(&mut self, group: &GroupKey, time: Option<Duration>) {
        if let Some(polled) = self.groups.get_mut(group) {
            polled.proving = false;
            polled.proving_time = time;
        }
    }

    /// Notes a group's health check interval times its healthy threshold, as AWS described it.
    pub(crate) fn note_checks(&mut self, group: &GroupKey, time: Duration) {
        self.learned.note_checks(group, time);
    }

    /// Queues a group again after its call has ended or a gate has left, or removes it if that was the last one.
    fn settle(&mut self, group: &GroupKey) {
        let polled = self.groups.get_mut(group);
        match polled.filter(|polled| !polled.is_unused()) {
            Some(polled) => {
                polled.in_flight = false;
                self.enqueue(group);
            }
            None => self.remove(group),
        }
    }

    fn enqueue(&mut self, group: &GroupKey) {
        self.dequeue(group);
        let Some(polled) = self.groups.get_mut(group) else {
            return;
        };
        if !polled.waiting.is_empty() {
            polled.queued = Some(polled.next);
            let queue = self.queues.entry(polled.quota.clone()).or_default();
            queue.insert((polled.next, group.clone()));
            self.refusals.due_at(&polled.quota, polled.next);
        }
        if !polled.followed.is_empty() {
            let at = rechecks::next(polled.whole_sent, polled.since);
            polled.recheck = Some(at);
            self.rechecks.join(&polled.quota, at, group);
        }
    }

    fn dequeue(&mut self, group: &GroupKey) {
        let Some(polled) = self.groups.get_mut(group) else {
            return;
        };
        if let Some(at) = polled.recheck.take() {
            self.rechecks.leave(&polled.quota, at, group);
        }
        let Some(queued) = polled.queued.take() else {
            return;
        };
        if let Some(slot) = polled.slot.take() {
            self.slots.free(slot);
        }
        let quota = &polled.quota;
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
