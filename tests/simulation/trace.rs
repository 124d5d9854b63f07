//! What happened, line by line, and what should not have.

use std::fmt::Write as _;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::time::Instant;

/// The one record of a run. Clones write into the same.
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

    /// Notes what `who` did or met. Nothing that differs between two runs of a seed may stand here.
    pub(crate) fn note(&self, who: &str, what: &str) {
        let at = self.origin.elapsed().as_millis();
        // A String takes everything.
        let _ = writeln!(self.record.lock().text, "{at:>8} {who:<6} {what}");
    }

    /// An invariant does not hold.
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
