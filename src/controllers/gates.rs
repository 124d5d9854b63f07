//! The health loop: polls ELB about the targets of waiting pods and writes their conditions (contract 5).
//!
//! [`Tracker`] decides on data what to do next; this controller does it, and reports back. The loop owns all
//! its tasks, which end with it. A replica that does not lead observes everything, but does not call ELB or write
//! conditions, so that it can act at once when it becomes the leader.

use std::iter;
use std::panic::resume_unwind;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use targetgate_core::elb::query::{DescribeError, GroupQuery};
use targetgate_core::gates::machine::Tracker;
use targetgate_core::gates::machine::action::{
    Action, CallFailure, Change, GateId, LiveRead, Settings, Subject, Write, WriteOutcome,
};
use targetgate_core::gates::requirements;
use targetgate_core::index::Index;
use targetgate_core::model::{HealthChecks, TargetHealth};
use targetgate_core::names::{BindingApi, GroupKey, NamedGroup, ObjectKey, TargetGroupArn};
use targetgate_core::reason::Reason;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::sleep_until;
use tracing::{Level, debug, enabled, info, warn};

use crate::aws::budget::Budget;
use crate::aws::client::ElbClient;
use crate::aws::error::{ElbError, ElbErrorKind};
use crate::aws::target_groups::TargetGroups;
use crate::clock::{self, Now};
use crate::controllers::metrics::GateMetrics;
use crate::kubernetes::events::{About, Events};
use crate::kubernetes::live_read;
use crate::kubernetes::pod_status;
use crate::kubernetes::pod_status::{Entry, Revision, WriteError};
use crate::state::cache::{Cache, WatchedResource};
use crate::state::leadership::Leadership;
use targetgate_core::elb::buckets::PollRequest;

/// Longest pause between two heartbeats of the loop. Chosen.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// Maximum number of concurrent requests other than status patches, such as live reads. Chosen.
const REQUESTS_AT_ONCE: usize = 16;
/// How long the loop waits for a group's ARN or health check settings. Chosen.
const DESCRIBE_DEADLINE: Duration = Duration::from_secs(10);

/// The health loop, with the parts that it uses.
#[derive(Clone)]
pub struct Loop {
    pub cache: Arc<Cache>,
    pub kube: kube::Client,
    pub leadership: Leadership,
    /// Publishes problems that only an operator can fix.
    pub events: Arc<Events>,
    pub elb: ElbClient,
    pub groups: TargetGroups,
    /// The budget that all calls of ELB spend from.
    pub budget: Budget,
    pub metrics: GateMetrics,
    pub now: Now,
    pub settings: Settings,
}

/// The result of a task of the loop.
enum Done {
    Answered(GroupKey, Instant, Result<Vec<TargetHealth>, ElbError>),
    Written(Write, WriteOutcome),
    Confirmed(GateId, Option<LiveRead>),
    Proven(GroupKey, Option<HealthChecks>),
    Resolved(NamedGroup, Result<Option<TargetGroupArn>, ()>),
    Told,
}

impl Loop {
    /// Runs for ever, and calls `beat` at least every five seconds, unless it is stuck.
    /// Panics only if one of its own tasks has panicked, so that the process ends.
    pub async fn run(self, beat: impl Fn() + Send) {
        let mut tracker = Tracker::new(self.settings.clone());
        let mut tasks = JoinSet::new();
        let requests = Arc::new(Semaphore::new(REQUESTS_AT_ONCE));
        let mut leadership = self.leadership.clone();
        let mut actions = vec![];
        loop {
            beat();
            let now = clock::monotonic();
            actions.extend(self.sync_leadership(&mut tracker, now));
            actions.extend(self.observe(&mut tracker, now));
            actions.extend(tracker.tick(now));
            actions.extend(tracker.writes(now));
            for action in actions.drain(..) {
                tasks.spawn(self.clone().carry_out(action, requests.clone()));
            }
            let token = self.call(&mut tracker, &mut tasks, now);
            self.report(&tracker);
            let wakes = [tracker.next_tick(now), token, Some(now + LONGEST_PAUSE)];
            let wake = wakes.into_iter().flatten().min().unwrap_or(now);
            // Biased, so that a simulation repeats itself. The last branches do not starve: each round checks
            // everything except the tasks anyway.
            tokio::select! {
                biased;
                Some(done) = tasks.join_next() => {
                    // Process all results so far together, before acting on the decisions.
                    let more = iter::from_fn(|| tasks.try_join_next());
                    for done in iter::once(done).chain(more) {
                        let done = done.unwrap_or_else(|error| resume_unwind(error.into_panic()));
                        actions.extend(self.handle(&mut tracker, done));
                    }
                }
                () = self.cache.changed() => {}
                () = leadership.changed() => {}
                () = sleep_until(wake.into()) => {}
            }
        }
    }

