//! How often this process may call the ELBv2 API.
//!
//! AWS throttles by a token bucket per account and Region that all callers share, so the process
//! keeps one of its own and spends one token for each attempt on the wire. Admissions have someone
//! waiting with a timeout, so they go before the health loop.
//! Source: <https://docs.aws.amazon.com/elasticloadbalancing/latest/APIReference/throttling.html>

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::{Instant, sleep};

use crate::metrics::Metrics;

/// The rate that throttling never pushes below, in calls per second.
const FLOOR: f64 = 2.0;
/// A throttled bucket is back at its configured rate after this many seconds without a throttle, at
/// the latest.
const RECOVERY_SECONDS: f64 = 30.0;
/// Throttles closer together than this count as one: calls in flight together are told together.
const ONE_EVENT: Duration = Duration::from_secs(1);

/// A token bucket that slows down when it is told of a throttle.
///
/// A throttle empties it and halves its rate, to no less than 2/s; from then on the rate grows
/// evenly back to the configured one.
#[derive(Debug, Clone)]
pub struct Bucket {
    configured: f64,
    burst: f64,
    rate: f64,
    tokens: f64,
    counted: Instant,
    throttled: Option<Instant>,
}

impl Bucket {
    /// A full bucket of `burst` tokens that gains `rate` tokens a second.
    ///
    /// Nothing could ever be taken from a bucket of less than one token or without a rate, so the
    /// burst is at least 1 and the rate at least 0.1.
    pub fn new(rate: f64, burst: u32, now: Instant) -> Self {
        let rate = rate.max(0.1);
        let burst = f64::from(burst.max(1));
        Self {
            configured: rate,
            burst,
            rate,
            tokens: burst,
            counted: now,
            throttled: None,
        }
    }

    /// Takes one token.
    ///
    /// # Errors
    /// How long until there is one.
    pub fn try_take(&mut self, now: Instant) -> Result<(), Duration> {
        self.try_take_leaving(0, now)
    }

    /// Takes one token if `left` others remain.
    ///
    /// # Errors
    /// How long until that is so, if nobody takes any. A bucket that is too small to hold that many
    /// gives none until `left` is less.
    pub fn try_take_leaving(&mut self, left: usize, now: Instant) -> Result<(), Duration> {
        self.refill(now);
        let left = u32::try_from(left).unwrap_or(u32::MAX);
        let needed = f64::from(left) + 1.0;
        if self.tokens >= needed {
            self.tokens -= 1.0;
            return Ok(());
        }
        // Rounded up, so that who waits exactly so long finds the token there.
        let seconds = (needed - self.tokens) / self.rate;
        Err(Duration::from_secs_f64(seconds) + Duration::from_millis(1))
    }

    /// Notes that AWS throttled a call.
    pub fn throttled(&mut self, now: Instant) {
        self.refill(now);
        self.tokens = 0.0;
        let known = self
            .throttled
            .is_some_and(|last| now.saturating_duration_since(last) < ONE_EVENT);
        if !known {
            self.rate = (self.rate / 2.0).max(FLOOR.min(self.configured));
            self.throttled = Some(now);
        }
    }

    fn refill(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.counted).as_secs_f64();
        self.counted = now;
        self.tokens = (self.tokens + passed * self.rate).min(self.burst);
        let growth = passed * self.configured / RECOVERY_SECONDS;
        self.rate = (self.rate + growth).min(self.configured);
    }
}

/// The one budget of the process; cheap to clone.
#[derive(Clone)]
pub struct Budget {
    inner: Arc<Inner>,
}

struct Inner {
    state: Mutex<State>,
    /// Held by the first in the line: a fair lock serves the others in the order they came.
    line: tokio::sync::Mutex<()>,
    metrics: Arc<Metrics>,
}

struct State {
    bucket: Bucket,
    waiting: usize,
}

impl Budget {
    /// A budget of `rate` calls a second with bursts of `burst`.
    pub fn new(rate: f64, burst: u32, metrics: Arc<Metrics>) -> Self {
        Self {
            inner: Arc::new(Inner {
                state: Mutex::new(State {
                    bucket: Bucket::new(rate, burst, Instant::now()),
                    waiting: 0,
                }),
                line: tokio::sync::Mutex::default(),
                metrics,
            }),
        }
    }

    /// Waits for a call to be allowed and counts it. First come, first served, and before the loop.
    ///
    /// `asker` labels the metric of the wait. Dropping the future leaves the line.
    pub async fn take(&self, asker: &'static str) {
        let started = Instant::now();
        let _waiting = Waiting::enter(&self.inner.state);
        let _turn = self.inner.line.lock().await;
        loop {
            let taken = self.inner.state.lock().bucket.try_take(Instant::now());
            let Err(wait) = taken else { break };
            sleep(wait).await;
        }
        self.inner.metrics.budget_wait(asker, started.elapsed());
    }

