//! Sockets: accepted clients, deadlines, the served certificate, and the health of the process.

pub mod admin;
pub mod certificates;
pub mod clients;
mod deadlines;
pub mod explain;
pub mod listener;
pub mod metrics;
pub mod places;
pub mod readiness;

use tokio::sync::watch;

/// The phase of the shutdown, for all listeners.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    Serving,
    /// The process will end, but clients do not know yet: listeners still accept connections, and every
    /// answer says `Connection: close`. Closing an idle connection at once would race with a
    /// review that the API server is just sending on it, and that pod would be created without gates.
    Lingering,
    /// Listeners do not accept connections any more, close idle ones, and answer the requests in flight.
    Closing,
}

/// Sends the phase of the shutdown to the listeners.
pub type PhaseSender = watch::Sender<Phase>;
/// Receives the phase of the shutdown.
pub type PhaseReceiver = watch::Receiver<Phase>;

/// A sender and a receiver, at [`Phase::Serving`].
pub fn phases() -> (PhaseSender, PhaseReceiver) {
    watch::channel(Phase::Serving)
}

/// Returns once this phase is reached. A dropped sender counts as [`Phase::Closing`].
pub(crate) async fn reached(phases: &mut PhaseReceiver, phase: Phase) {
    let _ = phases.wait_for(|now| *now >= phase).await;
}