    /// Starts or stops leading, as the Lease says.
    fn sync_leadership(&self, tracker: &mut Tracker, now: Instant) -> Vec<Action> {
        match (tracker.leads(), self.leadership.leads()) {
            (false, true) => tracker.lead(now),
            (true, false) => {
                tracker.follow();
                vec![]
            }
            _ => vec![],
        }
    }

    fn observe(&self, tracker: &mut Tracker, now: Instant) -> Vec<Action> {
        // Most rounds are about an answer of ELB, and need not block admissions by the write lock.
        if !self.cache.read(Index::has_dirty) {
            return vec![];
        }
        let dirty = self.cache.write(Index::take_dirty);
        let wall = (self.now)();
        let actions = self.cache.read(|index| {
            let observe = |key| tracker.observe(key, index, now, wall);
            dirty.iter().flat_map(observe).collect()
        });
        if enabled!(Level::DEBUG) {
            dirty.iter().for_each(|pod| log_waiting(tracker, pod, now));
        }
        actions
    }

    /// Polls the groups that are due, as far as the budget allows. Returns the next wake-up.
    fn call(
        &self,
        tracker: &mut Tracker,
        tasks: &mut JoinSet<Done>,
        now: Instant,
    ) -> Option<Instant> {
        let throttled = self.budget.all_throttled();
        let started = tracker.start_calls(&throttled, now, |turn| {
            let wish = PollRequest {
                groups: turn.groups,
                likely_healthy: turn.likely_healthy,
            };
            self.budget.try_take_for_loop(&turn.quota, wish)?;
            self.budget.waited("loop", now - turn.since);
            Ok(())
        });
        for call in started.calls {
            let known = self.groups.known(&GroupQuery::from(&call.group));
            if let Some(checks) = known.and_then(|found| found.health_checks) {
                tracker.note_checks(&call.group, checks);
            }
            let elb = self.elb.clone();
            tasks.spawn(async move {
                let answer = elb.target_health(&call.group, &call.targets).await;
                Done::Answered(call.group, now, answer)
            });
        }
        started.again
    }
}

impl Loop {
    fn handle(&self, tracker: &mut Tracker, done: Done) -> Vec<Action> {
        let now = clock::monotonic();
        match done {
            Done::Answered(group, requested, Ok(targets)) => {
                tracker.answered(&group, requested, Ok(&targets), now)
            }
            Done::Answered(group, requested, Err(error)) => {
                tracker.answered(&group, requested, Err(self.failure(&error)), now)
            }
            Done::Written(write, outcome) => {
                self.note(&write, &outcome);
                tracker.written(&write, &outcome, now)
            }
            Done::Confirmed(id, fresh) => tracker.confirmed(&id, fresh.as_ref(), now),
            Done::Proven(group, checks) => tracker.proven(&group, checks, now),
            Done::Resolved(group, found) => {
                let moment = (now, (self.now)());
                self.cache
                    .read(|index| tracker.resolved(&group, found, index, moment))
            }
            Done::Told => vec![],
        }
    }

    fn failure(&self, error: &ElbError) -> CallFailure {
        match error.kind {
            ElbErrorKind::GroupNotFound => {
                self.metrics.group_not_found();
                CallFailure::GroupNotFound
            }
            ElbErrorKind::Throttled => CallFailure::Throttled,
            kind => {
                warn!(%error, "gates stay as they are");
                match kind {
                    ElbErrorKind::Invalid => CallFailure::Invalid,
                    _ => CallFailure::Other,
                }
            }
        }
    }
}

