//! Takes part in the leader election as long as the process runs.

use std::sync::Arc;

use futures::FutureExt as _;

use crate::kubernetes::lease::Candidate;
use crate::state::cache::Cache;

/// The election, before it runs.
pub struct Election {
    /// `None` with `--lease off`.
    candidate: Option<Candidate>,
    cache: Arc<Cache>,
}

impl Election {
    pub(super) fn new(candidate: Option<Candidate>, cache: Arc<Cache>) -> Self {
        Self { candidate, cache }
    }

    /// Takes part until `stopped` is ready, then releases the Lease.
    ///
    /// Starts once the index is warm, so that a replica with an empty index does not take the lead from one that is
    /// warm.
    pub async fn run(self, stopped: impl Future<Output = ()>) {
        let mut stopped = Box::pin(stopped.fuse());
        let Some(candidate) = self.candidate else {
            return stopped.await;
        };
        tokio::select! {
            biased;
            () = self.cache.warm() => candidate.run(stopped).await,
            () = &mut stopped => {}
        }
    }
}
