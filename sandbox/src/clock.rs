//! The wall clock, passed in: tokio's paused time pauses no wall clock, so a simulation brings its
//! own.

use std::sync::Arc;

use jiff::Timestamp;

/// Answers what time it is.
pub type Now = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// The machine's own clock.
pub fn system() -> Now {
    Arc::new(Timestamp::now)
}

/// A clock that starts at `start` and goes on with tokio's time, paused or not.
pub fn simulated(start: Timestamp) -> Now {
    let origin = tokio::time::Instant::now();
    Arc::new(move || start + origin.elapsed())
}
