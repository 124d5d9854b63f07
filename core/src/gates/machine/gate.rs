//! One gate of one pod, from when a watch first shows it until it is open.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::gates::BACKOFF;
use crate::gates::absence::Absence;
use crate::gates::attribution::Tenure;
use crate::gates::condition;
use crate::gates::condition::Decision;
use crate::gates::machine::action::{Action, Change, GateId, Settings, WriteOutcome};
use crate::gates::machine::check::TargetCheck;
use crate::gates::machine::observation::{CheckResult, PollResult};
use crate::gates::machine::pending_absence::PendingAbsence;
use crate::gates::polling::group::Target;
use crate::gates::refusals::Refusals;
use crate::gates::requirements::{Closed, GateRequirements};
use crate::gates::writes::queue::Urgency;
use crate::model::{Condition, Pod, Policies};
use crate::names::{BindingApi, GateName, GroupKey, NamedGroup, ObjectKey};
use crate::version::is_older;

/// A gate whose condition is not `True`, or was not yet seen as `True` after our write, or which follows ELB.
#[derive(Debug)]
pub(crate) struct Gate {
    /// The pod as a watch last showed it.
    pub(crate) pod: Arc<Pod>,
    /// When a watch first showed the pod with its containers ready and an address.
    pub(crate) due: Option<Instant>,
    /// Whether a watch has shown the pod before it was due. A pod that is due at our first sight of it, as after
    /// a start, has been so for longer than we know.
    pub(crate) seen_before_due: bool,
    /// Whether a watch or a live read ever showed a binding for this gate.
    pub(super) bound: bool,
    pub(super) current: Option<Condition>,
    /// The address that the pod has, where `current` opened the gate for another one.
    pub(super) moved_to: Option<IpAddr>,
    /// The pod's addresses, and when it was first seen with each.
    pub(super) addresses: Vec<(IpAddr, Instant)>,
    pub(super) checks: Vec<TargetCheck>,
    /// An answer was forgotten or a query was added, and the polling queue does not know yet.
    pub(super) forgot: bool,
    pub(super) closed: Option<Closed>,
    /// The groups that its bindings name without an ARN.
    pub(super) names: Vec<NamedGroup>,
    pub(super) unresolved: bool,
    pub(super) pending_absence: Option<PendingAbsence>,
    writing: Option<Writing>,
    /// The version of the pod on which a write was decided that the API server refused, because another
    /// client had written a newer one.
    pub(super) conflict: Option<Arc<str>>,
    pub(super) retry_at: Option<Instant>,
    /// When it was last closed, if it was open before for the address that the pod has.
    pub(super) closed_again: Option<Instant>,
    /// How it departs from what ELB says.
    pub(super) policies: Policies,
    /// Whether the time is over after which it opens.
    pub(super) timed_out: bool,
    pub(super) failures: u32,
}

/// A write in flight.
#[derive(Debug)]
struct Writing {
    condition: Condition,
    /// The pod's `resourceVersion` that the write replaces.
    version: Arc<str>,
}

impl Gate {
    pub(crate) fn new(pod: Arc<Pod>) -> Self {
        Self {
            pod,
            due: None,
            seen_before_due: false,
            bound: false,
            current: None,
            moved_to: None,
            addresses: vec![],
            checks: vec![],
            forgot: false,
            closed: None,
            names: vec![],
            unresolved: false,
            pending_absence: None,
            writing: None,
            conflict: None,
            retry_at: None,
            closed_again: None,
            policies: Policies::default(),
            timed_out: false,
            failures: 0,
        }
    }

    pub(crate) fn id(&self, name: &GateName) -> GateId {
        GateId {
            pod: self.pod.key.clone(),
            uid: self.pod.uid.clone(),
            gate: name.clone(),
        }
    }

    /// Whether the gate is to be kept for this pod: its condition is not `True`, or is for another address
    /// (`moved`), or the watch is behind our last write (`old`) and may yet show that another client closed it.
    pub(crate) fn still_waits(pod: &Pod, name: &GateName, old: bool, moved: bool) -> bool {
        let condition = condition_of(pod, name);
        condition.is_some_and(|condition| !is_true(condition) || old || moved)
    }

