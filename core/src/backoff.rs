//! Backoff between attempts that fail.

use std::time::Duration;

/// Exponential backoff: a pause that doubles with each failure in a row, from the first up to the longest.
#[derive(Debug, Clone, Copy)]
pub struct Backoff {
    first: Duration,
    longest: Duration,
}

impl Backoff {
    /// A backoff from `first` up to `longest`.
    pub const fn new(first: Duration, longest: Duration) -> Self {
        Self { first, longest }
    }

    /// The pause after so many failures in a row; the first for zero failures.
    ///
    /// ```
    /// use std::time::Duration;
    /// use targetgate_core::backoff::Backoff;
    ///
    /// let backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(30));
    /// let pauses = [1, 2, 3, 6, 100].map(|failures| backoff.after(failures).as_secs());
    /// assert_eq!(pauses, [1, 2, 4, 30, 30]);
    /// ```
    pub fn after(self, failures: u32) -> Duration {
        // The exponent is bounded against overflow; at 2^16 times the first pause, each longest pause in use
        // is reached.
        let doubled = self
            .first
            .saturating_mul(1 << failures.saturating_sub(1).min(16));
        doubled.min(self.longest)
    }
}
