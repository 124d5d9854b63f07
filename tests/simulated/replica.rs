//! One of several products in a [`World`], with a line to the API server that can be held up and a
//! wall clock of its own.

use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use kube::Client;
use kube::api::Api as KubeApi;
use targetgate::compose::{Parts, compose};
use targetgate::kubernetes::lease::Seat;
use targetgate::metrics::Metrics;
use targetgate::state::leadership::Leadership;
use targetgate_core::lease::Timing;
use targetgate_core::names::ObjectKey;
use targetgate_sandbox::api::Api;
use tokio::sync::{oneshot, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, sleep, timeout};
use tower::{Service as _, service_fn};

use crate::world::{DEADLINE, World};

/// Where the Lease is, and its name.
const LEASE: (&str, &str) = ("default", "targetgate");
const S: Duration = Duration::from_secs(1);

pub(crate) struct Replica {
    pub(crate) name: &'static str,
    pub(crate) leadership: Leadership,
    pub(crate) metrics: Arc<Metrics>,
    /// Whether what it sends is held up.
    held_up: watch::Sender<bool>,
    tasks: JoinSet<()>,
    stop: oneshot::Sender<()>,
    election: JoinHandle<()>,
}

impl Replica {
    /// Starts one whose clock goes by the world's, and waits until its cache is warm.
    pub(crate) async fn start(world: &World, name: &'static str) -> Self {
        Self::skewed(world, name, SignedDuration::ZERO).await
    }

    /// Starts one whose wall clock is wrong by this much.
    pub(crate) async fn skewed(world: &World, name: &'static str, by: SignedDuration) -> Self {
        let held_up = watch::Sender::new(false);
        let world_now = world.now.clone();
        let parts = Parts {
            now: Arc::new(move || world_now() + by),
            seat: Some(Seat {
                lease: ObjectKey::new(LEASE.0, LEASE.1),
                identity: name.to_owned(),
                timing: Timing::new(15 * S, 10 * S, 2 * S).unwrap(),
            }),
            ..world.parts(line(&world.api, &held_up))
        };
        let product = compose(parts).unwrap();
        let mut tasks = JoinSet::new();
        for (_, task) in product.tasks {
            tasks.spawn(task);
        }
        product.cache.warm().await;
        let (stop, stopped) = oneshot::channel();
        let stopped = async { drop(stopped.await) };
        Self {
            name,
            leadership: product.leadership,
            metrics: product.metrics,
            held_up,
            tasks,
            stop,
            election: tokio::spawn(product.election.run(stopped)),
        }
    }

    /// Holds up what it sends, and lets it all arrive later: also what it has given up by then.
    pub(crate) fn hold_up(&self, held_up: bool) {
        self.held_up.send_replace(held_up);
    }

    /// Nothing of it runs any further.
    pub(crate) fn crash(self) {
        self.election.abort();
    }

    /// Ends it in order.
    pub(crate) async fn stop(mut self) {
        self.tasks.shutdown().await;
        let _ = self.stop.send(());
        self.election.await.unwrap();
    }

    /// Waits until it leads. Returns how long that took.
    pub(crate) async fn until_leads(&self) -> Duration {
        self.until(true).await
    }

    /// Waits until it leads no more. Returns how long that took.
    pub(crate) async fn until_follows(&self) -> Duration {
        self.until(false).await
    }

    async fn until(&self, leads: bool) -> Duration {
        let start = Instant::now();
        let waiting = async {
            while self.leadership.leads() != leads {
                sleep(Duration::from_millis(10)).await;
            }
        };
        let waited = timeout(DEADLINE, waiting).await;
        waited.unwrap_or_else(|_| panic!("{}: leads never became {leads}", self.name));
        start.elapsed()
    }

    /// The value of one of its metrics.
    pub(crate) fn metric(&self, name: &str) -> String {
        let text = self.metrics.encode();
        let mut lines = text.lines();
        let line = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("no {name} in {text}"))
            .to_owned()
    }
}

/// The Lease as it is.
pub(crate) async fn lease(world: &World) -> LeaseSpec {
    leases(world).get(LEASE.1).await.unwrap().spec.unwrap()
}

/// When the holder renewed the Lease last, on the world's clock.
pub(crate) async fn renewed(world: &World) -> Timestamp {
    lease(world).await.renew_time.unwrap().0
}

pub(crate) fn leases(world: &World) -> KubeApi<Lease> {
    KubeApi::namespaced(world.kube.clone(), LEASE.0)
}

/// A client whose requests are held up on demand. One that was sent arrives, also when nobody waits
/// for its answer any more.
fn line(api: &Api, held_up: &watch::Sender<bool>) -> Client {
    let (service, held_up) = (api.service(), held_up.subscribe());
    let line = service_fn(move |request| {
        let (mut service, mut held_up) = (service.clone(), held_up.clone());
        let sent = tokio::spawn(async move {
            // A sender that is gone holds nothing up.
            let _ = held_up.wait_for(|held_up| !*held_up).await;
            service.call(request).await
        });
        async move { sent.await.map_err(std::io::Error::other)? }
    });
    Client::new(line, "default")
}
