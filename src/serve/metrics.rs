//! Metrics of the process, its listeners and its certificate.

use jiff::Timestamp;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::info::Info;

use crate::metrics::{Counters, MetricSet, Registered};

/// Metrics of the process.
#[derive(Clone)]
pub struct ProcessMetrics {
    tasks: Gauge,
}

impl MetricSet for ProcessMetrics {
    fn register(registered: &mut Registered) -> Self {
        let version = Info::new(vec![("version", env!("CARGO_PKG_VERSION"))]);
        registered.add_constant("build", "Version of this binary", version);
        Self {
            tasks: registered.add(
                "tasks",
                "Live tasks: connections, watches, calls, and those that run as long as the process",
                Gauge::default(),
            ),
        }
    }
}

impl ProcessMetrics {
    /// Sets the number of live tasks of the runtime.
    pub(super) fn set_tasks(&self, alive: usize) {
        self.tasks.set(i64::try_from(alive).unwrap_or(i64::MAX));
    }
}

/// Metrics of the listeners.
#[derive(Clone)]
pub struct ListenerMetrics {
    tls_failures: Counters<1>,
    connections_ended: Counters<2>,
}

impl MetricSet for ListenerMetrics {
    fn register(registered: &mut Registered) -> Self {
        Self {
            tls_failures: registered.add(
                "tls_failures",
                "Connections whose TLS handshake failed, by cause",
                Counters::default(),
            ),
            connections_ended: registered.add(
                "connections_ended",
                "Connections closed because the listener had reached its limit, by listener and state: without \
                 an answered request, idle after one, or new",
                Counters::default(),
            ),
        }
    }
}

impl ListenerMetrics {
    /// Counts a failed TLS handshake.
    pub(super) fn tls_failed(&self, cause: &'static str) {
        self.tls_failures.get_or_create(&[("cause", cause)]).inc();
    }

    /// Counts a connection that was closed because this listener had reached its limit.
    pub(super) fn connection_ended(&self, listener: &'static str, state: &'static str) {
        self.connections_ended
            .get_or_create(&[("listener", listener), ("state", state)])
            .inc();
    }
}

/// Metrics of the served certificate.
#[derive(Clone)]
pub struct CertificateMetrics {
    expiry: Gauge,
    trusted: Gauge,
}

impl MetricSet for CertificateMetrics {
    fn register(registered: &mut Registered) -> Self {
        Self {
            expiry: registered.add(
                "certificate_expiry_timestamp_seconds",
                "Unix time at which the served certificate expires",
                Gauge::default(),
            ),
            trusted: registered.add(
                "certificate_trusted",
                "1 while every caBundle that can be read verifies the served certificate",
                Gauge::default(),
            ),
        }
    }
}

impl CertificateMetrics {
    /// Sets the time at which the served certificate expires.
    pub(super) fn set_expiry(&self, at: Timestamp) {
        self.expiry.set(at.as_second());
    }

    /// Sets whether every `caBundle` verifies the served certificate.
    pub(super) fn set_trusted(&self, trusted: bool) {
        self.trusted.set(trusted.into());
    }
}
