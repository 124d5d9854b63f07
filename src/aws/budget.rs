//! The budget of ELBv2 API calls of this process.
//!
//! AWS throttles by a token bucket per account and Region that all callers share, so the process
//! keeps one of its own for each, and one for all of its calls: [`Buckets`]. It spends one token of both
//! for each attempt on the wire. The API server waits for an admission with a timeout, so admissions have priority
//! over the health loop, and a share of each bucket that the loop does not touch.
//! Source: <https://docs.aws.amazon.com/elasticloadbalancing/latest/APIReference/throttling.html>

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use targetgate_core::elb::buckets::{Admissions, Buckets, Limits, PollRequest};
use targetgate_core::names::Quota;
use tokio::time::sleep;

use crate::aws::metrics::BudgetMetrics;
use crate::clock;
use crate::metrics::Metrics;

/// The budget of the process; cheap to clone.
#[derive(Clone)]
pub struct Budget {
    inner: Arc<Inner>,
}

struct Inner {
    state: Mutex<State>,
    metrics: BudgetMetrics,
}

struct State {
    buckets: Buckets,
    /// The queues in which an admission waits.
    lines: BTreeMap<Quota, Line>,
}

/// The queue of admissions that wait for a call in one account and Region.
#[derive(Default)]
struct Line {
    waiting: u32,
    /// Held by the first in the queue: a fair lock serves the others in the order of their arrival.
    first: Arc<tokio::sync::Mutex<()>>,
}

impl State {
    fn admissions(&mut self, quota: &Quota, now: Instant) -> Admissions {
        let buckets = &mut self.buckets;
        let lines = self.lines.iter();
        let held_up = lines.map(|(quota, line)| buckets.ready(quota, line.waiting, now));
        Admissions {
            here: self.lines.get(quota).map_or(0, |line| line.waiting),
            held_up: held_up.sum(),
        }
    }
}

impl Budget {
    /// A budget in which each account and Region starts at `rate` calls per second and adapts between
    /// 2 and `highest`, with bursts of `burst`. `highest` caps all of them together, too.
    pub fn new(rate: f64, highest: f64, burst: u32, metrics: &Metrics) -> Self {
        let limits = Limits {
            rate,
            highest,
            burst,
        };
        Self {
            inner: Arc::new(Inner {
                state: Mutex::new(State {
                    buckets: Buckets::new(limits, clock::monotonic()),
                    lines: BTreeMap::new(),
                }),
                metrics: metrics.of(),
            }),
        }
    }

    /// Waits until a call is allowed, and spends a token for it. Callers are served in the order of their arrival in
    /// each account and Region, and before the loop.
    ///
    /// `asker` labels the metric of the wait. Dropping the future leaves the queue.
    pub async fn take(&self, quota: &Quota, asker: &'static str) {
        let started = clock::monotonic();
        let (_waiting, first) = Waiting::enter(&self.inner.state, quota);
        let _turn = first.lock().await;
        loop {
            let now = clock::monotonic();
            let taken = self.with(quota, |state| state.buckets.try_take(quota, now));
            let Err(wait) = taken else { break };
            sleep(wait).await;
        }
        self.waited(asker, clock::monotonic() - started);
    }

    /// Counts a call that waited for the budget; `asker` labels the metric.
    pub fn waited(&self, asker: &'static str, waited: Duration) {
        self.inner.metrics.waited(asker, waited);
    }

    /// Spends a token for a call of the health loop, if the bucket holds more than the share of admissions.
    ///
    /// # Errors
    /// A call is not allowed yet; the error is the time at which to ask again.
    pub fn try_take_for_loop(&self, quota: &Quota, wish: PollRequest) -> Result<(), Instant> {
        let now = clock::monotonic();
        let taken = self.with(quota, |state| {
            let admissions = state.admissions(quota, now);
            let buckets = &mut state.buckets;
            buckets.try_take_for_loop(quota, wish, admissions, now)
        });
        taken.map_err(|wait| now + wait)
    }

