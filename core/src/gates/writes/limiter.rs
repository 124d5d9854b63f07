//! Write limiter: how many writes are in flight at once, and when writes pause.
//!
//! The API server answers 429 when it is overloaded. Then all writes pause for its `Retry-After`, and half
//! as many are in flight at once afterwards; each full round of writes that work allows one more. This is
//! the congestion control of TCP (AIMD: additive increase, multiplicative decrease).

use std::time::{Duration, Instant};

use crate::gates::BACKOFF;
use crate::gates::machine::action::WriteOutcome;

/// At most this many writes are in flight at once. Measured: more do not make a kube-apiserver on two busy
/// cores faster. At 32 and 64 each patch waited three and six times as long, and cost it some 8 % and 15 %
/// more CPU.
const MOST: usize = 16;
/// The longest pause, before jitter, whatever the API server asks for. Chosen, as the bound of the backoff
/// (contract 5.7).
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// Limits the writes of the whole process.
#[derive(Debug)]
pub(crate) struct WriteLimiter {
    /// How many writes may be in flight at once, between 1 and [`MOST`].
    limit: usize,
    under_way: usize,
    /// Writes that worked since the limit last changed.
    worked: usize,
    /// When the limit was last lowered.
    lowered: Option<Instant>,
    /// Refusals since a write last worked; those of writes that were in flight together count once.
    refusals: u32,
    paused_until: Option<Instant>,
    random: fastrand::Rng,
}

