//! The health checks of the process.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use crate::clock::Now;
use crate::serve::certificates::Certificates;
use crate::serve::{Phase, PhaseReceiver};
use crate::state::cache::{Cache, InitialList, WatchedResource};

/// Without a heartbeat for this long the health loop counts as stalled. Chosen: it beats at least every few seconds.
pub const STALLED_AFTER: Duration = Duration::from_secs(60);

/// The heartbeat of a task. Its time is tokio's.
#[derive(Debug)]
pub struct Heartbeat {
    started: Instant,
    last: AtomicU64,
}

impl Default for Heartbeat {
    fn default() -> Self {
        Self {
            started: Instant::now(),
            last: AtomicU64::new(0),
        }
    }
}

impl Heartbeat {
    /// Records a round of the task.
    pub fn beat(&self) {
        self.last.store(self.running(), Ordering::Relaxed);
    }

    /// Time since the last beat, or since the start.
    pub fn age(&self) -> Duration {
        let last = self.last.load(Ordering::Relaxed);
        Duration::from_millis(self.running().saturating_sub(last))
    }

    fn running(&self) -> u64 {
        // A u64 holds the milliseconds of half a billion years.
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

/// One check, with its result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    pub name: String,
    /// Why it fails; `None` if it passes.
    pub failure: Option<String>,
    /// A remark on a check that passes.
    pub note: Option<&'static str>,
}

impl Check {
    fn new(name: impl Into<String>, failure: Option<String>) -> Self {
        Self {
            name: name.into(),
            failure,
            note: None,
        }
    }
}

/// The checks of `/livez` and `/readyz`.
pub struct Health {
    pub cache: Arc<Cache>,
    pub certificates: Arc<Certificates>,
    pub heartbeat: Arc<Heartbeat>,
    pub phases: PhaseReceiver,
    pub now: Now,
}

impl Health {
    /// The checks of `/livez`: if one fails, the kubelet restarts the container.
    pub fn live(&self) -> Vec<Check> {
        let age = self.heartbeat.age();
        let stalled = (age >= STALLED_AFTER).then(|| {
            let seconds = age.as_secs();
            format!("has not come round for {seconds} s; the process is about to end itself")
        });
        vec![Check::new("health loop", stalled)]
    }

    /// The checks of `/readyz`: if one fails, Services do not route reviews here.
    pub fn ready(&self) -> Vec<Check> {
        let mut checks = self.live();
        checks.push(self.certificate());
        checks.extend(WatchedResource::ALL.map(|watched| {
            let pending = self.cache.look(watched) == InitialList::Pending;
            let pending = pending.then(|| "the first list is not yet taken in".to_owned());
            Check::new(format!("watch {}", watched.as_str()), pending)
        }));
        let ending = *self.phases.borrow() >= Phase::Lingering;
        let ending = ending.then(|| "the process is about to end".to_owned());
        checks.push(Check::new("shutdown", ending));
        checks
    }

    /// Checks the served leaf. A leaf that was never trusted makes the replica useless. A leaf that is not trusted
    /// any more concerns all replicas alike: making all of them unready would not help, so this is only a remark.
    fn certificate(&self) -> Check {
        let (proven, trusted) = self.certificates.trust();
        let failure = match self.certificates.expiry() {
            None => Some("there is none yet".to_owned()),
            Some(expiry) if (self.now)() >= expiry => Some(format!("expired at {expiry}")),
            Some(_) if !proven => Some("no CA of a caBundle has signed it".to_owned()),
            Some(_) => None,
        };
        let untrusted = proven && !trusted;
        Check {
            note: untrusted.then_some("not every caBundle has its CA any more"),
            ..Check::new("certificate", failure)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_heartbeat_ages_until_it_beats() {
        let heartbeat = Heartbeat::default();
        tokio::time::advance(Duration::from_secs(7)).await;
        assert_eq!(heartbeat.age(), Duration::from_secs(7));
        heartbeat.beat();
        assert_eq!(heartbeat.age(), Duration::ZERO);
    }
}
