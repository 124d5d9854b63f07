//! State machine of all gates that are not open, without I/O.
//!
//! The loop feeds it with what watches show, what ELB answers and how writes end, and carries out the
//! actions that it returns. Time is passed in.

use std::collections::{BTreeMap, BTreeSet};
use std::mem;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;

use crate::gates::machine::action::{
    Action, CallFailure, Change, GateId, LiveRead, Settings, Waiting, Write, WriteOutcome,
};
use crate::gates::machine::check::had_target;
use crate::gates::machine::gate::{Gate, Seen};
use crate::gates::machine::observation::PollResult;
use crate::gates::machine::pod::PodGates;
use crate::gates::machine::timers::Timers;
use crate::gates::polling::group::Due;
use crate::gates::polling::queue::{NextPoll, PollQueue, Started};
use crate::gates::requirements::{self, TargetQuery};
use crate::gates::writes::limiter::WriteLimiter;
use crate::gates::writes::queue::WriteQueue;
use crate::index::Index;
use crate::model::{Binding, Pod, TargetHealth};
use crate::names::{GateName, GroupKey, ObjectKey, Quota};

pub mod action;
mod check;
mod gate;
mod observation;
mod pending_absence;
mod pod;
#[cfg(test)]
mod tests;
mod timers;

/// All gates that are not open, with the queues of polls and writes for them.
#[derive(Debug)]
pub struct Tracker {
    settings: Settings,
    pods: BTreeMap<ObjectKey, PodGates>,
    polls: PollQueue,
    timers: Timers,
    writes: WriteQueue,
    write_limiter: WriteLimiter,
    /// Since when this replica leads; a follower takes in everything and returns no actions.
    leads_since: Option<Instant>,
}

impl Tracker {
    /// A tracker without gates, which does not lead.
    pub fn new(settings: Settings) -> Self {
        Self {
            write_limiter: WriteLimiter::new(settings.seed),
            settings,
            pods: BTreeMap::new(),
            polls: PollQueue::default(),
            timers: Timers::default(),
            writes: WriteQueue::default(),
            leads_since: None,
        }
    }

    /// Whether this replica leads.
    pub fn leads(&self) -> bool {
        self.leads_since.is_some()
    }

    /// This replica begins to lead. Answers of ELB from an earlier term are forgotten.
    pub fn lead(&mut self, now: Instant) -> Vec<Action> {
        self.leads_since = Some(now);
        self.polls.restart(now);
        let gates = self
            .pods
            .values_mut()
            .flat_map(|pod| pod.gates.values_mut());
        gates.for_each(Gate::forget_answers);
        let pods: Vec<ObjectKey> = self.pods.keys().cloned().collect();
        pods.iter()
            .flat_map(|pod| self.step_all(pod, now))
            .collect()
    }

    /// This replica stops leading: it still takes in what watches show, but returns no actions.
    pub fn follow(&mut self) {
        self.leads_since = None;
        self.writes.clear();
    }

    /// Takes in a change that may concern this pod: to the pod itself, a binding or a Service.
    pub fn observe(&mut self, key: &ObjectKey, index: &Index, now: Instant) -> Vec<Action> {
        let pod = index.pod(key).filter(|pod| pod.is_live());
        let tracked = self.pods.get(key);
        let old = tracked.zip(pod).is_some_and(|(t, pod)| t.is_ahead_of(pod));
        let stays = |name: &GateName, gate: &Gate| {
            pod.is_some_and(|pod| pod.uid == gate.pod.uid && Gate::still_waits(pod, name, old))
        };
        let gates = tracked.into_iter().flat_map(|tracked| &tracked.gates);
        let left: Vec<GateId> = gates
            .filter(|(name, gate)| !stays(name, gate))
            .map(|(name, gate)| gate.id(name))
            .collect();
        left.iter().for_each(|id| self.forget(id));
        let Some(pod) = pod else {
            return vec![];
        };
        let mut actions = vec![];
        for (name, condition) in &pod.gates {
            let open = condition.as_ref().is_some_and(|condition| condition.status);
            let tracked = self.pods.get(key);
            if !open || tracked.is_some_and(|tracked| tracked.gates.contains_key(name)) {
                actions.extend(self.look(pod, name, index, now));
            }
        }
        actions
    }

