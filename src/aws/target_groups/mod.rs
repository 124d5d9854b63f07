//! `DescribeTargetGroups` for many callers at once.
//!
//! AWS allows few calls, and one call may ask about 20 groups. So concurrent callers share a call, the cache keeps
//! answers for a minute, those by name for five seconds, and calls wait for the [`Budget`] while more callers join them. Each account and Region has
//! a queue of its own. One bad id fails a whole call: a failed batch is halved until the bad id is alone in its batch.

use std::sync::Arc;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use parking_lot::Mutex;
use targetgate_core::elb::query::{DescribeError, FailureKind, GroupQuery, GroupSelector};
use targetgate_core::model::TargetGroup;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until, timeout_at};

use crate::aws::batches::{Batch, LaneKey, Queue};
use crate::aws::budget::Budget;
use crate::aws::client::ElbClient;
use crate::aws::description_cache::DescriptionCache;

/// Maximum number of concurrent calls. Chosen.
const MAX_OUT: usize = 32;

/// Batching and caching client for descriptions of target groups; cheap to clone.
///
/// It makes calls only while [`Self::run`] runs.
#[derive(Clone)]
pub struct TargetGroups {
    inner: Arc<Inner>,
}

struct Inner {
    client: ElbClient,
    budget: Budget,
    state: Mutex<State>,
    came: Notify,
}

struct State {
    queue: Queue,
    kept: DescriptionCache,
    random: fastrand::Rng,
}

impl TargetGroups {
    /// Calls AWS by `client`, within `budget`. `seed` spreads the backoff between attempts.
    pub fn new(client: ElbClient, budget: Budget, seed: u64) -> Self {
        let queue = Queue::new(client.default_region());
        Self {
            inner: Arc::new(Inner {
                client,
                budget,
                state: Mutex::new(State {
                    queue,
                    kept: DescriptionCache::default(),
                    random: fastrand::Rng::with_seed(seed),
                }),
                came: Notify::new(),
            }),
        }
    }

    /// The group as AWS described it within the last minute, or five seconds if it is asked for by name.
    ///
    /// Throttled and failed calls are retried until the deadline, which ends the wait of this caller only.
    ///
    /// # Errors
    /// See [`DescribeError`]; errors are not cached, so that the next call asks AWS again.
    pub async fn describe(
        &self,
        query: &GroupQuery,
        deadline: Instant,
    ) -> Result<Arc<TargetGroup>, DescribeError> {
        let answer = {
            let now = Instant::now();
            let mut state = self.inner.state.lock();
            if let Some(group) = state.kept.find(query, now) {
                return Ok(group);
            }
            state.queue.push(query, now).ok_or_else(overloaded)?
        };
        self.inner.came.notify_one();
        match timeout_at(deadline, answer).await {
            Ok(Ok(answer)) => answer,
            _ => Err(self.inner.state.lock().queue.why_late(query)),
        }
    }

    /// The group as AWS described it within the last minute, if it is cached. Does not call AWS.
    pub fn known(&self, query: &GroupQuery) -> Option<Arc<TargetGroup>> {
        self.inner.state.lock().kept.find(query, Instant::now())
    }

    /// Makes the calls, as long as this future is polled.
    pub async fn run(self) {
        let mut calls = FuturesUnordered::new();
        let mut tokens = FuturesUnordered::new();
        loop {
            let (claimed, ready) = {
                let queue = &mut self.inner.state.lock().queue;
                (queue.claim(Instant::now()), queue.ready_at())
            };
            tokens.extend(claimed.into_iter().map(|lane| self.token(lane)));
            let room = calls.len() < MAX_OUT;
            tokio::select! {
                biased;
                Some(()) = calls.next() => {}
                Some(lane) = tokens.next(), if room => {
                    // The batch is taken after the wait for a token, because it grows meanwhile.
                    let batch = self.inner.state.lock().queue.next(&lane, Instant::now());
                    calls.extend(batch.map(|batch| self.call(batch)));
                }
                () = self.inner.came.notified() => {}
                () = until(ready) => {}
            }
        }
    }

    /// Waits for a token for one call of a lane.
    async fn token(&self, lane: LaneKey) -> LaneKey {
        self.inner.budget.take(&lane.quota, "admission").await;
        lane
    }

    async fn call(&self, batch: Batch) {
        let client = &self.inner.client;
        let result = client
            .target_groups(batch.region(), batch.role(), &batch.selectors())
            .await;
        let now = Instant::now();
        let mut state = self.inner.state.lock();
        let jitter = state.random.f64();
        for (query, group) in state.queue.settle(batch, result, now, jitter) {
            // A caller that asked by name is likely to ask by ARN next.
            let by_arn = GroupQuery {
                selector: GroupSelector::Arn(group.arn.clone()),
                role: query.role.clone(),
            };
            if by_arn != query {
                state.kept.insert(by_arn, Arc::clone(&group), now);
            }
            state.kept.insert(query, group, now);
        }
    }
}

/// Sleeps until `at`, or for ever.
async fn until(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}

fn overloaded() -> DescribeError {
    DescribeError::Failed {
        kind: FailureKind::Unavailable,
        code: "Overloaded".to_owned(),
        message: "too many reviews wait for this call".to_owned(),
    }
}

#[cfg(test)]
mod tests;
