//! Sockets: who may connect, for how long, with which certificate, and what the process says of itself.

pub mod admin;
pub mod certificates;
pub mod clients;
mod deadlines;
pub mod listener;
pub mod readiness;

use tokio::sync::watch;

/// How far the end of the process has come, for everything that serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Serving.
    Serving,
    /// The process is to end, but clients do not know yet: new connections are still taken, and every
    /// answer says `Connection: close`. Closing an idle connection at once would race with a
    /// review that is just being sent on it, and that pod would slip through.
    Lingering,
    /// No new connections; idle ones are closed, and what is in flight is answered.
    Closing,
}

/// Tells everything that serves how far the end has come.
pub type PhaseSender = watch::Sender<Phase>;
/// Hears how far the end has come.
pub type PhaseReceiver = watch::Receiver<Phase>;

/// A new pair, at [`Phase::Serving`].
pub fn phases() -> (PhaseSender, PhaseReceiver) {
    watch::channel(Phase::Serving)
}

/// Returns once this phase is reached. A sender that is gone counts as [`Phase::Closing`].
pub(crate) async fn reached(phases: &mut PhaseReceiver, phase: Phase) {
    let _ = phases.wait_for(|now| *now >= phase).await;
}
