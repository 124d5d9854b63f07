//! A target query with the last answer to it that counts.

use std::time::{Duration, Instant};

use crate::gates::attribution::{Observation, Trust, trust};
use crate::gates::condition;
use crate::gates::condition::Decision;
use crate::gates::machine::observation::{CheckResult, PollResult};
use crate::gates::requirements::TargetQuery;
use crate::gates::target::{service_port, target};
use crate::model::{Binding, Pod, Service};
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
    /// Whether an answer since the pod is due showed the target absent or not healthy.
    seen_unhealthy: bool,
    /// The error is why no answer counts.
    answer: Result<LastAnswer, Reason>,
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
            seen_unhealthy: false,
            answer: Err(Reason::NotPolled),
        }
    }

    /// What follows from the last answer that counts; the error is why no answer counts.
    pub(crate) fn answer(&self) -> Result<&Decision, Reason> {
        self.answer
            .as_ref()
            .map(|answer| &answer.decision)
            .map_err(|reason| *reason)
    }

    /// Whether the last answer that counts says healthy.
    pub(crate) fn is_healthy(&self) -> bool {
        self.answer().is_ok_and(|answer| answer.condition.status)
    }

    /// Applies an answer about the group to a call that was sent at `requested`, for a pod that is due
    /// since `due`.
    pub(crate) fn apply(
        &mut self,
        answer: &PollResult<'_>,
        requested: Instant,
        due: Instant,
        proving_time: Option<Duration>,
    ) -> CheckResult {
        let health = answer.of(&self.query.target);
        let decision = condition::of_health(health);
        let observation = Observation {
            requested_after: requested.checked_duration_since(due),
            maybe_previous_pod: self.maybe_previous_pod,
            seen_unhealthy: self.seen_unhealthy,
            proving_time,
        };
        let mut unproven = false;
        match trust(observation) {
            // An answer from before the pod was due that lists the target is about a previous pod, so later
            // answers may be as well.
            Trust::Stale => self.maybe_previous_pod |= health.is_some_and(condition::is_in_group),
            // Attribution only guards `healthy`: a target that is not healthy keeps the gate closed whichever
            // pod ELB means, and ends the doubt.
            _ if !decision.condition.status => self.see_unhealthy(decision, requested),
            Trust::Trusted => self.take(decision, requested),
            Trust::Suspect => self.doubt(),
            Trust::SuspectForUnknownTime => {
                unproven = true;
                self.doubt();
            }
        }
        CheckResult {
            unproven,
            healthy: self.is_healthy(),
        }
    }

    /// Takes in that AWS does not know the group.
    pub(crate) fn apply_missing_group(&mut self, requested: Instant) {
        let decision = condition::of_missing_group(&self.query.group.arn);
        self.see_unhealthy(decision, requested);
    }

    /// Forgets the answer, so that ELB is asked again.
    pub(crate) fn forget(&mut self) {
        self.answer = Err(Reason::NotPolled);
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
    fn doubt(&mut self) {
        if let Err(reason) = &mut self.answer {
            *reason = Reason::AnswerDoubtful;
        }
    }

    fn see_unhealthy(&mut self, decision: Decision, requested: Instant) {
        self.seen_unhealthy = true;
        self.take(decision, requested);
    }

    fn take(&mut self, decision: Decision, requested: Instant) {
        self.answer = Ok(LastAnswer {
            decision,
            requested,
        });
    }
}

/// Whether another pod has, or had, the target of this query.
pub(crate) fn had_target<'a>(
    other: &Pod,
    query: &TargetQuery,
    bindings: &[&Binding],
    service: impl Fn(&str) -> Option<&'a Service>,
) -> bool {
    let mut bindings = bindings.iter();
    let its = bindings.find(|b| (&b.name, b.api) == (&query.binding.0, query.binding.1));
    let theirs = its.and_then(|binding| {
        let port = service_port(binding, service(&binding.service)?)?;
        target(other, binding.family, port).ok()
    });
    theirs == Some(query.target)
}