    /// Counts a call of the health loop, if one is allowed beyond what waiting admissions need.
    ///
    /// # Errors
    /// When to ask again.
    pub fn try_take_for_loop(&self) -> Result<(), Instant> {
        let now = Instant::now();
        let mut state = self.inner.state.lock();
        let waiting = state.waiting;
        state
            .bucket
            .try_take_leaving(waiting, now)
            .map_err(|wait| now + wait)
    }

    /// Notes that AWS throttled a call; [`super::client::ElbClient`] does so itself.
    pub fn throttled(&self) {
        self.inner.state.lock().bucket.throttled(Instant::now());
    }
}

/// One admission in the line, until dropped.
struct Waiting<'a>(&'a Mutex<State>);

impl<'a> Waiting<'a> {
    fn enter(state: &'a Mutex<State>) -> Self {
        state.lock().waiting += 1;
        Self(state)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.lock().waiting -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many tokens can be had at once, counted up to 1,000.
    fn drain(bucket: &mut Bucket, now: Instant) -> usize {
        std::iter::repeat_with(|| bucket.try_take(now))
            .take(1_000)
            .take_while(Result::is_ok)
            .count()
    }

    fn budget(rate: f64, burst: u32) -> Budget {
        Budget::new(rate, burst, Arc::new(Metrics::default()))
    }

    #[tokio::test]
    async fn a_burst_then_the_rate() {
        let start = Instant::now();
        let mut bucket = Bucket::new(10.0, 40, start);
        assert_eq!(drain(&mut bucket, start), 40);
        assert_eq!(drain(&mut bucket, start + Duration::from_secs(2)), 20);
        assert_eq!(drain(&mut bucket, start + Duration::from_secs(60)), 40);
    }

    #[tokio::test]
    async fn who_waits_as_told_finds_a_token() {
        let mut now = Instant::now();
        let mut bucket = Bucket::new(3.0, 1, now);
        for _ in 0..1_000 {
            if let Err(wait) = bucket.try_take(now) {
                assert!(wait < Duration::from_millis(336), "{wait:?}");
                now += wait;
                assert_eq!(bucket.try_take(now), Ok(()));
            }
        }
    }

    #[tokio::test]
    async fn a_throttle_empties_and_halves_and_the_rate_recovers() {
        let start = Instant::now();
        let mut bucket = Bucket::new(10.0, 40, start);
        bucket.throttled(start);
        assert_eq!(drain(&mut bucket, start), 0);
        assert_eq!(drain(&mut bucket, start + Duration::from_secs(1)), 5);
        let recovered = start + Duration::from_secs(31);
        drain(&mut bucket, recovered);
        assert_eq!(drain(&mut bucket, recovered + Duration::from_secs(1)), 10);
    }

    #[tokio::test]
    async fn throttles_of_one_moment_count_once_and_many_stop_at_two_a_second() {
        let start = Instant::now();
        let mut bucket = Bucket::new(10.0, 40, start);
        for _ in 0..10 {
            bucket.throttled(start);
        }
        assert_eq!(drain(&mut bucket, start + Duration::from_secs(1)), 5);
        let mut now = start;
        for _ in 0..10 {
            now += ONE_EVENT;
            bucket.throttled(now);
        }
        assert_eq!(drain(&mut bucket, now + Duration::from_secs(1)), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn the_loop_leaves_what_waiting_admissions_need() {
        let budget = budget(10.0, 1);
        budget.take("admission").await;
        let admission = tokio::spawn({
            let budget = budget.clone();
            async move { budget.take("admission").await }
        });
        tokio::task::yield_now().await;
        while !admission.is_finished() {
            assert!(budget.try_take_for_loop().is_err());
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        tokio::time::sleep(Duration::from_millis(101)).await;
        assert!(budget.try_take_for_loop().is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn an_admission_that_leaves_the_line_frees_its_place() {
        let budget = budget(1.0, 1);
        budget.take("admission").await;
        let left = tokio::time::timeout(Duration::from_millis(10), budget.take("admission"));
        assert!(left.await.is_err());
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(budget.try_take_for_loop().is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn calls_are_spread_over_time_by_the_rate() {
        let budget = budget(10.0, 40);
        let started = Instant::now();
        for _ in 0..60 {
            budget.take("admission").await;
        }
        let took = started.elapsed();
        assert!(took >= Duration::from_secs(2), "{took:?}");
        assert!(took < Duration::from_millis(2_100), "{took:?}");
    }
}