    /// The same for a recheck, which may only spend a share of the rate, and none of what is saved.
    ///
    /// # Errors
    /// A call is not allowed yet; the error is the time at which to ask again.
    pub fn try_take_for_recheck(&self, quota: &Quota) -> Result<(), Instant> {
        let now = clock::monotonic();
        let taken = self.with(quota, |state| {
            let admissions = state.admissions(quota, now);
            state.buckets.try_take_for_recheck(quota, admissions, now)
        });
        taken.map_err(|wait| now + wait)
    }

    /// Notes that AWS throttled a call that was `sent` then; [`crate::aws::client::ElbClient`] reports its own
    /// throttles.
    pub fn throttled(&self, quota: &Quota, sent: Instant) {
        let now = clock::monotonic();
        self.with(quota, |state| state.buckets.throttled(quota, sent, now));
    }

    /// The accounts and Regions whose rate is held after a throttle.
    pub fn all_throttled(&self) -> BTreeSet<Quota> {
        self.inner
            .state
            .lock()
            .buckets
            .all_throttled(clock::monotonic())
    }

    /// The calls per second that are allowed now in an account and Region.
    pub fn rate(&self, quota: &Quota) -> f64 {
        self.inner.state.lock().buckets.rate(quota)
    }

    /// Changes the state, and exports the resulting rate as a metric.
    fn with<T>(&self, quota: &Quota, change: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.inner.state.lock();
        let changed = change(&mut state);
        let metrics = &self.inner.metrics;
        if let Some(evicted) = state.buckets.take_evicted() {
            metrics.remove_rate(&evicted);
        }
        metrics.set_rate(quota, state.buckets.rate(quota));
        changed
    }
}

/// One admission in a queue, until dropped.
struct Waiting<'a> {
    state: &'a Mutex<State>,
    quota: &'a Quota,
}

impl<'a> Waiting<'a> {
    fn enter(state: &'a Mutex<State>, quota: &'a Quota) -> (Self, Arc<tokio::sync::Mutex<()>>) {
        let mut locked = state.lock();
        let line = locked.lines.entry(quota.clone()).or_default();
        line.waiting += 1;
        (Self { state, quota }, line.first.clone())
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let mut state = self.state.lock();
        if let Some(line) = state.lines.get_mut(self.quota) {
            line.waiting -= 1;
            if line.waiting == 0 {
                state.lines.remove(self.quota);
            }
        }
    }
}

#[cfg(test)]
mod tests {

    use tokio::time::Instant;

    use super::*;

    const ANY: PollRequest = PollRequest {
        groups: 1,
        likely_healthy: true,
    };

    fn budget(rate: f64, burst: u32) -> Budget {
        Budget::new(rate, rate, burst, &Metrics::default())
    }

    fn here() -> Quota {
        Quota::of_role(None, "eu-west-1")
    }

    fn there() -> Quota {
        Quota::of_role(None, "us-east-1")
    }

