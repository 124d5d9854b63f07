//! All gates that wait, and what is to be done about them next.
//!
//! A state machine without I/O: it is fed with what was seen, answered and written, and returns
//! actions for the loop to carry out. Time is passed in.

use std::collections::{BTreeMap, BTreeSet};
use std::mem;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::health::action::{Action, CallFailure, Fresh, GateId, Settings, WriteOutcome};
use crate::health::answer::Answer;
use crate::health::gate::{Gate, Seen};
use crate::health::rounds::{Call, Rounds, Turn};
use crate::index::Index;
use crate::model::{Binding, Pod, Service, TargetHealth};
use crate::names::{GateName, Group, ObjectKey};
use crate::rules::outlook::{Ask, outlook};
use crate::rules::target::{service_port, target};
use crate::rules::version::is_older;

/// The gates that wait.
#[derive(Debug)]
pub struct Tracker {
    settings: Settings,
    pods: BTreeMap<ObjectKey, Tracked>,
    rounds: Rounds,
    /// Since when this replica leads. One that follows sees everything and does nothing.
    leads_since: Option<Instant>,
}

/// The gates of one pod that wait.
#[derive(Debug, Default)]
struct Tracked {
    gates: BTreeMap<GateName, Gate>,
    /// The pod's `resourceVersion` after our last write: what the watch says of an earlier one is old.
    written: Option<Arc<str>>,
}

impl Tracked {
    fn is_ahead_of(&self, pod: &Pod) -> bool {
        let written = self.written.as_ref();
        written.is_some_and(|written| is_older(&pod.resource_version, written))
    }

    /// What is to be done now about one gate. Writes of one pod wait for each other: each is to
    /// replace the version that the one before has made.
    fn step(&mut self, name: &GateName, now: Instant) -> Option<Action> {
        let busy = self.gates.values().any(Gate::is_writing);
        let gate = self.gates.get_mut(name)?;
        let version = self.written.as_ref().unwrap_or(&gate.pod.resource_version);
        let version = version.clone();
        gate.step(name, (!busy).then_some(version), now)
    }

    /// What is to be done now about all of them.
    fn step_all(&mut self, now: Instant) -> Vec<Action> {
        let names: Vec<GateName> = self.gates.keys().cloned().collect();
        names
            .iter()
            .filter_map(|name| self.step(name, now))
            .collect()
    }
}

