//! A target query with the last answer to it that counts.

use std::time::{Duration, Instant};

use crate::gates::attribution::{Observation, Tenure, Trust, trust};
use crate::gates::condition;
use crate::gates::condition::Decision;
use crate::gates::machine::observation::{CheckResult, PollResult};
use crate::gates::machine::pending_absence::ABSENT_FOR;
use crate::gates::refusals::Refusal;
use crate::gates::requirements::TargetQuery;
use crate::model::TargetHealth;
use crate::reason::Reason;

/// An answer is too old to open a gate after this time. Chosen (docs/schedule.md), longer than each interval
/// between polls.
const STALE_AFTER: Duration = Duration::from_secs(30);

/// A target query with the last answer to it that counts.
#[derive(Debug)]
pub(crate) struct TargetCheck {
    pub(crate) query: TargetQuery,
    /// Whether ELB can still mean the previous pod with this address.
    maybe_previous_pod: bool,
    /// Whether an answer since the pod has the address showed the target absent or not healthy.
    seen_otherwise: bool,
    /// When the first and the last of the latest answers were requested that showed the target not registered,
    /// or draining.
    unregistered: Option<(Instant, Instant)>,
    /// The last healthy answer that may be about a previous pod, and for how long the pod had had its address
    /// when it was requested.
    doubted: Option<(LastAnswer, Duration)>,
    /// The error is why no answer counts.
    answer: Result<LastAnswer, Reason>,
    /// Why AWS does not take the target, where we register it.
    refusal: Option<Refusal>,
}

/// What follows from an answer, and when that was requested.
#[derive(Debug)]
struct LastAnswer {
    decision: Decision,
    requested: Instant,
}

impl TargetCheck {
    pub(crate) fn new(query: TargetQuery, maybe_previous_pod: bool) -> Self {
        Self {
            query,
            maybe_previous_pod,
            seen_otherwise: false,
            unregistered: None,
            doubted: None,
            answer: Err(Reason::NotPolled),
            refusal: None,
        }
    }

    /// Takes in why AWS does not take the target; `None` if that is not known, or it is in.
    pub(crate) fn see_refusal(&mut self, refusal: Option<&Refusal>) {
        self.refusal = refusal.cloned();
    }

    /// What follows from the last answer that counts, if that keeps the gate closed. Of a target that is not registered,
    /// AWS's words about its registration say more.
    pub(crate) fn not_healthy(&self) -> Option<Decision> {
        let answer = self
            .answer()
            .ok()
            .filter(|answer| !answer.condition.status)?;
        let refusal = self.refusal.as_ref();
        let refusal = refusal.filter(|_| answer.reason == Reason::NotRegistered);
        Some(refusal.map_or_else(|| answer.clone(), condition::of_refusal))
    }

    /// What follows from the last answer that counts; the error is why no answer counts.
    pub(crate) fn answer(&self) -> Result<&Decision, Reason> {
        self.answer
            .as_ref()
            .map(|answer| &answer.decision)
            .map_err(|reason| *reason)
    }

    /// The last answer that counts, and when it was requested.
    pub(super) fn last_answer(&self) -> Option<(&Decision, Instant)> {
        let answer = self.answer.as_ref().ok()?;
        Some((&answer.decision, answer.requested))
    }

    /// Whether the last answer that counts says healthy.
    pub(crate) fn is_healthy(&self) -> bool {
        self.answer().is_ok_and(|answer| answer.condition.status)
    }

    /// Whether ELB has not had the target, or has deregistered it, for as long as an absence must last.
    pub(crate) fn is_unregistered(&self) -> bool {
        let unregistered = self.unregistered;
        unregistered.is_some_and(|(first, last)| last.duration_since(first) >= ABSENT_FOR)
    }

    /// Applies an answer about the group to a call that was sent at `requested`, for a pod that has had the
    /// address as `tenure` says.
    pub(crate) fn apply(
        &mut self,
        answer: &PollResult<'_>,
        requested: Instant,
        tenure: &Tenure,
        proving_time: Option<Duration>,
    ) -> CheckResult {
        let health = answer.of(&self.query.target);
        let decision = condition::of_health(health);
        self.weigh(health, decision.condition.status, requested, tenure);
        let observation = Observation {
            due_for: tenure
                .due
                .and_then(|due| requested.checked_duration_since(due)),
            had_for: requested.saturating_duration_since(tenure.since),
            maybe_previous_pod: self.maybe_previous_pod,
            seen_otherwise: self.seen_otherwise,
            proving_time,
        };
        let trust = trust(observation);
        match trust {
            Trust::Stale => {}
            // Attribution only guards `healthy`: a target that is not healthy keeps the gate closed whichever
            // pod ELB means.
            _ if !decision.condition.status => self.take(decision, requested),
            Trust::Trusted => self.take(decision, requested),
            Trust::Suspect | Trust::SuspectForUnknownTime => {
                let answer = LastAnswer {
                    decision,
                    requested,
                };
                self.doubt(answer, observation.had_for);
            }
        }
        CheckResult {
            unproven: trust == Trust::SuspectForUnknownTime,
            healthy: self.is_healthy(),
        }
    }

    /// Takes in the group's proving time: a doubted answer counts if the pod had had its address for as long.
    pub(crate) fn prove(&mut self, time: Duration) {
        if let Some((answer, _)) = self.doubted.take_if(|(_, had_for)| *had_for >= time) {
            self.answer = Ok(answer);
        }
    }

    /// Takes in what an answer tells about the pods that had the address, even one that opens nothing.
    fn weigh(
        &mut self,
        health: Option<&TargetHealth>,
        is_healthy: bool,
        requested: Instant,
        tenure: &Tenure,
    ) {
        if tenure.covers(requested) {
            self.seen_otherwise |= !is_healthy;
        } else {
            // A target that was registered before the pod had the address is a previous pod's.
            self.maybe_previous_pod |= health.is_some_and(condition::is_in_group);
        }
        self.unregistered = match condition::is_registered(health) {
            true => None,
            false => Some((self.unregistered.map_or(requested, |(at, _)| at), requested)),
        };
    }

    /// Takes in that AWS does not know the group.
    pub(crate) fn apply_missing_group(&mut self, requested: Instant) {
        let decision = condition::of_missing_group(&self.query.group.arn);
        self.seen_otherwise = true;
        self.unregistered = Some((self.unregistered.map_or(requested, |(at, _)| at), requested));
        self.take(decision, requested);
    }

    /// Forgets the answer, so that ELB is asked again.
    pub(crate) fn forget(&mut self) {
        self.answer = Err(Reason::NotPolled);
        self.doubted = None;
    }

    /// Forgets the answer if it is too old to open a gate. Returns whether it was.
    pub(crate) fn forget_stale(&mut self, now: Instant) -> bool {
        let is_stale = |answer: &LastAnswer| now > answer.requested + STALE_AFTER;
        let stale = self.answer.as_ref().is_ok_and(is_stale);
        if stale {
            self.answer = Err(Reason::AnswerStale);
        }
        stale
    }

    /// Notes that a healthy answer may be about a previous pod. An earlier answer that counts stays.
    fn doubt(&mut self, answer: LastAnswer, had_for: Duration) {
        self.doubted = Some((answer, had_for));
        if let Err(reason) = &mut self.answer {
            *reason = Reason::AnswerDoubtful;
        }
    }

    fn take(&mut self, decision: Decision, requested: Instant) {
        self.doubted = None;
        self.answer = Ok(LastAnswer {
            decision,
            requested,
        });
    }
}
