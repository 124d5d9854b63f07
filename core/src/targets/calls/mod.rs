//! Calls that change a group: what one carries, when it is made, and what follows from its end (contract 8).

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::elb::buckets::Limits;
use crate::names::GroupKey;
use crate::targets::Target;

pub mod outbox;
pub mod window;
pub mod zones;

/// A call carries at most this many targets, as many as the incumbent sends; ELB's own maximum is not documented.
pub const MOST_TARGETS: usize = 200;
/// The budget of `RegisterTargets` and `DeregisterTargets` of each account and Region, beside that of polls: what the
/// incumbent allows itself. The highest rate is chosen, as the burst in a second.
pub const LIMITS: Limits = Limits {
    rate: 4.0,
    highest: 20.0,
    burst: 20,
};
/// A call ends within this time, or counts as failed: the Lease outlives the renew deadline by as much. Contract 8.
pub const TIMEOUT: Duration = Duration::from_secs(5);

/// What a call does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    Register,
    Deregister,
}

impl Kind {
    /// The action, as a policy of IAM spells it after the service.
    pub fn action(self) -> &'static str {
        match self {
            Self::Register => "RegisterTargets",
            Self::Deregister => "DeregisterTargets",
        }
    }
}

/// One call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    pub kind: Kind,
    pub group: GroupKey,
    /// At most [`MOST_TARGETS`], and at least one.
    pub targets: Vec<Named>,
    pub begun: Instant,
}

/// A target with the zone that a call names it with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named {
    pub target: Target,
    pub zone: Option<Arc<str>>,
}

/// How a call ended that did not succeed. A call whose end is not known may have done its work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallError {
    pub kind: CallErrorKind,
    /// AWS's error code, or what stands for it.
    pub code: Arc<str>,
    /// AWS's message, cut.
    pub message: Arc<str>,
}

/// What a failure is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CallErrorKind {
    /// AWS does not have the group.
    GroupNotFound,
    /// AWS throttles calls in this account and Region.
    Throttled,
    /// The group, or its load balancer, has as many targets as it may.
    TooManyTargets,
    /// ELB refuses the call for one of its targets.
    Target,
    /// The role does not exist, or lets us not do this.
    Denied,
    /// The call was not answered, or failed inside AWS.
    Other,
    /// It was not sent, because this replica does not lead any more.
    Unsent,
}

impl CallErrorKind {
    /// The kind of an error that is about targets; `None` for other codes of AWS.
    ///
    /// Sources: <https://docs.aws.amazon.com/elasticloadbalancing/latest/APIReference/API_RegisterTargets.html>,
    /// and `ValidationError` for zones, which is not modelled.
    pub fn of_code(code: &str) -> Option<Self> {
        match code {
            "TooManyTargets" | "TooManyTargetsException" => Some(Self::TooManyTargets),
            "InvalidTarget"
            | "InvalidTargetException"
            | "TooManyRegistrationsForTargetId"
            | "TooManyRegistrationsForTargetIdException"
            | "ValidationError" => Some(Self::Target),
            _ => None,
        }
    }
}
