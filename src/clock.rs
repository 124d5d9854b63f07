//! The wall clock, passed in, so that a test controls the times that are written into objects and compared with
//! certificates. Monotonic time is tokio's, which a test can pause.

use std::sync::Arc;
use std::time::Instant;

use jiff::Timestamp;

/// Returns the current time.
pub type Now = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// The machine's own clock.
pub fn system() -> Now {
    Arc::new(Timestamp::now)
}

/// The monotonic time of tokio's clock, in the type of the core.
pub fn monotonic() -> Instant {
    tokio::time::Instant::now().into_std()
}
