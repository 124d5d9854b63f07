//! Gates that the API server itself injects, by the policy of `deploy/components/policy` (contract 11). The model of
//! the API has no policies, so these tests run on the real one alone.

mod filled;
mod installed;
mod large;
mod restarts;
mod roles;
mod schema;
pub(crate) mod ways;
mod worlds;

use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, ApiResource, DynamicObject, Patch, PatchParams, PostParams};
use kube::core::GroupVersionKind;
use serde_json::{Value, json};
use targetgate_core::gate_rules::GateRules;
use targetgate_sandbox::harness::waiting::until;

use crate::install::apply;
use crate::servers::{Cluster, Server};
use crate::shop::gates;

const OPT_IN: &str = "elbv2.k8s.aws/pod-readiness-gate-inject";

/// The manifests of the component that are not patches.
const COMPONENT: [&str; 3] = [
    include_str!("../../../deploy/components/policy/crd.yaml"),
    include_str!("../../../deploy/components/policy/policy.yaml"),
    include_str!("../../../deploy/components/policy/rbac.yaml"),
];

/// A namespace that opts in, on a real API server where no hook is registered for pods.
async fn cluster() -> Cluster {
    let cluster = Server::Kubernetes.own_cluster().await;
    cluster.apply_policy().await;
    cluster.label_namespace(OPT_IN, "enabled").await;
    cluster
}

impl Cluster {
    async fn apply_manifest(&self, manifest: &str) {
        for object in serde_saphyr::from_multiple::<Value>(manifest).unwrap() {
            apply(&self.client, &object).await;
        }
    }

    /// Grants what the component grants, where its CRD is not there.
    async fn apply_roles(&self) {
        self.apply_manifest(COMPONENT[2]).await;
    }

    /// Does what kustomize does with the component, but for the Deployment, and waits until the CRD is served.
    pub(crate) async fn apply_policy(&self) {
        for manifest in COMPONENT {
            self.apply_manifest(manifest).await;
        }
        until("GateRules are served", async || {
            self.gate_rules().list(&Default::default()).await.ok()
        })
        .await;
    }

    pub(crate) fn gate_rules(&self) -> Api<DynamicObject> {
        let kind = GroupVersionKind::gvk("targetgate.dev", "v1", "GateRules");
        self.dynamic(&ApiResource::from_gvk_with_plural(&kind, "gaterules"))
    }

    /// Writes the rules of the namespace, as another than targetgate.
    async fn put_rules(&self, spec: &Value) -> kube::Result<DynamicObject> {
        let object = json!({
            "apiVersion": "targetgate.dev/v1",
            "kind": "GateRules",
            "metadata": { "name": "targetgate" },
            "spec": spec,
        });
        let params = PatchParams::apply("test").force();
        let rules = self.gate_rules();
        rules
            .patch("targetgate", &params, &Patch::Apply(object))
            .await
    }

    async fn put_gate_rules(&self, rules: &GateRules) {
        let spec = serde_json::to_value(rules).unwrap();
        self.put_rules(&spec).await.unwrap();
    }

    /// The gates that a pod would have, were it created now.
    pub(crate) async fn gates_of(&self, pod: Value) -> kube::Result<Vec<String>> {
        let params = PostParams {
            dry_run: true,
            ..PostParams::default()
        };
        let pod: Pod = serde_json::from_value(pod).unwrap();
        let made = self.pods().create(&params, &pod).await?;
        Ok(gates(&made))
    }
}
