//! All versions of the Lease, as a watch reports them.

use std::sync::Arc;
use std::time::Duration;

use futures::TryStreamExt as _;
use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use kube::api::Api;
use kube::runtime::watcher::{Config, Event, watcher};
use parking_lot::Mutex;
use targetgate_sandbox::harness::waiting::until;
use tokio::task::JoinSet;

use super::gated::Gated;
use crate::install::NAMESPACE;

pub(crate) struct History {
    versions: Arc<Mutex<Vec<LeaseSpec>>>,
    #[expect(dead_code, reason = "held until dropped")]
    watch: JoinSet<()>,
}

impl History {
    /// Starts to watch with the present version of the Lease.
    pub(crate) async fn of(site: &Gated) -> Self {
        let leases: Api<Lease> = Api::namespaced(site.cluster.client.clone(), NAMESPACE);
        let versions = Arc::<Mutex<Vec<LeaseSpec>>>::default();
        let mut watch = JoinSet::new();
        let seen = versions.clone();
        watch.spawn(async move {
            let config = Config::default().fields("metadata.name=targetgate");
            let watched = watcher(leases, config).try_for_each(|event| {
                if let Event::Apply(lease) | Event::InitApply(lease) = event {
                    seen.lock().push(lease.spec.unwrap());
                }
                std::future::ready(Ok(()))
            });
            watched.await.unwrap();
        });
        let history = Self { versions, watch };
        until("the Lease is seen", async || {
            (!history.versions.lock().is_empty()).then_some(())
        })
        .await;
        history
    }

    /// Waits until a pod has acquired the Lease. Returns the time from the last version before that to the
    /// acquisition, by the clock of this machine, which all processes share.
    pub(crate) async fn until_taken_by(&self, pod: &str) -> Duration {
        until("the Lease is taken", async || {
            let versions = self.versions.lock();
            let taken = versions.iter().position(|version| is_of(version, pod))?;
            let before = versions[taken.checked_sub(1)?].renew_time.as_ref()?.0;
            let taken: Timestamp = versions[taken].acquire_time.as_ref()?.0;
            Some(taken.duration_since(before).unsigned_abs())
        })
        .await
    }

    /// How many versions have no holder.
    pub(crate) fn releases(&self) -> usize {
        let versions = self.versions.lock();
        let released = |version: &&LeaseSpec| version.holder_identity.as_deref() == Some("");
        versions.iter().filter(released).count()
    }
}

fn is_of(version: &LeaseSpec, pod: &str) -> bool {
    let holder = version.holder_identity.as_deref().unwrap_or_default();
    holder.starts_with(&format!("{pod}_"))
}
