//! The wall clock, passed in: what is written into objects and read from certificates must be the
//! same in a test as in a cluster. Monotonic time is tokio's, which a test may pause.

use std::sync::Arc;
use std::time::Instant;

use jiff::Timestamp;

/// Answers what time it is.
pub type Now = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// The machine's own clock.
pub fn system() -> Now {
    Arc::new(Timestamp::now)
}

/// Monotonic time by tokio's clock, as the core takes it.
pub fn monotonic() -> Instant {
    tokio::time::Instant::now().into_std()
}