impl WriteLimiter {
    /// A limiter at its highest limit; `seed` seeds the jitter of the pauses.
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            limit: MOST,
            under_way: 0,
            worked: 0,
            lowered: None,
            refusals: 0,
            paused_until: None,
            random: fastrand::Rng::with_seed(seed),
        }
    }

    /// Whether one more write may begin now.
    pub(crate) fn allows(&self, now: Instant) -> bool {
        self.under_way < self.limit && self.pause(now).is_none()
    }

    /// When the current pause ends; `None` while writes do not pause.
    pub(crate) fn pause(&self, now: Instant) -> Option<Instant> {
        self.paused_until.filter(|until| now < *until)
    }

    /// Counts a write that begins.
    pub(crate) fn begin(&mut self) {
        self.under_way += 1;
    }

    /// Counts a write that began at `begun` and has ended.
    pub(crate) fn end(&mut self, begun: Instant, outcome: &WriteOutcome, now: Instant) {
        self.under_way = self.under_way.saturating_sub(1);
        match outcome {
            WriteOutcome::PutOff { retry_after } => self.slow_down(begun, *retry_after, now),
            WriteOutcome::Written(_) | WriteOutcome::Gone | WriteOutcome::Conflict => {
                self.speed_up();
            }
            // Neither outcome says anything about the load of the API server.
            WriteOutcome::Unsent | WriteOutcome::Failed => {}
        }
    }

    fn speed_up(&mut self) {
        self.refusals = 0;
        self.worked += 1;
        if self.worked >= self.limit {
            self.worked = 0;
            self.limit = MOST.min(self.limit + 1);
        }
    }

    fn slow_down(&mut self, begun: Instant, retry_after: Option<Duration>, now: Instant) {
        // Writes that were in flight when the limit was lowered are refused for the same overload, so they
        // do not lower it again.
        let is_news = self.lowered.is_none_or(|lowered| lowered < begun);
        if is_news {
            self.lowered = Some(now);
            self.limit = (self.limit / 2).max(1);
            self.worked = 0;
            self.refusals = self.refusals.saturating_add(1);
        }
        let asked = retry_after.unwrap_or_else(|| BACKOFF.after(self.refusals));
        let mut pause = asked.min(LONGEST_PAUSE);
        if is_news {
            // The API server gives all its clients the same pause; jitter keeps them from returning at once.
            pause += pause.mul_f64(self.random.f64() / 4.0);
        }
        self.paused_until = self.paused_until.max(Some(now + pause));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::epoch;

    const S: Duration = Duration::from_secs(1);

    /// Begins as many writes as are allowed.
    fn fill(pace: &mut WriteLimiter, now: Instant) -> usize {
        let mut begun = 0;
        while pace.allows(now) {
            pace.begin();
            begun += 1;
        }
        begun
    }

    fn written() -> WriteOutcome {
        WriteOutcome::Written("1".into())
    }

    fn put_off(seconds: Option<u32>) -> WriteOutcome {
        let retry_after = seconds.map(|seconds| seconds * S);
        WriteOutcome::PutOff { retry_after }
    }

    /// Begins all that are allowed, and ends them so. Returns how many those were.
    fn round(pace: &mut WriteLimiter, now: Instant, outcome: &WriteOutcome) -> usize {
        let begun = fill(pace, now);
        (0..begun).for_each(|_| pace.end(now, outcome, now));
        begun
    }

    #[test]
    fn no_more_writes_than_allowed_are_under_way() {
        let (mut pace, now) = (WriteLimiter::new(1), epoch());
        assert_eq!(fill(&mut pace, now), MOST);
        pace.end(now, &WriteOutcome::Failed, now);
        assert_eq!(fill(&mut pace, now), 1);
    }

    #[test]
    fn writes_that_are_refused_together_slow_it_down_once() {
        let (mut pace, now) = (WriteLimiter::new(1), epoch());
        assert_eq!(round(&mut pace, now, &put_off(Some(1))), MOST);
        assert_eq!(round(&mut pace, now + 2 * S, &written()), MOST / 2);
        assert_eq!(round(&mut pace, now + 2 * S, &written()), MOST / 2 + 1);
    }

    #[test]
    fn it_slows_down_to_one_at_a_time_and_comes_back_to_the_most() {
        let (mut pace, mut now) = (WriteLimiter::new(1), epoch());
        for _ in 0..10 {
            round(&mut pace, now, &put_off(Some(1)));
            now += 2 * S;
        }
        for expected in (1..=MOST).chain([MOST]) {
            assert_eq!(round(&mut pace, now, &written()), expected);
        }
    }

    #[test]
    fn the_pause_that_is_asked_for_is_kept_and_at_most_a_quarter_more() {
        for seed in 0..100 {
            let (mut pace, now) = (WriteLimiter::new(seed), epoch());
            pace.begin();
            pace.end(now, &put_off(Some(8)), now);
            let until = pace.pause(now).unwrap();
            assert!((8 * S..10 * S).contains(&(until - now)));
            assert!(!pace.allows(until - Duration::from_millis(1)) && pace.allows(until));
        }
    }

    #[test]
    fn pauses_differ_by_seed() {
        let pause = |seed| {
            let (mut pace, now) = (WriteLimiter::new(seed), epoch());
            pace.begin();
            pace.end(now, &put_off(Some(8)), now);
            pace.pause(now).map(|until| until - now)
        };
        assert_eq!(pause(1), pause(1));
        assert_ne!(pause(1), pause(2));
    }

    #[test]
    fn an_hour_is_not_waited_for() {
        let (mut pace, now) = (WriteLimiter::new(1), epoch());
        pace.begin();
        pace.end(now, &put_off(Some(3600)), now);
        assert!(pace.allows(now + LONGEST_PAUSE * 5 / 4));
    }

    #[test]
    fn a_server_that_does_not_say_how_long_is_left_alone_for_longer_each_time() {
        let (mut pace, mut now) = (WriteLimiter::new(1), epoch());
        for seconds in [1, 2, 4, 8, 16, 30, 30] {
            pace.begin();
            pace.end(now, &put_off(None), now);
            let until = pace.pause(now).unwrap();
            let longest = seconds * S * 5 / 4;
            assert!((seconds * S..longest).contains(&(until - now)), "{seconds}");
            now = until;
        }
        pace.begin();
        pace.end(now, &written(), now);
        pace.begin();
        pace.end(now, &put_off(None), now);
        assert!(pace.allows(now + 5 * S / 4));
    }

    #[test]
    fn a_later_refusal_never_shortens_a_pause() {
        let (mut pace, now) = (WriteLimiter::new(1), epoch());
        fill(&mut pace, now);
        pace.end(now, &put_off(Some(20)), now);
        pace.end(now, &put_off(Some(1)), now + S);
        assert!(!pace.allows(now + 19 * S));
    }
}
