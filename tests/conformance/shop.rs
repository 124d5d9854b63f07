//! What is installed for: Services behind bindings, pods whose kubelet is the test, and their gates.

use k8s_openapi::api::core::v1::{Pod, PodCondition, Service};
use kube::api::{DeleteParams, DynamicObject, PostParams};
use serde_json::{Value, json};
use targetgate_core::names::BindingApi;
use targetgate_sandbox::harness::waiting::until;

use crate::install::{Installed, PORT};
use crate::servers::{Cluster, create, pod, strategic};

/// The gate of a binding.
pub(crate) fn gate(binding: &str) -> String {
    format!("target-health.elbv2.k8s.aws/{binding}")
}

impl Installed {
    /// A Service of the pods `app=NAME`, its group, and a binding that says no more than it has to;
    /// returns when the hooks have filled in the rest. Gives the group's ARN.
    pub(crate) async fn bind(&self, name: &str) -> String {
        self.cluster.service(name).await;
        let arn = self.group(name);
        let binding = binding(BindingApi::Elbv2, name, json!({ "targetGroupARN": arn }));
        // Until the API server and our index know of everything, it refuses the absent port.
        let made = until("the binding is created", async || {
            let params = PostParams::default();
            let bindings = self.bindings(BindingApi::Elbv2);
            bindings.create(&params, &binding).await.ok()
        })
        .await;
        assert_eq!(made.data["spec"]["targetType"], "ip");
        assert_eq!(made.data["spec"]["serviceRef"]["port"], 80);
        arn
    }

    /// A binding to a Service of its name that says all there is to say, as one that no hook of ours is
    /// asked about has to; returns when it is created, which may need its CRD to be established.
    pub(crate) async fn bind_whole(&self, api: BindingApi, name: &str, arn: &str) {
        let spec = json!({
            "targetGroupARN": arn,
            "targetType": "ip",
            "serviceRef": { "name": name, "port": 80 },
        });
        let binding = binding(api, name, spec);
        until("the binding is created", async || {
            let params = PostParams::default();
            self.bindings(api).create(&params, &binding).await.ok()
        })
        .await;
    }

    /// Waits until the process has heard of a group what ELB says now. It asks again and again while
    /// gates wait, and only when it has the answer.
    pub(crate) async fn elb_is_heard(&self, arn: &str) {
        let asked = || {
            let calls = self.elb.calls().into_iter();
            let health = calls.filter(|call| call.action == "DescribeTargetHealth");
            health.filter(|call| call.arns == [arn]).count()
        };
        let before = asked();
        until("ELB is asked twice more", async || {
            (asked() >= before + 2).then_some(())
        })
        .await;
    }
}

/// With this spec on top.
fn binding(api: BindingApi, name: &str, spec: Value) -> DynamicObject {
    let mut binding = json!({
        "apiVersion": format!("{}/{}", api.group(), api.version()),
        "kind": "TargetGroupBinding",
        "metadata": { "name": name },
        "spec": { "serviceRef": { "name": name } },
    });
    json_patch::merge(&mut binding, &json!({ "spec": spec }));
    serde_json::from_value(binding).unwrap()
}

impl Cluster {
    /// A Service of the pods `app=NAME`.
    pub(crate) async fn service(&self, name: &str) {
        let service = json!({
            "metadata": { "name": name },
            "spec": { "selector": { "app": name }, "ports": [{ "port": 80, "targetPort": PORT }] },
        });
        create(&self.api::<Service>(), service).await.unwrap();
    }

    /// A new pod `app=APP`, once new pods of it are given these gates and no others.
    pub(crate) async fn gated_pod(&self, name: &str, app: &str, bindings: &[&str]) {
        let expected: Vec<String> = bindings.iter().map(|binding| gate(binding)).collect();
        let wanted: Pod = serde_json::from_value(of_app(name, app)).unwrap();
        let pods = self.pods();
        let gated = async |dry_run| {
            let params = PostParams {
                dry_run,
                ..PostParams::default()
            };
            gates(&pods.create(&params, &wanted).await.unwrap()) == expected
        };
        until("new pods get their gates", async || {
            if !gated(true).await {
                return None;
            }
            if gated(false).await {
                return Some(());
            }
            // A machine so busy that the hook had no time to answer: then a pod is let through.
            let at_once = DeleteParams::default().grace_period(0);
            pods.delete(name, &at_once).await.unwrap();
            None
        })
        .await;
    }

    /// What a kubelet writes when the containers are ready.
    pub(crate) async fn containers_become_ready(&self, pod: &str, ip: &str) {
        let status = json!({ "status": {
            "phase": "Running",
            "podIP": ip,
            "podIPs": [{ "ip": ip }],
            "conditions": [{ "type": "ContainersReady", "status": "True" }],
        } });
        strategic(&self.pods(), pod, status).await.unwrap();
    }

    /// A new pod `app=APP` of this address, whose only gate waits for its target to be registered.
    pub(crate) async fn waiting_pod(&self, name: &str, app: &str, ip: &str) {
        self.gated_pod(name, app, &[app]).await;
        self.containers_become_ready(name, ip).await;
        let waits = self.gate_becomes(name, app, "False").await;
        assert_eq!(waits.reason.as_deref(), Some("Elb.RegistrationInProgress"));
    }

    /// Waits for a pod's gate to have this status.
    pub(crate) async fn gate_becomes(
        &self,
        pod: &str,
        binding: &str,
        status: &str,
    ) -> PodCondition {
        let what = format!("the gate {binding} of pod {pod} is {status}");
        until(&what, async || {
            let condition = self.gate(pod, binding).await?;
            (condition.status == status).then_some(condition)
        })
        .await
    }

    /// The condition of a pod's gate, if there is one.
    pub(crate) async fn gate(&self, pod: &str, binding: &str) -> Option<PodCondition> {
        let pod = self.pods().get(pod).await.unwrap();
        let conditions = pod.status.unwrap().conditions.unwrap_or_default();
        let mut conditions = conditions.into_iter();
        conditions.find(|condition| condition.type_ == gate(binding))
    }
}

/// A pod `app=APP`.
pub(crate) fn of_app(name: &str, app: &str) -> Value {
    pod(name, json!({ "metadata": { "labels": { "app": app } } }))
}

/// The gates of a pod.
pub(crate) fn gates(pod: &Pod) -> Vec<String> {
    let gates = pod.spec.as_ref().unwrap().readiness_gates.iter().flatten();
    gates.map(|gate| gate.condition_type.clone()).collect()
}
