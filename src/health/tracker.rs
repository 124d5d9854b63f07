//! All gates that wait, and what is to be done about them next.
//!
//! A state machine without I/O: it is fed with what was seen, answered and written, and returns
//! actions for the loop to carry out. Time is passed in.

use std::collections::BTreeMap;
use std::mem;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::health::action::{Action, CallFailure, Fresh, GateId, Settings, WriteOutcome};
use crate::health::gate::{Answer, Gate};
use crate::health::rounds::Rounds;
use crate::index::Index;
use crate::model::{Binding, Pod, Service, TargetHealth};
use crate::names::{GateName, Group, ObjectKey};
use crate::rules::outlook::{Ask, outlook};
use crate::rules::target::{service_port, target};

/// The gates that wait.
#[derive(Debug)]
pub struct Tracker {
    settings: Settings,
    pods: BTreeMap<ObjectKey, BTreeMap<GateName, Gate>>,
    rounds: Rounds,
}

impl Tracker {
    /// Nothing waits yet.
    pub fn new(settings: Settings) -> Self {
        Self {
            settings,
            pods: BTreeMap::new(),
            rounds: Rounds::default(),
        }
    }

    /// Something changed that may concern this pod: itself, a binding or a Service.
    pub fn observe(&mut self, key: &ObjectKey, index: &Index, now: Instant) -> Vec<Action> {
        let pod = index.pod(key).filter(|pod| pod.is_live());
        let stays = |name: &GateName, gate: &Gate| {
            pod.is_some_and(|pod| pod.uid == gate.pod.uid && gate.still_waits(pod, name))
        };
        let tracked = self.pods.get(key).into_iter().flatten();
        let left: Vec<GateId> = tracked
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
            let tracked = self.pods.get(key).is_some_and(|g| g.contains_key(name));
            if tracked || !open {
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
        let gates = self.pods.entry(pod.key.clone()).or_default();
        let gate = gates
            .entry(name.clone())
            .or_insert_with(|| Gate::new(pod.clone()));
        let former: Vec<Group> = gate.groups().cloned().collect();
        gate.see(pod, name, outlook, suspect, &self.settings, now);
        let id = gate.id(name);
        if let Some(due) = gate.due.filter(|_| gate.waits()) {
            gate.groups()
                .for_each(|group| self.rounds.join(group, &id, due, now));
        }
        let groups: Vec<&Group> = gate.groups().filter(|_| gate.waits()).collect();
        for group in former.iter().filter(|group| !groups.contains(group)) {
            self.rounds.leave(group, &id);
        }
        gate.step(name, now)
    }

    /// The group to ask about now, if it is any group's turn. It counts as being asked about until
    /// [`Self::answered`].
    pub fn next_call(&mut self, now: Instant) -> Option<Group> {
        self.rounds.take(now)
    }

    /// When it will be the next group's turn.
    pub fn next_turn(&self) -> Option<Instant> {
        self.rounds.next()
    }

    /// When time alone will make [`Self::tick`] return something.
    pub fn next_tick(&self) -> Option<Instant> {
        self.gates().filter_map(|(_, gate)| gate.wake()).min()
    }

    /// Time has passed.
    pub fn tick(&mut self, now: Instant) -> Vec<Action> {
        let gates = self.pods.values_mut().flatten();
        let woken = gates.filter(|(_, gate)| gate.wake().is_some_and(|at| at <= now));
        woken
            .filter_map(|(name, gate)| gate.step(name, now))
            .collect()
    }

    /// ELB answered about a group, or did not, to a call that was sent at `requested`.
    pub fn answered(
        &mut self,
        group: &Group,
        requested: Instant,
        answer: Result<&[TargetHealth], CallFailure>,
        now: Instant,
    ) -> Vec<Action> {
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
        let answer: Answer<'_> = targets.iter().map(|t| (t.target, t)).collect();
        let registered = answer.keys().copied().collect();
        let waiting = self.rounds.answered(group, registered, now);
        let proving_time = self.rounds.proving_time(group);
        let mut actions = vec![];
        let mut unproven = false;
        for id in waiting {
            if let Some(gate) = self.gate(&id) {
                unproven |= gate.hear(group, &answer, requested, proving_time);
                actions.extend(gate.step(&id.gate, now));
            }
        }
        if unproven && self.rounds.start_proving(group) {
            actions.push(Action::Prove(group.clone()));
        }
        actions
    }

    fn heard_missing(&mut self, group: &Group, requested: Instant, now: Instant) -> Vec<Action> {
        let mut news = self.rounds.is_news_that_missing(group);
        let mut actions = vec![];
        for id in self.rounds.failed(group, false, now) {
            let Some(gate) = self.gate(&id) else {
                continue;
            };
            gate.hear_missing(group, requested);
            actions.extend(gate.step(&id.gate, now));
            let ask = gate.ask(group).filter(|_| mem::take(&mut news));
            actions.extend(ask.map(|ask| Action::MissingGroup {
                group: group.clone(),
                binding: (
                    ObjectKey::new(id.pod.namespace.clone(), ask.binding.0.clone()),
                    ask.binding.1,
                ),
            }));
        }
        actions
    }

    /// What an [`Action::Prove`] found: health check interval times healthy threshold.
    pub fn proven(&mut self, group: &Group, time: Option<Duration>) {
        self.rounds.proven(group, time);
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
        gate.step(&id.gate, now).into_iter().collect()
    }

    /// How an [`Action::Write`] ended.
    pub fn written(&mut self, id: &GateId, outcome: WriteOutcome, now: Instant) {
        if outcome == WriteOutcome::Gone {
            return self.forget(id);
        }
        let Some(gate) = self.gate(id) else {
            return;
        };
        gate.written(outcome, now);
        if !gate.waits() {
            let groups: Vec<Group> = gate.groups().cloned().collect();
            groups.iter().for_each(|group| self.rounds.leave(group, id));
        }
    }

    /// The pods whose gates wait, one for each gate.
    pub fn pending(&self) -> impl Iterator<Item = &Arc<Pod>> {
        let waiting = self.gates().filter(|(_, gate)| !gate.is_open());
        waiting.map(|(_, gate)| &gate.pod)
    }

    fn gates(&self) -> impl Iterator<Item = (&GateName, &Gate)> {
        self.pods.values().flatten()
    }

    fn gate(&mut self, id: &GateId) -> Option<&mut Gate> {
        let gate = self.pods.get_mut(&id.pod)?.get_mut(&id.gate)?;
        (gate.pod.uid == id.uid).then_some(gate)
    }

    fn forget(&mut self, id: &GateId) {
        let Some(gates) = self.pods.get_mut(&id.pod) else {
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
