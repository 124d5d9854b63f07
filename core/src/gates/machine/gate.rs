//! One gate of one pod, from its first sight to its opening.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::gates::BACKOFF;
use crate::gates::absence::Absence;
use crate::gates::condition;
use crate::gates::machine::action::{Action, Change, GateId, Settings, WriteOutcome};
use crate::gates::machine::check::TargetCheck;
use crate::gates::machine::observation::{CheckResult, PollResult};
use crate::gates::machine::pending_absence::PendingAbsence;
use crate::gates::polling::group::Target;
use crate::gates::requirements::{GateRequirements, TargetQuery};
use crate::gates::writes::queue::Urgency;
use crate::model::{Condition, Pod};
use crate::names::{GateName, GroupKey};
use crate::version::is_older;

/// A gate that is not `True`, or not yet seen to be.
#[derive(Debug)]
pub(crate) struct Gate {
    /// The pod as it was last seen.
    pub(crate) pod: Arc<Pod>,
    /// Our first sight of the pod with its containers ready and an address.
    pub(crate) due: Option<Instant>,
    /// Whether a binding for this gate was ever seen.
    bound: bool,
    current: Option<Condition>,
    asked: Vec<TargetCheck>,
    /// An answer was forgotten, or there is a question without one: the schedule does not know yet.
    forgot: bool,
    closed: Option<Condition>,
    unknown: bool,
    doubt: Option<PendingAbsence>,
    writing: Option<Writing>,
    /// The version of the pod that a write was decided on, which met somebody else's: not the newest any
    /// more.
    conflict: Option<Arc<str>>,
    retry_at: Option<Instant>,
    failures: u32,
}

/// A pod as a watch tells of it.
pub(crate) struct Seen<'a> {
    pub(crate) pod: &'a Arc<Pod>,
    /// Whether that is older than what we wrote.
    pub(crate) old: bool,
    /// Whether a binding for the gate is there, or was before.
    pub(crate) bound: bool,
}

/// A write that is under way.
#[derive(Debug)]
struct Writing {
    condition: Condition,
    /// The pod's `resourceVersion` that it is decided on.
    version: Arc<str>,
}