    /// Brings one gate up to date with the index.
    fn look(
        &mut self,
        pod: &Arc<Pod>,
        name: &GateName,
        index: &Index,
        now: Instant,
    ) -> Option<Action> {
        let view = index.namespace(&pod.key.namespace)?;
        let bindings = view.bindings_of(name);
        let service = |service: &str| view.routes.service(service);
        let requirements = requirements::of_gate(pod, &bindings, service, &self.settings.apis);
        let bound = !bindings.is_empty() || index.saw_binding_go(&pod.key.namespace, name);
        // ELB may still mean a previous pod by a target that its last answer listed before this pod had it,
        // or that a pod with the same address had.
        let maybe_previous_pod = |query: &TargetQuery| {
            let mut others = index.former_occupants(pod);
            self.polls.is_registered(&query.group, query.target)
                || others.any(|other| had_target(other, query, &bindings, service))
        };
        let tracked = self.pods.entry(pod.key.clone()).or_default();
        let old = tracked.is_ahead_of(pod);
        if !old {
            tracked.caught_up();
        }
        let gate = tracked
            .gates
            .entry(name.clone())
            .or_insert_with(|| Gate::new(pod.clone()));
        let former: Vec<GroupKey> = gate.groups().cloned().collect();
        gate.see(
            Seen { pod, old, bound },
            name,
            requirements,
            maybe_previous_pod,
            &self.settings,
            now,
        );
        let id = gate.id(name);
        if let Some(at) = gate.due.filter(|_| gate.waits()) {
            let observed = gate.seen_before_due;
            let due = Due { at, observed };
            for group in gate.groups() {
                let targets = gate.targets(group);
                self.polls.join(group, &id, targets, due, now);
            }
        }
        let groups: Vec<&GroupKey> = gate.groups().filter(|_| gate.waits()).collect();
        for group in former.iter().filter(|group| !groups.contains(group)) {
            self.polls.leave(group, &id);
        }
        self.step(&id, now)
    }

    /// The action that is due now for one gate, except for a write, which the write queue releases.
    fn step(&mut self, id: &GateId, now: Instant) -> Option<Action> {
        let tracked = self.pods.get_mut(&id.pod);
        let tracked = tracked.filter(|_| self.leads_since.is_some());
        let action = tracked.and_then(|tracked| tracked.step(&id.gate, now));
        self.settle(&id.pod);
        action
    }

    /// The actions that are due now for all gates of a pod, except for a write.
    fn step_all(&mut self, pod: &ObjectKey, now: Instant) -> Vec<Action> {
        let tracked = self.pods.get_mut(pod);
        let tracked = tracked.filter(|_| self.leads_since.is_some());
        let actions = tracked.map(|tracked| tracked.step_all(now));
        self.settle(pod);
        actions.unwrap_or_default()
    }

    /// Brings polling queue, timers and write queue in step with a pod's gates after a change to them.
    fn settle(&mut self, pod: &ObjectKey) {
        let tracked = self.pods.get_mut(pod);
        let gates = tracked.into_iter().flat_map(|tracked| &mut tracked.gates);
        for (name, gate) in gates {
            if gate.take_forgot() {
                let id = gate.id(name);
                let unknown = gate.groups().filter(|group| !gate.knows_healthy(group));
                unknown.for_each(|group| self.polls.forget(group, &id));
            }
        }
        let tracked = self.pods.get(pod);
        let timers = tracked.map(PodGates::timers);
        self.timers.set(pod, timers.unwrap_or_default());
        if self.leads() {
            self.writes.set(pod, tracked.and_then(PodGates::urgency));
        }
    }

    /// Starts writes, as many as the write limiter allows.
    pub fn writes(&mut self, now: Instant) -> Vec<Action> {
        let mut actions = vec![];
        while self.write_limiter.allows(now)
            && let Some(pod) = self.writes.take()
        {
            let tracked = self.pods.get_mut(&pod);
            if let Some(write) = tracked.and_then(|tracked| tracked.take_write(&pod, now)) {
                self.write_limiter.begin();
                actions.push(Action::Write(write));
            }
            self.settle(&pod);
        }
        actions
    }

