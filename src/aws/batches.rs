//! The callers that wait for descriptions, and the batches of queries for the next calls.
//!
//! This is plain data with the time passed in. A *lane* holds queries that one call may combine: one
//! account and Region, one role, ARNs or names. Each lane waits for its own token of the budget.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use targetgate_core::backoff::Backoff;
use targetgate_core::elb::query::{DescribeError, GroupQuery, GroupSelector};
use targetgate_core::model::TargetGroup;
use targetgate_core::names::{AssumedRole, Quota};
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::aws::error::{ElbError, ElbErrorKind};

/// Maximum number of ids in one `DescribeTargetGroups`: the limit of AWS.
pub(super) const MAX_BATCH: usize = 20;
/// Maximum number of callers that wait at a time. Chosen.
pub(super) const MAX_WAITING: usize = 4096;
/// How long the first caller waits for others to join its batch. Chosen.
const GATHER: Duration = Duration::from_millis(5);
/// Maximum number of concurrent calls of one lane. Chosen: queries that arrive meanwhile gather into fuller batches.
const MAX_OUT: usize = 4;
/// Maximum number of attempts for an id that end without an answer or with an internal error of AWS. Chosen.
const MAX_FAILURES: u32 = 3;
/// Backoff between failed attempts: chosen, so that several fit into the timeout of an admission.
const BACKOFF: Backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(2));

/// The answer to a caller.
pub(super) type Answer = Result<Arc<TargetGroup>, DescribeError>;

/// The key of a lane.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct LaneKey {
    /// The quota that its calls spend.
    pub(super) quota: Quota,
    role: Option<AssumedRole>,
    names: bool,
}

/// One call to make; pass it to [`Queue::settle`] with the result.
#[derive(Debug)]
pub(super) struct Batch {
    lane: LaneKey,
    queries: Vec<GroupQuery>,
    /// Whether it is half of a failed batch, which must not be joined with other queries: its bad id would fail
    /// them, too.
    split: bool,
}

impl Batch {
    /// The Region of the call; `None` is the SDK's default.
    pub(super) fn region(&self) -> Option<&str> {
        let region = self.lane.quota.region();
        (!region.is_empty()).then_some(region)
    }

    /// The role to assume for the call.
    pub(super) fn role(&self) -> Option<&AssumedRole> {
        self.lane.role.as_ref()
    }

    /// The ids of the call: all ARNs or all names, according to the lane.
    pub(super) fn selectors(&self) -> Vec<GroupSelector> {
        let queries = self.queries.iter();
        queries.map(|query| query.selector.clone()).collect()
    }
}

/// The queries that wait in one lane.
#[derive(Debug)]
struct Lane {
    fresh: VecDeque<GroupQuery>,
    halves: VecDeque<Vec<GroupQuery>>,
    /// When the first of `fresh` arrived.
    since: Instant,
    /// End of the backoff after a failure.
    not_before: Instant,
    /// Failures in a row.
    failures: u32,
    out: usize,
    /// Whether the lane waits for a token.
    claimed: bool,
}

/// The callers of one query.
#[derive(Debug, Default)]
struct Callers {
    answers: Vec<oneshot::Sender<Answer>>,
    failures: u32,
    last: Option<ElbError>,
}

/// The lanes and their callers.
#[derive(Debug)]
pub(super) struct Queue {
    /// The SDK's own Region, in which names are looked up; empty if it has none.
    home: String,
    lanes: BTreeMap<LaneKey, Lane>,
    callers: HashMap<GroupQuery, Callers>,
    waiting: usize,
}

impl Queue {
    /// An empty queue.
    pub(super) fn new(home: Option<&str>) -> Self {
        Self {
            home: home.unwrap_or_default().to_owned(),
            lanes: BTreeMap::new(),
            callers: HashMap::new(),
            waiting: 0,
        }
    }

