//! One gate of one pod, from when a watch first shows it until it is open.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::gates::BACKOFF;
use crate::gates::absence::Absence;
use crate::gates::condition;
use crate::gates::condition::Decision;
use crate::gates::machine::action::{Action, Change, GateId, Settings, WriteOutcome};
use crate::gates::machine::check::TargetCheck;
use crate::gates::machine::observation::{CheckResult, PollResult};
use crate::gates::machine::pending_absence::PendingAbsence;
use crate::gates::polling::group::Target;
use crate::gates::requirements::{GateRequirements, TargetQuery};
use crate::gates::writes::queue::Urgency;
use crate::model::{Condition, Pod};
use crate::names::{GateName, GroupKey};
use crate::reason::Reason;
use crate::version::is_older;

/// A gate whose condition is not `True`, or was not yet seen as `True` after our write.
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
    bound: bool,
    current: Option<Condition>,
    checks: Vec<TargetCheck>,
    /// An answer was forgotten or a query was added, and the polling queue does not know yet.
    forgot: bool,
    closed: Option<Decision>,
    unknown: bool,
    pending_absence: Option<PendingAbsence>,
    writing: Option<Writing>,
    /// The version of the pod on which a write was decided that the API server refused, because another
    /// client had written a newer one.
    conflict: Option<Arc<str>>,
    retry_at: Option<Instant>,
    failures: u32,
}