    /// Whether its condition is `True` for the pod's address, as last seen or written.
    pub(crate) fn is_open(&self) -> bool {
        is_true(self.current.as_ref()) && self.moved_to.is_none()
    }

    /// The address for which the gate has to be closed, because it was opened for another one.
    pub(super) fn closes_for(&self) -> Option<IpAddr> {
        self.moved_to.filter(|_| is_true(self.current.as_ref()))
    }

    /// Whether it is open, and ELB is asked whether it has to close.
    pub(crate) fn is_followed(&self) -> bool {
        self.policies.follows() && self.due.is_some() && self.is_open()
    }

    /// Whether it is open, and its condition says that ELB called the target healthy.
    pub(crate) fn says_healthy(&self) -> bool {
        let current = self.current.as_ref();
        self.is_open() && current.is_some_and(condition::says_healthy)
    }

    /// Whether it is closed, and was open before for the address that the pod has.
    pub(crate) fn was_closed_again(&self) -> bool {
        self.closed_again.is_some()
    }

    /// Since when it waits, while its pod is due: a gate that was closed again waits from then on.
    pub(crate) fn waits_since(&self) -> Option<Instant> {
        let due = self.due.filter(|_| self.waits())?;
        Some(self.closed_again.map_or(due, |closed| closed.max(due)))
    }

    /// Notes that it was closed again, or is open. `was_open` is what it was before.
    pub(super) fn note_closing(&mut self, was_open: bool, now: Instant) {
        if self.is_open() {
            self.closed_again = None;
        } else if was_open && !is_true(self.current.as_ref()) {
            self.closed_again = Some(now);
        }
    }

    /// Whether something can be written or confirmed: it waits, has to be closed, or follows ELB.
    fn has_work(&self) -> bool {
        self.waits() || self.closes_for().is_some() || self.is_followed()
    }

    /// Its groups without an ARN, while ELB is asked about it.
    pub(crate) fn names(&self) -> &[NamedGroup] {
        match self.waits() || self.is_followed() {
            true => &self.names,
            false => &[],
        }
    }

    /// What keeps it closed whatever ELB answers, while it waits.
    pub(crate) fn closed(&self) -> Option<&Closed> {
        self.closed.as_ref().filter(|_| self.waits())
    }

    /// Whether the gate waits for something: its pod is due, and it is not open.
    pub(crate) fn waits(&self) -> bool {
        self.due.is_some() && !self.is_open()
    }

    /// The groups that its queries name.
    pub(crate) fn groups(&self) -> impl Iterator<Item = &GroupKey> {
        self.checks.iter().map(|check| &check.query.group)
    }

    /// The targets that its queries name in this group.
    pub(crate) fn targets(&self, group: &GroupKey) -> Vec<Target> {
        let queries = self.checks.iter().map(|check| &check.query);
        let of_group = queries.filter(|query| query.group == *group);
        of_group.map(|query| query.target).collect()
    }

    /// The bindings from which its queries follow.
    pub(crate) fn bindings(&self) -> impl Iterator<Item = (ObjectKey, BindingApi)> {
        self.checks.iter().map(|check| {
            let (name, api) = &check.query.binding;
            (
                ObjectKey::new(self.pod.key.namespace.clone(), name.clone()),
                *api,
            )
        })
    }

    /// Since when the pod has the address of a target.
    fn tenure(&self, target: Target) -> Option<Tenure> {
        let (_, since) = self.addresses.iter().find(|(ip, _)| *ip == target.0)?;
        Some(Tenure {
            since: *since,
            due: self.due,
            shared: self.pod.host_network,
        })
    }

    /// Forgets all answers of ELB, so that the groups are polled again.
    pub(crate) fn forget_answers(&mut self) {
        self.checks.iter_mut().for_each(TargetCheck::forget);
        self.forgot = true;
    }

    /// Whether answers were forgotten or queries added since the last call of this function.
    pub(super) fn take_forgot(&mut self) -> bool {
        std::mem::take(&mut self.forgot)
    }

    /// Whether a healthy answer counts for each of its queries to this group.
    pub(super) fn knows_healthy(&self, group: &GroupKey) -> bool {
        let mut checks = self
            .checks
            .iter()
            .filter(|check| check.query.group == *group);
        checks.all(TargetCheck::is_healthy)
    }

