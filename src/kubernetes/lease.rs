//! Leader election by a Lease (contract 5.8).
//!
//! [`Election`] decides; this edge reads, watches and writes the Lease, and reports to the process whether it
//! leads. Each kind of work has a Lease of its own. Needs the verb `create` on `leases.coordination.k8s.io`, and
//! `get`, `patch` and `watch` on each Lease by name.
//!
//! Sources: <https://kubernetes.io/docs/concepts/architecture/leases/>,
//! <https://pkg.go.dev/k8s.io/client-go/tools/leaderelection>

use std::future::{Future, pending};
use std::mem;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures::future::{BoxFuture, Fuse, FusedFuture};
use futures::{FutureExt, TryStreamExt};
use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, OwnerReference};
use kube::api::{Api, ObjectMeta, Patch, PatchParams, PostParams, WatchEvent, WatchParams};
use kube::{Client, ResourceExt};
use serde_json::json;
use targetgate_core::lease::{Attempt, BLIND_AFTER, Election, Outcome, Record, Step, Timing, View};
use targetgate_core::names::ObjectKey;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tracing::{info, warn};

use crate::clock::Now;
use crate::kubernetes::lease::work::Work;
use crate::kubernetes::metrics::LeaseMetrics;
use crate::kubernetes::{MANAGER, owner, why};
use crate::metrics::Metrics;
use crate::state::leadership::{Leadership, Standing, StandingSender, Term};

pub mod work;

/// How long releasing the Lease may delay the end of the process. Chosen.
pub const RELEASE_WITHIN: Duration = Duration::from_secs(3);
/// Pause between two watches. Chosen, so that the next leader still sees a release within a second.
const REST: Duration = Duration::from_millis(500);
/// How long we ask the API server to keep a watch open (`timeoutSeconds`). client-go draws 5 to 10 minutes.
const WATCH_SECONDS: u32 = 290;
/// Capacity of the channel from the watch to the election. Chosen.
const SEEN: usize = 8;

/// The Lease as it was read: its record and `resourceVersion`; `None` if it does not exist.
type Seen = Option<(Record, Arc<str>)>;

/// Settings of a candidate.
#[derive(Debug, Clone)]
pub struct Seat {
    /// The Lease, in an existing namespace.
    pub lease: ObjectKey,
    /// Identity of this process, which another process must not share, not even a later one of the same pod.
    pub identity: String,
    /// Duration, renew deadline and retry period.
    pub timing: Timing,
    /// The Deployment that owns the Lease if we create it; `None` for a Lease without owner.
    pub owner: Option<String>,
}

impl Seat {
    /// The same candidate's seat for the work on certificates, whose Lease is beside the one of this seat.
    ///
    /// The chart never has this Lease: a return to a release without it would delete it while pods of this one still
    /// create it anew, and Helm does not take over an object that it did not make.
    pub fn of_certificates(&self, owner: &str) -> Self {
        let ObjectKey { namespace, name } = &self.lease;
        Self {
            lease: ObjectKey::new(namespace.clone(), format!("{name}-certificates")),
            owner: Some(owner.to_owned()),
            ..self.clone()
        }
    }
}

/// A candidate of the election, which leads whenever it holds the Lease.
pub struct Candidate {
    kube: Client,
    api: Api<Lease>,
    work: Work,
    seat: Seat,
    election: Election,
    standing: StandingSender,
    metrics: LeaseMetrics,
    now: Now,
    /// The origin of the times that the election uses.
    origin: Instant,
    /// The holder that was last logged.
    told: Option<String>,
    failing: bool,
}

/// Whether a candidate sees the objects that it would write about.
pub trait CandidateView {
    /// Since when it has not; `None` while it does.
    fn fails_since(&self) -> Option<Instant>;

    /// Returns once that may have changed.
    fn changed(&self) -> impl Future<Output = ()> + Send;
}

/// The view for work that needs no watch.
pub struct Always;

impl CandidateView for Always {
    fn fails_since(&self) -> Option<Instant> {
        None
    }

    async fn changed(&self) {
        pending().await
    }
}