    /// Starts the polls that are due, as far as `take` grants tokens; where it refuses, it returns when to
    /// try again. The groups are in flight until [`Self::answered`]. `throttled` holds the quotas whose rate
    /// is held down after a throttle.
    pub fn start_calls(
        &mut self,
        throttled: &BTreeSet<Quota>,
        now: Instant,
        take: impl FnMut(&NextPoll) -> Result<(), Instant>,
    ) -> Started {
        match self.leads() {
            true => self.polls.start(throttled, now, take),
            false => Started::default(),
        }
    }

    /// The next wake-up, at which [`Self::tick`] or [`Self::writes`] may return something.
    pub fn next_tick(&self, now: Instant) -> Option<Instant> {
        self.leads_since?;
        let resumed = self
            .write_limiter
            .pause(now)
            .filter(|_| !self.writes.is_empty());
        self.timers.next().into_iter().chain(resumed).min()
    }

    /// The actions of the pods whose wake-up has passed.
    pub fn tick(&mut self, now: Instant) -> Vec<Action> {
        if self.leads_since.is_none() {
            return vec![];
        }
        let woken = self.timers.woken(now);
        woken
            .iter()
            .flat_map(|pod| self.step_all(pod, now))
            .collect()
    }

    /// Takes in the answer of ELB, or the failure, to a poll that was sent at `requested`. An answer that
    /// was requested before this replica led is discarded, and the group is polled again.
    pub fn answered(
        &mut self,
        group: &GroupKey,
        requested: Instant,
        answer: Result<&[TargetHealth], CallFailure>,
        now: Instant,
    ) -> Vec<Action> {
        if self.leads_since.is_none_or(|since| requested < since) {
            self.polls.failed(group, CallFailure::Throttled, now);
            return vec![];
        }
        match answer {
            Ok(targets) => self.apply_answer(group, requested, targets, now),
            Err(CallFailure::GroupNotFound) => self.apply_missing_group(group, requested, now),
            Err(failure) => {
                self.polls.failed(group, failure, now);
                vec![]
            }
        }
    }

    fn apply_answer(
        &mut self,
        group: &GroupKey,
        requested: Instant,
        targets: &[TargetHealth],
        now: Instant,
    ) -> Vec<Action> {
        let answer = PollResult::new(self.polls.in_call(group), targets);
        let proving_time = self.polls.proving_time(group);
        let mut actions = vec![];
        let mut unproven = false;
        let mut healthy = BTreeSet::new();
        for id in self.polls.waiting(group) {
            let Some(gate) = self.gate(&id) else {
                continue;
            };
            let result = gate.apply(group, &answer, requested, proving_time);
            unproven |= result.unproven;
            actions.extend(self.step(&id, now));
            if result.healthy {
                healthy.insert(id);
            }
        }
        self.polls
            .answered(group, answer.registered(), &healthy, now);
        if unproven && self.polls.start_proving(group) {
            actions.push(Action::Prove(group.clone()));
        }
        actions
    }

    fn apply_missing_group(
        &mut self,
        group: &GroupKey,
        requested: Instant,
        now: Instant,
    ) -> Vec<Action> {
        let mut is_new = self.polls.mark_missing(group);
        let mut actions = vec![];
        self.polls.failed(group, CallFailure::GroupNotFound, now);
        for id in self.polls.waiting(group) {
            let Some(gate) = self.gate(&id) else {
                continue;
            };
            gate.apply_missing_group(group, requested);
            let query = gate.query(group).filter(|_| mem::take(&mut is_new));
            let missing = query.map(|query| Action::MissingGroup {
                group: group.clone(),
                binding: (
                    ObjectKey::new(id.pod.namespace.clone(), query.binding.0.clone()),
                    query.binding.1,
                ),
            });
            actions.extend(self.step(&id, now));
            actions.extend(missing);
        }
        actions
    }

