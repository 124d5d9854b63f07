//! What a user has: Services behind bindings, and pods with gates, whose kubelet is the test.

use k8s_openapi::api::core::v1::{Pod, PodCondition, Service};
use kube::api::{DeleteParams, DynamicObject, PostParams};
use serde_json::{Value, json};
use targetgate_core::names::BindingApi;
use targetgate_sandbox::harness::waiting::until;

use crate::install::{Installed, PORT, Site};
use crate::servers::{Cluster, create, pod, strategic};

/// The gate that a binding gives.
pub(crate) fn gate(binding: &str) -> String {
    format!("target-health.elbv2.k8s.aws/{binding}")
}

impl Installed {
    /// Creates a Service of the pods `app=NAME`, its target group, and a binding with required fields only,
    /// which the hooks complete. Returns the ARN of the group.
    pub(crate) async fn bind(&self, name: &str) -> String {
        self.cluster.service(name).await;
        let arn = self.group(name);
        let binding = binding(BindingApi::Elbv2, name, json!({ "targetGroupARN": arn }));
        // The hook denies the binding without a port until our index knows the Service.
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

    /// Creates a binding to the Service of its name with all fields, as no hook of ours completes it. Waits
    /// until it is created, because its CRD may not be served yet.
    pub(crate) async fn bind_whole(&self, api: BindingApi, name: &str, arn: &str) {
        self.bind_service(api, name, name, arn).await;
    }
    /// Binds the Service of this name again, whose binding is gone.
    pub(crate) async fn bind_again(&self, name: &str) {
        let arn = self.group(&format!("{name}-again"));
        self.bind_whole(BindingApi::Elbv2, name, &arn).await;
    }

    /// Waits until the process has received ELB's present answer about a group. While gates wait it polls
    /// continually, and it polls again only after it has the previous answer.
    pub(crate) async fn elb_is_heard(&self, arn: &str) {
        let asked = || {
            let calls = self.elb.calls().into_iter();
            let health = calls.filter(|call| call.action == "DescribeTargetHealth");
            health.filter(|call| call.arns == [arn]).count()
        };
        let before = asked();
        until("ELB is polled twice more", async || {
            (asked() >= before + 2).then_some(())
        })
        .await;
    }
}

impl Site {
    /// Creates a binding to a Service with all fields, as [`Installed::bind_whole`] does.
    pub(crate) async fn bind_service(&self, api: BindingApi, name: &str, service: &str, arn: &str) {
        let spec = json!({
            "targetGroupARN": arn,
            "targetType": "ip",
            "serviceRef": { "name": service, "port": 80 },
        });
        let binding = binding(api, name, spec);
        until("the binding is created", async || {
            let params = PostParams::default();
            self.bindings(api).create(&params, &binding).await.ok()
        })
        .await;
    }
}

/// A binding with this spec merged into it.
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
    /// Creates a Service of the pods `app=NAME`.
    pub(crate) async fn service(&self, name: &str) {
        let service = json!({
            "metadata": { "name": name },
            "spec": { "selector": { "app": name }, "ports": [{ "port": 80, "targetPort": PORT }] },
        });
        create(&self.api::<Service>(), service).await.unwrap();
    }

    /// Creates a pod `app=APP`, once new pods of the app are given exactly these gates.
    pub(crate) async fn gated_pod(&self, name: &str, app: &str, bindings: &[&str]) {
        self.pod_with_gates(of_app(name, app), bindings).await;
    }

    /// Creates this pod, once new ones like it are given exactly these gates.
    pub(crate) async fn pod_with_gates(&self, wanted: Value, bindings: &[&str]) {
        let expected: Vec<String> = bindings.iter().map(|binding| gate(binding)).collect();
        let wanted: Pod = serde_json::from_value(wanted).unwrap();
        let name = wanted.metadata.name.clone().unwrap();
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
            // On a busy machine the hook may time out, and the pod is admitted without its gates.
            let at_once = DeleteParams::default().grace_period(0);
            pods.delete(&name, &at_once).await.unwrap();
            None
        })
        .await;
    }

    /// Writes the status that a kubelet writes when the containers are ready.
    pub(crate) async fn containers_become_ready(&self, pod: &str, ip: &str) {
        let status = json!({ "status": {
            "phase": "Running",
            "podIP": ip,
            "podIPs": [{ "ip": ip }],
            "conditions": [{ "type": "ContainersReady", "status": "True" }],
        } });
        strategic(&self.pods(), pod, status).await.unwrap();
    }

    /// Creates a pod `app=APP` with this address, whose only gate waits for its target to be registered.
    pub(crate) async fn waiting_pod(&self, name: &str, app: &str, ip: &str) {
        self.gated_pod(name, app, &[app]).await;
        self.containers_become_ready(name, ip).await;
        let waits = self.gate_becomes(name, app, "False").await;
        assert_eq!(waits.reason.as_deref(), Some("Elb.RegistrationInProgress"));
    }

    /// Waits until a pod's gate has this status.
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

    /// The condition of a pod's gate, if it exists.
    pub(crate) async fn gate(&self, pod: &str, binding: &str) -> Option<PodCondition> {
        let pod = self.pods().get(pod).await.unwrap();
        let conditions = pod.status.unwrap().conditions.unwrap_or_default();
        let mut conditions = conditions.into_iter();
        conditions.find(|condition| condition.type_ == gate(binding))
    }
}

pub(crate) fn of_app(name: &str, app: &str) -> Value {
    pod(name, json!({ "metadata": { "labels": { "app": app } } }))
}

pub(crate) fn gates(pod: &Pod) -> Vec<String> {
    let gates = pod.spec.as_ref().unwrap().readiness_gates.iter().flatten();
    gates.map(|gate| gate.condition_type.clone()).collect()
}
