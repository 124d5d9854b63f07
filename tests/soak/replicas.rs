//! Two replicas behind one address: the site's own, which stays, and another, which is killed and replaced.

use std::time::Duration;

use targetgate_sandbox::harness::{Balancer, Process, Start};

use targetgate_sandbox::harness::site::{Site, fail};
use targetgate_sandbox::harness::waiting::until;

/// A short lease, so that the leader changes often. On a busy machine it changes more often.
pub(crate) const FLAGS: [&str; 4] = [
    "--lease-duration=4s",
    "--lease-renew-deadline=3s",
    "--lease-retry-period=500ms",
    // A replica whose watch is late gives pods the gate of a binding that was just deleted, and which the
    // leader may never have seen. Such a gate opens after this time, before the deadline of any wait here.
    "--orphan-after=10s",
];
/// The pod of the replica that stays.
pub(crate) const STEADY: &str = "targetgate-0";
/// A leader that is paused for this long loses the lead.
pub(crate) const PAUSE: Duration = Duration::from_secs(5);

pub(crate) struct Replicas {
    balancer: Balancer,
    start: Start,
    other: Process,
}

impl Replicas {
    /// Starts the other replica, and makes the cluster call both.
    pub(crate) async fn new(site: &Site) -> Self {
        let balancer = Balancer::new().await;
        balancer.add(site.product.hooks);
        let start = Start {
            pod: Some("targetgate-1".to_owned()),
            ..site.start.clone()
        };
        let other = start.process(&site.cluster, &site.aws).await;
        let other = other.unwrap_or_else(fail);
        balancer.add(other.hooks);
        site.point_hooks(balancer.address).await;
        Self {
            balancer,
            start,
            other,
        }
    }

    /// Makes the cluster trust the present certificate of the replicas.
    pub(crate) async fn trust(&self, site: &Site) {
        site.point_hooks(self.balancer.address).await;
    }

    /// Kills the other replica, as the death of its node would, and starts it again.
    pub(crate) async fn replace(&mut self, site: &Site) {
        self.other.kill();
        self.balancer.remove(self.other.hooks);
        let other = self.start.process(&site.cluster, &site.aws).await;
        self.other = other.unwrap_or_else(fail);
        self.balancer.add(self.other.hooks);
    }

    /// Pauses the leader for longer than its lease lasts.
    pub(crate) async fn pause_leader(&self, site: &Site) {
        let leader = match leads(&site.product).await {
            true => &site.product,
            false => &self.other,
        };
        signal(leader, "STOP");
        tokio::time::sleep(PAUSE).await;
        signal(leader, "CONT");
    }

    /// How many of the two replicas lead.
    pub(crate) async fn leaders(&self, site: &Site) -> usize {
        let (steady, other) = tokio::join!(leads(&site.product), leads(&self.other));
        usize::from(steady) + usize::from(other)
    }

    /// The sum of a metric over both replicas.
    pub(crate) async fn metric(&self, site: &Site, name: &str) -> f64 {
        metric(&site.product, name).await + metric(&self.other, name).await
    }
}

/// Whether a replica leads. A wave of hostile clients can displace the connection that asks, so it asks again.
async fn leads(replica: &Process) -> bool {
    until("an answer about the lead", async || {
        replica.leads().await.ok()
    })
    .await
}

/// The sum of a metric over all its labels.
pub(crate) async fn metric(replica: &Process, name: &str) -> f64 {
    until("the metrics", async || replica.sum(name).await.ok()).await
}

fn signal(replica: &Process, name: &str) {
    replica.signal(name).unwrap_or_else(fail);
}