/// The result of a call.
enum Done {
    Looked(Duration, Result<Seen, String>),
    Tried(Attempt, Duration, Result<Outcome, String>),
}

type Call = Fuse<BoxFuture<'static, Done>>;

impl Candidate {
    /// A candidate, and the handle that answers whether it leads.
    pub fn new(
        kube: &Client,
        work: Work,
        seat: Seat,
        metrics: &Metrics,
        now: Now,
    ) -> (Self, Leadership) {
        let (standing, leadership) = Leadership::following();
        let candidate = Self {
            kube: kube.clone(),
            api: Api::namespaced(kube.clone(), &seat.lease.namespace),
            work,
            election: Election::new(seat.identity.as_str(), seat.timing),
            seat,
            standing,
            metrics: metrics.of(),
            now,
            origin: Instant::now(),
            told: None,
            failing: false,
        };
        (candidate, leadership)
    }

    /// Takes part in the election until `stop`; then ceases to lead and releases the Lease, within
    /// [`RELEASE_WITHIN`]. Tasks that write as the leader must have ended before.
    pub async fn run(self, view: impl CandidateView, stop: impl Future<Output = ()>) {
        let (sender, seen) = mpsc::channel(SEEN);
        let (api, lease, timing) = (self.api.clone(), self.seat.lease.clone(), self.seat.timing);
        tokio::select! {
            biased;
            () = self.stand(view, seen, stop) => {}
            () = watch(api, lease, timing, sender) => {}
        }
    }

    async fn stand(
        mut self,
        view: impl CandidateView,
        mut seen: mpsc::Receiver<Seen>,
        stop: impl Future<Output = ()>,
    ) {
        let mut stop = pin!(stop);
        let mut call: Call = Fuse::terminated();
        loop {
            self.election.sees(match view.fails_since() {
                None => View::Works,
                // A watch that failed before this candidate began has failed since it began.
                Some(since) => View::FailsSince(since.saturating_duration_since(self.origin)),
            });
            let wake = self.advance(&mut call);
            self.tell();
            tokio::select! {
                biased;
                () = &mut stop => break,
                done = &mut call, if !call.is_terminated() => self.ended(done),
                Some(seen) = seen.recv() => self.election.see(seen, self.at()),
                () = view.changed() => {}
                () = sleep_until(wake) => {}
            }
        }
        self.standing.send(Standing::Following);
        self.metrics.set_leads(self.work, false);
        let lease = self.seat.lease.clone();
        if timeout(RELEASE_WITHIN, self.release(call)).await.is_err() {
            warn!(%lease, "not given back in time: it will run out");
        }
    }

    /// Begins the call that is due, unless one is in flight. Returns the next wake-up.
    fn advance(&mut self, call: &mut Call) -> Instant {
        let at = self.at();
        let lapse = self.election.hold(at).map(|hold| hold.begin_until);
        let due = match call.is_terminated() {
            false => None,
            true => match self.election.next(at, self.wall()) {
                Step::Wait(until) => Some(until),
                Step::Look => {
                    *call = self.look().boxed().fuse();
                    None
                }
                Step::Try(attempt) => {
                    *call = self.attempt(attempt).boxed().fuse();
                    None
                }
            },
        };
        let longest = at + self.seat.timing.lease();
        let wake = [lapse, due].into_iter().flatten().min().unwrap_or(longest);
        self.origin + wake
    }

    fn look(&self) -> impl Future<Output = Done> + Send + use<> {
        let (api, name) = (self.api.clone(), self.seat.lease.name.clone());
        let (begun, within) = (self.at(), self.call_timeout());
        async move {
            let read = match timeout(within, api.get_opt(&name)).await {
                Ok(Ok(lease)) => Ok(lease.as_ref().map(as_seen)),
                Ok(Err(error)) => Err(why(&error)),
                Err(_) => Err(format!("no answer within {within:?}")),
            };
            Done::Looked(begun, read)
        }
    }

