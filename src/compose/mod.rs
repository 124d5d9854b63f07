//! The composition of the product: the one place that wires it.
//!
//! [`compose`] takes [`Parts`] and returns a [`Product`] that does not run yet. `serve` spawns its tasks
//! and binds its listeners; a simulation polls the same tasks within one task of its own;
//! the table in `docs/architecture.md` lists the parts that each caller omits.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use aws_config::SdkConfig;
use axum::Router;
use fastrand::Rng;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use kube::Client;
use targetgate_core::drain::DrainPolicy;
use targetgate_core::elb::buckets::Limits;
use targetgate_core::explain::leader::{GatesView, RegistrarView};
use targetgate_core::gate_rules::TooLarge;
use targetgate_core::gates::inject::GatePolicy;
use targetgate_core::gates::machine::action::Settings as GateSettings;
use targetgate_core::index::HookScope;
use targetgate_core::names::{ConditionPrefix, ObjectKey};
use targetgate_core::targets::machine::action::Settings as RegistrarSettings;
use targetgate_core::targets::slices::SliceAddresses;
use targetgate_core::targets::standing::{Mode, Policy};
use tokio::sync::watch;
use tokio::time::sleep;
use tokio_rustls::TlsAcceptor;

use crate::admission;
use crate::admission::binding::BindingReviewer;
use crate::admission::binding::allowed::Allowed;
use crate::admission::metrics::AdmissionMetrics;
use crate::admission::pod::PodPolicy;
use crate::admission::{Hooks, body};
use crate::aws::budget::Budget;
use crate::aws::client::{ElbClient, Timeouts};
use crate::aws::metrics::{BudgetMetrics, CallMetrics};
use crate::aws::target_groups::TargetGroups;
use crate::clock::Now;
use crate::controllers::certificates::make::Maker;
use crate::controllers::certificates::trust_check::TrustCheck;
use crate::controllers::certificates::{Keeper, Kind, ManagedObjects};
use crate::controllers::gate_rules;
use crate::controllers::gates::Loop;
use crate::controllers::metrics::{
    EndingMetrics, GateMetrics, GateRulesMetrics, KeeperMetrics, TargetMetrics,
};
use crate::controllers::targets::answers::Answers;
use crate::controllers::targets::registrations::Registrations;
use crate::controllers::targets::{self, CurrentAllowList};
use crate::files::FileMetrics;
use crate::kubernetes::events::Events;
use crate::kubernetes::lease::work::Work;
use crate::kubernetes::lease::{Candidate, Seat};
use crate::kubernetes::metrics::{LeaseMetrics, WatchMetrics};
use crate::kubernetes::server_version;
use crate::kubernetes::targets::records::TargetRecords;
use crate::kubernetes::watch::{WatchOptions, watches};
use crate::metrics::{Metrics, RefusalMetrics};
use crate::serve::certificates::{self, Certificate, Certificates, PemFiles};
use crate::serve::clients::Clients;
use crate::serve::explain::{self, Known};
use crate::serve::listener::{self, Listener};
use crate::serve::metrics::{CertificateMetrics, ListenerMetrics, ProcessMetrics};
use crate::serve::places::Places;
use crate::serve::readiness::{Health, Heartbeat, STALLED_AFTER};
use crate::serve::{PhaseReceiver, PhaseSender, admin, phases};
use crate::state::api_server::ApiServer;
use crate::state::cache::{Cache, WatchedResource};
use crate::state::leadership::Leadership;
use crate::state::questions::{Asker, questions};

mod election;

pub use election::Election;

/// How long the loop may stall before the process ends. Chosen: the kubelet sees the failing `/livez` first.
const STALL_ENDS_AFTER: Duration = Duration::from_secs(15).saturating_add(STALLED_AFTER);
/// How long the admin listener waits for a byte. Chosen: the kubelet sends its request at once.
const ADMIN_IDLE: Duration = Duration::from_secs(10);
/// Connections of the listener for `explain`. Chosen: people ask, by a port-forward each.
const EXPLAIN_PLACES: usize = 8;