    /// Takes in what an [`Action::Prove`] found: health check interval times healthy threshold.
    pub fn proven(&mut self, group: &GroupKey, time: Option<Duration>) {
        self.polls.proven(group, time);
    }

    /// Notes a group's health check interval times its healthy threshold, as AWS described it to a hook.
    pub fn note_checks(&mut self, group: &GroupKey, time: Duration) {
        self.polls.note_checks(group, time);
    }

    /// Takes in what an [`Action::Confirm`] read; `None` where the read failed, or where an API group that
    /// should be served is not: its bindings are unknown, not gone.
    pub fn confirmed(
        &mut self,
        id: &GateId,
        fresh: Option<&LiveRead>,
        now: Instant,
    ) -> Vec<Action> {
        let settings = self.settings.clone();
        let Some(gate) = self.gate(id) else {
            return vec![];
        };
        let requirements = fresh.map(|fresh| {
            let bindings: Vec<&Binding> = fresh.bindings.iter().collect();
            let service = |name: &str| fresh.services.get(name);
            requirements::of_gate(&gate.pod, &bindings, service, &settings.apis)
        });
        gate.confirm(requirements.as_ref(), &settings, now);
        self.step(id, now).into_iter().collect()
    }

    /// How an [`Action::Write`] ended.
    pub fn written(&mut self, write: &Write, outcome: &WriteOutcome, now: Instant) -> Vec<Action> {
        self.write_limiter.end(write.begun, outcome, now);
        for change in &write.changes {
            self.change_ended(write, change, outcome, now);
        }
        if let WriteOutcome::Written(version) = outcome
            && let Some(tracked) = self.pods.get_mut(&write.pod)
        {
            tracked.wrote(&write.uid, version);
        }
        self.step_all(&write.pod, now)
    }

    fn change_ended(
        &mut self,
        write: &Write,
        change: &Change,
        outcome: &WriteOutcome,
        now: Instant,
    ) {
        let id = GateId {
            pod: write.pod.clone(),
            uid: write.uid.clone(),
            gate: change.gate.clone(),
        };
        if *outcome == WriteOutcome::Gone {
            return self.forget(&id);
        }
        let Some(gate) = self.gate(&id) else {
            return;
        };
        gate.written(&write.version, outcome, now);
        if !gate.waits() {
            let groups: Vec<GroupKey> = gate.groups().cloned().collect();
            groups.iter().for_each(|group| self.polls.leave(group, &id));
        }
    }

    /// Why the gates of a pod are not open; empty for a pod whose gates are.
    pub fn waiting(&self, pod: &ObjectKey) -> Vec<Waiting> {
        let gates = self.pods.get(pod).into_iter().flat_map(|pod| &pod.gates);
        let closed = gates.filter(|(_, gate)| !gate.is_open());
        closed
            .map(|(name, gate)| Waiting {
                gate: name.clone(),
                reason: gate.waits_for(),
                next_poll: gate
                    .groups()
                    .filter_map(|group| self.polls.next_poll(group))
                    .min(),
            })
            .collect()
    }

    /// The number of pending gates.
    pub fn pending(&self) -> usize {
        self.timers.pending()
    }

    /// When the containers of the longest waiting pod became ready; `None` while none are ready.
    pub fn oldest(&self) -> Option<Timestamp> {
        self.timers.oldest()
    }

    fn gate(&mut self, id: &GateId) -> Option<&mut Gate> {
        let gate = self.pods.get_mut(&id.pod)?.gates.get_mut(&id.gate)?;
        (gate.pod.uid == id.uid).then_some(gate)
    }

    fn forget(&mut self, id: &GateId) {
        let Some(PodGates { gates, .. }) = self.pods.get_mut(&id.pod) else {
            return;
        };
        if gates
            .get(&id.gate)
            .is_none_or(|gate| gate.pod.uid != id.uid)
        {
            return;
        }
        if let Some(gate) = gates.remove(&id.gate) {
            gate.groups().for_each(|group| self.polls.leave(group, id));
        }
        if gates.is_empty() {
            self.pods.remove(&id.pod);
        }
        self.settle(&id.pod);
    }
}
