//! The health loop: polls ELB about the targets of waiting pods and writes their conditions (contract 5).
//!
//! [`Tracker`] decides on data what to do next; this controller does it, and reports back. The loop owns all
//! its tasks, which end with it. A replica that does not lead observes everything, but does not call ELB or write
//! conditions, so that it can act at once when it becomes the leader.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use targetgate_core::drain::DrainPolicy;
use targetgate_core::elb::buckets::PollRequest;
use targetgate_core::elb::query::{DescribeError, GroupQuery};
use targetgate_core::elb::sweep::{Batch, Sweep};
use targetgate_core::endings::{Endings, Look, Settings as EndingSettings};
use targetgate_core::explain::leader::GatesView;
use targetgate_core::gate_rules::TooLarge;
use targetgate_core::gates::machine::Tracker;
use targetgate_core::gates::machine::action::{Action, GateId, LiveRead, Settings, Write};
use targetgate_core::gates::polling::queue::Call;
use targetgate_core::index::Index;
use targetgate_core::model::{HealthChecks, TargetGroup, TargetHealth};
use targetgate_core::names::{GroupKey, NamedGroup, TargetGroupArn};
use targetgate_core::notices::{AllFound, LostBindings, Notices};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::sleep_until;
use tracing::{Level, enabled};

use crate::aws::budget::Budget;
use crate::aws::client::ElbClient;
use crate::aws::error::ElbError;
use crate::aws::target_groups::TargetGroups;
use crate::clock::{self, Now};
use crate::controllers::ended;
use crate::controllers::gates::failures::{Failures, Unread};
use crate::controllers::metrics::{EndingMetrics, GateMetrics};
use crate::controllers::targets::answers::Answers;
use crate::controllers::targets::registrations::Registrations;
use crate::kubernetes::events::Events;
use crate::kubernetes::pod_status::WriteError;
use crate::state::cache::Cache;
use crate::state::leadership::Leadership;
use crate::state::questions::Questions;

mod actions;
mod endings;
mod failures;
mod log;
mod notices;
mod registrations;
mod reports;
mod results;
mod sweep;
mod telling;

/// Longest pause between two heartbeats of the loop. Chosen.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// Maximum number of concurrent live reads. Chosen.
const READS_AT_ONCE: usize = 16;

/// How many polls a call of sweep or measurement counts as, so that it leaves the saved share of the burst to polls.
/// Chosen: more than any burst.
const AFTER_ALL_POLLS: usize = usize::MAX;
/// The budget is asked again for such a call after this pause. Chosen: neither has any hurry.
const NO_HURRY: Duration = Duration::from_secs(1);

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
    /// Where the registrar hears of whole groups, if there is one.
    pub answers: Option<Answers>,
    /// What the registrar tells, if there is one.
    pub registrations: Option<Registrations>,
    pub metrics: GateMetrics,
    pub endings: EndingMetrics,
    pub now: Now,
    pub settings: Settings,
    /// Which pods sleep before their end, and how long their load balancers need.
    pub drain: DrainPolicy,
    /// Whether ELB is asked when it begins to drain, for the metric alone.
    pub measure_drain: bool,
    /// The namespaces whose gate rules are too large, of which their keeper tells.
    pub too_large: watch::Receiver<BTreeMap<Arc<str>, TooLarge>>,
}

/// The result of a task of the loop.
enum Done {
    Answered(Call, Instant, Result<Vec<TargetHealth>, ElbError>),
    Written(Write, Result<Arc<str>, WriteError>),
    /// Not sent, because this replica does not lead any more.
    Unsent(Write),
    Read(GateId, Result<LiveRead, Unread>),
    Proven(GroupKey, Result<Option<HealthChecks>, DescribeError>),
    Resolved(NamedGroup, Result<TargetGroupArn, DescribeError>),
    /// A call for the measurement alone.
    Looked(Look, Instant, Result<Vec<TargetHealth>, ElbError>),
    Swept(Batch, Result<Vec<TargetGroup>, ElbError>),
    Told,
}

/// The state of the loop.
struct Work {
    tracker: Tracker,
    sweep: Sweep,
    endings: Endings,
    notices: Notices,
    /// What there is to tell that the index does not show any more.
    seen: AllFound,
    lost: LostBindings,
    reads_at_once: Arc<Semaphore>,
    failures: Failures,
}

