//! The composition of the product: the one place that wires it.
//!
//! [`compose`] takes [`Parts`] and gives a [`Product`] of which nothing runs yet. `serve` spawns its tasks
//! and binds its listeners; a simulation polls the same tasks within one task of its own;
//! `docs/architecture.md` has the table of what each caller leaves out.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use aws_config::SdkConfig;
use axum::Router;
use fastrand::Rng;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use kube::Client;
use targetgate_core::elb::buckets::Limits;
use targetgate_core::gates::inject::GatePolicy;
use targetgate_core::gates::machine::action::Settings as GateSettings;
use targetgate_core::names::ConditionPrefix;
use tokio::time::sleep;
use tokio_rustls::TlsAcceptor;

use crate::admission;
use crate::admission::binding::BindingReviewer;
use crate::admission::binding::allowed::Allowed;
use crate::admission::{Hooks, body};
use crate::aws::budget::Budget;
use crate::aws::client::{ElbClient, Timeouts};
use crate::aws::target_groups::TargetGroups;
use crate::clock::Now;
use crate::controllers::certificates::make::Maker;
use crate::controllers::certificates::{Keeper, ManagedObjects};
use crate::controllers::gates::Loop;
use crate::kubernetes::events::Events;
use crate::kubernetes::lease::{Candidate, Seat};
use crate::kubernetes::watch::{WatchOptions, watches};
use crate::metrics::Metrics;
use crate::serve::certificates::{self, Certificate, Certificates, PemFiles};
use crate::serve::clients::Clients;
use crate::serve::listener::{self, Listener};
use crate::serve::readiness::{Health, Heartbeat, STALLED_AFTER};
use crate::serve::{PhaseReceiver, PhaseSender, admin, phases};
use crate::state::cache::{Cache, WatchedResource};
use crate::state::leadership::Leadership;

mod election;

pub use election::Election;

/// A stalled loop ends the process, a while after `/livez` has begun to say so.
const STALL_ENDS_AFTER: Duration = Duration::from_secs(15).saturating_add(STALLED_AFTER);
/// Connections of the admin listener: many more than the kubelet and scrapers have, so that a flood of new
/// ones has to be quicker than a probe's answer.
const ADMIN_CONNECTIONS: usize = 256;
/// How long the admin listener waits for a byte. The kubelet sends its request at once.
const ADMIN_IDLE: Duration = Duration::from_secs(10);

/// What the product is put together from: clients, clocks, seeds and settings.
pub struct Parts {
    pub kube: Client,
    pub aws: SdkConfig,
    /// How often ELB may be called.
    pub elb: Limits,
    /// The cluster's own VPC, where it is known.
    pub vpc_id: Option<Arc<str>>,
    /// What is known of the cluster: empty, or as a bench has filled it.
    pub cache: Arc<Cache>,
    pub metrics: Arc<Metrics>,
    /// The wall clock.
    pub now: Now,
    /// Spreads pauses; a simulation repeats itself by it.
    pub seed: u64,
    /// The pod that Events name as their reporter.
    pub pod_name: Option<String>,
    /// The namespaces to watch; all where there are none.
    pub namespaces: Vec<Arc<str>>,
    pub policy: GatePolicy,
    /// The prefixes of all gates that are served.
    pub prefixes: Vec<ConditionPrefix>,
    /// How long a gate stays closed whose binding has never existed.
    pub orphan_after: Duration,
    pub certificate: Source,
    /// Whom the HTTPS listener lets in; `None` is anybody.
    pub clients: Option<Arc<Clients>>,
    /// Which target groups bindings may name; `None` is any.
    pub allowed: Option<Arc<Allowed>>,
    /// The Lease to stand for; without one this process always leads.
    pub seat: Option<Seat>,
}

impl Parts {
    /// Parts with the settings that are shipped, for a process that is alone and without a certificate.
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
            metrics: Arc::default(),
            now,
            seed: 1,
            pod_name: None,
            namespaces: vec![],
            policy: GatePolicy::default(),
            prefixes: WatchOptions::default().prefixes,
            orphan_after: Duration::from_secs(300),
            certificate: Source::None,
            clients: None,
            allowed: None,
            seat: None,
        }
    }
}

