//! All gates that wait, and what is to be done about them next.
//!
//! A state machine without I/O: it is fed with what was seen, answered and written, and returns
//! actions for the loop to carry out. Time is passed in.

use std::collections::{BTreeMap, BTreeSet};
use std::mem;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;

use crate::gates::machine::action::{
    Action, CallFailure, Change, GateId, LiveRead, Settings, Write, WriteOutcome,
};
use crate::gates::machine::check::had_target;
use crate::gates::machine::gate::{Gate, Seen};
use crate::gates::machine::observation::PollResult;
use crate::gates::machine::pod::PodGates;
use crate::gates::machine::timers::Timers;
use crate::gates::polling::queue::{NextPoll, PollQueue, Started};
use crate::gates::requirements::{TargetQuery, outlook};
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

/// The gates that wait.
#[derive(Debug)]
pub struct Tracker {
    settings: Settings,
    pods: BTreeMap<ObjectKey, PodGates>,
    rounds: PollQueue,
    agenda: Timers,
    writes: WriteQueue,
    pace: WriteLimiter,
    /// Since when this replica leads. One that follows sees everything and does nothing.
    leads_since: Option<Instant>,
}

impl Tracker {
    /// Nothing waits yet.
    pub fn new(settings: Settings) -> Self {
        Self {
            pace: WriteLimiter::new(settings.seed),
            settings,
            pods: BTreeMap::new(),
            rounds: PollQueue::default(),
            agenda: Timers::default(),
            writes: WriteQueue::default(),
            leads_since: None,
        }
    }

    /// Whether it was told to [`Self::lead`].
    pub fn leads(&self) -> bool {
        self.leads_since.is_some()
    }

    /// This replica begins to lead. What ELB said when it led before is forgotten.
    pub fn lead(&mut self, now: Instant) -> Vec<Action> {
        self.leads_since = Some(now);
        self.rounds.restart(now);
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

    /// This replica leads no more: it goes on seeing, and does nothing about it.
    pub fn follow(&mut self) {
        self.leads_since = None;
        self.writes.clear();
    }

    /// Something changed that may concern this pod: itself, a binding or a Service.
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

    /// Looks at one gate with what the index knows now.
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
        let outlook = outlook(pod, &bindings, service, &self.settings.apis);
        let bound = !bindings.is_empty() || index.saw_binding_go(&pod.key.namespace, name);
        let maybe_previous_pod = |ask: &TargetQuery| {
            let mut others = index.former_occupants(pod);
            self.rounds.is_registered(&ask.group, ask.target)
                || others.any(|other| had_target(other, ask, &bindings, service))
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
            outlook,
            maybe_previous_pod,
            &self.settings,
            now,
        );
        let id = gate.id(name);
        if let Some(due) = gate.due.filter(|_| gate.waits()) {
            for group in gate.groups() {
                let targets = gate.targets(group);
                self.rounds.join(group, &id, targets, due, now);
            }
        }
        let groups: Vec<&GroupKey> = gate.groups().filter(|_| gate.waits()).collect();
        for group in former.iter().filter(|group| !groups.contains(group)) {
            self.rounds.leave(group, &id);
        }
        self.step(&id, now)
    }

    /// What is to be done now about one gate, but for a write: that waits for its turn.
    fn step(&mut self, id: &GateId, now: Instant) -> Option<Action> {
        let tracked = self.pods.get_mut(&id.pod);
        let tracked = tracked.filter(|_| self.leads_since.is_some());
        let action = tracked.and_then(|tracked| tracked.step(&id.gate, now));
        self.settle(&id.pod);
        action
    }

    /// The same about all gates of a pod.
    fn step_all(&mut self, pod: &ObjectKey, now: Instant) -> Vec<Action> {
        let tracked = self.pods.get_mut(pod);
        let tracked = tracked.filter(|_| self.leads_since.is_some());
        let actions = tracked.map(|tracked| tracked.step_all(now));
        self.settle(pod);
        actions.unwrap_or_default()
    }

    /// Notes what a change to a pod's gates means for the schedule, the agenda and the writes that wait.
    fn settle(&mut self, pod: &ObjectKey) {
        let tracked = self.pods.get_mut(pod);
        let gates = tracked.into_iter().flat_map(|tracked| &mut tracked.gates);
        for (name, gate) in gates {
            if gate.take_forgot() {
                let id = gate.id(name);
                let unknown = gate.groups().filter(|group| !gate.knows_healthy(group));
                unknown.for_each(|group| self.rounds.forget(group, &id));
            }
        }
        let tracked = self.pods.get(pod);
        let item = tracked.map(PodGates::item);
        self.agenda.set(pod, item.unwrap_or_default());
        if self.leads() {
            self.writes.set(pod, tracked.and_then(PodGates::urgency));
        }
    }

    /// The writes whose turn it is, as many as the API server takes.
    pub fn writes(&mut self, now: Instant) -> Vec<Action> {
        let mut actions = vec![];
        while self.pace.allows(now)
            && let Some(pod) = self.writes.take()
        {
            let tracked = self.pods.get_mut(&pod);
            if let Some(write) = tracked.and_then(|tracked| tracked.take_write(&pod, now)) {
                self.pace.begin();
                actions.push(Action::Write(write));
            }
            self.settle(&pod);
        }
        actions
    }

