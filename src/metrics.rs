//! The metrics of the process, in OpenMetrics and in the older format of Prometheus. Every label value comes from a bounded set.
//!
//! Each module counts in a [`MetricSet`] of its own; [`Metrics`] serves all of them.
//!
//! Sources of the formats: <https://github.com/prometheus/OpenMetrics/blob/main/specification/OpenMetrics.md>,
//! <https://prometheus.io/docs/instrumenting/exposition_formats/#text-based-format>

use std::any::{Any, TypeId};
use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::atomic::AtomicU64;

use parking_lot::Mutex;
use prometheus_client::encoding::text;
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Metric, Registry};

/// Content type of the text of [`Metrics::encode`].
pub const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
/// Content type of the text of [`Metrics::encode_for_prometheus`].
pub const PROMETHEUS: &str = "text/plain; version=0.0.4; charset=utf-8";

const PREFIX: &str = "targetgate";

/// Label names and their values.
pub type Labels<const N: usize> = [(&'static str, &'static str); N];
/// Counters by label values.
pub type Counters<const N: usize> = Family<Labels<N>, Counter>;
/// Gauges by label values.
pub type Gauges<const N: usize> = Family<Labels<N>, Gauge>;
/// Histograms by the value of one label.
pub type Histograms = Family<Labels<1>, Histogram, fn() -> Histogram>;
/// A gauge of a fraction, such as seconds.
pub type FloatGauge = Gauge<f64, AtomicU64>;

/// Histograms of work in memory, from 50 µs to 3 s.
pub fn fast() -> Histograms {
    Family::new_with_constructor(|| Histogram::new(exponential_buckets(0.000_05, 4.0, 9)))
}

/// Histograms of calls and waits, from 10 ms to 20 s.
pub fn slow() -> Histograms {
    Family::new_with_constructor(|| Histogram::new(exponential_buckets(0.01, 2.0, 12)))
}

/// The metrics of one module; a clone counts in the same metrics.
pub trait MetricSet: Clone + Send + Sync + 'static {
    /// Makes the metrics and registers each with its name and help text.
    fn register(registered: &mut Registered) -> Self;
}

/// All metrics of the process, shared behind an `Arc`.
#[derive(Default)]
pub struct Metrics(Mutex<Registered>);

impl Metrics {
    /// The metrics of one module, registered on the first call.
    pub fn of<M: MetricSet>(&self) -> M {
        let mut registered = self.0.lock();
        let known = registered.sets.get(&TypeId::of::<M>());
        if let Some(set) = known.and_then(|set| set.downcast_ref::<M>()) {
            return set.clone();
        }
        let set = M::register(&mut registered);
        registered
            .sets
            .insert(TypeId::of::<M>(), Box::new(set.clone()));
        set
    }

    /// All registered metrics, for `docs/metrics.md`: the text of [`Self::encode`] leaves out a metric that was
    /// never counted.
    pub fn described(&self) -> Vec<Described> {
        self.0.lock().described.clone()
    }

    /// Renders all metrics as OpenMetrics text.
    pub fn encode(&self) -> String {
        let mut text = String::new();
        // Writing into a String does not fail.
        let _ = text::encode(&mut text, &self.0.lock().registry);
        text
    }

    /// Renders all metrics in the text format of Prometheus.
    pub fn encode_for_prometheus(&self) -> String {
        for_prometheus(&self.encode())
    }
}

/// Rewrites OpenMetrics text in the text format of Prometheus. The samples are the same, but there a counter is
/// described under the name of its samples, the types `info` and `unknown` do not exist, and nothing marks the end.
fn for_prometheus(openmetrics: &str) -> String {
    let described = |line: &'static str| {
        move |text: &str| -> Option<(String, String)> {
            let (name, rest) = text.strip_prefix(line)?.split_once(' ')?;
            Some((name.to_owned(), rest.to_owned()))
        }
    };
    let (help, kind) = (described("# HELP "), described("# TYPE "));
    let kinds: HashMap<String, String> = openmetrics.lines().filter_map(&kind).collect();
    let sample = |name: String| match kinds.get(&name).map(String::as_str) {
        Some("counter") => name + "_total",
        Some("info") => name + "_info",
        _ => name,
    };
    let mut text = String::with_capacity(openmetrics.len());
    for line in openmetrics.lines() {
        // Writing into a String does not fail.
        let _ = if let Some((name, rest)) = help(line) {
            writeln!(text, "# HELP {} {rest}", sample(name))
        } else if let Some((name, kind)) = kind(line) {
            let kind = match &*kind {
                "info" => "gauge",
                "unknown" => "untyped",
                kind => kind,
            };
            writeln!(text, "# TYPE {} {kind}", sample(name))
        } else if line.starts_with("# ") {
            Ok(())
        } else {
            writeln!(text, "{line}")
        };
    }
    text
}

