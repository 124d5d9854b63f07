//! The log: lines or JSON on standard error, with its bounds.
//!
//! Any client of a port can cause refusals, as often as it likes and with texts as long as a body: neither may
//! fill the log.

use std::collections::HashMap;
use std::io;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::{Layer as _, SubscriberExt as _};
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{fmt, registry};

use crate::args::LogFormat;

/// Shortest time between two log lines of one cause. Chosen.
pub const SAID_EVERY: Duration = Duration::from_secs(60);

/// Starts logging for the whole process; must be called once.
pub fn init(format: LogFormat, levels: Targets) {
    let lines = fmt::layer().with_writer(io::stderr);
    let layer = match format {
        LogFormat::Text => lines.with_ansi(false).boxed(),
        LogFormat::Json => lines.json().flatten_event(true).boxed(),
    };
    registry().with(layer.with_filter(levels)).init();
}

/// Limits the log lines about events that clients can cause. It holds one entry for each cause.
#[derive(Debug, Default)]
pub struct LogThrottle(Mutex<HashMap<&'static str, Last>>);

#[derive(Debug)]
struct Last {
    at: Instant,
    unsaid: u64,
}

impl LogThrottle {
    /// Whether to log this cause now; `Some` holds how many of its lines were suppressed since the last one.
    pub fn now(&self, cause: &'static str) -> Option<u64> {
        let mut said = self.0.lock();
        let now = Instant::now();
        match said.get_mut(cause) {
            Some(last) if now < last.at + SAID_EVERY => {
                last.unsaid += 1;
                None
            }
            _ => {
                let last = said.insert(cause, Last { at: now, unsaid: 0 });
                Some(last.map_or(0, |last| last.unsaid))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn each_cause_is_said_once_a_minute_with_how_often_it_came_meanwhile() {
        let said = LogThrottle::default();
        assert_eq!(said.now("Other"), Some(0));
        assert_eq!((said.now("Other"), said.now("Other")), (None, None));
        assert_eq!(said.now("Timeout"), Some(0));
        advance(SAID_EVERY - Duration::from_millis(1)).await;
        assert_eq!(said.now("Other"), None);
        advance(Duration::from_millis(1)).await;
        assert_eq!((said.now("Other"), said.now("Other")), (Some(3), None));
    }
}
