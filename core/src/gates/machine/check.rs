//! A question for ELB about one target of one group, and what was heard.

use std::time::{Duration, Instant};

use crate::gates::attribution::{Observation, Trust, trust};
use crate::gates::condition;
use crate::gates::machine::observation::{CheckResult, PollResult};
use crate::gates::requirements::TargetQuery;
use crate::gates::target::{service_port, target};
use crate::model::{Binding, Condition, Pod, Service};

/// For how long a gate may open on what ELB said: while ELB answers, it is heard more often than that.
const HOLDS: Duration = Duration::from_secs(30);

/// A question, and what was heard.
#[derive(Debug)]
pub(crate) struct TargetCheck {
    pub(crate) ask: TargetQuery,
    /// Whether the target may be another pod's.
    maybe_previous_pod: bool,
    /// Whether it was seen not healthy, or absent, since the pod is due.
    seen_unhealthy: bool,
    said: Option<Said>,
}

/// What ELB said makes this of the condition.
#[derive(Debug)]
struct Said {
    condition: Condition,
    /// When it was asked.
    requested: Instant,
}

impl TargetCheck {
    pub(crate) fn new(ask: TargetQuery, maybe_previous_pod: bool) -> Self {
        Self {
            ask,
            maybe_previous_pod,
            seen_unhealthy: false,
            said: None,
        }
    }

    /// What ELB said last that can be trusted.
    pub(crate) fn answer(&self) -> Option<&Condition> {
        self.said.as_ref().map(|said| &said.condition)
    }

    /// ELB answered about the group, to a call that was sent at `requested`; the pod is due since
    /// `due`.
    pub(crate) fn hear(
        &mut self,
        answer: &PollResult<'_>,
        requested: Instant,
        due: Instant,
        proving_time: Option<Duration>,
    ) -> CheckResult {
        let health = answer.of(&self.ask.target);
        let condition = condition::of_health(health);
        let sight = Observation {
            requested_after: requested.checked_duration_since(due),
            maybe_previous_pod: self.maybe_previous_pod,
            seen_unhealthy: self.seen_unhealthy,
            proving_time,
        };
        let mut unproven = false;
        match trust(sight) {
            Trust::Stale => self.maybe_previous_pod |= health.is_some_and(condition::is_in_group),
            _ if !condition.status => self.see_otherwise(condition, requested),
            Trust::Trusted => self.take(condition, requested),
            Trust::Suspect => {}
            Trust::SuspectForUnknownTime => unproven = true,
        }
        CheckResult {
            unproven,
            healthy: self.answer().is_some_and(|condition| condition.status),
        }
    }

    /// AWS does not know the group.
    pub(crate) fn hear_missing(&mut self, requested: Instant) {
        let condition = condition::of_missing_group(&self.ask.group.arn);
        self.see_otherwise(condition, requested);
    }

    /// What was heard is no news any more: it is asked again.
    pub(crate) fn forget(&mut self) {
        self.said = None;
    }

    /// Forgets what was heard if that is too old to open a gate. Returns whether it was.
    pub(crate) fn forget_old(&mut self, now: Instant) -> bool {
        let is_old = |said: &mut Said| now > said.requested + HOLDS;
        self.said.take_if(is_old).is_some()
    }

    fn see_otherwise(&mut self, condition: Condition, requested: Instant) {
        self.seen_unhealthy = true;
        self.take(condition, requested);
    }

    fn take(&mut self, condition: Condition, requested: Instant) {
        self.said = Some(Said {
            condition,
            requested,
        });
    }
}

/// Whether another pod stood, or stands, where this question is about.
pub(crate) fn had_target<'a>(
    other: &Pod,
    ask: &TargetQuery,
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
