//! The composition of the product: the one place that wires it.
//!
//! [`compose`] takes [`Parts`] and returns a [`Product`] that does not run yet. `serve` spawns its tasks
//! and binds its listeners; a simulation polls the same tasks within one task of its own;
//! the table in `docs/architecture.md` lists the parts that each caller omits.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use tokio_rustls::TlsAcceptor;

use crate::admission::metrics::AdmissionMetrics;
use crate::aws::metrics::{BudgetMetrics, CallMetrics};
use crate::compose::wiring::Wiring;
use crate::controllers::metrics::{
    EndingMetrics, GateMetrics, GateRulesMetrics, KeeperMetrics, TargetMetrics,
};
use crate::files::FileMetrics;
use crate::kubernetes::lease::work::Work;
use crate::kubernetes::lease::{Candidate, Seat};
use crate::kubernetes::metrics::{LeaseMetrics, WatchMetrics};
use crate::metrics::{Metrics, RefusalMetrics};
use crate::serve::explain::{self, Known};
use crate::serve::listener::{self, Listener};
use crate::serve::metrics::{CertificateMetrics, ListenerMetrics, ProcessMetrics};
use crate::serve::places::Places;
use crate::serve::readiness::Health;
use crate::serve::{PhaseReceiver, PhaseSender, admin, phases};
use crate::state::cache::Cache;
use crate::state::leadership::Leadership;

mod election;
mod parts;
mod wiring;

pub use election::Election;
pub use parts::{Parts, Registration, Source};
pub use wiring::Task;

/// How long the admin listener waits for a byte. Chosen: the kubelet sends its request at once.
const ADMIN_IDLE: Duration = Duration::from_secs(10);
/// Connections of the listener for `explain`. Chosen: people ask, by a port-forward each.
const EXPLAIN_PLACES: usize = 8;

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