impl Loop {
    /// Runs for ever, answers questions, and calls `beat` at least every five seconds, unless it is stuck.
    /// Panics only if one of its own tasks has panicked, so that the process ends.
    pub async fn run(self, mut questions: Questions<GatesView>, beat: impl Fn() + Send) {
        let mut work = Work {
            tracker: Tracker::new(self.settings.clone()),
            sweep: Sweep::default(),
            endings: Endings::new(EndingSettings {
                seconds: self.drain.seconds,
                measure: self.measure_drain,
            }),
            notices: Notices::new(clock::monotonic()),
            seen: AllFound::new(),
            lost: LostBindings::default(),
            reads_at_once: Arc::new(Semaphore::new(READS_AT_ONCE)),
            failures: Failures::default(),
        };
        let mut tasks = JoinSet::new();
        let mut leadership = self.leadership.clone();
        let mut actions = vec![];
        loop {
            beat();
            let now = clock::monotonic();
            actions.extend(self.sync_leadership(&mut work, now));
            actions.extend(self.observe(&mut work, now));
            actions.extend(self.hear_registrar(&mut work, now));
            let tracker = &mut work.tracker;
            actions.extend(tracker.tick(now));
            actions.extend(tracker.writes(now));
            for action in actions.drain(..) {
                self.carry_out(action, &mut work, &mut tasks, now);
            }
            let token = self.call(&mut work.tracker, &mut tasks, now);
            let swept = self.sweep(&mut work, &mut tasks, now);
            let looked = self.look(&mut work, &mut tasks, now);
            let told = self.tell_owners(&mut work, &mut tasks, now);
            let counted = work.failures.count(now);
            self.report(&work);
            let tick = work.tracker.next_tick(now);
            let wakes = [
                tick,
                token,
                swept,
                looked,
                told,
                counted,
                Some(now + LONGEST_PAUSE),
            ];
            let wake = wakes.into_iter().flatten().min().unwrap_or(now);
            // Biased, so that a simulation repeats itself. The last branches do not starve: each round checks
            // everything except the tasks anyway.
            tokio::select! {
                biased;
                Some(all) = ended(&mut tasks) => {
                    // Process all results so far together, before acting on the decisions.
                    for done in all {
                        actions.extend(self.handle(&mut work, done));
                    }
                }
                () = self.cache.changed() => {}
                () = self.heard_of_registrar() => {}
                () = leadership.changed() => {}
                Some(question) = questions.next() => self.answer(&work, question),
                () = sleep_until(wake.into()) => {}
            }
        }
    }

    /// Starts or stops leading, as the Lease says.
    fn sync_leadership(&self, work: &mut Work, now: Instant) -> Vec<Action> {
        match (work.tracker.leads(), self.leadership.leads()) {
            (false, true) => {
                work.endings.lead();
                work.tracker.lead(now)
            }
            (true, false) => {
                work.tracker.follow();
                vec![]
            }
            _ => vec![],
        }
    }

    fn observe(&self, work: &mut Work, now: Instant) -> Vec<Action> {
        // Most rounds are about an answer of ELB, and need not block admissions by the write lock.
        let has_news = |index: &Index| index.has_dirty() || index.has_lost();
        if !self.cache.read(has_news) {
            return vec![];
        }
        let (dirty, endings, lost) = self.cache.write(|index| {
            let (dirty, endings) = (index.take_dirty(), index.take_endings());
            (dirty, endings, index.take_lost())
        });
        let wall = (self.now)();
        work.lost.note(lost, wall);
        self.see_endings(work, endings, now);
        let tracker = &mut work.tracker;
        let actions = self.cache.read(|index| {
            let observe = |key| tracker.observe(key, index, now, wall);
            dirty.iter().flat_map(observe).collect()
        });
        if enabled!(Level::DEBUG) {
            dirty
                .iter()
                .for_each(|pod| self.log_waiting(tracker, pod, now));
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
            if turn.recheck {
                self.budget.try_take_for_recheck(&turn.quota)?;
                self.budget.waited("recheck", now - turn.since);
                return Ok(());
            }
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
                Done::Answered(call, now, answer)
            });
        }
        started.again
    }

    /// Exports the number of pending gates, the age of the oldest, and the number of ungated pods. Only the
    /// leader does, so that a sum over the replicas is right.
    fn report(&self, work: &Work) {
        let tracker = &work.tracker;
        let (gates, oldest, ungated) = match tracker.leads() {
            true => (
                tracker.pending(),
                self.age(tracker.oldest()),
                self.ungated(),
            ),
            false => (0, Duration::ZERO, 0),
        };
        self.metrics.set_missing(work.sweep.missing_groups());
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
