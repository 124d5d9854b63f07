//! The rollout that goes on now, as its measurement tells the timeline.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::traffic::Counts;

/// The current activity, for the timeline. Clones share it.
#[derive(Clone, Default)]
pub(super) struct Live {
    pub(super) scene: Arc<Mutex<Scene>>,
}

#[derive(Clone, Default)]
pub(super) struct Scene {
    pub(super) title: &'static str,
    pub(super) doing: &'static str,
    pub(super) began: Option<Instant>,
    pub(super) counts: Option<Arc<Mutex<Counts>>>,
}

impl Live {
    /// Shows a rollout of this title from now on, with the counts of its traffic once it has any.
    pub(super) fn begin(
        &self,
        title: &'static str,
        doing: &'static str,
        counts: Option<Arc<Mutex<Counts>>>,
    ) {
        *self.scene.lock() = Scene {
            title,
            doing,
            began: Some(Instant::now()),
            counts,
        };
    }

    /// Shows what the rollout is doing from now on.
    pub(super) fn now(&self, doing: &'static str) {
        self.scene.lock().doing = doing;
    }
}