impl Loop {
    async fn carry_out(self, action: Action, requests: Arc<Semaphore>) -> Done {
        // The semaphore is never closed.
        let request = async || requests.acquire().await.ok();
        match action {
            Action::Write(write) => {
                let outcome = self.write(&write).await;
                Done::Written(write, outcome)
            }
            Action::Confirm(id) => {
                let _request = request().await;
                let fresh = self.confirm(&id).await;
                Done::Confirmed(id, fresh)
            }
            // Calls about groups are bounded by their own queue, and do not wait behind live reads.
            Action::Prove(group) => {
                let checks = self.health_checks(&group).await;
                Done::Proven(group, checks)
            }
            Action::Resolve(group) => {
                let found = self.resolve(&group).await;
                Done::Resolved(group, found)
            }
            Action::Report {
                about,
                reason,
                message,
            } => {
                let _request = request().await;
                self.tell(about, reason, &message).await;
                Done::Told
            }
            Action::MissingGroup { group, binding } => {
                let _request = request().await;
                self.report_missing_group(&group, binding).await;
                Done::Told
            }
        }
    }

    async fn write(&self, write: &Write) -> WriteOutcome {
        let Some(write_by) = self.leadership.write_by() else {
            return WriteOutcome::Unsent;
        };
        let pod = &write.pod;
        let revision = Revision {
            pod,
            uid: &write.uid,
            version: &write.version,
        };
        let now = (self.now)();
        let entries = write.changes.iter().map(|change| Entry {
            gate: &change.gate,
            condition: &change.condition,
            transition: change.transition.then_some(now),
        });
        let entries: Vec<Entry<'_>> = entries.collect();
        match pod_status::write_conditions(&self.kube, revision, &entries, write_by).await {
            Ok(written) => WriteOutcome::Written(written.resource_version),
            Err(WriteError::Gone(_)) => WriteOutcome::Gone,
            Err(WriteError::Conflict(_)) => WriteOutcome::Conflict,
            Err(error @ WriteError::TooManyRequests { retry_after, .. }) => {
                warn!(%pod, %error, "no conditions are written for a while");
                WriteOutcome::PutOff { retry_after }
            }
            Err(error) => {
                warn!(%pod, %error, "conditions not written; they are decided again soon");
                WriteOutcome::Failed
            }
        }
    }

    /// Makes the live read of a gate; `None` if it does not confirm anything.
    async fn confirm(&self, id: &GateId) -> Option<LiveRead> {
        let GateId { pod, gate, .. } = id;
        let apis = &self.settings.apis;
        let read = live_read::read(&self.kube, &pod.namespace, gate, &BindingApi::ALL).await;
        match read {
            Ok(read) if requirements::is_knowable(apis, &read.not_served) => Some(LiveRead {
                bindings: read.bindings,
                services: read.services,
            }),
            Ok(_) => {
                info!(%pod, %gate, "the binding's API is not served: the gate stays closed");
                None
            }
            Err(error) => {
                warn!(%pod, %gate, %error, "the gate stays closed; it is looked at again soon");
                None
            }
        }
    }

    async fn report_missing_group(&self, group: &GroupKey, binding: (ObjectKey, BindingApi)) {
        let (object, api) = binding;
        let uid = self.cache.read(|index| {
            let view = index.namespace(&object.namespace)?;
            let binding = view.routes.binding(&object.name, api)?;
            binding.uid.as_deref().map(str::to_owned)
        });
        let about = About {
            kind: WatchedResource::Bindings(api),
            object,
            uid,
        };
        let note = format!(
            "Target group {} does not exist: the gates of this binding stay closed. Create a binding \
             to a group that exists, or delete this one",
            group.arn
        );
        self.events
            .warn(&about, "DescribeTargetHealth", "TargetGroupNotFound", &note)
            .await;
    }

