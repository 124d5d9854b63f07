//! What DescribeTargetHealth says of one target.

use std::borrow::Cow;
use std::fmt;

/// The state of a target, in AWS's words.
///
/// <https://docs.aws.amazon.com/elasticloadbalancing/latest/APIReference/API_TargetHealth.html>
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// Being registered, or not checked often enough yet.
    Initial,
    /// Passes its checks.
    Healthy,
    /// Fails its checks.
    Unhealthy,
    /// Fails its checks at an NLB that still keeps its connections.
    UnhealthyDraining,
    /// Not registered, or the group has no listener, or not in an enabled zone.
    Unused,
    /// Being deregistered.
    Draining,
    /// ELB cannot tell.
    Unavailable,
    /// A state that AWS may add one day; only a script says this.
    Other(String),
}

impl State {
    /// The word on the wire.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Initial => "initial",
            Self::Healthy => "healthy",
            Self::Unhealthy => "unhealthy",
            Self::UnhealthyDraining => "unhealthy.draining",
            Self::Unused => "unused",
            Self::Draining => "draining",
            Self::Unavailable => "unavailable",
            Self::Other(word) => word,
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// State, reason code and description: AWS's `TargetHealth`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Health {
    /// The state.
    pub state: State,
    /// The reason code, such as `Elb.InitialHealthChecking`; none when healthy.
    pub reason: Option<Cow<'static, str>>,
    /// One sentence for people; none when healthy.
    pub description: Option<Cow<'static, str>>,
}

impl Health {
    /// Any state, with its reason code and description.
    pub fn new(
        state: State,
        reason: impl Into<Cow<'static, str>>,
        description: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self {
            state,
            reason: Some(reason.into()),
            description: Some(description.into()),
        }
    }

    /// `healthy`, which has neither reason nor description.
    pub fn healthy() -> Self {
        Self::bare(State::Healthy)
    }

    /// `initial`: the load balancer does not know the target yet.
    pub fn registering() -> Self {
        Self::new(
            State::Initial,
            "Elb.RegistrationInProgress",
            "Target registration is in progress",
        )
    }

    /// `initial`: known, and not checked often enough.
    pub fn checking() -> Self {
        Self::new(
            State::Initial,
            "Elb.InitialHealthChecking",
            "Initial health checks in progress",
        )
    }

    /// `unhealthy`, for the given failure of an HTTP check at an Application Load Balancer.
    pub fn unhealthy(failure: CheckFailure) -> Self {
        let (reason, description): (_, Cow<'static, str>) = match failure {
            CheckFailure::Status(code) => (
                "Target.ResponseCodeMismatch",
                format!("Health checks failed with these codes: [{code}]").into(),
            ),
            CheckFailure::Timeout => ("Target.Timeout", "Request timed out".into()),
            CheckFailure::Connection => return Self::failed_checks(),
        };
        Self::new(State::Unhealthy, reason, description)
    }

    /// `unhealthy`, in the only words that a Network Load Balancer has for it.
    pub fn failed_checks() -> Self {
        Self::new(
            State::Unhealthy,
            "Target.FailedHealthChecks",
            "Health checks failed",
        )
    }

    /// `unhealthy.draining`, for which AWS gives no reason.
    pub fn unhealthy_draining() -> Self {
        Self::bare(State::UnhealthyDraining)
    }

    /// `draining`: being deregistered.
    pub fn draining() -> Self {
        Self::new(
            State::Draining,
            "Target.DeregistrationInProgress",
            "Target deregistration is in progress",
        )
    }

    /// `unused`: no listener sends to the group.
    pub fn not_in_use() -> Self {
        Self::new(
            State::Unused,
            "Target.NotInUse",
            "Target group is not configured to receive traffic from the load balancer",
        )
    }

    /// `unused`: the target lies in a zone that no load balancer of the group has enabled.
    pub fn zone_not_enabled() -> Self {
        Self::new(
            State::Unused,
            "Target.NotInUse",
            "Target is in an Availability Zone that is not enabled for the load balancer",
        )
    }

    /// `unused`: asked for by name, but not in the group.
    pub fn not_registered() -> Self {
        Self::new(
            State::Unused,
            "Target.NotRegistered",
            "Target is not registered to the target group",
        )
    }

    fn bare(state: State) -> Self {
        Self {
            state,
            reason: None,
            description: None,
        }
    }
}

/// Why a health check did not pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CheckFailure {
    /// A status that the group's matcher does not accept.
    Status(u16),
    /// No answer in time.
    Timeout,
    /// Refused, reset, or not HTTP.
    Connection,
}
