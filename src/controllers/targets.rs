//! The registrar: puts pods into the target groups of their bindings, and takes them out (contract 8).
//!
//! [`Registrar`] decides on data what to do next; this controller does it, and reports back. It owns all its tasks,
//! which end with it. A replica that does not lead takes in what watches show, but calls and writes nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::sync::Arc;
use std::time::{Duration, Instant};

use targetgate_core::binding::allow_list::AllowList;
use targetgate_core::elb::buckets::PollRequest;
use targetgate_core::explain::leader::RegistrarView;
use targetgate_core::index::{BindingKey, Index};
use targetgate_core::model::{Service, TargetHealth};
use targetgate_core::names::{BindingApi, GroupKey, ObjectKey, Quota};
use targetgate_core::targets::calls::{Call, CallError, CallErrorKind, Kind};
use targetgate_core::targets::incumbent::Look;
use targetgate_core::targets::machine::Registrar;
use targetgate_core::targets::machine::action::{Action, Counts, Settings, View, Written};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::sleep_until;

use crate::aws::budget::Budget;
use crate::aws::client::ElbClient;
use crate::aws::error::ElbError;
use crate::clock::{self, Now};
use crate::controllers::ended;
use crate::controllers::metrics::TargetMetrics;
use crate::controllers::targets::answers::{Answers, call_error, listing};
use crate::controllers::targets::failures::Failures;
use crate::controllers::targets::reads::Reads;
use crate::controllers::targets::registrations::Registrations;
use crate::kubernetes::live_read::ConfirmError;
use crate::kubernetes::targets::records::{Listed, Stored, TargetRecords};
use crate::state::cache::{Cache, InitialList, WatchedResource};
use crate::state::leadership::Leadership;
use crate::state::questions::Questions;

mod actions;
pub mod answers;
mod failures;
mod reads;
pub mod registrations;
mod telling;

/// Longest pause between two heartbeats of the loop. Chosen, as that of the health loop.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// Maximum number of concurrent requests to the API server. Chosen, as the live reads of the health loop.
const REQUESTS_AT_ONCE: usize = 16;
/// A status that could not be written is written again after so long. Chosen: nothing depends on it.
const UNTOLD: Duration = Duration::from_secs(30);

/// The allow-list that is in force now.
pub type CurrentAllowList = Box<dyn Fn() -> Arc<AllowList> + Send + Sync>;

/// The controller, with the parts that it uses.
pub struct Controller {
    pub cache: Arc<Cache>,
    pub kube: kube::Client,
    pub leadership: Leadership,
    pub elb: ElbClient,
    /// The budget of polls. Registrations have one of their own.
    pub budget: Budget,
    pub metrics: TargetMetrics,
    /// What the health loop hears of whole groups.
    pub answers: Answers,
    /// What the health loop hears of us.
    pub registrations: Registrations,
    pub records: TargetRecords,
    /// The Lease of the incumbent.
    pub incumbent_lease: ObjectKey,
    pub allow_list: Option<CurrentAllowList>,
    pub now: Now,
    pub settings: Settings,
}

/// The result of a task.
enum Done {
    Called(Call, Result<(), ElbError>),
    /// Not sent, because this replica does not lead any more.
    Unsent(Call),
    Described(GroupKey, Instant, Result<Vec<TargetHealth>, ElbError>),
    /// A record was written or deleted; with what it is now, where that is known otherwise.
    Recorded(Arc<str>, Written, Option<Option<Stored>>),
    Listed(Instant, BTreeSet<Arc<str>>, Result<Listed, Arc<str>>),
    Patched(BindingKey, Written),
    StatusWritten(BindingKey, Written),
    Confirmed(BindingKey, Result<Option<Service>, ConfirmError>),
    /// A read of the incumbent's Lease of the leadership that began then, with when it was sent.
    Incumbent(Instant, Instant, Look),
}

/// The state of the loop.
struct Work {
    registrar: Registrar,
    /// Whether all watches have worked at a time in this leadership.
    synced: bool,
    /// `None` while this replica does not lead.
    reads: Option<Reads>,
    failures: Failures,
    allow_list: Option<Arc<AllowList>>,
    /// The bindings whose status could not be written, and when it is tried again.
    untold: BTreeMap<BindingKey, Instant>,
    requests_at_once: Arc<Semaphore>,
}