    /// Tells by an Event that the gates of a binding stay closed until it is mended, or that a gate was opened
    /// whatever ELB says.
    async fn tell(&self, about: Subject, reason: Reason, message: &str) {
        let (about, what) = match about {
            Subject::Binding(object, api) => (
                About {
                    kind: WatchedResource::Bindings(api),
                    object,
                    uid: None,
                },
                "The gates of this binding stay closed",
            ),
            Subject::Pod(object, uid) => (
                About {
                    kind: WatchedResource::Pods,
                    object,
                    uid: Some(uid.to_string()),
                },
                "The gate was opened",
            ),
        };
        let note = format!("{what}: {message}. {}", reason.remedy());
        self.events
            .warn(&about, "OpenGate", reason.as_str(), note.trim_end())
            .await;
    }

    /// The ARN of the group that has this name; the error is that AWS did not tell.
    async fn resolve(&self, group: &NamedGroup) -> Result<Option<TargetGroupArn>, ()> {
        let deadline = clock::monotonic() + DESCRIBE_DEADLINE;
        let query = GroupQuery::from(group);
        match self.groups.describe(&query, deadline.into()).await {
            Ok(found) => Ok(Some(found.arn.clone())),
            Err(DescribeError::NotFound) => Ok(None),
            Err(error) => {
                warn!(group = %group.name, %error, "gates wait until AWS tells the group's ARN");
                Err(())
            }
        }
    }

    /// How ELB checks the health of a group, from which its proving time follows.
    async fn health_checks(&self, group: &GroupKey) -> Option<HealthChecks> {
        let deadline = clock::monotonic() + DESCRIBE_DEADLINE;
        match self
            .groups
            .describe(&GroupQuery::from(group), deadline.into())
            .await
        {
            Ok(found) => found.health_checks,
            Err(error) => {
                warn!(group = %group.arn, %error, "a gate on a used address waits to be proven");
                None
            }
        }
    }

    /// Logs and counts the result of a write.
    fn note(&self, write: &Write, outcome: &WriteOutcome) {
        let result = match outcome {
            WriteOutcome::Written(_) => "Written",
            WriteOutcome::Gone => "Gone",
            WriteOutcome::Conflict => "Conflict",
            WriteOutcome::Unsent => "Unsent",
            WriteOutcome::PutOff { .. } => "PutOff",
            WriteOutcome::Failed => "Failed",
        };
        self.metrics.wrote(result, write.changes.len());
        let opened = |change: &&Change| change.condition.status;
        let written = matches!(outcome, WriteOutcome::Written(_));
        for change in write.changes.iter().filter(opened).filter(|_| written) {
            let waited = self.age(write.containers_ready);
            let Change { gate, reason, .. } = change;
            self.metrics.opened(*reason, waited);
            info!(pod = %write.pod, %gate, %reason, ?waited, "gate opened");
        }
    }

    /// Exports the number of pending gates, the age of the oldest, and the number of ungated pods. Only the
    /// leader does, so that a sum over the replicas is right.
    fn report(&self, tracker: &Tracker) {
        let (gates, oldest, ungated) = match tracker.leads() {
            true => (
                tracker.pending(),
                self.age(tracker.oldest()),
                self.ungated(),
            ),
            false => (0, Duration::ZERO, 0),
        };
        self.metrics.set_pending(gates, oldest);
        self.metrics.set_ungated(ungated);
    }

    /// The number of ungated pods; takes the write lock only if it has changed.
    fn ungated(&self) -> usize {
        let counted = |index: &Index| (!index.has_uncounted()).then(|| index.ungated());
        self.cache.read(counted).unwrap_or_else(|| {
            let count = |index: &mut Index| index.count_ungated(&self.settings.apis);
            self.cache.write(count)
        })
    }

    /// Time since a pod's containers became ready, by the wall clock; zero if they are not.
    fn age(&self, containers_ready: Option<Timestamp>) -> Duration {
        let age = containers_ready.map(|ready| (self.now)().duration_since(ready));
        age.and_then(|age| Duration::try_from(age).ok())
            .unwrap_or_default()
    }
}

/// Logs why a pod's gates are not open.
fn log_waiting(tracker: &Tracker, pod: &ObjectKey, now: Instant) {
    for waiting in tracker.waiting(pod) {
        let (gate, reason) = (&waiting.gate, waiting.reason);
        let next_poll = waiting
            .next_poll
            .map(|at| at.saturating_duration_since(now));
        debug!(%pod, %gate, %reason, ?next_poll, "gate waits");
    }
}