/// The registered metrics.
pub struct Registered {
    registry: Registry,
    described: Vec<Described>,
    sets: HashMap<TypeId, Box<dyn Any + Send + Sync>>,
}

impl Default for Registered {
    fn default() -> Self {
        Self {
            registry: Registry::with_prefix(PREFIX),
            described: vec![],
            sets: HashMap::new(),
        }
    }
}

impl Registered {
    /// Registers a metric, and returns it.
    pub fn add<M: Metric + Clone>(
        &mut self,
        name: &'static str,
        help: &'static str,
        metric: M,
    ) -> M {
        self.add_constant(name, help, metric.clone());
        metric
    }

    /// Registers a metric that is never changed.
    pub fn add_constant(&mut self, name: &'static str, help: &'static str, metric: impl Metric) {
        self.described.push(Described {
            name,
            kind: metric.metric_type(),
            help,
        });
        self.registry.register(name, help, metric);
    }
}

/// Name, type and help text of one metric.
#[derive(Debug, Clone)]
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

/// HTTP requests that the hooks or a listener refused.
#[derive(Clone)]
pub struct RefusalMetrics(Counters<1>);

impl MetricSet for RefusalMetrics {
    fn register(registered: &mut Registered) -> Self {
        Self(registered.add(
            "refusals",
            "HTTP requests refused, by cause",
            Counters::default(),
        ))
    }
}

impl RefusalMetrics {
    /// Counts an HTTP request that was refused instead of answered as a review.
    pub fn refused(&self, cause: &'static str) {
        self.0.get_or_create(&[("cause", cause)]).inc();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_is_openmetrics_and_ends_so() {
        let metrics = Metrics::default();
        metrics.of::<RefusalMetrics>().refused("Path");
        let text = metrics.encode();
        assert!(text.contains(r#"targetgate_refusals_total{cause="Path"} 1"#));
        assert!(text.contains("# TYPE targetgate_refusals counter"));
        assert!(text.ends_with("# EOF\n"));
    }

    #[test]
    fn prometheus_reads_a_counter_under_the_name_of_its_samples() {
        let openmetrics = "# HELP refusals HTTP requests refused.\n\
                           # TYPE refusals counter\n\
                           refusals_total{cause=\"Path\"} 1\n\
                           # HELP leader Whether it leads.\n\
                           # TYPE leader gauge\n\
                           leader 1\n\
                           # HELP wait_seconds Time.\n\
                           # TYPE wait_seconds histogram\n\
                           # UNIT wait_seconds seconds\n\
                           wait_seconds_sum 0.5\n\
                           wait_seconds_bucket{le=\"+Inf\"} 1\n\
                           # HELP build Version.\n\
                           # TYPE build info\n\
                           build_info{version=\"1\"} 1\n\
                           # EOF\n";
        let expected = "# HELP refusals_total HTTP requests refused.\n\
                        # TYPE refusals_total counter\n\
                        refusals_total{cause=\"Path\"} 1\n\
                        # HELP leader Whether it leads.\n\
                        # TYPE leader gauge\n\
                        leader 1\n\
                        # HELP wait_seconds Time.\n\
                        # TYPE wait_seconds histogram\n\
                        wait_seconds_sum 0.5\n\
                        wait_seconds_bucket{le=\"+Inf\"} 1\n\
                        # HELP build_info Version.\n\
                        # TYPE build_info gauge\n\
                        build_info{version=\"1\"} 1\n";
        assert_eq!(for_prometheus(openmetrics), expected);
    }

    #[test]
    fn both_formats_have_the_same_samples() {
        let metrics = Metrics::default();
        metrics.of::<RefusalMetrics>().refused("Path");
        let samples = |text: &str| -> Vec<String> {
            let lines = text.lines().filter(|line| !line.starts_with('#'));
            lines.map(str::to_owned).collect()
        };
        let text = metrics.encode_for_prometheus();
        assert_eq!(samples(&text), samples(&metrics.encode()));
        assert!(!text.contains("# EOF"));
    }

    #[test]
    fn a_module_that_asks_twice_counts_in_the_same_metrics() {
        let metrics = Metrics::default();
        metrics.of::<RefusalMetrics>().refused("Path");
        metrics.of::<RefusalMetrics>().refused("Path");
        assert_eq!(metrics.described().len(), 1);
        assert!(metrics.encode().contains("{cause=\"Path\"} 2"));
    }
}
