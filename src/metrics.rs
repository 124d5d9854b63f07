//! The metrics of the process, in OpenMetrics. Every label value comes from a bounded set.
//!
//! Source of the format: <https://github.com/prometheus/OpenMetrics/blob/main/specification/OpenMetrics.md>

use std::sync::atomic::AtomicU64;
use std::time::Duration;

use jiff::Timestamp;
use prometheus_client::encoding::text;
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Metric, Registry};

use targetgate_core::names::Quota;

/// Content type of the text of [`Metrics::encode`].
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// AWS error codes with a label value of their own; all others are counted as `Other`.
const ELB_CODES: [&str; 12] = [
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
    "HealthUnavailable",
];

/// Label names and their values.
type Labels<const N: usize> = [(&'static str, &'static str); N];
type Counted<const N: usize> = Family<Labels<N>, Counter>;
type Timed = Family<Labels<1>, Histogram, fn() -> Histogram>;

const PREFIX: &str = "targetgate";

/// Name, type and help text of one metric.
#[derive(Debug)]
pub struct Described {
    name: &'static str,
    kind: MetricType,
    pub help: &'static str,
}

impl Described {
    /// The name of its samples, with the suffix that OpenMetrics prescribes for the type.
    pub fn name(&self) -> String {
        let suffix = match self.kind {
            MetricType::Counter => "_total",
            MetricType::Info => "_info",
            _ => "",
        };
        format!("{PREFIX}_{}{suffix}", self.name)
    }

    /// The name of its type in OpenMetrics.
    pub fn kind(&self) -> &str {
        self.kind.as_str()
    }
}

