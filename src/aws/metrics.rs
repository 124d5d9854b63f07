//! Metrics of the calls of the ELBv2 API, and of the budget that they spend.

use std::time::Duration;

use prometheus_client::metrics::family::Family;
use targetgate_core::names::Quota;

use crate::metrics::{Counters, FloatGauge, Histograms, MetricSet, Registered, slow};

/// AWS error codes with a label value of their own; all others are counted as `Other`.
const CODES: [&str; 14] = [
    "OK",
    "Timeout",
    "Unreachable",
    "Throttling",
    "ThrottlingException",
    "RequestLimitExceeded",
    "AccessDenied",
    "ExpiredToken",
    "TargetGroupNotFound",
    "ValidationError",
    "InvalidTarget",
    "TooManyTargets",
    "TooManyRegistrationsForTargetId",
    "HealthUnavailable",
];

/// Metrics of the calls.
#[derive(Clone)]
pub struct CallMetrics {
    calls: Counters<2>,
    seconds: Histograms,
}

impl MetricSet for CallMetrics {
    fn register(registered: &mut Registered) -> Self {
        Self {
            calls: registered.add(
                "elb_calls",
                "Attempts to call the ELBv2 API, retries included, by action and code",
                Counters::default(),
            ),
            seconds: registered.add(
                "elb_call_seconds",
                "Duration of calls of the ELBv2 API, by action",
                slow(),
            ),
        }
    }
}

impl CallMetrics {
    /// Counts a call that ended with this AWS error code, or `OK`.
    pub(super) fn called(&self, action: &'static str, code: &str, took: Duration) {
        let code = CODES.into_iter().find(|known| *known == code);
        let code = code.unwrap_or("Other");
        self.calls
            .get_or_create(&[("action", action), ("code", code)])
            .inc();
        self.seconds
            .get_or_create(&[("action", action)])
            .observe(took.as_secs_f64());
    }
}

/// Metrics of the budget.
#[derive(Clone)]
pub struct BudgetMetrics {
    wait_seconds: Histograms,
    rate: Family<[(&'static str, String); 2], FloatGauge>,
}

impl MetricSet for BudgetMetrics {
    fn register(registered: &mut Registered) -> Self {
        Self {
            wait_seconds: registered.add(
                "elb_budget_wait_seconds",
                "Time that a call waited for the budget, by asker",
                slow(),
            ),
            rate: registered.add(
                "elb_rate",
                "Calls of the ELBv2 API per second that the budget allows now, by account and Region of the target \
                 group: the 128 called last, and all of them together at most --elb-rate-max",
                Family::default(),
            ),
        }
    }
}

impl BudgetMetrics {
    /// Counts a call that waited for the budget.
    pub(super) fn waited(&self, asker: &'static str, waited: Duration) {
        self.wait_seconds
            .get_or_create(&[("asker", asker)])
            .observe(waited.as_secs_f64());
    }

    /// Sets the calls per second that the budget allows now in an account and Region.
    pub(super) fn set_rate(&self, quota: &Quota, rate: f64) {
        self.rate.get_or_create(&labels_of(quota)).set(rate);
    }

    /// Removes the rate of an account and Region whose bucket was dropped.
    pub(super) fn remove_rate(&self, quota: &Quota) {
        self.rate.remove(&labels_of(quota));
    }
}

fn labels_of(quota: &Quota) -> [(&'static str, String); 2] {
    [
        ("account", quota.account().to_owned()),
        ("region", quota.region().to_owned()),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Metrics;

    #[test]
    fn an_aws_code_that_is_not_listed_shares_one_label_value() {
        let metrics = Metrics::default();
        let calls = metrics.of::<CallMetrics>();
        calls.called("DescribeTargetHealth", "SomethingNew", Duration::ZERO);
        calls.called("DescribeTargetHealth", "SomethingElse", Duration::ZERO);
        let both = r#"targetgate_elb_calls_total{action="DescribeTargetHealth",code="Other"} 2"#;
        assert!(metrics.encode().contains(both), "{}", metrics.encode());
    }
}
