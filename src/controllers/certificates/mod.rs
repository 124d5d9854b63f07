//! `--tls self`: the CA and the leaf that are ours, in a Secret that only we write.
//!
//! Every replica reads the Secret and the webhook configurations, and serves what
//! [`rotation::takes`] lets it. The leader also does what [`rotation::next`] says, one write at a
//! time, and reads everything anew before the next. Nothing but what it remembers for its own safety is
//! kept between two rounds: whoever leads next goes on from what there is.
//!
//! [`rotation::takes`]: targetgate_core::rotation::takes
//! [`rotation::next`]: targetgate_core::rotation::next

use std::sync::Arc;

use futures::FutureExt as _;
use futures::future::{join, join_all};
use kube::Client;
use tokio::sync::Notify;

use crate::clock::Now;
use crate::kubernetes::events::Events;
use crate::metrics::Metrics;
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
mod secret;
mod serving;
mod store;
mod watch_one;

pub use crate::controllers::certificates::configurations::Kind;

/// What a [`Keeper`] looks after, by name.
#[derive(Debug, Clone)]
pub struct ManagedObjects {
    /// The namespace of the Secret and of the Deployment: our own.
    pub namespace: String,
    /// The Secret's name.
    pub secret: String,
    /// The Deployment that owns the Secret.
    pub deployment: String,
    /// The webhook configurations whose bundles are ours.
    pub configurations: Vec<(Kind, String)>,
}

/// Keeps the served leaf, the Secret and the bundles in order.
pub struct Keeper {
    /// The client.
    pub kube: Client,
    /// What it looks after.
    pub place: ManagedObjects,
    /// Makes certificates.
    pub maker: Maker,
    /// Is given what is to be served.
    pub certificates: Arc<Certificates>,
    /// Whether this replica writes.
    pub leadership: Leadership,
    /// Tells operators who changes bundles.
    pub events: Arc<Events>,
    /// Counts.
    pub metrics: Arc<Metrics>,
    /// The wall clock.
    pub now: Now,
}

impl Keeper {
    /// Does so for ever.
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
