//! Counts what the hooks answer.

use std::time::Duration;

use targetgate_core::reason::Reason;

use crate::metrics::{Counters, Histograms, MetricSet, Registered, fast};

/// Metrics of the hooks.
#[derive(Clone)]
pub struct AdmissionMetrics {
    admissions: Counters<2>,
    drains: Counters<1>,
    seconds: Histograms,
}

impl MetricSet for AdmissionMetrics {
    fn register(registered: &mut Registered) -> Self {
        Self {
            admissions: registered.add(
                "admissions",
                "Reviews answered, by hook and reason",
                Counters::default(),
            ),
            drains: registered.add(
                "drains",
                "New pods with a gate, by what was decided about the sleep before their end",
                Counters::default(),
            ),
            seconds: registered.add(
                "admission_seconds",
                "Time from a review's last byte to its answer, by hook",
                fast(),
            ),
        }
    }
}

impl AdmissionMetrics {
    /// Counts what was decided about a new pod's end.
    pub(super) fn drained(&self, reason: Reason) {
        let reason = reason.as_str();
        self.drains.get_or_create(&[("reason", reason)]).inc();
    }

    /// Counts an answered review.
    pub(super) fn answered(&self, hook: &'static str, reason: Reason, took: Duration) {
        let reason = reason.as_str();
        self.admissions
            .get_or_create(&[("hook", hook), ("reason", reason)])
            .inc();
        self.seconds
            .get_or_create(&[("hook", hook)])
            .observe(took.as_secs_f64());
    }
}
