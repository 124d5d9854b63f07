//! `--tls self`: our own CA and leaf, in a Secret that only targetgate writes.
//!
//! Every replica reads the Secret and the webhook configurations, and serves what
//! [`rotation::takes`] allows. The leader also executes the steps of [`rotation::next`], one write at a
//! time, and reads everything again before the next step. A replica keeps between two rounds only what it needs for
//! its own safety, so that the next leader can continue from the state in the API server.
//!
//! [`rotation::takes`]: targetgate_core::rotation::takes
//! [`rotation::next`]: targetgate_core::rotation::next

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::{join, join_all};
use kube::Client;
use tokio::sync::Notify;

use crate::clock::Now;
use crate::controllers::metrics::KeeperMetrics;
use crate::kubernetes::events::Events;
use crate::serve::certificates::Certificates;
use crate::state::leadership::Leadership;

use crate::controllers::certificates::configurations::Hooks;
use crate::controllers::certificates::make::Maker;
use crate::controllers::certificates::reconcile::Rounds;
use crate::controllers::certificates::store::Store;
use crate::controllers::certificates::watch_one::wake;

mod configurations;
pub mod make;
mod reconcile;
mod repairs;
mod secret;
mod serving;
mod store;
pub mod trust_check;
mod watch_one;

pub use crate::controllers::certificates::configurations::Kind;

/// The same of a configuration is told again after this time, by the log and by an Event. Chosen.
///
/// These Events do not go at the rate of all others (contract 10), which belongs to the leader of gates: the Lease of
/// certificates can have another holder, and with `--tls files` each replica compares for itself. They are bounded all
/// the same, because there are few configurations, each named by a flag.
const TELL_AGAIN: Duration = Duration::from_secs(600);

/// The names of the objects that a [`Keeper`] reconciles.
#[derive(Debug, Clone)]
pub struct ManagedObjects {
    /// Our own namespace, of the Secret and of the Deployment.
    pub namespace: String,
    pub secret: String,
    /// The Deployment that owns the Secret.
    pub deployment: String,
    /// The webhook configurations whose bundles are ours.
    pub configurations: Vec<(Kind, String)>,
}

/// Reconciles the served leaf, the Secret and the bundles.
pub struct Keeper {
    pub kube: Client,
    pub place: ManagedObjects,
    pub maker: Maker,
    pub certificates: Arc<Certificates>,
    pub leadership: Leadership,
    pub events: Arc<Events>,
    pub metrics: KeeperMetrics,
    pub now: Now,
}

impl Keeper {
    /// Reconciles for ever.
    pub async fn run(self) {
        let place = &self.place;
        let store = Store::new(&self.kube, place);
        let hooks = place.configurations.iter();
        let hooks: Vec<Hooks> = hooks
            .map(|(kind, name)| Hooks::new(&self.kube, *kind, name))
            .collect();

        let changed = Notify::new();
        let secret = wake(store.api(), place.secret.clone(), &changed).boxed();
        let configurations = hooks.iter().zip(&place.configurations);
        let watches = configurations
            .map(|(hooks, (_, name))| wake(hooks.api(), name.clone(), &changed).boxed())
            .chain([secret]);
        let watches = join_all(watches.collect::<Vec<_>>());
        let rounds = Rounds::new(&self, store, hooks);
        join(watches, rounds.run(&changed)).await;
    }
}
