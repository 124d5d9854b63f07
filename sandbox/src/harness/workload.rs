//! The workloads of a test: their objects, and when they are rolled out.
#![allow(
    clippy::unwrap_used,
    reason = "helpers of tests fail as the tests themselves do"
)]

use std::time::Duration;

use jiff::Timestamp;
use kube::ResourceExt as _;
use kube::api::{DeleteParams, DynamicObject, Patch, PostParams};
use serde_json::{Value, json};

use super::object::{field, patch};
use super::site::{Group, Site};
use crate::kubelet::UNREADY;

/// The prefix of a gate's condition type.
const PREFIX: &str = "target-health.elbv2.k8s.aws/";

/// A workload, which runs pods.
#[derive(Clone, Debug)]
pub struct Workload {
    pub kind: &'static str,
    pub name: &'static str,
    pub replicas: usize,
    /// The number of pods that a Deployment has beyond `replicas` while it is rolled.
    pub surge: usize,
    /// The labels of its pods.
    pub labels: Value,
    pub pre_stop: Option<Duration>,
    /// Whether a native sidecar listens, not the main container.
    pub sidecar: bool,
}

/// The grace period that the pods are given, in seconds. Longer than the longest request and the
/// longest preStop sleep together.
pub const GRACE: i64 = 60;

impl Workload {
    /// Three replicas whose pods have the label `app` with the workload's name.
    pub fn new(kind: &'static str, name: &'static str) -> Self {
        Self {
            kind,
            name,
            replicas: 3,
            surge: 1,
            labels: json!({ "app": name }),
            pre_stop: None,
            sidecar: false,
        }
    }

    fn object(&self, site: &Site) -> Value {
        let mut pod = site.nodes.placement();
        pod["terminationGracePeriodSeconds"] = json!(GRACE);
        pod["containers"] = json!([{
            "name": "web",
            "image": "sandbox/http",
            "lifecycle": self.pre_stop.map(|time| {
                let seconds = time.as_secs_f64().to_string();
                json!({ "preStop": { "exec": { "command": ["sleep", seconds] } } })
            }),
        }]);
        let ports = json!([{ "name": "http", "containerPort": 8080 }]);
        if self.sidecar {
            let proxy = json!({
                "name": "proxy", "image": "sandbox/http", "restartPolicy": "Always", "ports": ports,
            });
            pod["initContainers"] = json!([proxy]);
        } else {
            pod["containers"][0]["ports"] = ports;
        }
        let mut spec = json!({
            "selector": { "matchLabels": self.labels },
            "template": { "metadata": { "labels": self.labels }, "spec": pod },
        });
        match self.kind {
            "Deployment" => {
                spec["replicas"] = json!(self.replicas);
                spec["strategy"] =
                    json!({ "rollingUpdate": { "maxSurge": self.surge, "maxUnavailable": 0 } });
            }
            "StatefulSet" => {
                spec["replicas"] = json!(self.replicas);
                spec["serviceName"] = json!(self.name);
            }
            // A DaemonSet has one pod on each node.
            _ => {}
        }
        json!({
            "apiVersion": "apps/v1",
            "kind": self.kind,
            "metadata": { "name": self.name },
            "spec": spec,
        })
    }

    fn is_rolled(&self, object: &DynamicObject) -> bool {
        let status = |name: &str| field(object, &format!("/status/{name}"));
        let wanted = json!(self.replicas);
        let counts: &[&str] = match self.kind {
            "Deployment" => &["updatedReplicas", "replicas", "availableReplicas"],
            "StatefulSet" => &["updatedReplicas", "replicas", "readyReplicas"],
            _ => &[
                "updatedNumberScheduled",
                "desiredNumberScheduled",
                "numberAvailable",
            ],
        };
        status("observedGeneration").as_i64() >= object.metadata.generation
            && counts.iter().all(|count| *status(count) == wanted)
            && status("currentRevision") == status("updateRevision")
    }
}

impl Site {
    /// Creates the workload, or updates it.
    pub async fn apply(&self, workload: &Workload) {
        let object = workload.object(self);
        patch(
            &self.api(workload.kind),
            workload.name,
            Patch::Apply(object),
        )
        .await;
    }

    /// Rolls the workload as `kubectl rollout restart` does.
    pub async fn restart(&self, workload: &Workload) {
        let at = Timestamp::now().to_string();
        let annotations = json!({ "kubectl.kubernetes.io/restartedAt": at });
        let template = json!({ "metadata": { "annotations": annotations } });
        let change = Patch::Merge(json!({ "spec": { "template": template } }));
        patch(&self.api(workload.kind), workload.name, change).await;
    }

