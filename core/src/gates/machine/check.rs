//! A target query with the last answer to it that counts.

use std::time::{Duration, Instant};

use crate::gates::attribution::{Observation, Trust, trust};
use crate::gates::condition;
use crate::gates::machine::observation::{CheckResult, PollResult};
use crate::gates::requirements::TargetQuery;
use crate::gates::target::{service_port, target};
use crate::model::{Binding, Condition, Pod, Service};

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
    answer: Option<LastAnswer>,
}

/// The condition that follows from an answer, and when that was requested.
#[derive(Debug)]
struct LastAnswer {
    condition: Condition,
    requested: Instant,
}

impl TargetCheck {
    pub(crate) fn new(query: TargetQuery, maybe_previous_pod: bool) -> Self {
        Self {
            query,
            maybe_previous_pod,
            seen_unhealthy: false,
            answer: None,
        }
    }

    /// The condition that follows from the last answer that counts.
    pub(crate) fn answer(&self) -> Option<&Condition> {
        self.answer.as_ref().map(|answer| &answer.condition)
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
        let condition = condition::of_health(health);
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
            _ if !condition.status => self.see_unhealthy(condition, requested),
            Trust::Trusted => self.take(condition, requested),
            Trust::Suspect => {}
            Trust::SuspectForUnknownTime => unproven = true,
        }
        CheckResult {
            unproven,
            healthy: self.answer().is_some_and(|condition| condition.status),
        }
    }

    /// Takes in that AWS does not know the group.
    pub(crate) fn apply_missing_group(&mut self, requested: Instant) {
        let condition = condition::of_missing_group(&self.query.group.arn);
        self.see_unhealthy(condition, requested);
    }

    /// Forgets the answer, so that ELB is asked again.
    pub(crate) fn forget(&mut self) {
        self.answer = None;
    }

    /// Forgets the answer if it is too old to open a gate. Returns whether it was.
    pub(crate) fn forget_stale(&mut self, now: Instant) -> bool {
        let is_stale = |answer: &mut LastAnswer| now > answer.requested + STALE_AFTER;
        self.answer.take_if(is_stale).is_some()
    }

    fn see_unhealthy(&mut self, condition: Condition, requested: Instant) {
        self.seen_unhealthy = true;
        self.take(condition, requested);
    }

    fn take(&mut self, condition: Condition, requested: Instant) {
        self.answer = Some(LastAnswer {
            condition,
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
