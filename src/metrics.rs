//! What is measured, as OpenMetrics. Every label value comes from a bounded set.
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

/// The content type of [`Metrics::encode`]'s text.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// AWS error codes that get a label value of their own; any other counts as `Other`.
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

/// One metric, as its reader sees it.
#[derive(Debug)]
pub struct Described {
    name: &'static str,
    kind: MetricType,
    /// What it measures.
    pub help: &'static str,
}

impl Described {
    /// The name of its samples: OpenMetrics puts a word behind some.
    pub fn name(&self) -> String {
        let suffix = match self.kind {
            MetricType::Counter => "_total",
            MetricType::Info => "_info",
            _ => "",
        };
        format!("{PREFIX}_{}{suffix}", self.name)
    }

    /// Its type, in OpenMetrics' word.
    pub fn kind(&self) -> &str {
        self.kind.as_str()
    }
}

/// All that the process measures; cheap to share behind an `Arc`.
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
        self.describe("build", "This binary", build);
        self.describe("tasks",
            "Tasks that are alive: of connections, watches, calls and what runs as long as the process",
            self.tasks.clone(),
        );
        self.describe(
            "leader",
            "1 while this replica leads: only the leader writes conditions",
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
            "Gates of live pods that are not True",
            self.pending.clone(),
        );
        self.describe(
            "gates_oldest_pending_seconds",
            "Age of the oldest pending gate, from its pod's containers being ready",
            self.oldest_pending.clone(),
        );
        self.describe("pods_ungated",
            "Pods without a gate that they would be given were they created now: of namespaces with \
             the label that opts in, neither opted out, terminating nor finished",
            self.ungated.clone(),
        );
        self.describe(
            "condition_writes",
            "Writes of pod conditions, by result",
            self.condition_writes.clone(),
        );
        self.describe("flips", "Gates opened, by reason", self.flips.clone());
        self.describe(
            "open_seconds",
            "Time from a pod's containers being ready to its gate being True",
            self.open_seconds.clone(),
        );
        self.describe(
            "elb_calls",
            "Calls of the ELBv2 API on the wire, by action and code",
            self.elb_calls.clone(),
        );
        self.describe(
            "elb_call_seconds",
            "Duration of calls of the ELBv2 API, by action",
            self.elb_seconds.clone(),
        );
        self.describe(
            "elb_budget_wait_seconds",
            "Time that a call waited for the budget, by who asked",
            self.budget_seconds.clone(),
        );
        self.describe("elb_rate",
            "Calls of the ELBv2 API a second that the budget allows now, by account and Region of what is asked \
             about: at most 128 that were called last, and all of them together at most --elb-rate-max",
            self.elb_rate.clone(),
        );
        self.describe(
            "target_groups_not_found",
            "Answers that a bound target group does not exist",
            self.groups_not_found.clone(),
        );
        self.describe(
            "watch_restarts",
            "Watches that failed and were started again, by resource",
            self.watch_restarts.clone(),
        );
        self.describe(
            "tls_failures",
            "Connections that never became TLS, by cause",
            self.tls_failures.clone(),
        );
        self.describe(
            "connections_ended",
            "Connections ended because all places were taken, by listener and state: without an answered \
             request, idle after one, or new",
            self.connections_ended.clone(),
        );
        self.describe(
            "certificate_expiry_timestamp_seconds",
            "When the served certificate expires, in Unix time",
            self.certificate_expiry.clone(),
        );
        self.describe(
            "ca_expiry_timestamp_seconds",
            "When the CA in our Secret expires, in Unix time; 0 with --tls files",
            self.ca_expiry.clone(),
        );
        self.describe(
            "certificate_trusted",
            "Whether every caBundle verifies the served certificate; 0 with --tls files",
            self.certificate_trusted.clone(),
        );
        self.describe(
            "certificate_rotations",
            "Certificates that this replica, as the leader, has put in place of others, by kind",
            self.rotations.clone(),
        );
        self.describe(
            "ca_bundle_repairs",
            "Webhook configurations that somebody else had changed a caBundle of, put back",
            self.bundle_repairs.clone(),
        );
        self.describe("file_broken",
            "1 while a file that was changed cannot be used, and what it held before counts, by flag",
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

    /// What there is, as `docs/metrics.md` lists it: the text of [`Self::encode`] leaves out what was
    /// never counted.
    pub fn described(&self) -> &[Described] {
        &self.described
    }

    /// The whole of it as OpenMetrics text.
    pub fn encode(&self) -> String {
        let mut text = String::new();
        // Writing into a String does not fail.
        let _ = text::encode(&mut text, &self.registry);
        text
    }

    /// How many tasks the runtime has.
    pub fn tasks(&self, alive: usize) {
        self.tasks.set(i64::try_from(alive).unwrap_or(i64::MAX));
    }

    /// Whether this replica leads.
    pub fn leader(&self, leads: bool) {
        self.leader.set(leads.into());
    }

    /// A review was answered.
    pub fn admission(&self, hook: &'static str, reason: &'static str, took: Duration) {
        self.admissions
            .get_or_create(&[("hook", hook), ("reason", reason)])
            .inc();
        self.admission_seconds
            .get_or_create(&[("hook", hook)])
            .observe(took.as_secs_f64());
    }

    /// An HTTP request was refused before it was a review.
    pub fn refusal(&self, cause: &'static str) {
        self.refusals.get_or_create(&[("cause", cause)]).inc();
    }

    /// How many gates wait, and how long the oldest has.
    pub fn pending(&self, gates: usize, oldest: Duration) {
        self.pending.set(i64::try_from(gates).unwrap_or(i64::MAX));
        self.oldest_pending.set(oldest.as_secs_f64());
    }

    /// How many pods lack a gate.
    pub fn ungated(&self, pods: usize) {
        self.ungated.set(i64::try_from(pods).unwrap_or(i64::MAX));
    }

    /// So many conditions of a pod were written, or were not, in one request.
    pub fn condition_write(&self, result: &'static str, conditions: usize) {
        self.condition_writes
            .get_or_create(&[("result", result)])
            .inc_by(u64::try_from(conditions).unwrap_or(u64::MAX));
    }

    /// A gate opened, `waited` after its pod's containers were ready.
    pub fn flip(&self, reason: &'static str, waited: Duration) {
        self.flips.get_or_create(&[("reason", reason)]).inc();
        self.open_seconds.observe(waited.as_secs_f64());
    }

    /// A call of the ELBv2 API ended with this AWS error code, or `OK`.
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

    /// A call waited for the budget.
    pub fn budget_wait(&self, asker: &'static str, waited: Duration) {
        self.budget_seconds
            .get_or_create(&[("asker", asker)])
            .observe(waited.as_secs_f64());
    }

    /// The budget now allows so many calls a second in an account and Region.
    pub fn elb_rate(&self, quota: &Quota, rate: f64) {
        self.elb_rate.get_or_create(&labels_of(quota)).set(rate);
    }

    /// An account and Region has no rate of its own any more.
    pub fn no_elb_rate(&self, quota: &Quota) {
        self.elb_rate.remove(&labels_of(quota));
    }

    /// AWS said that a bound group does not exist.
    pub fn group_not_found(&self) {
        self.groups_not_found.inc();
    }

    /// A watch of this resource failed and starts again.
    pub fn watch_restart(&self, resource: &'static str) {
        self.watch_restarts
            .get_or_create(&[("resource", resource)])
            .inc();
    }

    /// A connection never became TLS.
    pub fn tls_failure(&self, cause: &'static str) {
        self.tls_failures.get_or_create(&[("cause", cause)]).inc();
    }

    /// A connection of this listener was ended because all places were taken.
    pub fn connection_ended(&self, listener: &'static str, state: &'static str) {
        self.connections_ended
            .get_or_create(&[("listener", listener), ("state", state)])
            .inc();
    }

    /// The served certificate expires then.
    pub fn certificate_expiry(&self, at: Timestamp) {
        self.certificate_expiry.set(at.as_second());
    }

    /// The CA in our Secret expires then.
    pub fn ca_expiry(&self, at: Timestamp) {
        self.ca_expiry.set(at.as_second());
    }

    /// Whether every `caBundle` verifies the served certificate.
    pub fn certificate_trusted(&self, trusted: bool) {
        self.certificate_trusted.set(trusted.into());
    }

    /// A certificate of this kind has taken another's place.
    pub fn rotation(&self, kind: &'static str) {
        self.rotations.get_or_create(&[("kind", kind)]).inc();
    }

    /// Bundles of a webhook configuration were put back.
    pub fn bundle_repair(&self) {
        self.bundle_repairs.inc();
    }

    /// Whether the file of this flag, which is followed, could not be used when it was read last.
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
