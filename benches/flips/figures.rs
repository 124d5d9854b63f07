//! Latencies, and figures with their limits.

use std::time::Duration;

/// Latencies in ascending order.
#[derive(Clone, Debug)]
pub(crate) struct Latencies(Vec<Duration>);

impl Latencies {
    pub(crate) fn of(mut latencies: Vec<Duration>) -> Self {
        latencies.sort();
        Self(latencies)
    }

    /// The least latency that `hundredths` percent of them do not exceed, or zero if there are none.
    pub(crate) fn percentile(&self, hundredths: usize) -> Duration {
        let rank = (self.0.len() * hundredths).div_ceil(100);
        let at = self.0.get(rank.saturating_sub(1));
        at.copied().unwrap_or_default()
    }

    pub(crate) fn most(&self) -> Duration {
        self.percentile(100)
    }
}

/// A figure with its limit, and whether it is within.
pub(crate) struct Held {
    pub(crate) text: String,
    pub(crate) within: bool,
}

impl Held {
    /// Seconds, and their limit.
    pub(crate) fn seconds(value: Duration, limit: Option<f64>) -> Self {
        let seconds = value.as_secs_f64();
        Self::new(format!("{seconds:.2} s"), seconds, limit, " s")
    }

    /// A count, and its limit.
    pub(crate) fn count(value: usize, limit: Option<usize>) -> Self {
        Self::new(
            value.to_string(),
            value as f64,
            limit.map(|limit| limit as f64),
            "",
        )
    }

    /// A percentage, and its limit.
    pub(crate) fn share(value: f64, limit: Option<f64>) -> Self {
        Self::new(format!("{value:.1} %"), value, limit, " %")
    }

    fn new(text: String, value: f64, limit: Option<f64>, unit: &str) -> Self {
        match limit {
            None => Self { text, within: true },
            Some(limit) => Self {
                text: format!("{text} (≤ {limit}{unit})"),
                within: value <= limit,
            },
        }
    }
}