    #[tokio::test(start_paused = true)]
    async fn the_loop_leaves_what_waiting_admissions_need() {
        let budget = budget(10.0, 1);
        budget.take(&here(), "admission").await;
        let admission = tokio::spawn({
            let budget = budget.clone();
            async move { budget.take(&here(), "admission").await }
        });
        tokio::task::yield_now().await;
        while !admission.is_finished() {
            assert!(budget.try_take_for_loop(&here(), ANY).is_err());
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        tokio::time::sleep(Duration::from_millis(101)).await;
        assert!(budget.try_take_for_loop(&here(), ANY).is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn an_admission_that_leaves_the_line_frees_its_place() {
        let budget = budget(1.0, 1);
        budget.take(&here(), "admission").await;
        let here = here();
        let left = tokio::time::timeout(Duration::from_millis(10), budget.take(&here, "admission"));
        assert!(left.await.is_err());
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(budget.try_take_for_loop(&here, ANY).is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn calls_are_spread_over_time_by_the_rate() {
        let budget = budget(10.0, 40);
        let started = Instant::now();
        for _ in 0..60 {
            budget.take(&here(), "admission").await;
        }
        let took = started.elapsed();
        assert!(took >= Duration::from_secs(2), "{took:?}");
        assert!(took < Duration::from_millis(2_100), "{took:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn admissions_that_asked_lately_find_what_comes_in_less_than_half_a_second() {
        let budget = budget(10.0, 40);
        budget.take(&here(), "admission").await;
        let taken = (0..100).filter(|_| budget.try_take_for_loop(&here(), ANY).is_ok());
        assert_eq!(taken.count(), 40 - 1 - 4);
        let started = Instant::now();
        for _ in 0..4 {
            budget.take(&here(), "admission").await;
        }
        assert_eq!(started.elapsed(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn looks_that_promise_little_leave_the_burst_to_those_that_promise_more() {
        let budget = budget(10.0, 40);
        let early = PollRequest {
            groups: 200,
            likely_healthy: false,
        };
        let takes = |wish| {
            let taken = (0..100).take_while(|_| budget.try_take_for_loop(&here(), wish).is_ok());
            taken.count()
        };
        assert_eq!(takes(early), 10);
        assert_eq!(
            takes(PollRequest {
                groups: 31,
                ..early
            }),
            0
        );
        assert_eq!(
            takes(PollRequest {
                groups: 30,
                ..early
            }),
            1
        );
        assert_eq!(takes(ANY), 29);
    }

    #[tokio::test(start_paused = true)]
    async fn no_burst_is_too_small_for_the_loop() {
        for burst in 1..20 {
            let budget = budget(10.0, burst);
            let early = PollRequest {
                groups: 200,
                likely_healthy: false,
            };
            while budget.try_take_for_loop(&here(), early).is_ok() {}
            tokio::time::sleep(Duration::from_secs(60)).await;
            assert!(budget.try_take_for_loop(&here(), early).is_ok(), "{burst}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_rate_in_force_is_shown() {
        let metrics = Metrics::default();
        let budget = Budget::new(10.0, 40.0, 40, &metrics);
        let shows = |rate: &str| {
            let line = r#"targetgate_elb_rate{account="own",region="eu-west-1"}"#;
            metrics.encode().contains(&format!("{line} {rate}\n"))
        };
        budget.take(&here(), "admission").await;
        assert!(shows("10.0"));
        for _ in 0..1_000 {
            budget.take(&here(), "admission").await;
        }
        assert!(shows("40.0"));
    }

    #[tokio::test(start_paused = true)]
    async fn an_admission_that_waits_for_one_account_holds_up_no_other() {
        let budget = budget(10.0, 10);
        for _ in 0..100 {
            budget.throttled(&there(), clock::monotonic());
        }
        let (there, here) = (there(), here());
        let slow = budget.take(&there, "admission");
        tokio::pin!(slow);
        assert!(futures::poll!(&mut slow).is_pending());
        let started = Instant::now();
        budget.take(&here, "admission").await;
        assert_eq!(started.elapsed(), Duration::ZERO);
        assert!(budget.try_take_for_loop(&here, ANY).is_ok());
        slow.await;
        assert!(started.elapsed() > Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn admissions_that_wait_for_a_throttled_account_keep_no_other_from_the_cap() {
        let budget = budget(10.0, 1);
        let (there, here) = (there(), here());
        budget.throttled(&there, clock::monotonic());
        let waiting = budget.take(&there, "admission");
        tokio::pin!(waiting);
        assert!(futures::poll!(&mut waiting).is_pending());
        assert!(budget.try_take_for_loop(&here, ANY).is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn lines_in_which_nobody_stands_are_forgotten() {
        let budget = budget(1.0, 1);
        budget.take(&here(), "admission").await;
        let (here, there) = (here(), there());
        let both = async {
            tokio::join!(
                budget.take(&here, "admission"),
                budget.take(&there, "admission"),
            )
        };
        let left = tokio::time::timeout(Duration::from_millis(10), both);
        assert!(left.await.is_err());
        assert!(budget.inner.state.lock().lines.is_empty());
    }
}