impl Controller {
    /// Runs for ever, answers questions, and calls `beat` at least every five seconds, unless it is stuck.
    /// Panics only if one of its own tasks has panicked, so that the process ends.
    pub async fn run(self, mut questions: Questions<RegistrarView>, beat: impl Fn() + Send) {
        let this = Arc::new(self);
        let mut work = Work {
            registrar: Registrar::new(this.settings.clone(), clock::monotonic()),
            synced: false,
            reads: None,
            failures: Failures::default(),
            allow_list: None,
            untold: BTreeMap::new(),
            requests_at_once: Arc::new(Semaphore::new(REQUESTS_AT_ONCE)),
        };
        let mut tasks = JoinSet::new();
        let mut leadership = this.leadership.clone();
        loop {
            beat();
            let now = clock::monotonic();
            this.sync_leadership(&mut work, now);
            this.observe(&mut work, now);
            let read = this.read(&mut work, &mut tasks, now);
            let stepped = this.step(&mut work, &mut tasks, now);
            let counted = work.failures.count(now);
            this.report(&work.registrar);
            let untold = work.untold.values().min().copied();
            let wakes = [read, stepped, counted, untold, Some(now + LONGEST_PAUSE)];
            let wake = wakes.into_iter().flatten().min().unwrap_or(now);
            // Biased, so that a simulation repeats itself.
            tokio::select! {
                biased;
                Some(all) = ended(&mut tasks) => {
                    for done in all {
                        this.handle(&mut work, done);
                    }
                }
                () = this.cache.noted() => {}
                () = this.answers.told() => {}
                () = leadership.changed() => {}
                Some(question) = questions.next() => telling::answer(&work.registrar, question),
                () = sleep_until(wake.into()) => {}
            }
        }
    }

    /// Starts or stops leading, as the Lease says.
    fn sync_leadership(&self, work: &mut Work, now: Instant) {
        match (work.registrar.leads(), self.leadership.leads()) {
            (false, true) => {
                work.registrar.lead(now);
                self.registrations.begin_anew();
                (work.synced, work.reads) = (false, Some(Reads::begin(now)));
            }
            (true, false) => {
                work.registrar.follow();
                self.registrations.begin_anew();
                work.reads = None;
            }
            _ => {}
        }
    }

    /// Takes in what watches show, what ELB answered to the health loop, and the allow-list.
    fn observe(&self, work: &mut Work, now: Instant) {
        let registrar = &mut work.registrar;
        if self.cache.read(Index::has_changes) {
            let changes = self.cache.write(Index::take_changes);
            self.cache
                .read(|index| registrar.observe(&changes, index, now));
        }
        for (arn, (requested, listing)) in self.answers.take() {
            registrar.described(&arn, requested, Ok(listing), now);
        }
        self.cache.read(|index| {
            for (uid, record) in self.cache.take_records() {
                if self.is_watched(record.as_ref()) {
                    registrar.see_record(&uid, record, index, now);
                }
            }
            let slices = self.cache.take_slices().into_iter();
            let changed = slices.flat_map(|(key, slice)| match slice {
                Some(slice) => registrar.slices.apply(&key, slice),
                None => registrar.slices.delete(&key),
            });
            let services: Vec<ObjectKey> = changed.collect();
            if !services.is_empty() {
                registrar.observe_slices(services, index);
            }
        });
        let works = self.watches_work();
        work.synced |= works;
        registrar.see(View {
            synced: work.synced,
            works,
        });
        let list = self.allow_list.as_ref().map(|current| current());
        if list != work.allow_list {
            work.allow_list.clone_from(&list);
            self.cache.read(|index| registrar.allow(list, index, now));
        }
        work.untold.retain(|binding, again| {
            let waits = *again > now;
            if !waits {
                registrar.untold(binding);
            }
            waits
        });
    }

    /// Whether the binding of a record is in a namespace that is watched: of any other it is not known whether it is
    /// gone.
    fn is_watched(&self, record: Option<&Stored>) -> bool {
        record.is_none_or(|(record, _)| self.cache.watches(&record.binding.namespace))
    }

    /// Whether all watches work, but for that of bindings of EKS Auto Mode where these are not served.
    fn watches_work(&self) -> bool {
        let works = |watched: &WatchedResource| match self.cache.look(*watched) {
            InitialList::Listed => self.cache.watch_fails_since(*watched).is_none(),
            InitialList::NotServed => *watched == WatchedResource::Bindings(BindingApi::Eks),
            InitialList::Pending => false,
        };
        let all = WatchedResource::ALL.iter();
        all.chain(&WatchedResource::TARGETS).all(works)
    }