/// The parts of the product: clients, clock, seed and settings.
pub struct Parts {
    pub kube: Client,
    pub aws: SdkConfig,
    /// Rates and burst of the ELB budget.
    pub elb: Limits,
    /// The cluster's own VPC, if it is known.
    pub vpc_id: Option<Arc<str>>,
    /// The index: empty, or filled by a bench.
    pub cache: Arc<Cache>,
    /// What the API server told: nothing yet, or filled by a bench.
    pub server: Arc<ApiServer>,
    pub metrics: Arc<Metrics>,
    pub now: Now,
    /// Seed of all jitter, by which a simulation repeats itself.
    pub seed: u64,
    /// The name of our own pod, for Events.
    pub pod_name: Option<String>,
    /// The namespaces to watch; empty for all.
    pub namespaces: Vec<Arc<str>>,
    pub policy: GatePolicy,
    /// Whether the objects are kept by which the API server itself injects gates.
    pub gate_rules: bool,
    /// The pods that get a sleep before their end, and its length.
    pub drain: DrainPolicy,
    /// Whether ELB is asked when it begins to drain targets, for the metric alone.
    pub measure_drain: bool,
    /// The pods for which the hook is called, for the count of ungated ones.
    pub scope: HookScope,
    /// The prefixes of all gates that the loop opens.
    pub prefixes: Vec<ConditionPrefix>,
    /// How long a gate stays closed when its binding has never existed.
    pub orphan_after: Duration,
    pub certificate: Source,
    /// The clients that the HTTPS listener accepts; `None` accepts any.
    pub clients: Option<Arc<Clients>>,
    /// The target groups that bindings may name; `None` allows any.
    pub allowed: Option<Arc<Allowed>>,
    /// The Lease of conditions, beside which certificates have one of their own; without it this process always
    /// leads.
    pub seat: Option<Seat>,
    /// The connections that the listeners hold.
    pub places: Places,
    /// Whose targets are registered; `None` for those of no binding.
    pub registration: Option<Registration>,
}

/// Settings of the registrar.
pub struct Registration {
    pub mode: Mode,
    /// The Lease of the incumbent.
    pub incumbent_lease: ObjectKey,
    /// The namespaces that the incumbent watches; `None` for all.
    pub incumbent_namespaces: Option<BTreeSet<Arc<str>>>,
    /// Which endpoints of Services without a selector are registered.
    pub slice_addresses: SliceAddresses,
    /// Our own namespace, in which the records are.
    pub namespace: Arc<str>,
    /// The UID of our Deployment, if there is one.
    pub deployment: Option<Arc<str>>,
}

impl Parts {
    /// Parts with the shipped settings, for a single process without a certificate.
    pub fn new(kube: Client, aws: SdkConfig, now: Now) -> Self {
        Self {
            kube,
            aws,
            elb: Limits {
                rate: 10.0,
                highest: 40.0,
                burst: 40,
            },
            vpc_id: None,
            cache: Arc::default(),
            server: Arc::default(),
            metrics: Arc::default(),
            now,
            seed: 1,
            pod_name: None,
            namespaces: vec![],
            policy: GatePolicy::default(),
            gate_rules: false,
            drain: DrainPolicy::default(),
            measure_drain: false,
            scope: HookScope::default(),
            prefixes: WatchOptions::default().prefixes,
            orphan_after: Duration::from_secs(300),
            certificate: Source::None,
            clients: None,
            allowed: None,
            seat: None,
            places: Places::default(),
            registration: None,
        }
    }
}

/// The source of the served certificate.
pub enum Source {
    /// Without a certificate: every handshake fails.
    None,
    /// A fixed certificate.
    Given(Certificate),
    /// Files that another program writes, what they hold to begin with, and the webhook configurations whose bundles
    /// should verify that.
    Files(PemFiles, Certificate, Vec<(Kind, String)>),
    /// A Secret that only targetgate writes, dated by a clock of its own.
    Own(ManagedObjects, Maker, Now),
}

