//! Standing for election for as long as the process runs.

use std::sync::Arc;

use futures::FutureExt as _;

use crate::kubernetes::lease::Candidate;
use crate::state::cache::Cache;

/// The election, until it is run.
pub struct Election {
    /// `None` where there is no Lease.
    candidate: Option<Candidate>,
    cache: Arc<Cache>,
}

impl Election {
    pub(super) fn new(candidate: Option<Candidate>, cache: Arc<Cache>) -> Self {
        Self { candidate, cache }
    }

    /// Stands until `stopped` is ready, then gives the Lease back.
    ///
    /// From a warm cache only: a replica that knows nothing yet should not take the lead from one that
    /// does.
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
