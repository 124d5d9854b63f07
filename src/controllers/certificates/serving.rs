//! The leaf that this replica serves.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use targetgate_core::rotation::{Fingerprint, Leaf, Standing, takes};
use tracing::{info, warn};

use crate::controllers::certificates::configurations::{Hooks, unchanged_for};
use crate::pki::read;
use crate::pki::read::Chain;
use crate::serve::certificates::{Certificate, Certificates};

/// Takes the leaf that the Secret offers when the rules allow it.
pub(super) struct Served {
    certificates: Arc<Certificates>,
    seen_after: Duration,
    current: Option<(Fingerprint, Chain)>,
}

impl Served {
    pub(super) fn new(certificates: Arc<Certificates>, seen_after: Duration) -> Self {
        Self {
            certificates,
            seen_after,
            current: None,
        }
    }

    /// Considers the leaf in the Secret, and returns after how long to consider it again.
    pub(super) fn offer(
        &mut self,
        leaf: Option<&Leaf>,
        hooks: &[Hooks],
        now: Timestamp,
    ) -> Duration {
        let (serves, anew, wait) = match leaf {
            Some(leaf) if self.current.as_ref().map(|(id, _)| *id) != Some(leaf.id) => {
                self.weigh(leaf, hooks, now)
            }
            _ => (self.standing(hooks, now), false, Duration::MAX),
        };
        if let Some(standing) = serves {
            let trusted = standing.trusted_for.is_some();
            let before = self.certificates.trust();
            self.certificates.trusted(trusted, anew);
            if before == (true, true) && !trusted {
                warn!("API servers do not trust the served certificate: a caBundle lacks its CA");
            }
        }
        wait
    }

    /// Decides whether to take a leaf. Returns the standing of the leaf that is then served, whether it is another one,
    /// and after how long to decide again.
    fn weigh(
        &mut self,
        leaf: &Leaf,
        hooks: &[Hooks],
        now: Timestamp,
    ) -> (Option<Standing>, bool, Duration) {
        let serves = self.standing(hooks, now);
        // A chain that parsed as a leaf parses as a chain.
        let Ok(chain) = read::chain(&leaf.chain, &leaf.key.0) else {
            return (serves, false, Duration::MAX);
        };
        let offered = standing(&chain, hooks, now);
        if !takes(serves, offered, self.seen_after) {
            let seen_for = offered.trusted_for.unwrap_or_default();
            return (serves, false, self.seen_after.saturating_sub(seen_for));
        }
        let expiry = chain.validity.not_after;
        info!(leaf = %leaf.id, %expiry, "serving a new certificate");
        let certificate = Certificate::new(chain.key.clone(), expiry);
        self.certificates.replace(certificate);
        self.current = Some((leaf.id, chain));
        (Some(offered), true, Duration::MAX)
    }

    fn standing(&self, hooks: &[Hooks], now: Timestamp) -> Option<Standing> {
        let (_, chain) = self.current.as_ref()?;
        Some(standing(chain, hooks, now))
    }
}

/// The standing of a leaf, as far as the configurations are known.
fn standing(chain: &Chain, hooks: &[Hooks], now: Timestamp) -> Standing {
    let verified = hooks.iter().all(|hooks| hooks.verify(&chain.key, now));
    Standing {
        expired: now >= chain.validity.not_after,
        trusted_for: unchanged_for(hooks).filter(|_| verified),
    }
}