/// The wired product, which does not run until its tasks are polled.
pub struct Product {
    pub cache: Arc<Cache>,
    pub metrics: Arc<Metrics>,
    pub leadership: Leadership,
    /// Sends the phase of the shutdown to the listeners.
    pub phase: PhaseSender,
    /// Receives the phase of the shutdown.
    pub phases: PhaseReceiver,
    /// The routes of the hooks, as [`Product::hooks`] serves them.
    pub reviews: Router,
    pub tls: TlsAcceptor,
    /// The tasks that run as long as the process does, by name. They never end by themselves.
    pub tasks: Vec<Task>,
    /// Runs beside the tasks, and ends after them: the tasks that write as the leader end before the Leases are
    /// released.
    pub election: Election,
    health: Arc<Health>,
    places: Places,
    known: Known,
}

impl Product {
    /// The HTTPS listener of the hooks.
    pub fn hooks(&self) -> Arc<Listener> {
        let limits = listener::Limits {
            connections: self.places.hooks,
            ..listener::Limits::default()
        };
        let (router, tls) = (self.reviews.clone(), self.tls.clone());
        Arc::new(Listener::https(router, tls, limits, &self.metrics))
    }

    /// The plain HTTP listener of probes and metrics.
    pub fn admin(&self) -> Arc<Listener> {
        let router = admin::router(self.health.clone(), self.metrics.clone());
        let limits = listener::Limits {
            connections: self.places.admin,
            keep_alive: false,
            idle: ADMIN_IDLE,
            ..listener::Limits::default()
        };
        Arc::new(Listener::http(router, limits, &self.metrics))
    }

    /// The plain HTTP listener of what this replica knows, for a loopback address.
    pub fn explain(&self) -> Arc<Listener> {
        let limits = listener::Limits {
            connections: EXPLAIN_PLACES,
            keep_alive: false,
            idle: ADMIN_IDLE,
            ..listener::Limits::default()
        };
        let router = explain::router(self.known.clone());
        Arc::new(Listener::http(router, limits, &self.metrics))
    }
}

/// Wires the product.
///
/// # Errors
/// Where TLS cannot be set up.
pub fn compose(parts: Parts) -> anyhow::Result<Product> {
    register(&parts.metrics);
    parts.cache.write(|index| {
        index.set_scope(parts.scope.clone());
        if parts.registration.is_some() {
            index.keep_all_pods();
        }
        if parts.gate_rules {
            index.note_rule_changes();
        }
    });
    let (candidate, leadership) = stand(&parts, Work::Conditions, parts.seat.clone());
    let (keeper, keeper_leadership) = match &parts.certificate {
        Source::Own(place, ..) => {
            let seat = parts.seat.as_ref();
            let seat = seat.map(|seat| seat.of_certificates(&place.deployment));
            stand(&parts, Work::Certificates, seat)
        }
        // Nothing of certificates is written.
        Source::None | Source::Given(_) | Source::Files(..) => (None, Leadership::following().1),
    };
    parts.cache.watch_only(parts.namespaces.clone());
    let (phase, phases) = phases();
    let mut wiring = Wiring::new(parts, leadership, keeper_leadership);
    let watches = wiring.watches();
    let (gates_asker, gates) = wiring.gates();
    let (registrar_asker, targets) = wiring.targets();
    let known = Known {
        gates: gates_asker,
        registrar: registrar_asker,
        pod: wiring.parts.pod_name.clone(),
        now: wiring.parts.now.clone(),
    };
    let tasks = watches.into_iter().chain(gates).chain(targets);
    let tasks = tasks.chain(wiring.reloads());
    let tasks = tasks.chain([wiring.server_version()]);
    let tasks = tasks.chain(wiring.gate_rules());
    Ok(Product {
        tasks: tasks.collect(),
        election: Election::new(candidate, keeper, wiring.parts.cache.clone()),
        reviews: wiring.reviews(),
        tls: wiring.tls()?,
        health: wiring.health(phases.clone()),
        places: wiring.parts.places,
        known,
        leadership: wiring.leadership,
        cache: wiring.parts.cache,
        metrics: wiring.parts.metrics,
        phase,
        phases,
    })
}

