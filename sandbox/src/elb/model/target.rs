//! The phases of one target. Pure: time is passed in, and the next phase is returned.

use std::time::Duration;

use tokio::time::Instant;

use super::super::check::CheckOutcome;
use super::super::delays::Delays;
use super::super::group::LoadBalancerKind;
use super::super::health::{CheckFailure, Health};

/// The zone of an address outside the group's VPC.
pub(in crate::elb) const ALL_ZONES: &str = "all";

/// The phase of a target between its registration and its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// The group has no listener, or the target's zone is not enabled.
    Unused(Unused),
    /// The load balancer does not know the target yet.
    Registering { until: Instant },
    /// The target is being checked, and neither threshold is reached yet.
    Checking { passed: u32, failed: u32 },
    /// The target is in service; `failed` counts checks since the last pass.
    Healthy { failed: u32 },
    /// The target is out of service, at an NLB that still keeps its connections.
    UnhealthyDraining {
        until: Instant,
        passed: u32,
        failure: CheckFailure,
    },
    /// The target is out of service; `passed` counts checks since the last failure.
    Unhealthy { passed: u32, failure: CheckFailure },
    /// The target is deregistered; new traffic may still reach it until `routed_until`.
    Draining {
        until: Instant,
        routed_until: Instant,
    },
}

/// Why a registered target gets neither checks nor traffic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unused {
    NoListener,
    ZoneNotEnabled,
}

/// One registered or draining target.
#[derive(Clone, Debug)]
pub(super) struct Target {
    pub(super) phase: Phase,
    /// Distinguishes this registration from an earlier one of the same address.
    pub(super) generation: u64,
    /// The time of the next health check; `None` if the phase has none.
    pub(super) next_check: Option<Instant>,
    /// Whether a check is under way.
    pub(super) in_flight: bool,
    /// The zone as ELB tells it; `None` if neither the caller nor the VPC's subnets name one.
    pub(super) zone: Option<String>,
    pub(super) registered: Instant,
    /// The answer before this registration, for as long as DescribeTargetHealth does not show it.
    pub(super) before: Option<Health>,
}

impl Target {
    /// The answer of DescribeTargetHealth, which shows a registration `lag` later. `None` means that
    /// the target is not registered.
    pub(super) fn shown(
        &self,
        kind: LoadBalancerKind,
        now: Instant,
        lag: Duration,
    ) -> Option<Health> {
        if now.saturating_duration_since(self.registered) < lag {
            return self.before.clone();
        }
        Some(self.phase.health(kind))
    }

    /// The zone that must be enabled for the load balancer; `None` if any will do.
    pub(super) fn needed_zone<'a>(&'a self, placed: Option<&'a str>) -> Option<&'a str> {
        match self.zone.as_deref() {
            Some(ALL_ZONES) => None,
            told => told.or(placed),
        }
    }
}

/// The settings of the group that a phase depends on.
#[derive(Clone, Copy)]
pub(super) struct Rules<'a> {
    pub(super) kind: LoadBalancerKind,
    pub(super) delays: &'a Delays,
}

impl Phase {
    /// The answer of DescribeTargetHealth in this phase.
    pub(super) fn health(&self, kind: LoadBalancerKind) -> Health {
        match self {
            Self::Unused(Unused::NoListener) => Health::not_in_use(),
            Self::Unused(Unused::ZoneNotEnabled) => Health::zone_not_enabled(),
            Self::Registering { .. } => Health::registering(),
            Self::Checking { .. } => Health::checking(),
            Self::Healthy { .. } => Health::healthy(),
            Self::UnhealthyDraining { .. } => Health::unhealthy_draining(),
            Self::Unhealthy { failure, .. } => match kind {
                LoadBalancerKind::Application => Health::unhealthy(*failure),
                LoadBalancerKind::Network => Health::failed_checks(),
            },
            Self::Draining { .. } => Health::draining(),
        }
    }

    /// The time at which this phase ends by itself.
    pub(super) fn deadline(&self) -> Option<Instant> {
        match self {
            Self::Registering { until }
            | Self::UnhealthyDraining { until, .. }
            | Self::Draining { until, .. } => Some(*until),
            Self::Unused(_)
            | Self::Checking { .. }
            | Self::Healthy { .. }
            | Self::Unhealthy { .. } => None,
        }
    }

