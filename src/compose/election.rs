//! Takes part in the leader elections as long as the process runs.

use std::sync::Arc;

use futures::FutureExt as _;
use futures::future::join;
use tokio::time::Instant;

use crate::kubernetes::lease::{Always, Candidate, CandidateView};
use crate::state::cache::{Cache, WatchedResource};

/// The elections, before they run.
pub struct Election {
    /// For conditions; `None` with `--lease off`.
    conditions: Option<Candidate>,
    /// For certificates; `None` also where the certificate is not ours.
    certificates: Option<Candidate>,
    cache: Arc<Cache>,
}

impl Election {
    pub(super) fn new(
        conditions: Option<Candidate>,
        certificates: Option<Candidate>,
        cache: Arc<Cache>,
    ) -> Self {
        Self {
            conditions,
            certificates,
            cache,
        }
    }

    /// Takes part until `stopped` is ready, then releases the Leases.
    ///
    /// A replica with an empty index must not take the lead from one that is warm, so it stands for conditions once
    /// its index is warm. Certificates do not depend on any watch, so it stands for them at once: the first
    /// certificate must not wait for the first lists.
    pub async fn run(self, stopped: impl Future<Output = ()>) {
        let stopped = stopped.shared();
        let pods = PodView(self.cache);
        let certificates = async {
            match self.certificates {
                Some(candidate) => candidate.run(Always, stopped.clone()).await,
                None => stopped.clone().await,
            }
        };
        let conditions = async {
            let Some(candidate) = self.conditions else {
                return stopped.clone().await;
            };
            let (warm, until) = (pods.0.clone(), stopped.clone());
            tokio::select! {
                biased;
                () = warm.warm() => candidate.run(pods, until).await,
                () = stopped.clone() => {}
            }
        };
        join(certificates, conditions).await;
    }
}

/// The view for conditions: the watch of pods.
struct PodView(Arc<Cache>);

impl CandidateView for PodView {
    fn fails_since(&self) -> Option<Instant> {
        self.0.watch_fails_since(WatchedResource::Pods)
    }

    async fn changed(&self) {
        self.0.view_changed().await;
    }
}