    /// Applies an answer of ELB about a group. Before the pod is due, an answer only tells whose target it is.
    pub(crate) fn apply(
        &mut self,
        group: &GroupKey,
        answer: &PollResult<'_>,
        requested: Instant,
        proving_time: Option<Duration>,
    ) -> CheckResult {
        let mut unproven = false;
        let mut healthy = vec![];
        for at in 0..self.checks.len() {
            let query = &self.checks[at].query;
            if query.group != *group || !answer.is_about(&query.target) {
                continue;
            }
            let Some(tenure) = self.tenure(query.target) else {
                continue;
            };
            let result = self.checks[at].apply(answer, requested, &tenure, proving_time);
            unproven |= result.unproven;
            healthy.push(result.healthy);
        }
        let healthy = !healthy.is_empty() && healthy.iter().all(|healthy| *healthy);
        CheckResult { unproven, healthy }
    }

    /// Takes in what AWS says of its targets that it does not take.
    pub(crate) fn see_refusals(&mut self, refusals: &Refusals) {
        for check in &mut self.checks {
            let query = &check.query;
            let refusal = refusals.of(&query.group.arn, &query.target);
            check.see_refusal(refusal);
        }
    }

    /// Takes in the proving time of a group.
    pub(crate) fn prove(&mut self, group: &GroupKey, time: Duration) {
        self.checks_of(group).for_each(|check| check.prove(time));
    }

    /// Takes in that AWS does not know a group.
    pub(crate) fn apply_missing_group(&mut self, group: &GroupKey, requested: Instant) {
        // As for any answer: one requested before the pod was due says nothing about it.
        if self.due.is_none_or(|due| requested < due) {
            return;
        }
        self.checks_of(group)
            .for_each(|check| check.apply_missing_group(requested));
    }

    fn checks_of(&mut self, group: &GroupKey) -> impl Iterator<Item = &mut TargetCheck> {
        let checks = self.checks.iter_mut();
        checks.filter(move |check| check.query.group == *group)
    }

    /// Takes in a live read of what seems absent; `None` where the read failed or was inconclusive.
    pub(crate) fn confirm(
        &mut self,
        fresh: Option<&GateRequirements>,
        settings: &Settings,
        now: Instant,
    ) {
        let Some(pending) = &mut self.pending_absence else {
            return;
        };
        match fresh {
            None => pending.learn_nothing(now),
            Some(fresh) => {
                self.bound |= fresh.absence != Some(Absence::BindingGone);
                pending.learn_of(fresh.absence.as_ref(), settings.orphan_after, now);
            }
        }
    }

    /// Takes in how the write that was to replace this version of the pod ended.
    pub(crate) fn written(&mut self, version: &str, outcome: &WriteOutcome, now: Instant) {
        let ended = |writing: &mut Writing| *writing.version == *version;
        let Some(writing) = self.writing.take_if(ended) else {
            return;
        };
        match outcome {
            WriteOutcome::Written(version) => {
                // The watch may have told of it, and of what came after it, before it was answered.
                if !self.has_seen_past(version) {
                    let was_open = self.is_open();
                    self.moved_to = self.moved_to.filter(|_| writing.condition.status);
                    self.current = Some(writing.condition);
                    self.note_closing(was_open, now);
                }
                self.failures = 0;
                return;
            }
            // What is decided stays decided, and has its turn again once writes go on.
            WriteOutcome::PutOff { .. } => return,
            WriteOutcome::Gone | WriteOutcome::Unsent => return self.forget_answers(),
            // The watch told of the newer version before we heard of the conflict: nothing to wait for.
            WriteOutcome::Conflict if self.has_seen_past(&writing.version) => return,
            WriteOutcome::Conflict => self.conflict = Some(writing.version),
            // What ELB said stays as good as it was.
            WriteOutcome::Failed => {}
        }
        self.failures = self.failures.saturating_add(1);
        self.retry_at = Some(now + BACKOFF.after(self.failures));
    }

    /// Whether a watch has shown the pod in a newer version than this.
    pub(crate) fn has_seen_past(&self, version: &str) -> bool {
        is_older(version, &self.pod.resource_version)
    }