    /// Adds a caller, which joins an equal query if one waits. `None` if too many callers wait.
    pub(super) fn push(
        &mut self,
        query: &GroupQuery,
        now: Instant,
    ) -> Option<oneshot::Receiver<Answer>> {
        if self.waiting >= MAX_WAITING {
            return None;
        }
        let (answer, receiver) = oneshot::channel();
        self.waiting += 1;
        if let Some(callers) = self.callers.get_mut(query) {
            callers.answers.push(answer);
            return Some(receiver);
        }
        let callers = self.callers.entry(query.clone()).or_default();
        callers.answers.push(answer);
        let lane = self
            .lanes
            .entry(lane_key(query, &self.home))
            .or_insert_with(|| Lane {
                fresh: VecDeque::new(),
                halves: VecDeque::new(),
                since: now,
                not_before: now,
                failures: 0,
                out: 0,
                claimed: false,
            });
        if lane.fresh.is_empty() {
            lane.since = now;
        }
        lane.fresh.push_back(query.clone());
        Some(receiver)
    }

    /// When the next call may be made; `None` while no query waits for one.
    pub(super) fn ready_at(&self) -> Option<Instant> {
        let unclaimed = self.lanes.values().filter(|lane| !lane.claimed);
        unclaimed.filter_map(Lane::ready_at).min()
    }

    /// Marks the lanes that have a call to make as waiting for a token, and returns those that were not marked before.
    pub(super) fn claim(&mut self, now: Instant) -> Vec<LaneKey> {
        let lanes = self.lanes.iter_mut();
        let ready = lanes.filter(|(_, lane)| !lane.claimed && lane.is_ready(now));
        let claimed = ready.map(|(key, lane)| {
            lane.claimed = true;
            key.clone()
        });
        claimed.collect()
    }

    /// The next batch of a lane that has received its token; `None` if no caller waits any more. Queries without a
    /// caller are dropped.
    pub(super) fn next(&mut self, key: &LaneKey, now: Instant) -> Option<Batch> {
        self.lanes.get_mut(key)?.claimed = false;
        loop {
            let lane = self.lanes.get_mut(key)?;
            if !lane.is_ready(now) {
                return None;
            }
            let (mut queries, split) = match lane.halves.pop_front() {
                Some(half) => (half, true),
                None => {
                    let count = lane.fresh.len().min(MAX_BATCH);
                    (lane.fresh.drain(..count).collect(), false)
                }
            };
            queries.retain(|query| wanted(&mut self.callers, &mut self.waiting, query));
            if queries.is_empty() {
                self.drop_idle(key);
                continue;
            }
            if let Some(lane) = self.lanes.get_mut(key) {
                lane.out += 1;
            }
            return Some(Batch {
                lane: key.clone(),
                queries,
                split,
            });
        }
    }

    /// Processes the result of a call: answers callers, splits the batch, or schedules a retry. `jitter`, from 0 to
    /// 1, spreads the backoff.
    ///
    /// Returns the answers to cache.
    pub(super) fn settle(
        &mut self,
        batch: Batch,
        result: Result<Vec<TargetGroup>, ElbError>,
        now: Instant,
        jitter: f64,
    ) -> Vec<(GroupQuery, Arc<TargetGroup>)> {
        let key = batch.lane.clone();
        if let Some(lane) = self.lanes.get_mut(&key) {
            lane.out -= 1;
        }
        let found = match result {
            Ok(groups) => self.answer(batch, groups),
            Err(error) => {
                self.fail(batch, &error, now, jitter);
                Vec::new()
            }
        };
        self.drop_idle(&key);
        found
    }

    /// The error for a caller whose deadline has passed.
    pub(super) fn why_late(&self, query: &GroupQuery) -> DescribeError {
        let last = self
            .callers
            .get(query)
            .and_then(|callers| callers.last.as_ref());
        last.map_or(DescribeError::TimedOut, DescribeError::from)
    }

    fn answer(
        &mut self,
        batch: Batch,
        groups: Vec<TargetGroup>,
    ) -> Vec<(GroupQuery, Arc<TargetGroup>)> {
        if let Some(lane) = self.lanes.get_mut(&batch.lane) {
            lane.failures = 0;
        }
        let groups: Vec<_> = groups.into_iter().map(Arc::new).collect();
        let mut found = Vec::new();
        for query in batch.queries {
            let mut meant = groups.iter().filter(|group| query.selector.is(group));
            let answer = match (meant.next(), meant.count()) {
                (None, _) => Err(DescribeError::NotFound),
                (Some(group), 0) => Ok(group.clone()),
                (Some(_), others) => Err(DescribeError::Ambiguous { groups: others + 1 }),
            };
            self.reply(&query, &answer);
            found.extend(answer.ok().map(|group| (query, group)));
        }
        found
    }