/// Where the served certificate comes from.
pub enum Source {
    /// Nowhere: no handshake succeeds.
    None,
    /// It is given, and stays.
    Given(Certificate),
    /// Files that another program writes, and what they hold to begin with.
    Files(PemFiles, Certificate),
    /// A Secret that only targetgate writes, dated by a clock of its own.
    Own(ManagedObjects, Maker, Now),
}

/// The product, put together. Nothing of it runs until its tasks are polled.
pub struct Product {
    pub cache: Arc<Cache>,
    pub metrics: Arc<Metrics>,
    pub leadership: Leadership,
    /// Tells everything that serves how far the end has come.
    pub phase: PhaseSender,
    /// Hears that.
    pub phases: PhaseReceiver,
    /// The routes of the hooks, as [`Product::hooks`] serves them.
    pub reviews: Router,
    pub tls: TlsAcceptor,
    /// What runs for as long as the process does, by name. None of them ever ends by itself.
    pub tasks: Vec<Task>,
    /// Runs beside the tasks, and ends after them: who writes as the leader ends before the Lease is given
    /// back.
    pub election: Election,
    health: Arc<Health>,
}

impl Product {
    /// The HTTPS listener of the hooks.
    pub fn hooks(&self) -> Arc<Listener> {
        let limits = listener::Limits::default();
        let (router, tls) = (self.reviews.clone(), self.tls.clone());
        Arc::new(Listener::https(router, tls, limits, self.metrics.clone()))
    }

    /// The plain HTTP listener of probes and metrics.
    pub fn admin(&self) -> Arc<Listener> {
        let router = admin::router(self.health.clone(), self.metrics.clone());
        let limits = listener::Limits {
            connections: ADMIN_CONNECTIONS,
            keep_alive: false,
            idle: ADMIN_IDLE,
            ..listener::Limits::default()
        };
        Arc::new(Listener::http(router, limits, self.metrics.clone()))
    }
}

/// Wires the product.
///
/// # Errors
/// Where TLS cannot be set up.
pub fn compose(parts: Parts) -> anyhow::Result<Product> {
    let (candidate, leadership) = match parts.seat.clone() {
        Some(seat) => {
            let (metrics, now) = (parts.metrics.clone(), parts.now.clone());
            let (candidate, leadership) = Candidate::new(&parts.kube, seat, metrics, now);
            (Some(candidate), leadership)
        }
        None => {
            parts.metrics.leader(true);
            (None, Leadership::alone())
        }
    };
    let (phase, phases) = phases();
    let mut wiring = Wiring::new(parts, leadership);
    let (watches, gates) = (wiring.watches(), wiring.gates());
    let tasks = watches.into_iter().chain(gates).chain(wiring.reloads());
    Ok(Product {
        tasks: tasks.collect(),
        election: Election::new(candidate, wiring.parts.cache.clone()),
        reviews: wiring.reviews(),
        tls: wiring.tls()?,
        health: wiring.health(phases.clone()),
        leadership: wiring.leadership,
        cache: wiring.parts.cache,
        metrics: wiring.parts.metrics,
        phase,
        phases,
    })
}

