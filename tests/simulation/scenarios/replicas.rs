//! Several replicas on a [`Stage`], and their Lease.

use std::sync::atomic::Ordering;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use kube::api::Api as KubeApi;
use tokio::time::{Instant, sleep, timeout};

use super::stage::{DEADLINE, SEED, Stage};
use crate::random::Random;
use crate::replica::{HOME, Life, Replica};

const LEASE: &str = "targetgate";

impl Stage {
    /// Starts a replica with the right time, and waits until its cache is warm.
    pub(crate) async fn starts(&self, name: &'static str) -> Replica {
        self.starts_skewed(name, SignedDuration::ZERO).await
    }

    /// Starts a replica whose wall clock is wrong by `by`, and waits until its cache is warm.
    pub(crate) async fn starts_skewed(&self, name: &'static str, by: SignedDuration) -> Replica {
        let mut replica = self.replica(name);
        replica.skew.store(by.as_secs(), Ordering::Relaxed);
        replica.start(self, &mut Random::new(SEED));
        replica.life().cache.warm().await;
        replica
    }
}

impl Replica {
    fn life(&self) -> &Life {
        self.life.as_ref().unwrap()
    }

    /// The identity with which it holds the Lease.
    pub(crate) fn identity(&self) -> &str {
        &self.life().incarnation
    }

    pub(crate) fn leads(&self) -> bool {
        self.life().leadership.leads()
    }

    /// Stops it in order, and waits until it has ended.
    pub(crate) async fn ends(&mut self, stage: &Stage) {
        self.stop();
        let ending = async {
            while self.life.is_some() {
                sleep(Duration::from_millis(1)).await;
                self.bury(stage).await;
            }
        };
        timeout(DEADLINE, ending).await.unwrap();
    }

    /// Waits until it leads. Returns how long that took.
    pub(crate) async fn until_leads(&self) -> Duration {
        self.until(true).await
    }

    /// Waits until it no longer leads. Returns how long that took.
    pub(crate) async fn until_follows(&self) -> Duration {
        self.until(false).await
    }

    async fn until(&self, leads: bool) -> Duration {
        let start = Instant::now();
        let waiting = async {
            while self.leads() != leads {
                sleep(Duration::from_millis(10)).await;
            }
        };
        let waited = timeout(DEADLINE, waiting).await;
        waited.unwrap_or_else(|_| panic!("{}: leads never became {leads}", self.name));
        start.elapsed()
    }

    pub(crate) fn metric(&self, name: &str) -> String {
        let text = self.life().metrics.encode();
        let mut lines = text.lines();
        let line = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("no {name} in {text}"))
            .to_owned()
    }
}

/// The present Lease.
pub(crate) async fn lease(stage: &Stage) -> LeaseSpec {
    leases(stage).get(LEASE).await.unwrap().spec.unwrap()
}

/// When the holder last renewed the Lease, by the stage's clock.
pub(crate) async fn renewed(stage: &Stage) -> Timestamp {
    lease(stage).await.renew_time.unwrap().0
}

pub(crate) fn leases(stage: &Stage) -> KubeApi<Lease> {
    KubeApi::namespaced(stage.kube.clone(), HOME)
}