/// All metrics of the process, shared behind an `Arc`.
pub struct Metrics {
    registry: Registry,
    described: Vec<Described>,
    tasks: Gauge,
    leader: Gauge,
    admissions: Counted<2>,
    admission_seconds: Timed,
    refusals: Counted<1>,
    pending: Gauge,
    oldest_pending: Gauge<f64, AtomicU64>,
    ungated: Gauge,
    condition_writes: Counted<1>,
    flips: Counted<1>,
    open_seconds: Histogram,
    elb_calls: Counted<2>,
    elb_seconds: Timed,
    budget_seconds: Timed,
    elb_rate: Family<[(&'static str, String); 2], Gauge<f64, AtomicU64>>,
    groups_not_found: Counter,
    watch_restarts: Counted<1>,
    tls_failures: Counted<1>,
    connections_ended: Counted<2>,
    certificate_expiry: Gauge,
    ca_expiry: Gauge,
    certificate_trusted: Gauge,
    rotations: Counted<1>,
    bundle_repairs: Counter,
    files_broken: Family<Labels<1>, Gauge>,
}

fn labels_of(quota: &Quota) -> [(&'static str, String); 2] {
    [
        ("account", quota.account().to_owned()),
        ("region", quota.region().to_owned()),
    ]
}

impl Default for Metrics {
    fn default() -> Self {
        let fast: fn() -> Histogram = || Histogram::new(exponential_buckets(0.000_05, 4.0, 9));
        let slow: fn() -> Histogram = || Histogram::new(exponential_buckets(0.01, 2.0, 12));
        let mut metrics = Self {
            registry: Registry::with_prefix(PREFIX),
            described: vec![],
            tasks: Gauge::default(),
            leader: Gauge::default(),
            admissions: Family::default(),
            admission_seconds: Family::new_with_constructor(fast),
            refusals: Family::default(),
            pending: Gauge::default(),
            oldest_pending: Gauge::default(),
            ungated: Gauge::default(),
            condition_writes: Family::default(),
            flips: Family::default(),
            open_seconds: Histogram::new(exponential_buckets(0.5, 2.0, 12)),
            elb_calls: Family::default(),
            elb_seconds: Family::new_with_constructor(slow),
            budget_seconds: Family::new_with_constructor(slow),
            elb_rate: Family::default(),
            groups_not_found: Counter::default(),
            watch_restarts: Family::default(),
            tls_failures: Family::default(),
            connections_ended: Family::default(),
            certificate_expiry: Gauge::default(),
            ca_expiry: Gauge::default(),
            certificate_trusted: Gauge::default(),
            rotations: Family::default(),
            bundle_repairs: Counter::default(),
            files_broken: Family::default(),
        };
        metrics.register();
        metrics
    }
}

impl Metrics {
    fn register(&mut self) {
        let build = Info::new(vec![("version", env!("CARGO_PKG_VERSION"))]);
        self.describe("build", "Version of this binary", build);
        self.describe(
            "tasks",
            "Live tasks: connections, watches, calls, and those that run as long as the process",
            self.tasks.clone(),
        );
        self.describe(
            "leader",
            "1 while this replica is the leader, which alone writes conditions",
            self.leader.clone(),
        );
        self.describe(
            "admissions",
            "Reviews answered, by hook and reason",
            self.admissions.clone(),
        );
        self.describe(
            "admission_seconds",
            "Time from a review's last byte to its answer, by hook",
            self.admission_seconds.clone(),
        );
        self.describe(
            "refusals",
            "HTTP requests refused, by cause",
            self.refusals.clone(),
        );
        self.describe(
            "gates_pending",
            "Gates of live pods whose condition is not True",
            self.pending.clone(),
        );
        self.describe(
            "gates_oldest_pending_seconds",
            "Time since the containers of the pod with the oldest pending gate became ready",
            self.oldest_pending.clone(),
        );
        self.describe("pods_ungated",
            "Pods without a gate that they would get if they were created now: only pods of namespaces \
             with the label that opts in, neither opted out, terminating nor finished",
            self.ungated.clone(),
        );
        self.describe(
            "condition_writes",
            "Pod conditions written or not, by result of the write",
            self.condition_writes.clone(),
        );
        self.describe("flips", "Gates opened, by reason", self.flips.clone());
        self.describe(
            "open_seconds",
            "Time from when a pod's containers became ready until its gate was opened",
            self.open_seconds.clone(),
        );
        self.describe(
            "elb_calls",
            "Attempts to call the ELBv2 API, retries included, by action and code",
            self.elb_calls.clone(),
        );
        self.describe(
            "elb_call_seconds",
            "Duration of calls of the ELBv2 API, by action",
            self.elb_seconds.clone(),
        );
        self.describe(
            "elb_budget_wait_seconds",
            "Time that a call waited for the budget, by asker",
            self.budget_seconds.clone(),
        );
        self.describe("elb_rate",
            "Calls of the ELBv2 API per second that the budget allows now, by account and Region of the target \
             group: the 128 called last, and all of them together at most --elb-rate-max",
            self.elb_rate.clone(),
        );
        self.describe(
            "target_groups_not_found",
            "Answers of ELB that the target group of a binding does not exist",
            self.groups_not_found.clone(),
        );
        self.describe(
            "watch_restarts",
            "Watches that failed and were restarted, by resource",
            self.watch_restarts.clone(),
        );
        self.describe(
            "tls_failures",
            "Connections whose TLS handshake failed, by cause",
            self.tls_failures.clone(),
        );
        self.describe(
            "connections_ended",
            "Connections closed because the listener had reached its limit, by listener and state: without \
             an answered request, idle after one, or new",
            self.connections_ended.clone(),
        );
        self.describe(
            "certificate_expiry_timestamp_seconds",
            "Unix time at which the served certificate expires",
            self.certificate_expiry.clone(),
        );
        self.describe(
            "ca_expiry_timestamp_seconds",
            "Unix time at which the CA in the Secret of --tls self expires; 0 with --tls files",
            self.ca_expiry.clone(),
        );
        self.describe(
            "certificate_trusted",
            "1 while every caBundle verifies the served certificate; 0 with --tls files",
            self.certificate_trusted.clone(),
        );
        self.describe(
            "certificate_rotations",
            "Certificates that this replica replaced while it was the leader, by kind",
            self.rotations.clone(),
        );
        self.describe(
            "ca_bundle_repairs",
            "Webhook configurations whose caBundle another client changed and this replica restored",
            self.bundle_repairs.clone(),
        );
        self.describe("file_broken",
            "1 while a changed file cannot be used and its previous content stays in force, by flag",
            self.files_broken.clone(),
        );
    }

    fn describe(&mut self, name: &'static str, help: &'static str, metric: impl Metric) {
        self.described.push(Described {
            name,
            kind: metric.metric_type(),
            help,
        });
        self.registry.register(name, help, metric);
    }

    /// All metrics, for `docs/metrics.md`: the text of [`Self::encode`] leaves out a metric that was never
    /// counted.
    pub fn described(&self) -> &[Described] {
        &self.described
    }

    /// Renders all metrics as OpenMetrics text.
    pub fn encode(&self) -> String {
        let mut text = String::new();
        // Writing into a String does not fail.
        let _ = text::encode(&mut text, &self.registry);
        text
    }

    /// Sets the number of live tasks of the runtime.
    pub fn tasks(&self, alive: usize) {
        self.tasks.set(i64::try_from(alive).unwrap_or(i64::MAX));
    }

    /// Sets whether this replica leads.
    pub fn leader(&self, leads: bool) {
        self.leader.set(leads.into());
    }

    /// Counts an answered review.
    pub fn admission(&self, hook: &'static str, reason: &'static str, took: Duration) {
        self.admissions
            .get_or_create(&[("hook", hook), ("reason", reason)])
            .inc();
        self.admission_seconds
            .get_or_create(&[("hook", hook)])
            .observe(took.as_secs_f64());
    }

    /// Counts an HTTP request that was refused instead of answered as a review.
    pub fn refusal(&self, cause: &'static str) {
        self.refusals.get_or_create(&[("cause", cause)]).inc();
    }

    /// Sets the number of pending gates, and the age of the oldest.
    pub fn pending(&self, gates: usize, oldest: Duration) {
        self.pending.set(i64::try_from(gates).unwrap_or(i64::MAX));
        self.oldest_pending.set(oldest.as_secs_f64());
    }

    /// Sets the number of ungated pods.
    pub fn ungated(&self, pods: usize) {
        self.ungated.set(i64::try_from(pods).unwrap_or(i64::MAX));
    }

    /// Counts the conditions of one write, by its result.
    pub fn condition_write(&self, result: &'static str, conditions: usize) {
        self.condition_writes
            .get_or_create(&[("result", result)])
            .inc_by(u64::try_from(conditions).unwrap_or(u64::MAX));
    }

    /// Counts a gate that opened `waited` after its pod's containers became ready.
    pub fn flip(&self, reason: &'static str, waited: Duration) {
        self.flips.get_or_create(&[("reason", reason)]).inc();
        self.open_seconds.observe(waited.as_secs_f64());
    }

    /// Counts a call of the ELBv2 API that ended with this AWS error code, or `OK`.
    pub fn elb_call(&self, action: &'static str, code: &str, took: Duration) {
        let code = ELB_CODES.into_iter().find(|known| *known == code);
        let code = code.unwrap_or("Other");
        self.elb_calls
            .get_or_create(&[("action", action), ("code", code)])
            .inc();
        self.elb_seconds
            .get_or_create(&[("action", action)])
            .observe(took.as_secs_f64());
    }

    /// Counts a call that waited for the budget.
    pub fn budget_wait(&self, asker: &'static str, waited: Duration) {
        self.budget_seconds
            .get_or_create(&[("asker", asker)])
            .observe(waited.as_secs_f64());
    }

    /// Sets the calls per second that the budget allows now in an account and Region.
    pub fn elb_rate(&self, quota: &Quota, rate: f64) {
        self.elb_rate.get_or_create(&labels_of(quota)).set(rate);
    }

    /// Removes the rate of an account and Region whose bucket was dropped.
    pub fn no_elb_rate(&self, quota: &Quota) {
        self.elb_rate.remove(&labels_of(quota));
    }

    /// Counts an answer of ELB that the target group of a binding does not exist.
    pub fn group_not_found(&self) {
        self.groups_not_found.inc();
    }

    /// Counts a watch of this resource that failed and is restarted.
    pub fn watch_restart(&self, resource: &'static str) {
        self.watch_restarts
            .get_or_create(&[("resource", resource)])
            .inc();
    }

    /// Counts a failed TLS handshake.
    pub fn tls_failure(&self, cause: &'static str) {
        self.tls_failures.get_or_create(&[("cause", cause)]).inc();
    }

    /// Counts a connection that was closed because this listener had reached its limit.
    pub fn connection_ended(&self, listener: &'static str, state: &'static str) {
        self.connections_ended
            .get_or_create(&[("listener", listener), ("state", state)])
            .inc();
    }

    /// Sets the time at which the served certificate expires.
    pub fn certificate_expiry(&self, at: Timestamp) {
        self.certificate_expiry.set(at.as_second());
    }

    /// Sets the time at which the CA in the Secret expires.
    pub fn ca_expiry(&self, at: Timestamp) {
        self.ca_expiry.set(at.as_second());
    }

    /// Sets whether every `caBundle` verifies the served certificate.
    pub fn certificate_trusted(&self, trusted: bool) {
        self.certificate_trusted.set(trusted.into());
    }

    /// Counts a certificate of this kind that replaced another.
    pub fn rotation(&self, kind: &'static str) {
        self.rotations.get_or_create(&[("kind", kind)]).inc();
    }

    /// Counts a webhook configuration whose bundles were restored.
    pub fn bundle_repair(&self) {
        self.bundle_repairs.inc();
    }

    /// Sets whether the followed file of this flag could not be used when it was last read.
    pub fn file_broken(&self, flag: &'static str, broken: bool) {
        let gauge = self.files_broken.get_or_create(&[("flag", flag)]);
        gauge.set(broken.into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_is_openmetrics_and_ends_so() {
        let metrics = Metrics::default();
        metrics.admission("pod", "Injected", Duration::from_micros(80));
        let text = metrics.encode();
        assert!(text.contains(r#"targetgate_admissions_total{hook="pod",reason="Injected"} 1"#));
        assert!(text.contains("targetgate_build_info{version="));
        assert!(text.ends_with("# EOF\n"));
    }

    #[test]
    fn an_aws_code_that_nobody_knows_shares_one_label_value() {
        let metrics = Metrics::default();
        metrics.elb_call("DescribeTargetHealth", "SomethingNew", Duration::ZERO);
        metrics.elb_call("DescribeTargetHealth", "SomethingElse", Duration::ZERO);
        let both = r#"targetgate_elb_calls_total{action="DescribeTargetHealth",code="Other"} 2"#;
        assert!(metrics.encode().contains(both), "{}", metrics.encode());
    }
}