    /// The calls whose turn it is, as far as `take` pays for them: it tells when to ask again where it does
    /// not. Their groups count as being asked about until [`Self::answered`]. `throttled` are those whom AWS
    /// throttled a moment ago.
    pub fn start_calls(
        &mut self,
        throttled: &BTreeSet<Quota>,
        now: Instant,
        take: impl FnMut(&NextPoll) -> Result<(), Instant>,
    ) -> Started {
        match self.leads() {
            true => self.rounds.start(throttled, now, take),
            false => Started::default(),
        }
    }

    /// When time alone will make [`Self::tick`] or [`Self::writes`] return something.
    pub fn next_tick(&self, now: Instant) -> Option<Instant> {
        self.leads_since?;
        let resumed = self.pace.pause(now).filter(|_| !self.writes.is_empty());
        self.agenda.next().into_iter().chain(resumed).min()
    }

    /// Time has passed.
    pub fn tick(&mut self, now: Instant) -> Vec<Action> {
        if self.leads_since.is_none() {
            return vec![];
        }
        let woken = self.agenda.woken(now);
        woken
            .iter()
            .flat_map(|pod| self.step_all(pod, now))
            .collect()
    }

    /// ELB answered about a group, or did not, to a call that was sent at `requested`. An answer that
    /// was asked for before this replica led is old news.
    pub fn answered(
        &mut self,
        group: &GroupKey,
        requested: Instant,
        answer: Result<&[TargetHealth], CallFailure>,
        now: Instant,
    ) -> Vec<Action> {
        if self.leads_since.is_none_or(|since| requested < since) {
            self.rounds.failed(group, true, now);
            return vec![];
        }
        match answer {
            Ok(targets) => self.heard(group, requested, targets, now),
            Err(CallFailure::GroupNotFound) => self.heard_missing(group, requested, now),
            Err(failure) => {
                let throttled = failure == CallFailure::Throttled;
                self.rounds.failed(group, throttled, now);
                vec![]
            }
        }
    }

    fn heard(
        &mut self,
        group: &GroupKey,
        requested: Instant,
        targets: &[TargetHealth],
        now: Instant,
    ) -> Vec<Action> {
        let answer = PollResult::new(self.rounds.asking(group), targets);
        let proving_time = self.rounds.proving_time(group);
        let mut actions = vec![];
        let mut unproven = false;
        let mut healthy = BTreeSet::new();
        for id in self.rounds.waiting(group) {
            let Some(gate) = self.gate(&id) else {
                continue;
            };
            let heard = gate.hear(group, &answer, requested, proving_time);
            unproven |= heard.unproven;
            actions.extend(self.step(&id, now));
            if heard.healthy {
                healthy.insert(id);
            }
        }
        self.rounds
            .answered(group, answer.registered(), &healthy, now);
        if unproven && self.rounds.start_proving(group) {
            actions.push(Action::Prove(group.clone()));
        }
        actions
    }

    fn heard_missing(&mut self, group: &GroupKey, requested: Instant, now: Instant) -> Vec<Action> {
        let mut news = self.rounds.is_news_that_missing(group);
        let mut actions = vec![];
        self.rounds.failed(group, false, now);
        for id in self.rounds.waiting(group) {
            let Some(gate) = self.gate(&id) else {
                continue;
            };
            gate.hear_missing(group, requested);
            let ask = gate.ask(group).filter(|_| mem::take(&mut news));
            let missing = ask.map(|ask| Action::MissingGroup {
                group: group.clone(),
                binding: (
                    ObjectKey::new(id.pod.namespace.clone(), ask.binding.0.clone()),
                    ask.binding.1,
                ),
            });
            actions.extend(self.step(&id, now));
            actions.extend(missing);
        }
        actions
    }

    /// What an [`Action::Prove`] found: health check interval times healthy threshold.
    pub fn proven(&mut self, group: &GroupKey, time: Option<Duration>) {
        self.rounds.proven(group, time);
    }

    /// A group's health check interval times its healthy threshold, as AWS described it to someone.
    pub fn note_checks(&mut self, group: &GroupKey, time: Duration) {
        self.rounds.note_checks(group, time);
    }

    /// What an [`Action::Confirm`] read; `None` where it could not, or where an API group that
    /// should be served is not: that is unknown, not gone.
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
        let outlook = fresh.map(|fresh| {
            let bindings: Vec<&Binding> = fresh.bindings.iter().collect();
            let service = |name: &str| fresh.services.get(name);
            outlook(&gate.pod, &bindings, service, &settings.apis)
        });
        gate.confirm(outlook.as_ref(), &settings, now);
        self.step(id, now).into_iter().collect()
    }

    /// How an [`Action::Write`] ended.
    pub fn written(&mut self, write: &Write, outcome: &WriteOutcome, now: Instant) -> Vec<Action> {
        self.pace.end(write.begun, outcome, now);
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
            groups
                .iter()
                .for_each(|group| self.rounds.leave(group, &id));
        }
    }

    /// How many gates wait.
    pub fn pending(&self) -> usize {
        self.agenda.pending()
    }

    /// Since when the containers of the pod are ready that has waited longest for a gate; `None` where
    /// no such pod's are.
    pub fn oldest(&self) -> Option<Timestamp> {
        self.agenda.oldest()
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
            gate.groups().for_each(|group| self.rounds.leave(group, id));
        }
        if gates.is_empty() {
            self.pods.remove(&id.pod);
        }
        self.settle(&id.pod);
    }
}
