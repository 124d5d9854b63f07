//! Keeps the `GateRules` objects, by which the API server itself injects gates (contract 11).
//!
//! Only the leader reads and writes them. What is written follows the index, as the hook's decisions do.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use kube::Client;
use targetgate_core::backoff::Backoff;
use targetgate_core::gate_rules::reconcile::{Reconciler, Step};
use targetgate_core::gate_rules::{GateRules, TooLarge};
use targetgate_core::gates::inject::GatePolicy;
use targetgate_core::index::Index;
use targetgate_core::reason::Reason;
use tokio::sync::{mpsc, watch};
use tokio::time::{sleep, sleep_until};
use tracing::{info, warn};

use crate::clock;
use crate::controllers::metrics::GateRulesMetrics;
use crate::kubernetes::gate_rules::{Failure, Listed, Seen, Store};
use crate::state::cache::{Cache, InitialList, WatchedResource};
use crate::state::leadership::Leadership;

/// Longest pause of the loop. Chosen: the age in the metric is as old at most.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// Pause after a look that found the API not served: it grows to an hour. A CRD that is being installed is there
/// within seconds, and a cluster is upgraded once in months.
const NOT_SERVED: Backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(3600));
/// Pause after a list or watch that failed. Chosen: an API server that restarts is back within seconds.
const FAILED: Backoff = Backoff::new(Duration::from_millis(500), Duration::from_secs(10));
/// Events of the watch that wait for the loop; the watch waits then. Chosen.
const SEEN: usize = 64;

/// Writes the rules of each namespace with gates while this replica leads.
pub struct Keeper {
    pub kube: Client,
    pub cache: Arc<Cache>,
    pub leadership: Leadership,
    pub policy: GatePolicy,
    pub metrics: GateRulesMetrics,
    /// Where the namespaces are told whose rules are too large.
    pub too_large: watch::Sender<BTreeMap<Arc<str>, TooLarge>>,
}

/// What the keeper knows while it leads.
#[derive(Default)]
struct Work {
    reconciler: Reconciler,
    /// The namespaces of which it was said that their rules are too large.
    told: BTreeSet<Arc<str>>,
    /// How often in a row the objects could not be read, and what was said of it.
    failures: u32,
    said: Option<String>,
}

/// Why a term of reading and writing ends.
enum Ended {
    /// Another replica leads.
    Follows,
    NotServed(&'static str),
    /// The watch ended, or something failed: the objects are listed again.
    Again(Option<String>),
}

impl From<Failure> for Ended {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::NotServed(what) => Self::NotServed(what),
            Failure::NamespaceGoes => Self::Again(None),
            Failure::Other(why) => Self::Again(Some(why)),
        }
    }
}

impl Keeper {
    /// Keeps them for ever.
    pub async fn run(mut self) {
        let store = Store::new(self.kube.clone());
        self.cache.warm().await;
        let mut work = Work::default();
        loop {
            let pause = match self.term(&store, &mut work).await {
                Ended::Follows => {
                    work = Work::default();
                    self.follow();
                    LONGEST_PAUSE
                }
                Ended::NotServed(what) => {
                    work.reconciler = Reconciler::default();
                    self.follow();
                    work.say(format!(
                        "the API server does not serve {what}: as with --admission webhook, gates are injected by \
                         the webhook alone"
                    ));
                    NOT_SERVED.after(work.failures)
                }
                Ended::Again(None) => Duration::ZERO,
                Ended::Again(Some(why)) => {
                    self.take_changes(&mut work);
                    self.report(&mut work);
                    work.say(format!(
                        "cannot follow gaterules.targetgate.dev ({why}): the gate rules stay as they are"
                    ));
                    FAILED.after(work.failures)
                }
            };
            tokio::select! {
                () = sleep(pause) => {}
                () = self.leadership.changed() => {}
            }
        }
    }

    /// Lists the objects, and watches and writes them until that fails or another replica leads.
    async fn term(&self, store: &Store, work: &mut Work) -> Ended {
        if !self.leadership.leads() {
            return Ended::Follows;
        }
        let listed = async {
            store.is_served().await?;
            store.list().await
        };
        let Listed { objects, version } = match listed.await {
            Ok(listed) => listed,
            Err(failure) => return failure.into(),
        };
        let now = clock::monotonic();
        let watched = |namespace: &Arc<str>| self.cache.watches(namespace);
        let objects: BTreeMap<_, _> = objects
            .into_iter()
            .filter(|(namespace, _)| watched(namespace))
            .collect();
        work.reconciler.listed(objects, now);
        let known: Vec<Arc<str>> = self
            .cache
            .read(|index| index.namespaces().map(|(name, _)| name.clone()).collect());
        for namespace in known {
            work.reconciler.changed(namespace, now);
        }
        work.works();
        self.metrics.set_served(true);
        let (sender, seen) = mpsc::channel(SEEN);
        tokio::select! {
            biased;
            ended = follow(store, version, sender) => ended,
            ended = self.write(store, work, seen) => ended,
        }
    }

