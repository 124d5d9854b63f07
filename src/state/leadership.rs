//! Whether this replica leads: each writer asks just before each write (contract 5.8).
//!
//! The monotonic clock stands still while the machine itself is suspended, so even this answer may be
//! stale. The API server then rejects the write by its `resourceVersion`.

use std::mem::{self, discriminant};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

/// How long a write may take in a process without a Lease. Chosen: it exceeds every timeout of a call.
const UNHURRIED: Duration = Duration::from_secs(24 * 3600);

/// The role of a replica in the election.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// This process runs without a Lease, as the only one.
    Alone,
    /// The replica holds the Lease.
    Leading(Term),
    /// Another replica holds the Lease, or none does.
    Following,
}

/// The times up to which the last renewal of the Lease lets the leader write, by this process's monotonic clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Term {
    /// Writes may begin until then: the renew deadline.
    pub begin_until: Instant,
    /// Writes must be over by then: at the end of the Lease, when another replica may lead.
    pub end_by: Instant,
}

/// Sends the role of this replica to all handles.
#[derive(Debug)]
pub struct StandingSender(Arc<Shared>);

/// Not `tokio::sync::watch`, which wakes its receivers in random order: a simulation must repeat itself.
#[derive(Debug)]
struct Shared {
    told: Mutex<Told>,
    turned: Notify,
}

#[derive(Debug, Clone, Copy)]
struct Told {
    standing: Standing,
    /// How often the replica has begun or ceased to lead.
    turns: u64,
}

impl StandingSender {
    /// Sends the role. Wakes the waiters of a change only when the replica begins or ceases to lead, not at
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
    /// The turns that this handle has returned so far.
    seen: u64,
}

impl Leadership {
    /// A handle of a process without a Lease, which always leads.
    pub fn alone() -> Self {
        Self::new(Standing::Alone)
    }

    /// A handle that follows until its sender sends another role.
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

    /// Whether this replica leads right now. Compares with the monotonic clock, so that a process that was
    /// stopped for a while gets the right answer as soon as it runs again.
    pub fn leads(&self) -> bool {
        self.write_by().is_some()
    }

    /// By when a write that begins right now must be over; `None` if it must not begin.
    pub fn write_by(&self) -> Option<Instant> {
        let now = Instant::now();
        match self.shared.told.lock().standing {
            Standing::Alone => Some(now + UNHURRIED),
            Standing::Leading(term) => (now < term.begin_until).then_some(term.end_by),
            Standing::Following => None,
        }
    }

    /// Until when writes may begin; `None` if none may begin right now.
    pub fn begin_until(&self) -> Option<Instant> {
        let now = Instant::now();
        match self.shared.told.lock().standing {
            Standing::Alone => Some(now + UNHURRIED),
            Standing::Leading(term) => (now < term.begin_until).then_some(term.begin_until),
            Standing::Following => None,
        }
    }

    /// Returns once this replica has begun or ceased to lead since the last call. Never returns after the sender is
    /// dropped; the last term then ends by itself.
    pub async fn changed(&mut self) {
        let shared = self.shared.clone();
        loop {
            let mut turned = pin!(shared.turned.notified());
            // From here on this future does not miss a turn.
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
        assert_eq!(leadership.begin_until(), Some(end - 5 * S));
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
