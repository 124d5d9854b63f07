//! Whether this replica leads: what everyone who writes asks just before each write (contract 5.8).
//!
//! The monotonic clock stands still while the machine itself is suspended, so even this answer may be
//! old. What is written then is refused for the `resourceVersion` that it names.

use std::future::pending;
use std::mem::discriminant;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

/// How long a write may take that needs no leader.
const UNHURRIED: Duration = Duration::from_secs(24 * 3600);

/// How a replica stands to the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// There is no Lease to be held: this process is the only one.
    Alone,
    /// It holds the Lease.
    Leading(Term),
    /// Another leads, or nobody does.
    Following,
}

/// How far the last renewal of the Lease carries, by this process's monotonic clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Term {
    /// Writes may begin until then: the renew deadline.
    pub begin_until: Instant,
    /// What was begun must be over by then: the end of the Lease. From then on another may lead.
    pub end_by: Instant,
}

/// Tells all handles how this replica stands.
#[derive(Debug)]
pub struct StandingSender(watch::Sender<Standing>);

impl StandingSender {
    /// Tells it. Who waits for a change is woken when the replica begins or ceases to lead, not by
    /// each renewal.
    pub fn send(&self, standing: Standing) {
        self.0.send_if_modified(|told| {
            let turns = discriminant(told) != discriminant(&standing);
            *told = standing;
            turns
        });
    }
}

/// A handle to ask whether this replica leads. Cheap to clone; each clone waits on its own.
#[derive(Debug, Clone)]
pub struct Leadership(watch::Receiver<Standing>);

impl Leadership {
    /// A handle of a process that needs no Lease: it always leads.
    pub fn alone() -> Self {
        Self(watch::channel(Standing::Alone).1)
    }

    /// A handle that follows until its sender says otherwise.
    pub fn following() -> (StandingSender, Self) {
        let (sender, receiver) = watch::channel(Standing::Following);
        (StandingSender(sender), Self(receiver))
    }

    /// Whether this replica leads right now. Asked of the monotonic clock, so a process that was
    /// stopped for a while hears the truth as soon as it runs again.
    pub fn leads(&self) -> bool {
        self.write_by().is_some()
    }

    /// By when a write that begins right now must be over; `None` where it must not begin.
    pub fn write_by(&self) -> Option<Instant> {
        let now = Instant::now();
        match *self.0.borrow() {
            Standing::Alone => Some(now + UNHURRIED),
            Standing::Leading(term) => (now < term.begin_until).then_some(term.end_by),
            Standing::Following => None,
        }
    }

    /// Returns when this replica was told that it begins or ceases to lead, since the last call.
    pub async fn changed(&mut self) {
        if self.0.changed().await.is_err() {
            // Nobody is left to tell; what was told last runs out by itself.
            pending().await
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::{advance, timeout};

    use super::*;

    const S: Duration = Duration::from_secs(1);

    fn leading() -> Standing {
        Standing::Leading(Term {
            begin_until: Instant::now() + 10 * S,
            end_by: Instant::now() + 15 * S,
        })
    }

    #[tokio::test(start_paused = true)]
    async fn a_term_that_is_not_renewed_runs_out_by_itself() {
        let (sender, leadership) = Leadership::following();
        assert!(!leadership.leads());
        sender.send(leading());
        let end = Instant::now() + 15 * S;
        advance(10 * S - Duration::from_millis(1)).await;
        assert_eq!(leadership.write_by(), Some(end));
        advance(Duration::from_millis(1)).await;
        assert_eq!(leadership.write_by(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_change_is_a_beginning_or_an_end_and_no_renewal() {
        let (sender, mut leadership) = Leadership::following();
        let mut changes = async |standing| {
            sender.send(standing);
            timeout(S, leadership.changed()).await.is_ok()
        };
        assert!(changes(leading()).await);
        assert!(!changes(leading()).await);
        assert!(changes(Standing::Following).await);
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_alone_always_leads() {
        let mut alone = Leadership::alone();
        advance(7 * UNHURRIED).await;
        assert!(alone.leads());
        assert!(timeout(S, alone.changed()).await.is_err());
    }
}