impl Tracker {
    /// Nothing waits yet.
    pub fn new(settings: Settings) -> Self {
        Self {
            settings,
            pods: BTreeMap::new(),
            rounds: Rounds::default(),
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
        let pods = self.pods.values_mut();
        pods.flat_map(|pod| pod.step_all(now)).collect()
    }

    /// This replica leads no more: it goes on seeing, and does nothing about it.
    pub fn follow(&mut self) {
        self.leads_since = None;
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
        let suspect = |ask: &Ask| {
            let mut others = index.former_occupants(pod);
            self.rounds.is_registered(&ask.group, ask.target)
                || others.any(|other| had_target(other, ask, &bindings, service))
        };
        let tracked = self.pods.entry(pod.key.clone()).or_default();
        let old = tracked.is_ahead_of(pod);
        if !old {
            tracked.written = None;
        }
        let gate = tracked
            .gates
            .entry(name.clone())
            .or_insert_with(|| Gate::new(pod.clone()));
        let former: Vec<Group> = gate.groups().cloned().collect();
        gate.see(
            Seen { pod, old },
            name,
            outlook,
            suspect,
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
        let groups: Vec<&Group> = gate.groups().filter(|_| gate.waits()).collect();
        for group in former.iter().filter(|group| !groups.contains(group)) {
            self.rounds.leave(group, &id);
        }
        self.step(&id, now)
    }

    /// What is to be done now about one gate.
    fn step(&mut self, id: &GateId, now: Instant) -> Option<Action> {
        self.leads_since?;
        self.pods.get_mut(&id.pod)?.step(&id.gate, now)
    }

    /// The call to make first, if it is any group's turn.
    pub fn first_turn(&self, now: Instant) -> Option<Turn> {
        self.leads_since?;
        self.rounds.first(now)
    }

    /// The call of a turn. Its group counts as being asked about until [`Self::answered`].
    pub fn start_call(&mut self, turn: Turn, now: Instant) -> Option<Call> {
        self.rounds.start(turn, now)
    }

    /// When it will be the next group's turn.
    pub fn next_turn(&self) -> Option<Instant> {
        self.leads_since?;
        self.rounds.next()
    }

    /// When time alone will make [`Self::tick`] return something.
    pub fn next_tick(&self) -> Option<Instant> {
        self.leads_since?;
        self.gates().filter_map(Gate::wake).min()
    }

    /// Time has passed.
    pub fn tick(&mut self, now: Instant) -> Vec<Action> {
        let is_woken = |gate: &&Gate| gate.wake().is_some_and(|at| at <= now);
        let woken: Vec<GateId> = self
            .pods
            .values()
            .flat_map(|pod| {
                let gates = pod.gates.iter().filter(|(_, gate)| is_woken(gate));
                gates.map(|(name, gate)| gate.id(name))
            })
            .collect();
        woken.iter().filter_map(|id| self.step(id, now)).collect()
    }

    /// ELB answered about a group, or did not, to a call that was sent at `requested`. An answer that
    /// was asked for before this replica led is old news.
    pub fn answered(
        &mut self,
        group: &Group,
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
        group: &Group,
        requested: Instant,
        targets: &[TargetHealth],
        now: Instant,
    ) -> Vec<Action> {
        let answer = Answer::new(self.rounds.asking(group), targets);
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

    fn heard_missing(&mut self, group: &Group, requested: Instant, now: Instant) -> Vec<Action> {
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
    pub fn proven(&mut self, group: &Group, time: Option<Duration>) {
        self.rounds.proven(group, time);
    }

    /// A group's health check interval times its healthy threshold, as AWS described it to someone.
    pub fn note_checks(&mut self, group: &Group, time: Duration) {
        self.rounds.note_checks(group, time);
    }

    /// What an [`Action::Confirm`] read; `None` where it could not, or where an API group that
    /// should be served is not: that is unknown, not gone.
    pub fn confirmed(&mut self, id: &GateId, fresh: Option<&Fresh>, now: Instant) -> Vec<Action> {
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
    pub fn written(&mut self, id: &GateId, outcome: &WriteOutcome, now: Instant) -> Vec<Action> {
        if *outcome == WriteOutcome::Gone {
            self.forget(id);
            return vec![];
        }
        let Some(gate) = self.gate(id) else {
            return vec![];
        };
        gate.written(outcome, now);
        let newest = match outcome {
            WriteOutcome::Written(version) if !gate.has_seen_past(version) => Some(version.clone()),
            _ => None,
        };
        if !gate.waits() {
            let groups: Vec<Group> = gate.groups().cloned().collect();
            groups.iter().for_each(|group| self.rounds.leave(group, id));
        }
        let Some(tracked) = self.pods.get_mut(&id.pod) else {
            return vec![];
        };
        if newest.is_some() {
            tracked.written = newest;
        }
        match self.leads_since {
            Some(_) => tracked.step_all(now),
            None => vec![],
        }
    }

    /// The pods whose gates wait, one for each gate.
    pub fn pending(&self) -> impl Iterator<Item = &Arc<Pod>> {
        let waiting = self.gates().filter(|gate| !gate.is_open());
        waiting.map(|gate| &gate.pod)
    }

    fn gates(&self) -> impl Iterator<Item = &Gate> {
        self.pods.values().flat_map(|pod| pod.gates.values())
    }

    fn gate(&mut self, id: &GateId) -> Option<&mut Gate> {
        let gate = self.pods.get_mut(&id.pod)?.gates.get_mut(&id.gate)?;
        (gate.pod.uid == id.uid).then_some(gate)
    }

    fn forget(&mut self, id: &GateId) {
        let Some(Tracked { gates, .. }) = self.pods.get_mut(&id.pod) else {
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
    }
}

/// Whether another pod stood, or stands, where this question is about.
fn had_target<'a>(
    other: &Pod,
    ask: &Ask,
    bindings: &[&Binding],
    service: impl Fn(&str) -> Option<&'a Service>,
) -> bool {
    let mut bindings = bindings.iter();
    let its = bindings.find(|b| (&b.name, b.api) == (&ask.binding.0, ask.binding.1));
    let theirs = its.and_then(|binding| {
        let port = service_port(binding, service(&binding.service)?)?;
        target(other, binding.family, port).ok()
    });
    theirs == Some(ask.target)
}