    fn fail(&mut self, batch: Batch, error: &ElbError, now: Instant, jitter: f64) {
        let one_id_may_be_bad =
            error.kind == ElbErrorKind::GroupNotFound || error.code == "ValidationError";
        match error.kind {
            _ if one_id_may_be_bad && batch.queries.len() > 1 => self.split(batch),
            ElbErrorKind::Throttled => self.retry(batch, now, jitter, error, u32::MAX),
            ElbErrorKind::Timeout | ElbErrorKind::Unreachable | ElbErrorKind::Other => {
                self.retry(batch, now, jitter, error, MAX_FAILURES);
            }
            ElbErrorKind::GroupNotFound
            | ElbErrorKind::Denied
            | ElbErrorKind::NoCredentials
            | ElbErrorKind::Invalid => {
                let answer = Err(DescribeError::from(error));
                for query in batch.queries {
                    self.reply(&query, &answer);
                }
            }
        }
    }

    fn split(&mut self, batch: Batch) {
        let Some(lane) = self.lanes.get_mut(&batch.lane) else {
            return;
        };
        lane.failures = 0;
        let mut first = batch.queries;
        let second = first.split_off(first.len() / 2);
        lane.halves.extend([first, second]);
    }

    /// Requeues the ids that failed fewer than `limit` times, and answers the callers of the others with the error.
    fn retry(&mut self, batch: Batch, now: Instant, jitter: f64, error: &ElbError, limit: u32) {
        let mut again = Vec::new();
        for query in batch.queries {
            let Some(callers) = self.callers.get_mut(&query) else {
                continue;
            };
            if limit < u32::MAX {
                callers.failures += 1;
            }
            if callers.failures < limit {
                callers.last = Some(error.clone());
                again.push(query);
            } else {
                self.reply(&query, &Err(error.into()));
            }
        }
        if again.is_empty() {
            return;
        }
        let Some(lane) = self.lanes.get_mut(&batch.lane) else {
            return;
        };
        // Concurrent calls fail together: they count as one failure, with one backoff.
        if now >= lane.not_before {
            let pause = BACKOFF.after(lane.failures + 1);
            lane.not_before = now + pause.mul_f64(0.5 + jitter / 2.0);
            lane.failures = lane.failures.saturating_add(1);
        }
        if batch.split {
            lane.halves.push_front(again);
        } else {
            for query in again.into_iter().rev() {
                lane.fresh.push_front(query);
            }
        }
    }

    fn reply(&mut self, query: &GroupQuery, answer: &Answer) {
        let Some(callers) = self.callers.remove(query) else {
            return;
        };
        self.waiting -= callers.answers.len();
        for caller in callers.answers {
            // A caller whose deadline has passed has dropped its receiver.
            let _ = caller.send(answer.clone());
        }
    }

    fn drop_idle(&mut self, key: &LaneKey) {
        if self
            .lanes
            .get(key)
            .is_some_and(|lane| lane.is_empty() && lane.out == 0)
        {
            self.lanes.remove(key);
        }
    }
}

impl Lane {
    fn is_empty(&self) -> bool {
        self.fresh.is_empty() && self.halves.is_empty()
    }

    fn is_ready(&self, now: Instant) -> bool {
        self.ready_at().is_some_and(|at| at <= now)
    }

    fn ready_at(&self) -> Option<Instant> {
        if self.is_empty() || self.out >= MAX_OUT {
            return None;
        }
        let gathered = if self.halves.is_empty() && self.fresh.len() < MAX_BATCH {
            self.since + GATHER
        } else {
            self.since
        };
        Some(gathered.max(self.not_before))
    }
}

/// Whether a caller still waits for a query; if not, the query is dropped.
fn wanted(
    callers: &mut HashMap<GroupQuery, Callers>,
    waiting: &mut usize,
    query: &GroupQuery,
) -> bool {
    let Some(asking) = callers.get_mut(query) else {
        return false;
    };
    let before = asking.answers.len();
    asking.answers.retain(|answer| !answer.is_closed());
    *waiting -= before - asking.answers.len();
    let wanted = !asking.answers.is_empty();
    if !wanted {
        callers.remove(query);
    }
    wanted
}

fn lane_key(query: &GroupQuery, home: &str) -> LaneKey {
    LaneKey {
        quota: query.quota(home),
        role: query.role.clone(),
        names: matches!(query.selector, GroupSelector::Name(_)),
    }
}
