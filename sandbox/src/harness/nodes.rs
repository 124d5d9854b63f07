//! The nodes of a run, and the fields of a pod's spec that place it there and nowhere else.

use serde_json::{Value, json};

use super::{Aws, Claim, Cluster, Parts};
use crate::{kubelet, registrar};

/// The taint that keeps the cluster's other pods off the nodes.
const TAINT: &str = "targetgate.dev/sandbox";

/// Nodes on which [`kubelet`] runs the pods of one namespace.
pub struct Nodes {
    label: (String, String),
}

impl Nodes {
    /// Creates the nodes of `options`, and starts their kubelet and, if there is one, the registrar of
    /// the namespace's bindings.
    ///
    /// # Errors
    ///
    /// When the cluster has a node of that name already, or refuses one.
    pub async fn start(
        parts: &mut Parts,
        cluster: &Cluster,
        aws: &Aws,
        claim: &Claim,
        kubelet: kubelet::Options,
        registrar: Option<registrar::Options>,
    ) -> anyhow::Result<Self> {
        for name in &kubelet.nodes {
            claim.create(node(name)).await?;
        }
        let kubelet = kubelet::run(cluster.client.clone(), kubelet);
        parts.try_spawn(async { Ok(kubelet.await?) });
        if let Some(options) = registrar {
            let (client, elb) = (cluster.client.clone(), aws.client.clone());
            parts.spawn(registrar::run(client, elb, options));
        }
        let (key, run) = claim.label();
        Ok(Self {
            label: (key.to_owned(), run.to_owned()),
        })
    }

    /// The fields of a pod's spec that place it on these nodes.
    pub fn placement(&self) -> Value {
        let (key, run) = &self.label;
        json!({
            "nodeSelector": {key: run},
            "tolerations": [{"key": TAINT, "operator": "Exists", "effect": "NoSchedule"}],
            // The kubelet binds its pods itself, so the cluster's scheduler must ignore them.
            "schedulerName": "targetgate-sandbox",
            "automountServiceAccountToken": false,
        })
    }
}

fn node(name: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name},
        "spec": {"taints": [{"key": TAINT, "effect": "NoSchedule"}]},
    })
}
