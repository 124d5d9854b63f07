//! Metrics of the watches and of the Leases.

use prometheus_client::metrics::gauge::Gauge;

use crate::kubernetes::lease::work::Work;
use crate::metrics::{Counters, MetricSet, Registered};

/// Metrics of the watches.
#[derive(Clone)]
pub struct WatchMetrics(Counters<1>);

impl MetricSet for WatchMetrics {
    fn register(registered: &mut Registered) -> Self {
        Self(registered.add(
            "watch_restarts",
            "Watches that failed and were restarted, by resource",
            Counters::default(),
        ))
    }
}

impl WatchMetrics {
    /// Counts a watch of this resource that failed and is restarted.
    pub(super) fn restarted(&self, resource: &'static str) {
        self.0.get_or_create(&[("resource", resource)]).inc();
    }
}

/// Metrics of the elections.
#[derive(Clone)]
pub struct LeaseMetrics {
    conditions: Gauge,
    certificates: Gauge,
}

impl MetricSet for LeaseMetrics {
    fn register(registered: &mut Registered) -> Self {
        Self {
            conditions: registered.add(
                "leader",
                "1 while this replica is the leader, which alone writes conditions",
                Gauge::default(),
            ),
            certificates: registered.add(
                "certificates_leader",
                "1 while this replica holds the Lease of certificates, and alone writes the Secret and each caBundle",
                Gauge::default(),
            ),
        }
    }
}

impl LeaseMetrics {
    /// Sets whether this replica does that work.
    pub fn set_leads(&self, work: Work, leads: bool) {
        let gauge = match work {
            Work::Conditions => &self.conditions,
            Work::Certificates => &self.certificates,
        };
        gauge.set(leads.into());
    }
}
