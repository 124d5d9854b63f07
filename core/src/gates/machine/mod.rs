//! State machine of all gates that are not open, or follow ELB, without I/O.
//!
//! The loop feeds it with what watches show, what ELB answers and how writes end, and carries out the
//! actions that it returns. Time is passed in.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

use jiff::Timestamp;

use crate::gates::machine::action::{
    Action, Change, GateId, Settings, Waiting, Write, WriteOutcome,
};
use crate::gates::machine::expecting::Expecting;
use crate::gates::machine::gate::Gate;
use crate::gates::machine::live_reads::LiveReads;
use crate::gates::machine::named_groups::NamedGroups;
use crate::gates::machine::pod::PodGates;
use crate::gates::machine::problems::Problems;
use crate::gates::machine::sight::{Seen, moved_to, started};
use crate::gates::machine::timers::Timers;
use crate::gates::polling::group::Due;
use crate::gates::polling::queue::{NextPoll, PollQueue, Started};
use crate::gates::refusals::Refusals;
use crate::gates::requirements::{self, TargetQuery};
use crate::gates::writes::limiter::WriteLimiter;
use crate::gates::writes::queue::WriteQueue;
use crate::index::{Index, NamespaceView};
use crate::model::{Binding, Pod, Policies};
use crate::names::{GateName, GroupKey, NamedGroup, ObjectKey, Quota};

pub mod action;
mod answers;
mod check;
mod decision;
mod expecting;
mod gate;
pub mod known;
mod live_reads;
pub mod long_waits;
mod named_groups;
mod observation;
mod open_targets;
mod pending_absence;
mod pod;
mod problems;
mod registrations;
mod sight;
#[cfg(test)]
mod tests;
mod timers;

