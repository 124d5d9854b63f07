//! The backoff of failed watches.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use targetgate_core::backoff::Backoff;

/// Chosen: an API server that restarts is back within seconds.
const BACKOFF: Backoff = Backoff::new(Duration::from_millis(500), Duration::from_secs(10));

/// Doubles from half a second to ten, with a jitter that takes off up to half.
#[derive(Debug)]
pub(crate) struct JitteredBackoff {
    seed: u64,
    drawn: u64,
    failures: u32,
}

impl JitteredBackoff {
    pub(crate) fn new(seed: impl Hash) -> Self {
        Self {
            seed: hashed(seed),
            drawn: 0,
            failures: 0,
        }
    }

    /// Resets the backoff after a success.
    pub(crate) fn reset(&mut self) {
        self.failures = 0;
    }

    /// The pause after one more failure.
    pub(crate) fn next(&mut self) -> Duration {
        self.failures = self.failures.saturating_add(1);
        self.jittered(BACKOFF.after(self.failures))
    }

    /// A random pause between half of `longest` and `longest`.
    pub(super) fn jittered(&mut self, longest: Duration) -> Duration {
        self.drawn = self.drawn.wrapping_add(1);
        let share = (hashed((self.seed, self.drawn)) % 1000) as u32;
        longest / 2 + longest / 2 * share / 1000
    }
}

fn hashed(value: impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_and_stay_within_ten_seconds() {
        let mut backoff = JitteredBackoff::new(7);
        let waits: Vec<Duration> = (0..20).map(|_| backoff.next()).collect();
        assert!(
            waits[0] <= BACKOFF.after(1) && waits[0] >= BACKOFF.after(1) / 2,
            "{waits:?}"
        );
        assert!(
            waits.iter().all(|wait| *wait <= BACKOFF.after(u32::MAX)),
            "{waits:?}"
        );
        assert!(waits[19] >= BACKOFF.after(u32::MAX) / 2, "{waits:?}");
        assert_ne!(waits[18], waits[19]);
        backoff.reset();
        assert!(backoff.next() <= BACKOFF.after(1));
    }

    #[test]
    fn seeds_differ_in_their_waits() {
        let wait = |seed| JitteredBackoff::new(seed).jittered(BACKOFF.after(u32::MAX));
        assert_eq!(wait(1), wait(1));
        assert_ne!(wait(1), wait(2));
    }
}
