//! Takes part in the leader elections as long as the process runs.

use std::sync::Arc;

use futures::FutureExt as _;
use futures::future::{Shared, join};

use crate::kubernetes::lease::Candidate;
use crate::state::cache::Cache;

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
        let cache = self.cache;
        let warm = async move { cache.warm().await };
        join(
            stand(self.certificates, async {}, stopped.clone()),
            stand(self.conditions, warm, stopped),
        )
        .await;
    }
}

/// Stands from `ready` until `stopped`.
async fn stand<S: Future<Output = ()>>(
    candidate: Option<Candidate>,
    ready: impl Future<Output = ()>,
    stopped: Shared<S>,
) {
    let Some(candidate) = candidate else {
        return stopped.await;
    };
    let until = stopped.clone();
    tokio::select! {
        biased;
        () = ready => candidate.run(until).await,
        () = stopped => {}
    }
}