    /// Whether targets in this phase are checked.
    pub(super) fn is_checked(&self) -> bool {
        matches!(
            self,
            Self::Checking { .. }
                | Self::Healthy { .. }
                | Self::UnhealthyDraining { .. }
                | Self::Unhealthy { .. }
        )
    }

    /// The phase after this one's deadline; `None` if the target is then gone.
    pub(super) fn expired(&self) -> Option<Self> {
        match self {
            Self::Draining { .. } => None,
            Self::Registering { .. } => Some(Self::Checking {
                passed: 0,
                failed: 0,
            }),
            Self::UnhealthyDraining {
                passed, failure, ..
            } => Some(Self::Unhealthy {
                passed: *passed,
                failure: *failure,
            }),
            other => Some(other.clone()),
        }
    }

    /// The phase after a health check that was answered at `at`.
    pub(super) fn checked(&self, outcome: CheckOutcome, rules: Rules<'_>, at: Instant) -> Self {
        match outcome {
            CheckOutcome::Passed => self.passed(rules),
            CheckOutcome::Failed(failure) => self.failed(failure, rules, at),
        }
    }

    /// The phase after a deregistration at `at`; `None` if the target is gone at once.
    pub(super) fn deregistered(&self, delays: &Delays, at: Instant) -> Option<Self> {
        match self {
            Self::Unused(_) => None,
            Self::Draining { .. } => Some(self.clone()),
            _ => {
                let lag = match self {
                    Self::Healthy { .. } => delays.propagation_lag,
                    _ => Duration::ZERO,
                };
                let until = at + delays.deregistration_delay;
                Some(Self::Draining {
                    until,
                    routed_until: (at + lag).min(until),
                })
            }
        }
    }

    fn passed(&self, rules: Rules<'_>) -> Self {
        let threshold = rules.delays.healthy_threshold;
        match self {
            Self::Checking { passed, .. } => {
                // An ALB takes a new target into service after one pass; an NLB needs the
                // threshold.
                let needed = match rules.kind {
                    LoadBalancerKind::Application => 1,
                    LoadBalancerKind::Network => threshold,
                };
                match passed + 1 {
                    passed if passed >= needed => Self::Healthy { failed: 0 },
                    passed => Self::Checking { passed, failed: 0 },
                }
            }
            Self::Healthy { .. } => Self::Healthy { failed: 0 },
            Self::Unhealthy { passed, .. } | Self::UnhealthyDraining { passed, .. }
                if passed + 1 >= threshold =>
            {
                Self::Healthy { failed: 0 }
            }
            Self::Unhealthy { passed, failure } => Self::Unhealthy {
                passed: passed + 1,
                failure: *failure,
            },
            Self::UnhealthyDraining {
                until,
                passed,
                failure,
            } => Self::UnhealthyDraining {
                until: *until,
                passed: passed + 1,
                failure: *failure,
            },
            Self::Unused(_) | Self::Registering { .. } | Self::Draining { .. } => self.clone(),
        }
    }

    fn failed(&self, failure: CheckFailure, rules: Rules<'_>, at: Instant) -> Self {
        let threshold = rules.delays.unhealthy_threshold;
        match self {
            Self::Checking { failed, .. } => match failed + 1 {
                failed if failed >= threshold => Self::Unhealthy { passed: 0, failure },
                failed => Self::Checking { passed: 0, failed },
            },
            Self::Healthy { failed } => match failed + 1 {
                failed if failed < threshold => Self::Healthy { failed },
                _ => Self::out_of_service(failure, rules, at),
            },
            Self::Unhealthy { .. } => Self::Unhealthy { passed: 0, failure },
            Self::UnhealthyDraining { until, .. } => Self::UnhealthyDraining {
                until: *until,
                passed: 0,
                failure,
            },
            Self::Unused(_) | Self::Registering { .. } | Self::Draining { .. } => self.clone(),
        }
    }