    fn attempt(&self, attempt: Attempt) -> impl Future<Output = Done> + Send + use<> {
        let (kube, api, seat) = (self.kube.clone(), self.api.clone(), self.seat.clone());
        let (begun, within) = (self.at(), self.call_timeout());
        async move {
            let owner = match (&attempt.version, &seat.owner) {
                (None, Some(owner)) => owner::read(&kube, &seat.lease.namespace, owner).await,
                _ => None,
            };
            let written = timeout(within, write(&api, &seat.lease.name, owner, &attempt)).await;
            let replaces = attempt.version.is_some();
            let outcome = match written {
                Ok(Ok(lease)) => Ok(Outcome::Written(version(&lease))),
                Ok(Err(kube::Error::Api(status)))
                    if status.code == 409 || (status.code == 404 && replaces) =>
                {
                    Ok(Outcome::Overtaken)
                }
                Ok(Err(error)) => Err(why(&error)),
                Err(_) => Err(format!("no answer within {within:?}")),
            };
            Done::Tried(attempt, begun, outcome)
        }
    }

    fn ended(&mut self, done: Done) {
        let at = self.at();
        let failure = match done {
            Done::Looked(_, Ok(read)) => {
                self.election.looked(read, at);
                None
            }
            Done::Looked(begun, Err(why)) => {
                self.election.look_failed(begun, at);
                Some(("read", why))
            }
            Done::Tried(attempt, begun, outcome) => {
                let (outcome, failure) = match outcome {
                    Ok(outcome) => (outcome, None),
                    Err(why) => (Outcome::Failed, Some(("write", why))),
                };
                self.election.tried(attempt, begun, outcome, at);
                failure
            }
        };
        // The call is retried every few seconds: log the failure once.
        let known = mem::replace(&mut self.failing, failure.is_some());
        if let Some((verb, why)) = failure.filter(|_| !known) {
            warn!(
                lease = %self.seat.lease,
                "cannot {verb} the Lease: {why}; it is tried again. Ours needs the verbs create, get, \
                 patch and watch on leases.coordination.k8s.io"
            );
        }
    }

    /// Reports to the process whether it leads, and logs a change of holder.
    fn tell(&mut self) {
        let hold = self.election.hold(self.at());
        self.metrics.set_leads(self.work, hold.is_some());
        self.standing.send(match hold {
            Some(hold) => Standing::Leading(Term {
                begin_until: self.origin + hold.begin_until,
                end_by: self.origin + hold.end_by,
            }),
            None => Standing::Following,
        });
        let holder = match hold {
            Some(_) => Some(self.seat.identity.as_str()),
            // A Lease of our own that was not renewed in time counts as without holder.
            None => Some(self.election.holder()).filter(|holder| *holder != self.seat.identity),
        };
        let holder = holder.unwrap_or_default();
        if self.told.as_deref() == Some(holder) {
            return;
        }
        let lease = &self.seat.lease;
        match (hold.is_some(), holder) {
            (true, _) => info!(%lease, "leading: {}", self.work.words()),
            (false, "") if self.election.is_blind(self.at()) => warn!(
                %lease,
                "following: the watch that its work needs has failed for {BLIND_AFTER:?}; it stands again once that works"
            ),
            (false, "") => info!(%lease, "following: nobody is known to lead"),
            (false, _) => info!(%lease, holder, "following"),
        }
        self.told = Some(holder.to_owned());
    }

    async fn release(mut self, call: Call) {
        // The call in flight may be the renewal that returns the version to replace.
        if !call.is_terminated() {
            let done = call.await;
            self.ended(done);
        }
        let Some(attempt) = self.election.release(self.wall()) else {
            return;
        };
        let lease = &self.seat.lease;
        match write(&self.api, &lease.name, None, &attempt).await {
            Ok(_) => info!(%lease, "given back"),
            Err(error) => warn!(%lease, why = why(&error), "not given back: it will run out"),
        }
    }

    /// Timeout of one call: two attempts fit into the renew deadline, as in client-go.
    fn call_timeout(&self) -> Duration {
        self.seat.timing.renew_deadline() / 2
    }

    fn at(&self) -> Duration {
        self.origin.elapsed()
    }

    /// The wall clock in microseconds, the precision of the Lease, so that times compare equal when they are read back.
    fn wall(&self) -> Timestamp {
        let now = (self.now)();
        Timestamp::from_microsecond(now.as_microsecond()).unwrap_or(now)
    }
}

