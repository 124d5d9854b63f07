//! The nodes of a run, and what a pod must say to run there and nowhere else.

use serde_json::{Value, json};

use super::{Aws, Claim, Cluster, Parts};
use crate::{kubelet, registrar};

/// Keeps the cluster's other pods off the nodes, and its scheduler off the pods.
const TAINT: &str = "targetgate.dev/sandbox";

/// Nodes that run the pods of one namespace as [`kubelet`] does.
pub struct Nodes {
    label: (String, String),
}

impl Nodes {
    /// Makes the nodes of `options`, and starts their kubelet and the registrar of the namespace's
    /// bindings.
    ///
    /// # Errors
    ///
    /// When the cluster has such a node already, or refuses one.
    pub async fn start(
        parts: &mut Parts,
        cluster: &Cluster,
        aws: &Aws,
        claim: &Claim,
        kubelet: kubelet::Options,
        registrar: registrar::Options,
    ) -> anyhow::Result<Self> {
        for name in &kubelet.nodes {
            claim.create(node(name)).await?;
        }
        let kubelet = kubelet::run(cluster.client.clone(), kubelet);
        parts.try_spawn(async { Ok(kubelet.await?) });
        let registrar = registrar::run(cluster.client.clone(), aws.client.clone(), registrar);
        parts.spawn(registrar);
        let (key, run) = claim.label();
        Ok(Self {
            label: (key.to_owned(), run.to_owned()),
        })
    }

    /// The fields of a pod's spec that bring it to these nodes and to no other.
    pub fn placement(&self) -> Value {
        let (key, run) = &self.label;
        json!({
            "nodeSelector": {key: run},
            "tolerations": [{"key": TAINT, "operator": "Exists", "effect": "NoSchedule"}],
            // The kubelet binds its pods itself.
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