    fn out_of_service(failure: CheckFailure, rules: Rules<'_>, at: Instant) -> Self {
        let keep = rules.delays.unhealthy_draining;
        if rules.kind == LoadBalancerKind::Network && !keep.is_zero() {
            Self::UnhealthyDraining {
                until: at + keep,
                passed: 0,
                failure,
            }
        } else {
            Self::Unhealthy { passed: 0, failure }
        }
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    const PASS: CheckOutcome = CheckOutcome::Passed;
    const FAIL: CheckOutcome = CheckOutcome::Failed(CheckFailure::Status(503));

    fn after(
        start: Phase,
        kind: LoadBalancerKind,
        delays: &Delays,
        checks: &[CheckOutcome],
    ) -> String {
        let rules = Rules { kind, delays };
        let at = Instant::now();
        let end = checks
            .iter()
            .fold(start, |phase, check| phase.checked(*check, rules, at));
        let health = end.health(kind);
        match health.reason {
            Some(reason) => format!("{}/{reason}", health.state),
            None => health.state.to_string(),
        }
    }

    fn new() -> Phase {
        Phase::Checking {
            passed: 0,
            failed: 0,
        }
    }

    #[rstest]
    #[case::nothing_checked(&[], "initial/Elb.InitialHealthChecking")]
    #[case::one_pass_is_enough_at_first(&[PASS], "healthy")]
    #[case::one_failure_decides_nothing(&[FAIL], "initial/Elb.InitialHealthChecking")]
    #[case::a_pass_after_a_failure(&[FAIL, PASS], "healthy")]
    #[case::two_failures(&[FAIL, FAIL], "unhealthy/Target.ResponseCodeMismatch")]
    #[case::one_failure_in_service(&[PASS, FAIL], "healthy")]
    #[case::failures_apart(&[PASS, FAIL, PASS, FAIL], "healthy")]
    #[case::failures_in_a_row(&[PASS, FAIL, FAIL], "unhealthy/Target.ResponseCodeMismatch")]
    #[case::one_pass_does_not_bring_it_back(&[FAIL, FAIL, PASS], "unhealthy/Target.ResponseCodeMismatch")]
    #[case::two_passes_do(&[FAIL, FAIL, PASS, PASS], "healthy")]
    #[case::passes_apart_do_not(&[FAIL, FAIL, PASS, FAIL, PASS], "unhealthy/Target.ResponseCodeMismatch")]
    #[case::a_timeout(&[FAIL, CheckOutcome::Failed(CheckFailure::Timeout)], "unhealthy/Target.Timeout")]
    #[case::a_refusal(&[FAIL, CheckOutcome::Failed(CheckFailure::Connection)], "unhealthy/Target.FailedHealthChecks")]
    fn checks_at_an_alb(#[case] checks: &[CheckOutcome], #[case] expected: &str) {
        assert_eq!(
            after(new(), LoadBalancerKind::Application, &Delays::alb(), checks),
            expected
        );
    }

    #[rstest]
    #[case::two_passes_are_too_few(&[PASS, PASS], "initial/Elb.InitialHealthChecking")]
    #[case::three_passes(&[PASS, PASS, PASS], "healthy")]
    #[case::passes_apart(&[PASS, PASS, FAIL, PASS], "initial/Elb.InitialHealthChecking")]
    #[case::failures_have_one_reason(&[FAIL, FAIL, FAIL], "unhealthy/Target.FailedHealthChecks")]
    #[case::out_of_service(&[PASS, PASS, PASS, FAIL, FAIL, FAIL], "unhealthy/Target.FailedHealthChecks")]
    fn checks_at_an_nlb(#[case] checks: &[CheckOutcome], #[case] expected: &str) {
        assert_eq!(
            after(new(), LoadBalancerKind::Network, &Delays::nlb(), checks),
            expected
        );
    }

    #[test]
    fn an_nlb_told_to_keep_connections_says_unhealthy_draining_first() {
        let delays = Delays {
            unhealthy_draining: Duration::from_secs(10),
            ..Delays::nlb()
        };
        let start = Phase::Healthy { failed: 0 };
        let kind = LoadBalancerKind::Network;
        assert_eq!(
            after(start.clone(), kind, &delays, &[FAIL; 3]),
            "unhealthy.draining"
        );
        let back = [FAIL, FAIL, FAIL, PASS, PASS, PASS];
        assert_eq!(after(start, kind, &delays, &back), "healthy");
    }

    #[test]
    fn only_a_target_in_service_gets_traffic_after_its_deregistration() {
        let delays = Delays::alb();
        let at = Instant::now();
        let lagging = Phase::Healthy { failed: 0 }.deregistered(&delays, at);
        let quiet = new().deregistered(&delays, at);
        let draining = |lag| {
            Some(Phase::Draining {
                until: at + delays.deregistration_delay,
                routed_until: at + lag,
            })
        };
        assert_eq!(lagging, draining(delays.propagation_lag));
        assert_eq!(quiet, draining(Duration::ZERO));
        assert_eq!(
            Phase::Unused(Unused::NoListener).deregistered(&delays, at),
            None
        );
    }
}
