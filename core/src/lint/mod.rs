//! Lints of the end of a pod: what of a workload's own settings loses requests although gates guard its pods'
//! beginning (`docs/design/drain.md` C.5).
//!
//! [`lint`] is a pure function over what is known, which `explain` and `doctor` tell (contract 10); the pod hook and
//! the health loop call the single rules that they can tell, [`pre_stop_too_short`] and [`ended_early`]. What is not
//! known is `None`, and never a finding.

use std::fmt;

use crate::drain::{LoadBalancerKind, SleepSeconds};
use crate::reason::Reason;

mod cluster;
mod facts;
mod groups;
mod rollout;
#[cfg(test)]
mod tests;
mod times;

pub use crate::lint::facts::{
    Cluster, Container, Group, Level, PodSecurity, PodTemplate, PreStop, ProbeGrace, Registrar,
    Rollout, Settings, Version, Workload,
};
pub use crate::lint::times::{ended_early, pre_stop_too_short};

/// What a lint has found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    pub reason: Reason,
    /// What was found, with its numbers, in one sentence; the reason has the remedy.
    pub message: String,
}

impl Finding {
    fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self {
            reason,
            message: message.into(),
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.reason, self.message)
    }
}

/// How long a kind of load balancer needs until it sends a target nothing more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settle {
    pub kind: LoadBalancerKind,
    pub needs: SleepSeconds,
}

impl fmt::Display for Settle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, needs } = self;
        write!(f, "{} needs {needs} s", kind.as_str().to_uppercase())
    }
}

/// All findings about a workload, in the order of what they cost.
///
/// ```
/// use targetgate_core::drain::LoadBalancerKind;
/// use targetgate_core::lint::{Container, Group, PreStop, Workload, lint};
/// use targetgate_core::reason::Reason;
///
/// let mut workload = Workload::default();
/// workload.pod.containers = vec![Container {
///     name: "web".into(),
///     pre_stop: PreStop::Sleep(5),
///     ..Container::default()
/// }];
/// assert_eq!(lint(&workload), []);
/// workload.groups = vec![Group {
///     kind: Some(LoadBalancerKind::Alb),
///     ..Group::default()
/// }];
/// let findings = lint(&workload);
/// assert_eq!(findings[0].reason, Reason::PreStopTooShort);
/// assert_eq!(
///     findings[0].message,
///     "Container web sleeps 5 s before SIGTERM, and its ALB needs 20 s"
/// );
/// ```
pub fn lint(workload: &Workload) -> Vec<Finding> {
    let rules = [times::lint, groups::lint, rollout::lint, cluster::lint];
    rules.iter().flat_map(|rule| rule(workload)).collect()
}
