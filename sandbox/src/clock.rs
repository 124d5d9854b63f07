//! The wall clock is passed in, because tokio's paused time does not pause it: a simulation has a
//! clock of its own.

use std::sync::Arc;

use jiff::Timestamp;

/// Returns the current time.
pub type Now = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// The machine's clock.
pub fn system() -> Now {
    Arc::new(Timestamp::now)
}

/// A clock that starts at `start` and advances with tokio's time, paused or not.
pub fn simulated(start: Timestamp) -> Now {
    let origin = tokio::time::Instant::now();
    Arc::new(move || start + origin.elapsed())
}
