//! Creates pods continuously while a test runs, and counts them.

#![allow(
    clippy::unwrap_used,
    reason = "helpers of tests fail as the tests themselves do"
)]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::task::JoinSet;

use super::waiting::until;

/// Creates pods until it is dropped.
pub struct Creation {
    created: Arc<AtomicUsize>,
    tasks: JoinSet<()>,
}

impl Creation {
    /// Runs these tasks, which create and count the pods, and end only by failing.
    pub fn by(tasks: JoinSet<()>, created: Arc<AtomicUsize>) -> Self {
        Self { created, tasks }
    }

    /// The number of pods so far, each of which got its gate.
    pub fn count(&self) -> usize {
        self.created.load(Ordering::Relaxed)
    }

    /// Waits until `more` further pods are created, and fails if a pod got no gate.
    pub async fn goes_on(&mut self, more: usize) {
        let before = self.count();
        until("some more pods are created", async || {
            if let Some(ended) = self.tasks.try_join_next() {
                ended.unwrap();
            }
            (self.count() >= before + more).then_some(())
        })
        .await;
    }
}