    /// Whether a write is in flight.
    pub(crate) fn is_writing(&self) -> bool {
        self.writing.is_some()
    }

    /// The gate's next wake-up: when its backoff ends or its absence is to be confirmed.
    pub(crate) fn wake(&self) -> Option<Instant> {
        if self.writing.is_some() || !self.has_work() {
            return None;
        }
        let absence = self.pending_absence.as_ref();
        let absence = absence.filter(|_| self.may_confirm());
        let wake = self.retry_at.or_else(|| absence?.wake());
        let timeout = self.timeout().filter(|_| !self.timed_out);
        wake.into_iter().chain(timeout).min()
    }

    /// When it opens whatever ELB says.
    fn timeout(&self) -> Option<Instant> {
        Some(self.waits_since()? + self.policies.open_after()?)
    }

    /// Whether a live read may confirm the absence. A binding that is being deleted is an absence only while ELB
    /// does not have the targets.
    fn may_confirm(&self) -> bool {
        let of_terminating = |check: &&TargetCheck| check.query.terminating;
        let mut terminating = self.checks.iter().filter(of_terminating);
        self.waits() && !self.unresolved && terminating.all(TargetCheck::is_unregistered)
    }

    /// The action that is due now, except for a write.
    pub(crate) fn step(&mut self, name: &GateName, now: Instant) -> Option<Action> {
        self.timed_out = self.timeout().is_some_and(|timeout| timeout <= now);
        if self.writing.is_some() || !self.has_work() || self.retry_at.is_some_and(|at| now < at) {
            return None;
        }
        self.retry_at = None;
        // The backoff is over and the watch still has not shown what the other client wrote: the write is
        // tried again rather than left to a watch that may be broken.
        self.conflict = None;
        let may_confirm = self.may_confirm();
        let absence = self.pending_absence.as_mut().filter(|_| may_confirm);
        let confirm = absence?.start_confirming(now);
        confirm.then(|| Action::Confirm(self.id(name)))
    }

    /// The urgency of the write that is due; `None` while a write is not due.
    pub(crate) fn urgency(&self) -> Option<Urgency> {
        let opens = self.due_change()?.condition.status;
        Some(match opens != is_true(self.current.as_ref()) {
            true => Urgency::Readiness,
            false => Urgency::MessageOnly,
        })
    }

    /// Takes the change that is due, and marks it as in flight to replace `version` of the pod.
    pub(crate) fn take_change(
        &mut self,
        name: &GateName,
        version: &Arc<str>,
        now: Instant,
    ) -> Option<Change> {
        let Decision { condition, reason } = self.due_change()?;
        // An answer can have become stale while the write waited for its turn. The fold visits all checks, so
        // that one more poll refreshes every stale one.
        let forget_stale = |old, check: &mut TargetCheck| check.forget_stale(now) || old;
        let by_answer = condition.status || self.is_followed();
        if by_answer && self.checks.iter_mut().fold(false, forget_stale) {
            self.forgot = true;
            return None;
        }
        self.writing = Some(Writing {
            condition: condition.clone(),
            version: version.clone(),
        });
        Some(Change {
            gate: name.clone(),
            transition: self.current.as_ref().map(|c| c.status) != Some(condition.status),
            closes: is_true(self.current.as_ref()) && !condition.status,
            reopens: self.closed_again.is_some() && condition.status,
            condition,
            reason,
        })
    }

    /// What to write, if that is decided and differs from the current condition.
    fn due_change(&self) -> Option<Decision> {
        if self.writing.is_some() || !self.has_work() || self.retry_at.is_some() {
            return None;
        }
        let decision = match self.is_followed() {
            true => self.decide_followed()?,
            false => self.decide().ok()?,
        };
        (self.current.as_ref() != Some(&decision.condition)).then_some(decision)
    }
}

fn is_true(condition: Option<&Condition>) -> bool {
    condition.is_some_and(|condition| condition.status)
}

/// The condition of a pod's gate; `None` where the pod does not have the gate.
pub(super) fn condition_of<'a>(pod: &'a Pod, name: &GateName) -> Option<Option<&'a Condition>> {
    let mut gates = pod.gates.iter();
    gates.find_map(|(known, condition)| (known == name).then_some(condition.as_ref()))
}
