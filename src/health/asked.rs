//! A question for ELB about one target of one group, and what was heard.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use tokio::time::Instant;

use crate::model::{Binding, Condition, Pod, Service, TargetHealth, TargetState};
use crate::rules::condition;
use crate::rules::outlook::Ask;
use crate::rules::target::{service_port, target};
use crate::rules::trust::{Sight, Trust, trust};

/// For how long a gate may open on what ELB said: while ELB answers, it is heard more often than that.
const HOLDS: Duration = Duration::from_secs(30);

/// What ELB answered about one group, by target.
pub(super) type Answer<'a> = BTreeMap<(IpAddr, u16), &'a TargetHealth>;

/// A question, and what was heard.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) ask: Ask,
    /// Whether the target may be another pod's.
    suspect: bool,
    /// Whether it was seen not healthy, or absent, since the pod is due.
    seen_otherwise: bool,
    heard: Option<Heard>,
}

/// What ELB said makes this of the condition.
#[derive(Debug)]
struct Heard {
    condition: Condition,
    /// When it was asked.
    requested: Instant,
}

impl Asked {
    pub(super) fn new(ask: Ask, suspect: bool) -> Self {
        Self {
            ask,
            suspect,
            seen_otherwise: false,
            heard: None,
        }
    }

    /// What ELB said last that can be trusted.
    pub(super) fn answer(&self) -> Option<&Condition> {
        self.heard.as_ref().map(|heard| &heard.condition)
    }

    /// ELB answered about the group, to a call that was sent at `requested`; the pod is due since
    /// `due`. Returns whether the group's proving time is needed to go on.
    pub(super) fn hear(
        &mut self,
        answer: &Answer<'_>,
        requested: Instant,
        due: Instant,
        proving_time: Option<Duration>,
    ) -> bool {
        let health = answer.get(&self.ask.target).copied();
        let condition = condition::of_health(health);
        let sight = Sight {
            requested_after: requested.checked_duration_since(due),
            suspect: self.suspect,
            seen_otherwise: self.seen_otherwise,
            proving_time,
        };
        match trust(sight) {
            Trust::Stale => self.suspect |= health.is_some_and(is_registered),
            _ if !condition.status => self.see_otherwise(condition, requested),
            Trust::Trusted => self.take(condition, requested),
            Trust::Suspect => {}
            Trust::SuspectForUnknownTime => return true,
        }
        false
    }

    /// AWS does not know the group.
    pub(super) fn hear_missing(&mut self, requested: Instant) {
        let condition = condition::of_missing_group(&self.ask.group.arn);
        self.see_otherwise(condition, requested);
    }

    /// What was heard is no news any more: it is asked again.
    pub(super) fn forget(&mut self) {
        self.heard = None;
    }

    /// Forgets what was heard if that is too old to open a gate. Returns whether it was.
    pub(super) fn forget_old(&mut self, now: Instant) -> bool {
        let is_old = |heard: &mut Heard| now > heard.requested + HOLDS;
        self.heard.take_if(is_old).is_some()
    }

    fn see_otherwise(&mut self, condition: Condition, requested: Instant) {
        self.seen_otherwise = true;
        self.take(condition, requested);
    }

    fn take(&mut self, condition: Condition, requested: Instant) {
        self.heard = Some(Heard {
            condition,
            requested,
        });
    }
}

/// Whether another pod stood, or stands, where this question is about.
pub(super) fn had_target<'a>(
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

fn is_registered(health: &TargetHealth) -> bool {
    health.state != TargetState::Unused
}
