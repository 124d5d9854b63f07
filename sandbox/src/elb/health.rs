//! The answer of DescribeTargetHealth for one target.

use std::borrow::Cow;
use std::fmt;

/// The state of a target, in AWS's words.
///
/// <https://docs.aws.amazon.com/elasticloadbalancing/latest/APIReference/API_TargetHealth.html>
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// The target is being registered, or has not been checked often enough yet.
    Initial,
    /// The target passes its checks.
    Healthy,
    /// The target fails its checks.
    Unhealthy,
    /// The target fails its checks, at an NLB that still keeps its connections.
    UnhealthyDraining,
    /// The target is not registered, or its group has no listener, or its zone is not enabled.
    Unused,
    /// The target is being deregistered.
    Draining,
    /// ELB cannot tell the target's health.
    Unavailable,
    /// A state that AWS may add one day, which only a script sets.
    Other(String),
}

impl State {
    /// The state's name in the API.
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
    pub state: State,
    /// The reason code, such as `Elb.InitialHealthChecking`; `None` if healthy.
    pub reason: Option<Cow<'static, str>>,
    /// One sentence for people; `None` if healthy.
    pub description: Option<Cow<'static, str>>,
}

impl Health {
    /// A health with any state, reason code and description.
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

    /// `initial`, because the load balancer does not know the target yet.
    pub fn registering() -> Self {
        Self::new(
            State::Initial,
            "Elb.RegistrationInProgress",
            "Target registration is in progress",
        )
    }

    /// `initial`, because the target is known but has not been checked often enough.
    pub fn checking() -> Self {
        Self::new(
            State::Initial,
            "Elb.InitialHealthChecking",
            "Initial health checks in progress",
        )
    }

    /// `unhealthy`, for this failure of an HTTP check at an Application Load Balancer.
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

    /// `unhealthy`, with the only reason that a Network Load Balancer gives.
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

    /// `draining`, because the target is being deregistered.
    pub fn draining() -> Self {
        Self::new(
            State::Draining,
            "Target.DeregistrationInProgress",
            "Target deregistration is in progress",
        )
    }

    /// `unused`, because no listener forwards to the group.
    pub fn not_in_use() -> Self {
        Self::new(
            State::Unused,
            "Target.NotInUse",
            "Target group is not configured to receive traffic from the load balancer",
        )
    }

    /// `unused`, because no load balancer of the group has enabled the target's zone.
    pub fn zone_not_enabled() -> Self {
        Self::new(
            State::Unused,
            "Target.NotInUse",
            "Target is in an Availability Zone that is not enabled for the load balancer",
        )
    }

    /// `unused`, because the call names a target that is not in the group.
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

/// Why a health check failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CheckFailure {
    /// The target answered with a status that the group's matcher does not accept.
    Status(u16),
    /// The target did not answer in time.
    Timeout,
    /// The target refused, reset, or did not speak HTTP.
    Connection,
}