/// Sends the Lease whenever it changes, for ever.
async fn watch(api: Api<Lease>, lease: ObjectKey, timing: Timing, seen: mpsc::Sender<Seen>) {
    let mut failing = false;
    loop {
        let followed = follow(&api, &lease.name, timing, &seen).await;
        let known = mem::replace(&mut failing, followed.is_err());
        if let Err(why) = followed
            && !known
        {
            warn!(%lease, "the Lease is not watched: {why}; it is tried again");
        }
        sleep(REST).await;
    }
}

/// Runs one watch, which begins with the current Lease. Ends with the watch, or when the watch is silent
/// for the duration of the Lease: the leader renews it more often.
async fn follow(
    api: &Api<Lease>,
    name: &str,
    timing: Timing,
    seen: &mpsc::Sender<Seen>,
) -> Result<(), String> {
    let params = WatchParams::default()
        .fields(&format!("metadata.name={name}"))
        .timeout(WATCH_SECONDS);
    let silence = timing.lease();
    let started = timeout(silence, api.watch(&params, "0")).await;
    let started = started.map_err(|_| format!("no answer within {silence:?}"))?;
    let mut events = pin!(started.map_err(|error| why(&error))?);
    while let Ok(event) = timeout(silence, events.try_next()).await {
        let news = match event.map_err(|error| why(&error))? {
            None => return Ok(()),
            Some(WatchEvent::Added(lease) | WatchEvent::Modified(lease)) => Some(as_seen(&lease)),
            Some(WatchEvent::Deleted(_)) => None,
            Some(WatchEvent::Bookmark(_)) => continue,
            Some(WatchEvent::Error(status)) => return Err(why(&kube::Error::Api(status))),
        };
        // A dropped receiver ends this watch, too.
        let _ = seen.send(news).await;
    }
    Ok(())
}

async fn write(
    api: &Api<Lease>,
    name: &str,
    owner: Option<OwnerReference>,
    attempt: &Attempt,
) -> kube::Result<Lease> {
    let spec = spec(&attempt.record);
    match &attempt.version {
        None => {
            let lease = Lease {
                metadata: ObjectMeta {
                    name: Some(name.to_owned()),
                    owner_references: owner.map(|owner| vec![owner]),
                    ..ObjectMeta::default()
                },
                spec: Some(spec),
            };
            let params = PostParams {
                field_manager: Some(MANAGER.to_owned()),
                ..PostParams::default()
            };
            api.create(&params, &lease).await
        }
        // The patch keeps other fields of the Lease, such as labels.
        Some(version) => {
            let patch = json!({ "metadata": { "resourceVersion": &**version }, "spec": spec });
            let params = PatchParams {
                field_manager: Some(MANAGER.to_owned()),
                ..PatchParams::default()
            };
            api.patch(name, &params, &Patch::Merge(patch)).await
        }
    }
}

fn spec(record: &Record) -> LeaseSpec {
    LeaseSpec {
        holder_identity: Some(record.holder.to_string()),
        lease_duration_seconds: Some(i32::try_from(record.lease.as_secs()).unwrap_or(i32::MAX)),
        acquire_time: record.acquired.map(MicroTime),
        renew_time: record.renewed.map(MicroTime),
        lease_transitions: Some(i32::try_from(record.transitions).unwrap_or(i32::MAX)),
        ..LeaseSpec::default()
    }
}

fn as_seen(lease: &Lease) -> (Record, Arc<str>) {
    let spec = lease.spec.clone().unwrap_or_default();
    let seconds = spec.lease_duration_seconds.unwrap_or_default();
    let transitions = spec.lease_transitions.unwrap_or_default();
    let record = Record {
        holder: spec.holder_identity.unwrap_or_default().into(),
        lease: Duration::from_secs(u64::try_from(seconds).unwrap_or_default()),
        acquired: spec.acquire_time.map(|time| time.0),
        renewed: spec.renew_time.map(|time| time.0),
        transitions: u32::try_from(transitions).unwrap_or_default(),
    };
    (record, version(lease))
}

fn version(lease: &Lease) -> Arc<str> {
    lease.resource_version().unwrap_or_default().into()
}
