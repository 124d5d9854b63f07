//! Metrics of the watches and of the Lease.

use prometheus_client::metrics::gauge::Gauge;

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

/// Metrics of the election.
#[derive(Clone)]
pub struct LeaseMetrics(Gauge);

impl MetricSet for LeaseMetrics {
    fn register(registered: &mut Registered) -> Self {
        Self(registered.add(
            "leader",
            "1 while this replica is the leader, which alone writes conditions",
            Gauge::default(),
        ))
    }
}

impl LeaseMetrics {
    /// Sets whether this replica leads.
    pub fn set_leads(&self, leads: bool) {
        self.0.set(leads.into());
    }
}
