//! How often this process may call the ELBv2 API.
//!
//! AWS throttles by a token bucket per account and Region that all callers share, so the process
//! keeps one of its own, a [`Bucket`], and spends one token for each attempt on the wire. Admissions
//! have someone waiting with a timeout, so they go before the health loop and have a share of the
//! bucket that the loop does not touch.
//! Source: <https://docs.aws.amazon.com/elasticloadbalancing/latest/APIReference/throttling.html>

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::time::{Instant, sleep};

use super::bucket::Bucket;
use crate::metrics::Metrics;

/// The share of the burst that is there for admissions only: one in so many tokens.
const FOR_ADMISSIONS: u32 = 10;
/// Of four tokens of the burst, so many are saved for looks that pay, where not all who wait can be served.
const SAVED_OF_FOUR: u32 = 3;

/// A call that the health loop would like to make.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wish {
    /// How many groups wait for a call, this one included.
    pub groups: usize,
    /// Whether it is likely to find what is waited for. One that is not leaves the saved share of the
    /// burst to those that will be, unless there is enough for all.
    pub promising: bool,
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
    burst: u32,
    /// Admissions in the line.
    waiting: u32,
}

impl State {
    /// The tokens that a call of the loop has to leave.
    fn left_for_others(&mut self, wish: Wish, now: Instant) -> f64 {
        let reserved = (self.burst / FOR_ADMISSIONS).max(self.waiting);
        let reserved = f64::from(reserved);
        let enough = self.bucket.tokens(now) >= reserved + wish.groups as f64;
        if wish.promising || enough {
            reserved
        } else {
            reserved.max(f64::from(self.burst / 4 * SAVED_OF_FOUR))
        }
    }
}

impl Budget {
    /// A budget that starts at `rate` calls a second and finds its place between 2 and `highest`, with
    /// bursts of `burst`.
    pub fn new(rate: f64, highest: f64, burst: u32, metrics: Arc<Metrics>) -> Self {
        let bucket = Bucket::new(rate, highest, burst, Instant::now());
        metrics.elb_rate(bucket.rate());
        Self {
            inner: Arc::new(Inner {
                state: Mutex::new(State {
                    bucket,
                    burst,
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
            let now = Instant::now();
            let taken = self.with(|state| state.bucket.try_take(0.0, now));
            let Err(wait) = taken else { break };
            sleep(wait).await;
        }
        self.inner.metrics.budget_wait(asker, started.elapsed());
    }

    /// Counts a call of the health loop, if one is allowed beyond what admissions need.
    ///
    /// # Errors
    /// When to ask again.
    pub fn try_take_for_loop(&self, wish: Wish) -> Result<(), Instant> {
        let now = Instant::now();
        let taken = self.with(|state| {
            let left = state.left_for_others(wish, now);
            state.bucket.try_take(left, now)
        });
        taken.map_err(|wait| now + wait)
    }

    /// Notes that AWS throttled a call that was `sent` then; [`super::client::ElbClient`] does so
    /// itself.
    pub fn throttled(&self, sent: Instant) {
        self.with(|state| state.bucket.throttled(sent, Instant::now()));
    }

    /// Changes the state, and shows the rate that is in force then.
    fn with<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.inner.state.lock();
        let changed = change(&mut state);
        self.inner.metrics.elb_rate(state.bucket.rate());
        changed
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
    use std::time::Duration;

    use super::*;

    const ANY: Wish = Wish {
        groups: 1,
        promising: true,
    };

    fn budget(rate: f64, burst: u32) -> Budget {
        Budget::new(rate, rate, burst, Arc::new(Metrics::default()))
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
            assert!(budget.try_take_for_loop(ANY).is_err());
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        tokio::time::sleep(Duration::from_millis(101)).await;
        assert!(budget.try_take_for_loop(ANY).is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn an_admission_that_leaves_the_line_frees_its_place() {
        let budget = budget(1.0, 1);
        budget.take("admission").await;
        let left = tokio::time::timeout(Duration::from_millis(10), budget.take("admission"));
        assert!(left.await.is_err());
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(budget.try_take_for_loop(ANY).is_ok());
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
    #[tokio::test(start_paused = true)]
    async fn a_tenth_of_the_burst_is_there_for_admissions_only() {
        let budget = budget(10.0, 40);
        let taken = (0..100).filter(|_| budget.try_take_for_loop(ANY).is_ok());
        assert_eq!(taken.count(), 36);
        let started = Instant::now();
        for _ in 0..4 {
            budget.take("admission").await;
        }
        assert_eq!(started.elapsed(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn looks_that_promise_little_leave_the_burst_to_those_that_promise_more() {
        let budget = budget(10.0, 40);
        let early = Wish {
            groups: 200,
            promising: false,
        };
        let takes = |wish| {
            let taken = (0..100).take_while(|_| budget.try_take_for_loop(wish).is_ok());
            taken.count()
        };
        assert_eq!(takes(early), 10);
        assert_eq!(
            takes(Wish {
                groups: 27,
                ..early
            }),
            0
        );
        assert_eq!(
            takes(Wish {
                groups: 26,
                ..early
            }),
            1
        );
        assert_eq!(takes(ANY), 25);
    }

    #[tokio::test(start_paused = true)]
    async fn no_burst_is_too_small_for_the_loop() {
        for burst in 1..20 {
            let budget = budget(10.0, burst);
            let early = Wish {
                groups: 200,
                promising: false,
            };
            while budget.try_take_for_loop(early).is_ok() {}
            tokio::time::sleep(Duration::from_secs(60)).await;
            assert!(budget.try_take_for_loop(early).is_ok(), "{burst}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_rate_in_force_is_shown() {
        let metrics = Arc::new(Metrics::default());
        let budget = Budget::new(10.0, 40.0, 40, Arc::clone(&metrics));
        assert!(metrics.encode().contains("targetgate_elb_rate 10.0"));
        for _ in 0..1_000 {
            budget.take("admission").await;
        }
        assert!(metrics.encode().contains("targetgate_elb_rate 40.0"));
    }
}