/// The candidate for that work, if there is a Lease, and whether this process does the work.
fn stand(parts: &Parts, work: Work, seat: Option<Seat>) -> (Option<Candidate>, Leadership) {
    match seat {
        Some(seat) => {
            let (metrics, now) = (&parts.metrics, parts.now.clone());
            let (candidate, leadership) = Candidate::new(&parts.kube, work, seat, metrics, now);
            (Some(candidate), leadership)
        }
        None => {
            parts.metrics.of::<LeaseMetrics>().set_leads(work, true);
            (None, Leadership::alone())
        }
    }
}

/// Registers all metrics, in the order of `docs/metrics.md`, so that each is served from the start.
pub fn register(metrics: &Metrics) {
    metrics.of::<ProcessMetrics>();
    metrics.of::<LeaseMetrics>();
    metrics.of::<AdmissionMetrics>();
    metrics.of::<RefusalMetrics>();
    metrics.of::<GateMetrics>();
    metrics.of::<EndingMetrics>();
    metrics.of::<TargetMetrics>();
    metrics.of::<GateRulesMetrics>();
    metrics.of::<CallMetrics>();
    metrics.of::<BudgetMetrics>();
    metrics.of::<WatchMetrics>();
    metrics.of::<ListenerMetrics>();
    metrics.of::<CertificateMetrics>();
    metrics.of::<KeeperMetrics>();
    metrics.of::<FileMetrics>();
}

