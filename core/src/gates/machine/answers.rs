//! What the tracker does with answers: of ELB to polls, of AWS about groups, and of live reads.

use std::collections::BTreeSet;
use std::time::Instant;

use jiff::Timestamp;

use crate::gates::machine::Tracker;
use crate::gates::machine::action::{Action, CallFailure, GateId, LiveRead};
use crate::gates::machine::observation::PollResult;
use crate::gates::requirements;
use crate::index::Index;
use crate::model::{Binding, HealthChecks, TargetHealth};
use crate::names::{GroupKey, NamedGroup, ObjectKey, TargetGroupArn};

impl Tracker {
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
        if self.polls.is_overtaken(group, requested) {
            self.polls.overtaken(group, now);
            return vec![];
        }
        let answer = PollResult::new(self.polls.in_call(group), targets);
        let (healthy, actions) = self.show(group, requested, &answer, now);
        self.polls
            .answered(group, answer.registered(), &healthy, now);
        actions
    }

    /// Shows an answer to all gates of its group. Returns those that it calls healthy.
    pub(super) fn show(
        &mut self,
        group: &GroupKey,
        requested: Instant,
        answer: &PollResult<'_>,
        now: Instant,
    ) -> (BTreeSet<GateId>, Vec<Action>) {
        let proving_time = self.polls.proving_time(group);
        let mut actions = vec![];
        let mut unproven = false;
        let mut healthy = BTreeSet::new();
        for id in self.polls.waiting(group) {
            let Some(gate) = self.gate(&id) else {
                continue;
            };
            let result = gate.apply(group, answer, requested, proving_time);
            unproven |= result.unproven;
            actions.extend(self.step(&id, now));
            if result.healthy {
                healthy.insert(id);
            }
        }
        for id in self.polls.followed(group) {
            let Some(gate) = self.gate(&id) else {
                continue;
            };
            let result = gate.apply(group, answer, requested, proving_time);
            unproven |= result.unproven && !gate.says_healthy();
            actions.extend(self.step(&id, now));
        }
        for id in self.expecting.of(group) {
            if let Some(gate) = self.gate(&id) {
                gate.apply(group, answer, requested, proving_time);
            }
        }
        if unproven && self.polls.start_proving(group) {
            actions.push(Action::Prove(group.clone()));
        }
        (healthy, actions)
    }

    fn apply_missing_group(
        &mut self,
        group: &GroupKey,
        requested: Instant,
        now: Instant,
    ) -> Vec<Action> {
        self.names.is_missing(&group.arn);
        let is_new = self.polls.mark_missing(group);
        let news = is_new.then(|| Action::MissingGroup(group.clone()));
        let mut actions: Vec<Action> = news.into_iter().collect();
        self.polls.failed(group, CallFailure::GroupNotFound, now);
        for id in self.polls.waiting(group) {
            let Some(gate) = self.gate(&id) else {
                continue;
            };
            gate.apply_missing_group(group, requested);
            actions.extend(self.step(&id, now));
        }
        actions
    }

    /// Takes in what an [`Action::Prove`] found; `None` where the call failed, or AWS leaves out a number.
    pub fn proven(
        &mut self,
        group: &GroupKey,
        checks: Option<HealthChecks>,
        now: Instant,
    ) -> Vec<Action> {
        let time = checks.map(|checks| checks.proving_time());
        self.polls.proven(group, time);
        let Some(checks) = checks else {
            return vec![];
        };
        self.note_checks(group, checks);
        let mut actions = vec![];
        for id in self.polls.waiting(group) {
            if let Some(gate) = self.gate(&id) {
                gate.prove(group, checks.proving_time());
                actions.extend(self.step(&id, now));
            }
        }
        actions
    }

    /// Notes how ELB checks a group, as AWS described it to a hook.
    pub fn note_checks(&mut self, group: &GroupKey, checks: HealthChecks) {
        self.polls.note_checks(group, checks.healthy_after());
    }

    /// Takes in what an [`Action::Resolve`] found, `None` if AWS has no group of that name; the error is that AWS
    /// did not tell.
    pub fn resolved(
        &mut self,
        group: &NamedGroup,
        found: Result<Option<TargetGroupArn>, ()>,
        index: &Index,
        (now, wall): (Instant, Timestamp),
    ) -> Vec<Action> {
        let pods = self.names.resolved(group, found, now);
        let observe = |pod: &ObjectKey| self.observe(pod, index, now, wall);
        pods.iter().flat_map(observe).collect()
    }

    /// Takes in what an [`Action::Confirm`] read, for all gates that share it; `None` where the read failed, or
    /// where an API group that should be served is not: its bindings are unknown, not gone.
    pub fn confirmed(
        &mut self,
        id: &GateId,
        fresh: Option<&LiveRead>,
        now: Instant,
    ) -> Vec<Action> {
        let gates = self.live_reads.end(id);
        let confirm = |id: &GateId| self.confirm(id, fresh, now);
        gates.iter().filter_map(confirm).collect()
    }

    fn confirm(&mut self, id: &GateId, fresh: Option<&LiveRead>, now: Instant) -> Option<Action> {
        let settings = self.settings.clone();
        let gate = self.pods.get_mut(&id.pod)?.gates.get_mut(&id.gate)?;
        if gate.pod.uid != id.uid {
            return None;
        }
        let requirements = fresh.map(|fresh| {
            let bindings: Vec<&Binding> = fresh.bindings.iter().collect();
            let service = |name: &str| fresh.services.get(name);
            let resolve = |group: &NamedGroup| self.names.resolution(group);
            requirements::of_gate(&gate.pod, &bindings, service, resolve, &settings.apis)
        });
        gate.confirm(requirements.as_ref(), &settings, now);
        self.step(id, now)
    }
}
