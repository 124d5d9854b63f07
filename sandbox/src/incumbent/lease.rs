//! Its Lease, by which others see that it lives.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::Client;
use kube::api::{Api, Patch, PatchParams};
use serde_json::json;
use tokio::time::sleep;

use super::LEASE;

/// From one renewal to the next, and how long a Lease counts that is not renewed. client-go's
/// defaults.
const RENEW_EVERY: Duration = Duration::from_secs(2);
const COUNTS_FOR: Duration = Duration::from_secs(15);

/// The candidacy of one process.
pub(super) struct Election {
    api: Api<Lease>,
    identity: String,
}

impl Election {
    pub(super) fn new(client: &Client, namespace: &str) -> Self {
        Self {
            api: Api::namespaced(client.clone(), namespace),
            identity: format!("aws-load-balancer-controller_{}", Timestamp::now()),
        }
    }

    pub(super) async fn renew(&self) -> kube::Result<()> {
        let renewed = json!({
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": {"name": LEASE},
            "spec": {
                "holderIdentity": self.identity,
                "leaseDurationSeconds": COUNTS_FOR.as_secs(),
                "renewTime": MicroTime(Timestamp::now()),
            },
        });
        let params = PatchParams::apply("aws-load-balancer-controller").force();
        let patched = self.api.patch(LEASE, &params, &Patch::Apply(renewed)).await;
        patched.map(drop)
    }

    /// Renews the Lease until it is dropped. The original ends itself when it cannot renew; this one
    /// tries again.
    pub(super) async fn keep(self) {
        loop {
            sleep(RENEW_EVERY).await;
            if let Err(error) = self.renew().await {
                tracing::warn!(%error, "the incumbent cannot renew its Lease; trying again");
            }
        }
    }
}