/// A task that runs as long as the process does, with its name.
pub type Task = (String, BoxFuture<'static, ()>);

/// The state that the parts of the product share.
struct Wiring {
    parts: Parts,
    random: Rng,
    certificates: Arc<Certificates>,
    leadership: Leadership,
    /// Whether this process writes certificates.
    keeper_leadership: Leadership,
    events: Arc<Events>,
    budget: Budget,
    elb: ElbClient,
    groups: TargetGroups,
    heartbeat: Arc<Heartbeat>,
    /// Where the registrar hears of whole groups; `None` without one.
    answers: Option<Answers>,
    /// What the health loop hears of the registrar; `None` without one.
    registrations: Option<Registrations>,
    /// Where the keeper of the gate rules tells which are too large.
    too_large: watch::Sender<BTreeMap<Arc<str>, TooLarge>>,
}

impl Wiring {
    fn new(parts: Parts, leadership: Leadership, keeper_leadership: Leadership) -> Self {
        let mut random = Rng::with_seed(parts.seed);
        let metrics = &parts.metrics;
        let Limits {
            rate,
            highest,
            burst,
        } = parts.elb;
        let budget = Budget::new(rate, highest, burst, metrics);
        let (aws, timeouts) = (parts.aws.clone(), Timeouts::default());
        let elb = ElbClient::new(aws, timeouts, budget.clone(), metrics);
        Self {
            certificates: Arc::new(parts.certificate.served(metrics)),
            events: Arc::new(Events::new(parts.kube.clone(), parts.pod_name.clone())),
            groups: TargetGroups::new(elb.clone(), budget.clone(), random.u64(..)),
            heartbeat: Arc::default(),
            answers: parts.registration.is_some().then(Answers::default),
            registrations: parts.registration.is_some().then(Registrations::default),
            too_large: watch::Sender::default(),
            random,
            leadership,
            keeper_leadership,
            budget,
            elb,
            parts,
        }
    }

    fn watches(&mut self) -> Vec<Task> {
        let parts = &self.parts;
        let options = WatchOptions {
            namespaces: parts.namespaces.clone(),
            prefixes: parts.prefixes.clone(),
            records: parts
                .registration
                .as_ref()
                .map(|registration| registration.namespace.clone()),
            seed: self.random.u64(..),
            ..WatchOptions::default()
        };
        let watches = watches(&parts.kube, &parts.cache, &parts.metrics, &options);
        let named =
            |(watched, watch): (WatchedResource, _)| (format!("watch {}", watched.as_str()), watch);
        watches.into_iter().map(named).collect()
    }

    /// The health loop, with the tasks that it needs, and who asks it.
    fn gates(&mut self) -> (Asker<GatesView>, [Task; 3]) {
        let parts = &self.parts;
        let gates = Loop {
            cache: parts.cache.clone(),
            kube: parts.kube.clone(),
            leadership: self.leadership.clone(),
            events: self.events.clone(),
            elb: self.elb.clone(),
            groups: self.groups.clone(),
            budget: self.budget.clone(),
            answers: self.answers.clone(),
            registrations: self.registrations.clone(),
            metrics: parts.metrics.of(),
            endings: parts.metrics.of(),
            now: parts.now.clone(),
            drain: parts.drain.clone(),
            measure_drain: parts.measure_drain,
            too_large: self.too_large.subscribe(),
            settings: GateSettings {
                apis: parts.policy.apis.clone(),
                orphan_after: parts.orphan_after,
                seed: self.random.u64(..),
            },
        };
        let (heartbeat, groups) = (self.heartbeat.clone(), self.groups.clone());
        let (asker, asked) = questions();
        let tasks = [
            task("target group descriptions", groups.run()),
            task("health loop", gates.run(asked, move || heartbeat.beat())),
            task(
                "watchdog of the health loop",
                stalled(self.heartbeat.clone()),
            ),
        ];
        (asker, tasks)
    }

    /// The registrar, with its watchdog, where targets are registered, and who asks it.
    fn targets(&self) -> (Option<Asker<RegistrarView>>, Vec<Task>) {
        let parts = &self.parts;
        let (Some(registration), Some(answers)) = (&parts.registration, &self.answers) else {
            return (None, vec![]);
        };
        let allowed = parts.allowed.clone();
        let current = |allowed: Arc<Allowed>| Box::new(move || allowed.list()) as CurrentAllowList;
        let controller = targets::Controller {
            cache: parts.cache.clone(),
            kube: parts.kube.clone(),
            leadership: self.leadership.clone(),
            elb: self.elb.clone(),
            budget: self.budget.clone(),
            metrics: parts.metrics.of(),
            answers: answers.clone(),
            registrations: self.registrations.clone().unwrap_or_default(),
            records: TargetRecords::new(parts.kube.clone(), registration.namespace.clone()),
            incumbent_lease: registration.incumbent_lease.clone(),
            now: parts.now.clone(),
            settings: RegistrarSettings {
                policy: Policy {
                    mode: registration.mode,
                    allow_list: allowed.as_ref().map(|allowed| allowed.list()),
                    incumbent_namespaces: registration.incumbent_namespaces.clone(),
                    deployment: registration.deployment.clone(),
                },
                slice_addresses: registration.slice_addresses,
            },
            allow_list: allowed.map(current),
        };
        let heartbeat = Arc::<Heartbeat>::default();
        let beats = heartbeat.clone();
        let (asker, asked) = questions();
        let tasks = vec![
            task("registrar", controller.run(asked, move || beats.beat())),
            task("watchdog of the registrar", stalled(heartbeat)),
        ];
        (Some(asker), tasks)
    }

    /// The keeper of the certificate, and the tasks that follow files of operators.
    fn reloads(&self) -> impl Iterator<Item = Task> {
        let parts = &self.parts;
        let (allowed, clients) = (parts.allowed.clone(), parts.clients.clone());
        let allowed = allowed.map(|allowed| task("allow-list reload", allowed.follow()));
        let clients = clients.map(|clients| task("client CA reload", clients.follow()));
        let certificate = self.certificate().into_iter();
        certificate.chain(allowed).chain(clients)
    }

    fn certificate(&self) -> Vec<Task> {
        let (parts, certificates) = (&self.parts, self.certificates.clone());
        match &parts.certificate {
            Source::None | Source::Given(_) => vec![],
            Source::Files(files, _, configurations) => {
                let check = TrustCheck {
                    kube: parts.kube.clone(),
                    configurations: configurations.clone(),
                    certificates: certificates.clone(),
                    events: self.events.clone(),
                    now: parts.now.clone(),
                };
                let follow = certificates::follow(files.clone(), certificates);
                vec![
                    task("certificate reload", follow),
                    task("check of the caBundles", check.run()),
                ]
            }
            Source::Own(place, maker, now) => {
                let keeper = Keeper {
                    kube: parts.kube.clone(),
                    place: place.clone(),
                    maker: maker.clone(),
                    certificates,
                    leadership: self.keeper_leadership.clone(),
                    events: self.events.clone(),
                    metrics: parts.metrics.of(),
                    now: now.clone(),
                };
                vec![task("certificate keeper", keeper.run())]
            }
        }
    }

    fn server_version(&self) -> Task {
        let (kube, server) = (self.parts.kube.clone(), self.parts.server.clone());
        task("API server's version", server_version::follow(kube, server))
    }

    /// The keeper of the gate rules, where it is asked for.
    fn gate_rules(&self) -> Option<Task> {
        let parts = &self.parts;
        let keeper = || gate_rules::Keeper {
            kube: parts.kube.clone(),
            cache: parts.cache.clone(),
            leadership: self.leadership.clone(),
            policy: parts.policy.clone(),
            metrics: parts.metrics.of(),
            too_large: self.too_large.clone(),
        };
        parts
            .gate_rules
            .then(|| task("gate rules keeper", keeper().run()))
    }

    fn reviews(&self) -> Router {
        let parts = &self.parts;
        let (cache, groups) = (parts.cache.clone(), self.groups.clone());
        let describe = Box::new(move |query, deadline| {
            let groups = groups.clone();
            async move { groups.describe(&query, deadline).await }.boxed()
        });
        let reviewer = BindingReviewer::new(cache, describe, parts.vpc_id.clone())
            .in_region(self.elb.default_region());
        admission::router(Hooks {
            cache: parts.cache.clone(),
            policy: PodPolicy {
                gates: parts.policy.clone(),
                prefixes: parts.prefixes.clone(),
                drain: parts.drain.clone(),
                server: parts.server.clone(),
            },
            metrics: parts.metrics.clone(),
            bindings: Arc::new(reviewer.with_allow_list(parts.allowed.clone())),
            limits: body::Limits::default(),
        })
    }

    fn tls(&self) -> anyhow::Result<TlsAcceptor> {
        let certificates = self.certificates.clone();
        let tls = match self.parts.clients.clone() {
            Some(clients) => listener::mutual_tls(certificates, clients, self.parts.now.clone()),
            None => listener::tls(certificates),
        };
        tls.context("cannot set up TLS")
    }

    fn health(&self, phases: PhaseReceiver) -> Arc<Health> {
        Arc::new(Health {
            cache: self.parts.cache.clone(),
            certificates: self.certificates.clone(),
            heartbeat: self.heartbeat.clone(),
            phases,
            now: self.parts.now.clone(),
        })
    }
}

fn task(name: &str, task: impl Future<Output = ()> + Send + 'static) -> Task {
    (name.to_owned(), task.boxed())
}

impl Source {
    /// What is served to begin with.
    fn served(&self, metrics: &Metrics) -> Certificates {
        match self {
            Self::None | Self::Own(..) => Certificates::none(metrics),
            Self::Given(certificate) | Self::Files(_, certificate, _) => {
                Certificates::new(certificate.clone(), metrics)
            }
        }
    }
}

/// Returns once the loop has stalled for [`STALL_ENDS_AFTER`].
async fn stalled(heartbeat: Arc<Heartbeat>) {
    while heartbeat.age() < STALL_ENDS_AFTER {
        sleep(STALL_ENDS_AFTER - heartbeat.age()).await;
    }
}

#[cfg(test)]
mod tests {
    use tokio::task;
    use tokio::time::Instant;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_loop_that_stalls_fails_livez_before_it_ends_the_process() {
        let heartbeat = Arc::new(Heartbeat::default());
        let begun = Instant::now();
        let watchdog = task::spawn(stalled(heartbeat.clone()));
        for _ in 0..10 {
            sleep(STALLED_AFTER - Duration::from_secs(1)).await;
            heartbeat.beat();
        }
        assert!(!watchdog.is_finished());
        let last_beat = begun.elapsed();
        watchdog.await.unwrap();
        assert_eq!(begun.elapsed() - last_beat, STALL_ENDS_AFTER);
        assert!(heartbeat.age() > STALLED_AFTER);
    }
}