/// All gates that are not open, or follow ELB, with the queues of polls and writes for them.
#[derive(Debug)]
pub struct Tracker {
    settings: Settings,
    pods: BTreeMap<ObjectKey, PodGates>,
    polls: PollQueue,
    expecting: Expecting,
    live_reads: LiveReads,
    refusals: Refusals,
    names: NamedGroups,
    problems: Problems,
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
            expecting: Expecting::default(),
            live_reads: LiveReads::default(),
            refusals: Refusals::default(),
            names: NamedGroups::default(),
            problems: Problems::default(),
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
        self.problems = Problems::default();
    }

    /// Takes in a change that may concern this pod: to the pod itself, a binding or a Service. `wall` is the same
    /// moment as `now` on the wall clock.
    pub fn observe(
        &mut self,
        key: &ObjectKey,
        index: &Index,
        now: Instant,
        wall: Timestamp,
    ) -> Vec<Action> {
        let pod = index.pod(key).filter(|pod| pod.is_live());
        let tracked = self.pods.get(key);
        let old = tracked.zip(pod).is_some_and(|(t, pod)| t.is_ahead_of(pod));
        let moved = |name: &GateName| !index.moved(key, name).is_empty();
        let follows = |pod: &Pod, name: &GateName| {
            let view = index.namespace(&key.namespace);
            view.is_some_and(|view| policies(pod, &view.bindings_of(name), view).follows())
        };
        let stays = |name: &GateName, gate: &Gate| {
            pod.is_some_and(|pod| {
                pod.uid == gate.pod.uid
                    && (Gate::still_waits(pod, name, old, moved(name)) || follows(pod, name))
            })
        };
        let gates = tracked.into_iter().flat_map(|tracked| &tracked.gates);
        let left: Vec<GateId> = gates
            .filter(|(name, gate)| !stays(name, gate))
            .map(|(name, gate)| gate.id(name))
            .collect();
        left.iter().for_each(|id| self.forget(id));
        self.settle(key, now);
        let Some(pod) = pod else {
            return vec![];
        };
        let mut actions = vec![];
        for (name, condition) in &pod.gates {
            let open = condition.as_ref().is_some_and(|condition| condition.status);
            let tracked = self.pods.get(key);
            let is_tracked = tracked.is_some_and(|tracked| tracked.gates.contains_key(name));
            if !open || is_tracked || moved(name) || follows(pod, name) {
                actions.extend(self.look(pod, name, index, now, wall));
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
        wall: Timestamp,
    ) -> Option<Action> {
        let view = index.namespace(&pod.key.namespace)?;
        let bindings = view.bindings_of(name);
        let service = |service: &str| view.routes.service(service);
        let resolve = |group: &NamedGroup| self.names.resolution(group);
        let apis = &self.settings.apis;
        let requirements = requirements::of_gate(pod, &bindings, service, resolve, apis);
        let of_first_list = index.is_of_first_list(&pod.key);
        // ELB may still mean a previous pod by a target that its last answer listed before this pod had it, or
        // whose address another pod had. Of pods that ended before the first list nothing is known.
        let maybe_previous_pod = |query: &TargetQuery| {
            of_first_list
                || self.polls.is_registered(&query.group, query.target)
                || index.was_of_another(query.target.0, pod)
        };
        let tracked = self.pods.entry(pod.key.clone()).or_default();
        let old = tracked.is_ahead_of(pod);
        if !old {
            tracked.caught_up();
        }
        let seen = Seen {
            pod,
            old,
            policies: policies(pod, &bindings, view),
            bound: !bindings.is_empty() || index.saw_binding_go(&pod.key.namespace, name),
            moved_to: moved_to(&requirements, pod, name, index),
            had_since: match of_first_list {
                true => started(pod, now, wall),
                false => now,
            },
        };
        let new = || Gate::new(pod.clone());
        let gate = tracked.gates.entry(name.clone()).or_insert_with(new);
        let former: Vec<GroupKey> = gate.groups().cloned().collect();
        let settings = &self.settings;
        gate.see(&seen, name, requirements, maybe_previous_pod, settings, now);
        gate.see_refusals(&self.refusals);
        let id = gate.id(name);
        self.join(&id, &former, now);
        self.step(&id, now)
    }

    /// Brings the groups of a gate up to date: those that are polled for it, and those whose answers for others
    /// it hears. `former` are the groups that it had.
    fn join(&mut self, id: &GateId, former: &[GroupKey], now: Instant) {
        let tracked = self.pods.get(&id.pod);
        let Some(gate) = tracked.and_then(|tracked| tracked.gates.get(&id.gate)) else {
            return;
        };
        let groups: BTreeSet<&GroupKey> = gate.groups().collect();
        let due = gate.waits_since().map(|at| Due {
            at,
            observed: gate.seen_before_due && !gate.was_closed_again(),
        });
        // What a group is polled for next comes before what it is not polled for any more, so that it is not
        // forgotten in between.
        for group in &groups {
            match due {
                Some(due) => {
                    self.polls.join(group, id, gate.targets(group), due, now);
                    self.polls.leave_open(group, id);
                    self.expecting.leave(group, id);
                }
                None if gate.is_followed() => {
                    self.polls.join_open(group, id, now);
                    self.polls.leave(group, id);
                    self.expecting.leave(group, id);
                }
                None => {
                    self.polls.leave(group, id);
                    self.polls.leave_open(group, id);
                    self.expecting.join(group, id);
                }
            }
        }
        for group in former.iter().filter(|group| !groups.contains(group)) {
            self.polls.leave(group, id);
            self.polls.leave_open(group, id);
            self.expecting.leave(group, id);
        }
    }

    /// The action that is due now for one gate, except for a write, which the write queue releases.
    fn step(&mut self, id: &GateId, now: Instant) -> Option<Action> {
        let tracked = self.pods.get_mut(&id.pod);
        let tracked = tracked.filter(|_| self.leads_since.is_some());
        let action = tracked.and_then(|tracked| tracked.step(&id.gate, now));
        self.settle(&id.pod, now);
        action.filter(|action| self.begins(action, now))
    }

    /// The actions that are due now for all gates of a pod, except for a write.
    fn step_all(&mut self, pod: &ObjectKey, now: Instant) -> Vec<Action> {
        let tracked = self.pods.get_mut(pod);
        let tracked = tracked.filter(|_| self.leads_since.is_some());
        let mut actions = tracked.map_or(vec![], |tracked| tracked.step_all(now));
        self.settle(pod, now);
        actions.retain(|action| self.begins(action, now));
        actions
    }

    /// Whether an action has to be carried out, and is not shared with one in flight.
    fn begins(&mut self, action: &Action, now: Instant) -> bool {
        match action {
            Action::Confirm(id) => self.live_reads.begin(id, now),
            _ => true,
        }
    }

    /// Brings queues, timers and names in step with a pod's gates after a change to them.
    fn settle(&mut self, pod: &ObjectKey, now: Instant) {
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
        self.timers
            .set(pod, tracked.map(PodGates::timers).unwrap_or_default());
        self.names
            .set(pod, &tracked.map(PodGates::names).unwrap_or_default(), now);
        if self.leads_since.is_some() {
            self.writes.set(pod, tracked.and_then(PodGates::urgency));
            let gates = tracked
                .into_iter()
                .flat_map(|tracked| tracked.gates.values());
            gates.for_each(|gate| self.problems.see(gate));
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
            self.settle(&pod, now);
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
        let wakes = [self.timers.next(), self.names.next(), resumed];
        wakes.into_iter().flatten().min()
    }

    /// The actions of the pods whose wake-up has passed.
    pub fn tick(&mut self, now: Instant) -> Vec<Action> {
        if self.leads_since.is_none() {
            return vec![];
        }
        let mut actions = self.problems.take();
        let names = self.names.start(now).into_iter();
        actions.extend(names.map(Action::Resolve));
        for pod in self.timers.woken(now) {
            actions.extend(self.step_all(&pod, now));
        }
        actions
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
            self.forget(&id);
            return self.settle(&id.pod, now);
        }
        // Also of a gate that is not kept any more: the watch may have shown it open before the answer came.
        if matches!(outcome, WriteOutcome::Written(_)) {
            self.problems.opened(write, change);
        }
        let Some(gate) = self.gate(&id) else {
            return;
        };
        gate.written(&write.version, outcome, now);
        let groups: Vec<GroupKey> = gate.groups().cloned().collect();
        self.join(&id, &groups, now);
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
            for group in gate.groups() {
                self.polls.leave(group, id);
                self.polls.leave_open(group, id);
                self.expecting.leave(group, id);
            }
        }
        if gates.is_empty() {
            self.pods.remove(&id.pod);
        }
    }
}

/// How a gate of a pod departs from what ELB says: its own annotation counts before those of its bindings, and these
/// before the Namespace's.
fn policies(pod: &Pod, bindings: &[&Binding], view: &NamespaceView) -> Policies {
    let own = bindings
        .iter()
        .fold(pod.policies, |so_far, binding| so_far.or(binding.policies));
    own.or(view.namespace.policies)
}