impl Gate {
    pub(crate) fn new(pod: Arc<Pod>) -> Self {
        Self {
            pod,
            due: None,
            bound: false,
            current: None,
            asked: vec![],
            forgot: false,
            closed: None,
            unknown: false,
            doubt: None,
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

    /// Whether a pod seen now leaves anything to wait for: its gate is not `True`, or what was seen
    /// is `old`, older than what we wrote.
    pub(crate) fn still_waits(pod: &Pod, name: &GateName, old: bool) -> bool {
        let condition = condition_of(pod, name);
        condition.is_some_and(|condition| !is_true(condition) || old)
    }

    /// Whether its condition is `True`, as last seen or written.
    pub(crate) fn is_open(&self) -> bool {
        is_true(self.current.as_ref())
    }

    /// Whether there is anything to do about it.
    pub(crate) fn waits(&self) -> bool {
        self.due.is_some() && !self.is_open()
    }

    /// The groups to ask, while it waits.
    pub(crate) fn groups(&self) -> impl Iterator<Item = &GroupKey> {
        self.asked.iter().map(|asked| &asked.ask.group)
    }

    /// The targets that this group is asked about.
    pub(crate) fn targets(&self, group: &GroupKey) -> Vec<Target> {
        let asks = self.asked.iter().map(|asked| &asked.ask);
        let of_group = asks.filter(|ask| ask.group == *group);
        of_group.map(|ask| ask.target).collect()
    }

    /// The binding that makes it ask about this group.
    pub(crate) fn ask(&self, group: &GroupKey) -> Option<&TargetQuery> {
        let mut asks = self.asked.iter().map(|asked| &asked.ask);
        asks.find(|ask| ask.group == *group)
    }

    /// The pod was seen, and this is now its outlook. `maybe_previous_pod` tells whether a target may be another
    /// pod's.
    pub(crate) fn see(
        &mut self,
        Seen { pod, old, bound }: Seen<'_>,
        name: &GateName,
        outlook: GateRequirements,
        maybe_previous_pod: impl Fn(&TargetQuery) -> bool,
        settings: &Settings,
        now: Instant,
    ) {
        if !old {
            self.current = condition_of(pod, name).flatten().cloned();
        }
        self.settle_conflict(pod);
        self.pod = pod.clone();
        let due = pod.is_due().then(|| self.due.unwrap_or(now));
        let mut former = std::mem::take(&mut self.asked);
        if due != self.due {
            former.clear();
        }
        self.due = due;
        let keep = |ask: TargetQuery| match former.iter().position(|asked| asked.ask == ask) {
            Some(at) => former.swap_remove(at),
            None => {
                self.forgot = true;
                let maybe_previous_pod = maybe_previous_pod(&ask);
                TargetCheck::new(ask, maybe_previous_pod)
            }
        };
        self.asked = outlook.asks.into_iter().map(keep).collect();
        self.closed = outlook.closed;
        self.unknown = outlook.unknown;
        self.bound |= bound;
        self.doubt(outlook.absence, settings, now);
    }

    /// What we collided with is seen, so it can be decided anew, on what ELB has just said.
    fn settle_conflict(&mut self, pod: &Pod) {
        let met = |version: &mut Arc<str>| is_older(version, &pod.resource_version);
        if self.conflict.take_if(met).is_some() {
            self.retry_at = None;
        }
    }

    /// What ELB said is too old to go by: it is asked again.
    pub(crate) fn forget_answers(&mut self) {
        self.asked.iter_mut().for_each(TargetCheck::forget);
        self.forgot = true;
    }

    /// Whether there may be less known than before, since this was last asked.
    pub(super) fn take_forgot(&mut self) -> bool {
        std::mem::take(&mut self.forgot)
    }

    /// Whether ELB said healthy about all that it asks this group, and that is not forgotten.
    pub(super) fn knows_healthy(&self, group: &GroupKey) -> bool {
        let mut asked = self.asked.iter().filter(|asked| asked.ask.group == *group);
        asked.all(|asked| asked.answer().is_some_and(|answer| answer.status))
    }

    fn doubt(&mut self, absence: Option<Absence>, settings: &Settings, now: Instant) {
        let known = self.doubt.take();
        let known = known.filter(|known| Some(&known.absence) == absence.as_ref());
        self.doubt = known.or_else(|| {
            let absence = absence?;
            let orphan = absence == Absence::BindingGone && !self.bound;
            let orphan_after = orphan.then_some(settings.orphan_after);
            Some(PendingAbsence::new(absence, orphan_after, now))
        });
    }

    /// ELB answered about a group.
    pub(crate) fn hear(
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
        for asked in self.asked_of(group) {
            if answer.is_about(&asked.ask.target) {
                let heard = asked.hear(answer, requested, due, proving_time);
                unproven |= heard.unproven;
                healthy.push(heard.healthy);
            }
        }
        let healthy = !healthy.is_empty() && healthy.iter().all(|healthy| *healthy);
        CheckResult { unproven, healthy }
    }

    /// AWS does not know a group.
    pub(crate) fn hear_missing(&mut self, group: &GroupKey, requested: Instant) {
        if self.due.is_none_or(|due| requested < due) {
            return;
        }
        self.asked_of(group)
            .for_each(|asked| asked.hear_missing(requested));
    }

    fn asked_of(&mut self, group: &GroupKey) -> impl Iterator<Item = &mut TargetCheck> {
        let asked = self.asked.iter_mut();
        asked.filter(move |asked| asked.ask.group == *group)
    }

    /// An absence was looked up past the cache; `None` where that could not be done or told nothing.
    pub(crate) fn confirm(
        &mut self,
        fresh: Option<&GateRequirements>,
        settings: &Settings,
        now: Instant,
    ) {
        let Some(doubt) = &mut self.doubt else {
            return;
        };
        match fresh {
            None => doubt.learn_nothing(now),
            Some(fresh) => {
                self.bound |= fresh.absence != Some(Absence::BindingGone);
                doubt.learn_of(fresh.absence.as_ref(), settings.orphan_after, now);
            }
        }
    }

    /// A write that was to replace this version of the pod has ended.
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

    /// Whether the pod was seen in a later state than this.
    pub(crate) fn has_seen_past(&self, version: &str) -> bool {
        is_older(version, &self.pod.resource_version)
    }

    /// Whether a write is under way.
    pub(crate) fn is_writing(&self) -> bool {
        self.writing.is_some()
    }

    /// When time alone will give it something to do.
    pub(crate) fn wake(&self) -> Option<Instant> {
        if self.writing.is_some() || !self.waits() {
            return None;
        }
        self.retry_at.or_else(|| self.doubt.as_ref()?.wake())
    }

    /// What is to be done now, but for a write.
    pub(crate) fn step(&mut self, name: &GateName, now: Instant) -> Option<Action> {
        if self.writing.is_some() || !self.waits() || self.retry_at.is_some_and(|at| now < at) {
            return None;
        }
        self.retry_at = None;
        // The watch does not tell what we collided with: it is tried as before.
        self.conflict = None;
        let confirm = self.doubt.as_mut()?.start_confirming(now);
        confirm.then(|| Action::Confirm(self.id(name)))
    }

    /// How much hangs on the write that is due; `None` where none is.
    pub(crate) fn urgency(&self) -> Option<Urgency> {
        let (condition, _) = self.due_change()?;
        Some(match condition.status {
            true => Urgency::Opens,
            false => Urgency::MessageOnly,
        })
    }

    /// The change that is due, if any; it then counts as being written in place of `version` of the pod.
    pub(crate) fn take_change(
        &mut self,
        name: &GateName,
        version: &Arc<str>,
        now: Instant,
    ) -> Option<Change> {
        let (condition, reason) = self.due_change()?;
        let forget_old = |old, asked: &mut TargetCheck| asked.forget_old(now) || old;
        if condition.status && self.asked.iter_mut().fold(false, forget_old) {
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

    /// The condition to write, and why, where it is decided and another one is there.
    fn due_change(&self) -> Option<(Condition, &'static str)> {
        if self.writing.is_some() || !self.waits() || self.retry_at.is_some() {
            return None;
        }
        let wanted = self.wanted();
        wanted.filter(|(condition, _)| self.current.as_ref() != Some(condition))
    }

    /// The condition that is due, and why; `None` while nobody can tell.
    fn wanted(&self) -> Option<(Condition, &'static str)> {
        if let Some(closed) = &self.closed {
            return Some((closed.clone(), "Closed"));
        }
        let answers = || self.asked.iter().map(TargetCheck::answer);
        if let Some(not_healthy) = answers().flatten().find(|answer| !answer.status) {
            return Some((not_healthy.clone(), "NotHealthy"));
        }
        let unsure = self
            .doubt
            .as_ref()
            .is_some_and(|doubt| !doubt.is_confirmed());
        if self.unknown || unsure || answers().any(|answer| answer.is_none()) {
            return None;
        }
        match (answers().flatten().next(), &self.doubt) {
            (Some(healthy), _) => Some((healthy.clone(), "Healthy")),
            (None, Some(PendingAbsence { absence, .. })) => {
                Some((condition::of_absence(absence), absence.reason().as_str()))
            }
            (None, None) => None,
        }
    }
}

fn is_true(condition: Option<&Condition>) -> bool {
    condition.is_some_and(|condition| condition.status)
}

/// The condition of a pod's gate; `None` where it has no such gate.
fn condition_of<'a>(pod: &'a Pod, name: &GateName) -> Option<Option<&'a Condition>> {
    let mut gates = pod.gates.iter();
    gates.find_map(|(known, condition)| (known == name).then_some(condition.as_ref()))
}