/// A pod as a watch shows it.
pub(crate) struct Seen<'a> {
    pub(crate) pod: &'a Arc<Pod>,
    /// Whether the watch is behind our last write.
    pub(crate) old: bool,
    /// Whether a binding for the gate exists, or existed before.
    pub(crate) bound: bool,
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
            checks: vec![],
            forgot: false,
            closed: None,
            unknown: false,
            pending_absence: None,
            writing: None,
            conflict: None,
            retry_at: None,
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

    /// Whether the gate is to be kept for this pod: its condition is not `True`, or the watch is behind our
    /// last write (`old`) and may yet show that another client closed it.
    pub(crate) fn still_waits(pod: &Pod, name: &GateName, old: bool) -> bool {
        let condition = condition_of(pod, name);
        condition.is_some_and(|condition| !is_true(condition) || old)
    }

    /// Whether its condition is `True`, as last seen or written.
    pub(crate) fn is_open(&self) -> bool {
        is_true(self.current.as_ref())
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

    /// A query that names this group.
    pub(crate) fn query(&self, group: &GroupKey) -> Option<&TargetQuery> {
        let mut queries = self.checks.iter().map(|check| &check.query);
        queries.find(|query| query.group == *group)
    }

    /// Takes in the pod as a watch shows it, and the gate's requirements by now. `maybe_previous_pod` tells
    /// whether ELB can still mean a previous pod by a target.
    pub(crate) fn see(
        &mut self,
        Seen { pod, old, bound }: Seen<'_>,
        name: &GateName,
        requirements: GateRequirements,
        maybe_previous_pod: impl Fn(&TargetQuery) -> bool,
        settings: &Settings,
        now: Instant,
    ) {
        if !old {
            self.current = condition_of(pod, name).flatten().cloned();
        }
        self.settle_conflict(pod);
        self.pod = pod.clone();
        // A pod whose containers stop being ready is due anew once they are ready again: what ELB answered
        // before says nothing about the restarted containers.
        let due = pod.is_due().then(|| self.due.unwrap_or(now));
        let mut former = std::mem::take(&mut self.checks);
        if due != self.due {
            former.clear();
        }
        self.due = due;
        self.seen_before_due |= due.is_none();
        // An unchanged query keeps its answer, so that a change to the pod's labels costs no poll.
        let keep = |query: TargetQuery| match former.iter().position(|check| check.query == query) {
            Some(at) => former.swap_remove(at),
            None => {
                self.forgot = true;
                let maybe_previous_pod = maybe_previous_pod(&query);
                TargetCheck::new(query, maybe_previous_pod)
            }
        };
        self.checks = requirements.queries.into_iter().map(keep).collect();
        self.closed = requirements.closed;
        self.unknown = requirements.unknown;
        self.bound |= bound;
        self.set_absence(requirements.absence, settings, now);
    }

    /// Ends the backoff after a conflict once the watch shows a newer version than the refused write
    /// replaced: the next write is decided on what the other client wrote.
    fn settle_conflict(&mut self, pod: &Pod) {
        let met = |version: &mut Arc<str>| is_older(version, &pod.resource_version);
        if self.conflict.take_if(met).is_some() {
            self.retry_at = None;
        }
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

    fn set_absence(&mut self, absence: Option<Absence>, settings: &Settings, now: Instant) {
        let known = self.pending_absence.take();
        let known = known.filter(|known| Some(&known.absence) == absence.as_ref());
        self.pending_absence = known.or_else(|| {
            let absence = absence?;
            let orphan = absence == Absence::BindingGone && !self.bound;
            let orphan_after = orphan.then_some(settings.orphan_after);
            Some(PendingAbsence::new(absence, orphan_after, now))
        });
    }

    /// Applies an answer of ELB about a group.
    pub(crate) fn apply(
        &mut self,
        group: &GroupKey,
        answer: &PollResult<'_>,
        requested: Instant,
        proving_time: Option<Duration>,
    ) -> CheckResult {
        let Some(due) = self.due else {
            return CheckResult::default();
        };
        let mut unproven = false;
        let mut healthy = vec![];
        for check in self.checks_of(group) {
            if answer.is_about(&check.query.target) {
                let result = check.apply(answer, requested, due, proving_time);
                unproven |= result.unproven;
                healthy.push(result.healthy);
            }
        }
        let healthy = !healthy.is_empty() && healthy.iter().all(|healthy| *healthy);
        CheckResult { unproven, healthy }
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
                    self.current = Some(writing.condition);
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
        if self.writing.is_some() || !self.waits() {
            return None;
        }
        self.retry_at
            .or_else(|| self.pending_absence.as_ref()?.wake())
    }

    /// The action that is due now, except for a write.
    pub(crate) fn step(&mut self, name: &GateName, now: Instant) -> Option<Action> {
        if self.writing.is_some() || !self.waits() || self.retry_at.is_some_and(|at| now < at) {
            return None;
        }
        self.retry_at = None;
        // The backoff is over and the watch still has not shown what the other client wrote: the write is
        // tried again rather than left to a watch that may be broken.
        self.conflict = None;
        let confirm = self.pending_absence.as_mut()?.start_confirming(now);
        confirm.then(|| Action::Confirm(self.id(name)))
    }

    /// The urgency of the write that is due; `None` while a write is not due.
    pub(crate) fn urgency(&self) -> Option<Urgency> {
        Some(match self.due_change()?.condition.status {
            true => Urgency::Opens,
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
        if condition.status && self.checks.iter_mut().fold(false, forget_stale) {
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
            condition,
            reason,
        })
    }

    /// What to write, if that is decided and differs from the current condition.
    fn due_change(&self) -> Option<Decision> {
        if self.writing.is_some() || !self.waits() || self.retry_at.is_some() {
            return None;
        }
        let decision = self.decide().ok()?;
        (self.current.as_ref() != Some(&decision.condition)).then_some(decision)
    }

    /// Why the gate is not open: what keeps it closed, or why that is not decided yet.
    pub(crate) fn waits_for(&self) -> Reason {
        if self.due.is_none() {
            return Reason::PodNotDue;
        }
        self.decide()
            .map_or_else(|undecided| undecided, |decision| decision.reason)
    }

    /// The condition that the gate should have; the error is why that is not decided yet.
    ///
    /// The order matters: all that keeps the gate closed comes before what opens it.
    fn decide(&self) -> Result<Decision, Reason> {
        if let Some(closed) = &self.closed {
            return Ok(closed.clone());
        }
        let mut answers = self.checks.iter().filter_map(|check| check.answer().ok());
        if let Some(not_healthy) = answers.find(|answer| !answer.condition.status) {
            return Ok(not_healthy.clone());
        }
        // From here on, only what opens the gate is left, so each doubt holds it back.
        if self.unknown {
            return Err(Reason::TargetGroupUnknown);
        }
        let mut healthy = None;
        for check in &self.checks {
            healthy = Some(check.answer()?);
        }
        let pending = self.pending_absence.as_ref();
        if pending.is_some_and(|pending| !pending.is_confirmed()) {
            return Err(Reason::AbsenceNotConfirmed);
        }
        // Bindings of both API groups can share the gate. If one is gone and the target of the other is
        // healthy, the gate opens as healthy.
        match (healthy, pending) {
            (Some(healthy), _) => Ok(healthy.clone()),
            (None, Some(pending)) => Ok(condition::of_absence(&pending.absence)),
            // A binding gives at least one of these, and a gate without bindings an absence.
            (None, None) => Err(Reason::NotPolled),
        }
    }
}

fn is_true(condition: Option<&Condition>) -> bool {
    condition.is_some_and(|condition| condition.status)
}

/// The condition of a pod's gate; `None` where the pod does not have the gate.
fn condition_of<'a>(pod: &'a Pod, name: &GateName) -> Option<Option<&'a Condition>> {
    let mut gates = pod.gates.iter();
    gates.find_map(|(known, condition)| (known == name).then_some(condition.as_ref()))
}