/// A task that runs for as long as the process does, and its name.
pub type Task = (String, BoxFuture<'static, ()>);

/// What the parts of the product share.
struct Wiring {
    parts: Parts,
    random: Rng,
    certificates: Arc<Certificates>,
    leadership: Leadership,
    events: Arc<Events>,
    budget: Budget,
    elb: ElbClient,
    groups: TargetGroups,
    heartbeat: Arc<Heartbeat>,
}

impl Wiring {
    fn new(parts: Parts, leadership: Leadership) -> Self {
        let mut random = Rng::with_seed(parts.seed);
        let metrics = &parts.metrics;
        let Limits {
            rate,
            highest,
            burst,
        } = parts.elb;
        let budget = Budget::new(rate, highest, burst, metrics.clone());
        let (aws, timeouts) = (parts.aws.clone(), Timeouts::default());
        let elb = ElbClient::new(aws, timeouts, budget.clone(), metrics.clone());
        Self {
            certificates: Arc::new(parts.certificate.served(metrics)),
            events: Arc::new(Events::new(parts.kube.clone(), parts.pod_name.clone())),
            groups: TargetGroups::new(elb.clone(), budget.clone(), random.u64(..)),
            heartbeat: Arc::default(),
            random,
            leadership,
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
            seed: self.random.u64(..),
            ..WatchOptions::default()
        };
        let watches = watches(&parts.kube, &parts.cache, &parts.metrics, &options);
        let named =
            |(watched, watch): (WatchedResource, _)| (format!("watch {}", watched.as_str()), watch);
        watches.into_iter().map(named).collect()
    }

    /// What opens gates, and what it needs.
    fn gates(&mut self) -> [Task; 3] {
        let parts = &self.parts;
        let gates = Loop {
            cache: parts.cache.clone(),
            kube: parts.kube.clone(),
            leadership: self.leadership.clone(),
            events: self.events.clone(),
            elb: self.elb.clone(),
            groups: self.groups.clone(),
            budget: self.budget.clone(),
            metrics: parts.metrics.clone(),
            now: parts.now.clone(),
            settings: GateSettings {
                apis: parts.policy.apis.clone(),
                orphan_after: parts.orphan_after,
                seed: self.random.u64(..),
            },
        };
        let (heartbeat, groups) = (self.heartbeat.clone(), self.groups.clone());
        [
            task("target group descriptions", groups.run()),
            task("health loop", gates.run(move || heartbeat.beat())),
            task(
                "watchdog of the health loop",
                stalled(self.heartbeat.clone()),
            ),
        ]
    }

    /// What keeps the certificate, and follows the files that operators write.
    fn reloads(&self) -> impl Iterator<Item = Task> {
        let (parts, certificates) = (&self.parts, self.certificates.clone());
        let certificate = match &parts.certificate {
            Source::None | Source::Given(_) => None,
            Source::Files(files, _) => {
                let follow = certificates::follow(files.clone(), certificates);
                Some(task("certificate reload", follow))
            }
            Source::Own(place, maker, now) => {
                let keeper = Keeper {
                    kube: parts.kube.clone(),
                    place: place.clone(),
                    maker: maker.clone(),
                    certificates,
                    leadership: self.leadership.clone(),
                    events: self.events.clone(),
                    metrics: parts.metrics.clone(),
                    now: now.clone(),
                };
                Some(task("certificate keeper", keeper.run()))
            }
        };
        let (allowed, clients) = (parts.allowed.clone(), parts.clients.clone());
        let allowed = allowed.map(|allowed| task("allow-list reload", allowed.follow()));
        let clients = clients.map(|clients| task("client CA reload", clients.follow()));
        [certificate, allowed, clients].into_iter().flatten()
    }

    fn reviews(&self) -> Router {
        let parts = &self.parts;
        let (cache, groups) = (parts.cache.clone(), self.groups.clone());
        let describe = Box::new(move |query, deadline| {
            let groups = groups.clone();
            async move { groups.describe(&query, deadline).await }.boxed()
        });
        let reviewer = BindingReviewer::new(cache, describe, parts.vpc_id.clone());
        admission::router(Hooks {
            cache: parts.cache.clone(),
            policy: parts.policy.clone(),
            metrics: parts.metrics.clone(),
            bindings: Some(reviewer.with_allow_list(parts.allowed.clone()).into()),
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
    fn served(&self, metrics: &Arc<Metrics>) -> Certificates {
        let metrics = metrics.clone();
        match self {
            Self::None | Self::Own(..) => Certificates::none(metrics),
            Self::Given(certificate) | Self::Files(_, certificate) => {
                Certificates::new(certificate.clone(), metrics)
            }
        }
    }
}

/// Returns once the loop has not come round for too long.
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
