//! `DescribeTargetGroups` for many callers at once.
//!
//! AWS allows few calls, and a call may ask about 20 groups. So callers of one moment share a call,
//! answers are kept for a minute, and calls wait for the [`Budget`] while more callers join them.
//! One bad id fails a whole call: a failed batch is halved until the bad one stands alone.

use std::sync::Arc;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use parking_lot::Mutex;
use thiserror::Error;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until, timeout_at};

use super::budget::Budget;
use super::client::ElbClient;
use super::error::{ElbError, ElbErrorKind};
use super::kept::Kept;
use super::queue::{Batch, Queue};
use crate::model::TargetGroup;
use crate::names::{AssumedRole, TargetGroupArn};

/// Calls that are out at a time.
const MAX_OUT: usize = 32;

/// How a target group is named.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum GroupSelector {
    /// By ARN, which also names account and Region.
    Arn(TargetGroupArn),
    /// By name, in the SDK's own Region.
    Name(String),
}

impl GroupSelector {
    /// Whether `group` is the one that is meant.
    pub(super) fn is(&self, group: &TargetGroup) -> bool {
        match self {
            Self::Arn(arn) => *arn == group.arn,
            Self::Name(name) => **name == *group.name,
        }
    }
}

/// A target group, and as whom to ask about it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupQuery {
    /// Which group.
    pub selector: GroupSelector,
    /// The role to assume; `None` asks with the process's own credentials.
    pub role: Option<AssumedRole>,
}

/// Why there is no description.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum DescribeError {
    /// AWS says that there is no such group.
    #[error("the target group does not exist in this account and Region")]
    NotFound,
    /// The caller's deadline came before AWS was asked or had answered.
    #[error("AWS has not answered in time")]
    TimedOut,
    /// The call failed, for good or up to the caller's deadline.
    #[error("{message}")]
    Failed {
        /// As in [`ElbError::code`], or `Overloaded` when too many callers wait already.
        code: String,
        /// What was tried, why it failed and what to do.
        message: String,
    },
}

impl DescribeError {
    /// AWS's error code, or the word that stands in for it where AWS gave none.
    pub fn code(&self) -> &str {
        match self {
            Self::NotFound => "TargetGroupNotFound",
            Self::TimedOut => "Timeout",
            Self::Failed { code, .. } => code,
        }
    }
}

impl From<&ElbError> for DescribeError {
    fn from(error: &ElbError) -> Self {
        match error.kind {
            ElbErrorKind::GroupNotFound => Self::NotFound,
            _ => Self::Failed {
                code: error.code.clone(),
                message: error.to_string(),
            },
        }
    }
}

/// Descriptions of target groups, shared and kept; cheap to clone.
///
/// Nothing is asked unless [`Self::run`] runs.
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
    kept: Kept,
    random: fastrand::Rng,
}

impl TargetGroups {
    /// Descriptions by way of `client`, within `budget`. `seed` spreads the pauses between attempts.
    pub fn new(client: ElbClient, budget: Budget, seed: u64) -> Self {
        Self {
            inner: Arc::new(Inner {
                client,
                budget,
                state: Mutex::new(State {
                    queue: Queue::default(),
                    kept: Kept::default(),
                    random: fastrand::Rng::with_seed(seed),
                }),
                came: Notify::new(),
            }),
        }
    }

    /// The group as AWS described it within the last minute.
    ///
    /// Throttling and failures are tried again up to the deadline. A deadline that comes ends the
    /// wait of this caller only.
    ///
    /// # Errors
    /// See [`DescribeError`]; none is kept, so that asking again asks AWS again.
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

    /// Makes the calls, for as long as it is polled.
    pub async fn run(self) {
        let mut calls = FuturesUnordered::new();
        loop {
            let room = calls.len() < MAX_OUT;
            let ready = room.then(|| self.inner.state.lock().queue.ready_at());
            match ready.flatten() {
                Some(at) if at <= Instant::now() => {
                    // The batch is cut after the wait: it grows meanwhile.
                    meanwhile(&mut calls, self.inner.budget.take("admission")).await;
                    let batch = self.inner.state.lock().queue.next(Instant::now());
                    calls.extend(batch.map(|batch| self.call(batch)));
                }
                ready => tokio::select! {
                    () = until(ready) => {}
                    () = self.inner.came.notified() => {}
                    Some(()) = calls.next() => {}
                },
            }
        }
    }

    async fn call(&self, batch: Batch) {
        let client = &self.inner.client;
        let result = client
            .target_groups(batch.region(), batch.role(), batch.ids())
            .await;
        let now = Instant::now();
        let mut state = self.inner.state.lock();
        let jitter = state.random.f64();
        for (query, group) in state.queue.settle(batch, result, now, jitter) {
            // Whoever asked by name is likely to ask by ARN next.
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

/// Waits for `future` while the calls go on.
async fn meanwhile<C: Future<Output = ()>>(
    calls: &mut FuturesUnordered<C>,
    future: impl Future<Output = ()>,
) {
    tokio::pin!(future);
    loop {
        tokio::select! {
            () = &mut future => return,
            Some(()) = calls.next() => {}
        }
    }
}

/// Ends at `at`, or never.
async fn until(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}

fn overloaded() -> DescribeError {
    DescribeError::Failed {
        code: "Overloaded".to_owned(),
        message: "too many reviews wait for DescribeTargetGroups; try again in a few seconds"
            .to_owned(),
    }
}

#[cfg(test)]
mod tests;