    /// Carries out what is to be done now. Returns when more will be.
    fn step(
        self: &Arc<Self>,
        work: &mut Work,
        tasks: &mut JoinSet<Done>,
        now: Instant,
    ) -> Option<Instant> {
        let begin_until = self.leadership.begin_until()?.into_std();
        let poll = |quota: &Quota| {
            let wish = PollRequest {
                groups: 1,
                likely_healthy: false,
            };
            self.budget.try_take_for_loop(quota, wish)
        };
        let registrar = &mut work.registrar;
        let step = self
            .cache
            .read(|index| registrar.step(index, begin_until, now, poll));
        for action in step.actions {
            if action == Action::ReadLease {
                work.reads.iter_mut().for_each(|reads| reads.hurry(now));
                continue;
            }
            self.carry_out(action, work, tasks, now);
        }
        // A read that is asked for begins in the next round.
        let hurried = work.reads.as_ref().and_then(Reads::next);
        step.wake.into_iter().chain(hurried).min()
    }

    fn handle(&self, work: &mut Work, done: Done) {
        let now = clock::monotonic();
        let (registrar, failures) = (&mut work.registrar, &mut work.failures);
        match done {
            Done::Called(call, result) => {
                let (arn, error) = (&call.group.arn, result.as_ref().err());
                let told = error.filter(|error| !is_of_targets(error));
                failures.called(arn, Some(call.kind), told, now);
                if error.is_none() && call.kind == Kind::Register {
                    let targets = call.targets.iter().map(|named| named.target);
                    self.registrations.registered(arn, targets.collect());
                }
                let error = error.map(call_error);
                registrar.called(&call, error.as_ref().map_or(Ok(()), Err), now);
            }
            Done::Unsent(call) => {
                let unsent = CallError {
                    kind: CallErrorKind::Unsent,
                    code: "Unsent".into(),
                    message: "this replica does not lead any more".into(),
                };
                registrar.called(&call, Err(&unsent), now);
            }
            Done::Described(group, requested, answer) => {
                failures.called(&group.arn, None, answer.as_ref().err(), now);
                let error = answer.as_ref().err().map(call_error);
                let result = match (&answer, &error) {
                    (_, Some(error)) => Err(error),
                    (answer, None) => Ok(listing(answer.as_deref().unwrap_or_default())),
                };
                registrar.described(&group.arn, requested, result, now);
                if let Ok(targets) = answer {
                    self.registrations.described(&group, requested, targets);
                }
            }
            Done::Recorded(uid, written, now_is) => {
                failures.recorded(&uid, failure(&written), now);
                registrar.recorded(&uid, &written, now);
                if let Some(record) = now_is {
                    self.cache
                        .read(|index| registrar.see_record(&uid, record, index, now));
                }
            }
            Done::Patched(binding, written) => {
                failures.bound(&binding, "patch of the finalizers", failure(&written), now);
                registrar.patched(&binding, &written, now);
            }
            Done::StatusWritten(binding, written) => {
                failures.bound(&binding, "write of the status", failure(&written), now);
                if !matches!(written, Written::Done(_)) {
                    work.untold.insert(binding, now + UNTOLD);
                }
            }
            Done::Confirmed(binding, found) => {
                let error = found.as_ref().err();
                let error = error.map(|error| error as &dyn Display);
                failures.bound(&binding, "live read of the Service", error, now);
                let found = found.as_ref().map(Option::as_ref).map_err(drop);
                self.cache
                    .read(|index| registrar.confirmed(&binding, found, index, now));
            }
            Done::Listed(since, known, found) => self.listed(work, since, &known, found, now),
            Done::Incumbent(since, sent, look) => {
                self.saw_incumbent(work, (since, sent), look, now);
            }
        }
    }

    /// Exports what the registrar counts. Only the leader does, so that a sum over the replicas is right.
    fn report(&self, registrar: &Registrar) {
        let counts = match registrar.leads() {
            true => registrar.counts(),
            false => Counts::default(),
        };
        self.metrics.set(&counts, registrar.look_interval());
    }
}

/// Whether a call failed for its targets, which is told where it leads to.
fn is_of_targets(error: &ElbError) -> bool {
    let kind = call_error(error).kind;
    matches!(kind, CallErrorKind::Target | CallErrorKind::TooManyTargets)
}

/// Why a write failed; another client's write is no failure.
fn failure(written: &Written) -> Option<&dyn Display> {
    match written {
        Written::Failed(why) => Some(why),
        Written::Done(_) | Written::Conflict | Written::Unsent => None,
    }
}
