//! Whether this replica leads: what everyone who writes asks just before each write (contract 5.8).
//!
//! The monotonic clock stands still while the machine itself is suspended, so even this answer may be
//! old. What is written then is refused for the `resourceVersion` that it names.

use std::mem::{self, discriminant};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
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
pub struct StandingSender(Arc<Shared>);

/// Not `tokio::sync::watch`, which picks at random whom it wakes first: a simulation must repeat itself.
#[derive(Debug)]
struct Shared {
    told: Mutex<Told>,
    turned: Notify,
}

#[derive(Debug, Clone, Copy)]
struct Told {
    standing: Standing,
    /// How often the replica began or ceased to lead.
    turns: u64,
}

impl StandingSender {
    /// Tells it. Who waits for a change is woken when the replica begins or ceases to lead, not by
    /// each renewal.
    pub fn send(&self, standing: Standing) {
        let mut told = self.0.told.lock();
        if discriminant(&told.standing) != discriminant(&standing) {
            told.turns += 1;
            self.0.turned.notify_waiters();
        }
        told.standing = standing;
    }
}

/// A handle to ask whether this replica leads. Cheap to clone; each clone waits on its own.
#[derive(Debug, Clone)]
pub struct Leadership {
    shared: Arc<Shared>,
    /// The turns that this handle has been told of.
    seen: u64,
}

impl Leadership {
    /// A handle of a process that needs no Lease: it always leads.
    pub fn alone() -> Self {
        Self::new(Standing::Alone)
    }

    /// A handle that follows until its sender says otherwise.
    pub fn following() -> (StandingSender, Self) {
        let leadership = Self::new(Standing::Following);
        (StandingSender(leadership.shared.clone()), leadership)
    }

    fn new(standing: Standing) -> Self {
        let told = Told { standing, turns: 0 };
        let shared = Shared {
            told: Mutex::new(told),
            turned: Notify::new(),
        };
        Self {
            shared: Arc::new(shared),
            seen: 0,
        }
    }

    /// Whether this replica leads right now. Asked of the monotonic clock, so a process that was
    /// stopped for a while hears the truth as soon as it runs again.
    pub fn leads(&self) -> bool {
        self.write_by().is_some()
    }

    /// By when a write that begins right now must be over; `None` where it must not begin.
    pub fn write_by(&self) -> Option<Instant> {
        let now = Instant::now();
        match self.shared.told.lock().standing {
            Standing::Alone => Some(now + UNHURRIED),
            Standing::Leading(term) => (now < term.begin_until).then_some(term.end_by),
            Standing::Following => None,
        }
    }

    /// Returns when this replica was told that it begins or ceases to lead, since the last call. With
    /// nobody left to tell it never does; what was told last runs out by itself.
    pub async fn changed(&mut self) {
        let shared = self.shared.clone();
        loop {
            let mut turned = pin!(shared.turned.notified());
            // From here on no turn is missed.
            turned.as_mut().enable();
            let turns = shared.told.lock().turns;
            if mem::replace(&mut self.seen, turns) != turns {
                return;
            }
            turned.await;
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
