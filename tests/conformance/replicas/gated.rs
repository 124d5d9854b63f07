//! A pod whose gate waits, and processes that can open it.

use std::ops::Deref;
use std::path::Path;
use std::process::ExitStatus;

use k8s_openapi::api::core::v1::{PodCondition, Service};
use kube::api::{DynamicObject, PostParams};
use serde_json::json;
use targetgate_core::names::BindingApi;
use targetgate_sandbox::harness::Process;
use targetgate_sandbox::harness::waiting::until;

use crate::install::{PORT, Site};
use crate::servers::{create, pod, strategic};

/// The gate that binding `web` gives.
pub(crate) const GATE: &str = "target-health.elbv2.k8s.aws/web";
/// The address of pod `a`.
pub(crate) const IP: &str = "10.0.0.1";

/// A site with the target group of binding `web`.
pub(crate) struct Gated {
    pub(crate) arn: String,
    site: Site,
}

impl Deref for Gated {
    type Target = Site;

    fn deref(&self) -> &Site {
        &self.site
    }
}

impl Gated {
    pub(crate) async fn new() -> Self {
        let site = Site::new().await;
        Self {
            arn: site.group("web"),
            site,
        }
    }

    /// Starts a process as a pod of this name, and waits until it is ready.
    pub(crate) async fn start(&self, pod: &str) -> Process {
        self.start_with(pod, &self.program.kubeconfig).await
    }

    /// Starts a process with a kubeconfig of its own, and waits until it is ready.
    pub(crate) async fn start_with(&self, pod: &str, kubeconfig: &Path) -> Process {
        let process = self.program.start_with(pod, kubeconfig).await.unwrap();
        process.ready().await.unwrap();
        process
    }

    /// Creates Service and binding `web`.
    pub(crate) async fn bind(&self) {
        let service = json!({
            "metadata": { "name": "web" },
            "spec": { "selector": { "app": "web" }, "ports": [{ "port": 80, "targetPort": PORT }] },
        });
        let services = self.cluster.api::<Service>();
        create(&services, service).await.unwrap();
        let binding: DynamicObject = serde_json::from_value(json!({
            "apiVersion": "elbv2.k8s.aws/v1beta1",
            "kind": "TargetGroupBinding",
            "metadata": { "name": "web" },
            "spec": {
                "serviceRef": { "name": "web", "port": 80 },
                "targetGroupARN": self.arn,
                "targetType": "ip",
            },
        }))
        .unwrap();
        // The API server may not serve the CRD yet.
        until("the binding is created", async || {
            let params = PostParams::default();
            self.bindings(BindingApi::Elbv2)
                .create(&params, &binding)
                .await
                .ok()
        })
        .await;
    }

    /// Creates pod `a` with the gate, with its containers ready.
    pub(crate) async fn waiting_pod(&self) {
        let gates = json!({ "spec": { "readinessGates": [{ "conditionType": GATE }] } });
        self.cluster.pod("a", gates).await.unwrap();
        let status = json!({ "status": {
            "phase": "Running",
            "podIP": IP,
            "podIPs": [{ "ip": IP }],
            "conditions": [{ "type": "ContainersReady", "status": "True" }],
        } });
        let pods = self.cluster.pods();
        strategic(&pods, "a", status).await.unwrap();
    }

    /// Status and reason of the gate of pod `a`.
    pub(crate) async fn gate(&self) -> Option<(String, String)> {
        let pod = self.cluster.pods().get("a").await.unwrap();
        let conditions: Vec<PodCondition> = pod.status.unwrap().conditions.unwrap_or_default();
        let gate = conditions.into_iter().find(|c| c.type_ == GATE)?;
        Some((gate.status, gate.reason.unwrap_or_default()))
    }

    /// Waits until the gate of pod `a` has this status and reason.
    pub(crate) async fn until_gate(&self, status: &str, reason: &str) {
        let wanted = (status.to_owned(), reason.to_owned());
        until(&format!("gate {wanted:?}"), async || {
            (self.gate().await? == wanted).then_some(())
        })
        .await;
    }
}

pub(crate) async fn leads(process: &Process) -> bool {
    process.leads().await.unwrap()
}

/// Waits until the process leads.
pub(crate) async fn until_leads(process: &Process) {
    until("it leads", async || leads(process).await.then_some(())).await;
}

/// Waits until the process has ended.
pub(crate) async fn until_ended(process: &mut Process) -> ExitStatus {
    until("it has ended", async || process.try_ended().unwrap()).await
}

/// A new pod that the Service selects.
pub(crate) fn new_pod(name: &str) -> serde_json::Value {
    pod(name, json!({}))
}
