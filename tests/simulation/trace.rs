//! The trace: what happened, line by line, and which invariants were broken.

use std::fmt::Write as _;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::time::Instant;

/// The one record of a run, which all clones write to.
#[derive(Clone)]
pub(crate) struct Trace {
    origin: Instant,
    record: Arc<Mutex<Record>>,
}

#[derive(Default)]
struct Record {
    text: String,
    violations: Vec<String>,
}

impl Trace {
    pub(crate) fn new() -> Self {
        Self {
            origin: Instant::now(),
            record: Arc::default(),
        }
    }

    /// Notes what `who` did or met. The text must not differ between two runs of a seed.
    pub(crate) fn note(&self, who: &str, what: &str) {
        let at = self.origin.elapsed().as_millis();
        // Writing to a String does not fail.
        let _ = writeln!(self.record.lock().text, "{at:>8} {who:<6} {what}");
    }

    /// Notes that an invariant is broken.
    pub(crate) fn violated(&self, invariant: &str, what: &str) {
        self.note("BROKEN", &format!("{invariant}: {what}"));
        let violation = format!("{invariant}: {what}");
        self.record.lock().violations.push(violation);
    }

    pub(crate) fn violations(&self) -> Vec<String> {
        self.record.lock().violations.clone()
    }

    pub(crate) fn text(&self) -> String {
        self.record.lock().text.clone()
    }
}