    /// Waits for what `kubectl rollout status` waits for, and through times in which the API server
    /// is unavailable.
    pub async fn rolled(&self, workload: &Workload) {
        let what = format!("{} {} to be rolled", workload.kind, workload.name);
        self.until(&what, async || {
            let object = self.api(workload.kind).get(workload.name).await.ok()?;
            workload.is_rolled(&object).then_some(())
        })
        .await;
    }

    /// Makes the readiness probes of these pods fail, or pass again. Their processes serve on.
    pub async fn set_ready(&self, pods: &[DynamicObject], ready: bool) {
        let value = if ready { Value::Null } else { json!("") };
        for pod in pods {
            let change = json!({ "metadata": { "annotations": { UNREADY: value } } });
            patch(&self.api("Pod"), &pod.name_any(), Patch::Merge(change)).await;
        }
    }

    /// Creates a Service that selects the pods with these labels.
    pub async fn service(&self, name: &str, selector: Value) {
        let service = json!({
            "metadata": { "name": name },
            "spec": { "selector": selector, "ports": [{ "port": 80, "targetPort": "http" }] },
        });
        let service = serde_json::from_value(service).unwrap();
        let made = self.api("Service");
        made.create(&PostParams::default(), &service).await.unwrap();
    }

    /// Replaces the Service's whole selector.
    pub async fn select(&self, service: &str, selector: Value) {
        let change = json!([{ "op": "replace", "path": "/spec/selector", "value": selector }]);
        let change = Patch::Json(serde_json::from_value(change).unwrap());
        patch(&self.api("Service"), service, change).await;
    }

    /// Creates a binding of the Service to the group, with the required fields only.
    pub async fn bind(&self, name: &str, service: &str, group: &Group) {
        let binding: DynamicObject = serde_json::from_value(json!({
            "apiVersion": "elbv2.k8s.aws/v1beta1",
            "kind": "TargetGroupBinding",
            "metadata": { "name": name },
            "spec": { "serviceRef": { "name": service }, "targetGroupARN": group.arn },
        }))
        .unwrap();
        let params = PostParams::default();
        // The binding is refused until the API server knows of the hooks, and the hooks know of the
        // Service.
        self.until("the binding to be taken", async || {
            self.api("TargetGroupBinding")
                .create(&params, &binding)
                .await
                .ok()
        })
        .await;
    }

    /// Deletes an object without waiting until it is gone.
    pub async fn delete(&self, kind: &str, name: &str) {
        let api = self.api(kind);
        api.delete(name, &DeleteParams::default()).await.unwrap();
    }

    /// Waits until a new pod with these labels would get the gates of these bindings, in this
    /// order.
    pub async fn gives_gates(&self, labels: Value, bindings: &[&str]) {
        self.gives("gates", labels, |pod| gates(pod) == bindings)
            .await;
    }

    /// Waits until a new pod with these labels would be as `is` says. `what` completes "pods to get
    /// their …".
    pub(super) async fn gives(
        &self,
        what: &str,
        labels: Value,
        is: impl Fn(&DynamicObject) -> bool,
    ) {
        let pod = json!({
            "metadata": { "name": "dry-run", "labels": labels },
            "spec": { "containers": [{ "name": "web", "image": "web" }] },
        });
        let pod: DynamicObject = serde_json::from_value(pod).unwrap();
        let dry = PostParams {
            dry_run: true,
            ..PostParams::default()
        };
        self.until(&format!("pods to get their {what}"), async || {
            let shown = self.api("Pod").create(&dry, &pod).await.ok()?;
            is(&shown).then_some(())
        })
        .await;
    }
}

/// The bindings that a pod's gates are named after.
pub fn gates(pod: &DynamicObject) -> Vec<String> {
    let gates = field(pod, "/spec/readinessGates").as_array();
    let gates = gates.into_iter().flatten();
    gates
        .map(|gate| gate["conditionType"].as_str().unwrap())
        .map(|gate| gate.strip_prefix(PREFIX).unwrap())
        .map(str::to_owned)
        .collect()
}

/// The condition of a pod's gate.
pub fn condition<'a>(pod: &'a DynamicObject, binding: &str) -> &'a Value {
    let conditions = field(pod, "/status/conditions").as_array();
    let mut conditions = conditions.into_iter().flatten();
    let gate = format!("{PREFIX}{binding}");
    let found = conditions.find(|condition| condition["type"] == *gate);
    found.unwrap_or(&Value::Null)
}
