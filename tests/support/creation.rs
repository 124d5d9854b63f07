//! Pods that are created all the time beside a test, counted.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::task::JoinSet;

use crate::waiting::until;

/// Creates pods until it is dropped.
pub(crate) struct Creation {
    created: Arc<AtomicUsize>,
    tasks: JoinSet<()>,
}

impl Creation {
    /// By these tasks, which count the pods and end only by failing.
    pub(crate) fn by(tasks: JoinSet<()>, created: Arc<AtomicUsize>) -> Self {
        Self { created, tasks }
    }

    /// Pods so far, each of which got its gate.
    pub(crate) fn count(&self) -> usize {
        self.created.load(Ordering::Relaxed)
    }

    /// Waits until so many more pods are created, and fails when one had no gate.
    pub(crate) async fn goes_on(&mut self, more: usize) {
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