    /// Writes what differs, for as long as this replica leads.
    async fn write(&self, store: &Store, work: &mut Work, mut seen: mpsc::Receiver<Seen>) -> Ended {
        let mut leadership = self.leadership.clone();
        loop {
            self.take_changes(work);
            while let Some(step) = self.next(work) {
                let Some(by) = self.leadership.write_by() else {
                    return Ended::Follows;
                };
                let done = store.carry_out(&step, by).await;
                if let Err(failure) = self.done(work, step, done) {
                    return failure.into();
                }
            }
            if !self.leadership.leads() {
                return Ended::Follows;
            }
            self.report(work);
            let (now, again) = (clock::monotonic(), work.reconciler.next_try());
            let latest = now + LONGEST_PAUSE;
            // What is due while it cannot be judged must not keep the loop busy.
            let wake = again
                .filter(|at| *at > now)
                .map_or(latest, |at| at.min(latest));
            tokio::select! {
                biased;
                Some((namespace, object)) = seen.recv() => {
                    if self.cache.watches(&namespace) {
                        work.reconciler.saw(namespace, object, clock::monotonic());
                    }
                }
                () = self.cache.rules_changed() => {}
                () = leadership.changed() => {}
                () = sleep_until(wake.into()) => {}
            }
        }
    }

    fn take_changes(&self, work: &mut Work) {
        if self.cache.read(Index::has_rule_changes) {
            let now = clock::monotonic();
            for namespace in self.cache.write(Index::take_rule_changes) {
                work.reconciler.changed(namespace, now);
            }
        }
    }

    /// The next step, unless nothing is known of the bindings: a CRD that is not served is unknown, not gone.
    fn next(&self, work: &mut Work) -> Option<Step> {
        let listed = |api| self.cache.look(WatchedResource::Bindings(api)) == InitialList::Listed;
        if !self.policy.apis.iter().any(|api| listed(*api)) {
            return None;
        }
        let wanted = |namespace: &str| self.wanted(namespace);
        work.reconciler.next(wanted, clock::monotonic())
    }

    fn wanted(&self, namespace: &str) -> Result<GateRules, TooLarge> {
        self.cache.read(|index| {
            let view = index.namespace(namespace);
            view.map_or_else(
                || Ok(GateRules::default()),
                |view| GateRules::of(&view.routes, &self.policy),
            )
        })
    }

    /// Takes in how a step ended. The failure of one namespace is none of the others'.
    fn done(&self, work: &mut Work, step: Step, done: Result<(), Failure>) -> Result<(), Failure> {
        let namespace = step.namespace().clone();
        match done {
            Ok(()) => {
                let (result, rules) = match &step {
                    Step::Write(_, rules) => ("Written", rules.len()),
                    Step::Remove(_) => ("Removed", 0),
                };
                info!(%namespace, rules, "gate rules {}", result.to_lowercase());
                self.metrics.wrote(result);
                work.reconciler.done(step);
            }
            Err(Failure::NamespaceGoes) => work.reconciler.leave(&namespace),
            Err(Failure::NotServed(what)) => return Err(Failure::NotServed(what)),
            Err(Failure::Other(why)) => {
                self.metrics.wrote("Failed");
                work.say(format!(
                    "cannot write GateRules targetgate of namespace {namespace}: {why}; ours needs the verbs create, \
                     patch and delete on gaterules.targetgate.dev"
                ));
                work.reconciler.failed(&namespace, clock::monotonic());
            }
        }
        Ok(())
    }

    fn report(&self, work: &mut Work) {
        let (reconciler, now) = (&work.reconciler, clock::monotonic());
        let too_large = reconciler.too_large();
        for (namespace, why) in too_large {
            if work.told.insert(namespace.clone()) {
                let reason = Reason::RulesTooLarge;
                warn!(%namespace, %reason, "gates are injected by the webhook alone, because the gate rules are too large: {why}");
            }
        }
        work.told
            .retain(|namespace| too_large.contains_key(namespace));
        let (written, left) = (reconciler.written(), too_large.len());
        self.metrics.report(reconciler.age(now), written, left);
        self.tell(too_large);
    }

    fn follow(&self) {
        self.metrics.follow();
        self.tell(&BTreeMap::new());
    }

    fn tell(&self, too_large: &BTreeMap<Arc<str>, TooLarge>) {
        self.too_large.send_if_modified(|told| {
            let differs = told != too_large;
            told.clone_from(too_large);
            differs
        });
    }
}

impl Work {
    /// Says what failed, once for each cause in a row, and counts it.
    fn say(&mut self, what: String) {
        self.failures = self.failures.saturating_add(1);
        if self.said.as_ref() != Some(&what) {
            warn!("{what}");
            self.said = Some(what);
        }
    }

    fn works(&mut self) {
        self.failures = 0;
        if self.said.take().is_some() {
            info!("gaterules.targetgate.dev are followed again");
        }
    }
}

/// Watches the objects for as long as the history reaches.
async fn follow(store: &Store, mut version: String, seen: mpsc::Sender<Seen>) -> Ended {
    loop {
        if let Err(failure) = store.watch(&mut version, &seen).await {
            return failure.into();
        }
        // A watch that ends at once must not be started without a pause.
        sleep(FAILED.after(1)).await;
    }
}
