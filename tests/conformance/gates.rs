//! Gates whose address was another pod's, or whose binding cannot have a target.

use k8s_openapi::api::core::v1::{Pod, Service};
use kube::api::{DeleteParams, DynamicObject, Patch, PatchParams, PostParams};
use rstest::rstest;
use serde_json::{Value, json};
use targetgate_core::names::BindingApi;
use targetgate_sandbox::elb::Health;
use targetgate_sandbox::harness::waiting::until;
use tokio::time::Instant;

use crate::install::{Installed, PORT, Site};
use crate::policy::ways::Way;
use crate::servers::{create, pod, strategic};
use crate::shop::{gates, of_app};

/// The interval of the checks of all groups, which ELB rounds up to a second, times the larger threshold (2) plus one.
const PROVING_SECONDS: f64 = 3.0;

impl Installed {
    /// Writes what a kubelet writes about the address and the containers of a pod.
    async fn kubelet(&self, pod: &str, ip: &str, ready: bool) {
        let ready = if ready { "True" } else { "False" };
        let status = json!({ "status": {
            "phase": "Running",
            "podIP": ip,
            "podIPs": [{ "$patch": "replace" }, { "ip": ip }],
            "conditions": [{ "type": "ContainersReady", "status": ready }],
        } });
        strategic(&self.cluster.pods(), pod, status).await.unwrap();
    }

    async fn elb_calls_healthy(&self, arn: &str, ip: &str, port: u16) {
        until("the target is healthy", async || {
            let health = self.elb.health(arn, ip.parse().unwrap(), port);
            (health == Some(Health::healthy())).then_some(())
        })
        .await;
    }

    fn described_groups(&self) -> usize {
        let calls = self.elb.calls();
        let described = calls
            .iter()
            .filter(|call| call.action == "DescribeTargetGroups");
        described.count()
    }

    async fn reason(&self, pod: &str, binding: &str, reason: &str) -> String {
        let what = format!("the gate {binding} of pod {pod} says {reason}");
        let condition = until(&what, async || {
            let condition = self.cluster.gate(pod, binding).await?;
            (condition.reason.as_deref() == Some(reason)).then_some(condition)
        });
        let condition = condition.await;
        assert_eq!(condition.status, "False", "{condition:?}");
        condition.message.unwrap_or_default()
    }
}

#[rstest]
#[tokio::test]
async fn a_gate_is_about_the_address_that_its_pod_has_and_about_no_former_pod(
    #[values(Way::Webhook, Way::Both)] way: Way,
) {
    let installed = Installed::by(way).await;
    let cluster = &installed.cluster;
    let arn = installed.bind("web").await;

    // The pod's sandbox is made anew: the same pod gets another address.
    cluster.waiting_pod("moves", "web", "10.0.0.31").await;
    installed.register(&arn, "10.0.0.31");
    let open = cluster.gate_becomes("moves", "web", "True").await;
    installed.kubelet("moves", "10.0.0.31", false).await;
    installed.kubelet("moves", "10.0.0.31", true).await;
    cluster.waiting_pod("waits", "web", "10.0.0.30").await;
    installed.elb_is_heard(&arn).await;
    let still = cluster.gate("moves", "web").await.unwrap();
    assert_eq!(still, open, "its containers restarted in place");
    installed.kubelet("moves", "10.0.0.32", true).await;
    cluster.gate_becomes("moves", "web", "False").await;
    installed.register(&arn, "10.0.0.32");
    cluster.gate_becomes("moves", "web", "True").await;

    // The second pod of a group: its target is registered and healthy before its containers are ready.
    cluster.gated_pod("early", "web", &["web"]).await;
    installed.kubelet("early", "10.0.0.33", false).await;
    installed.elb_is_heard(&arn).await;
    installed.register(&arn, "10.0.0.33");
    installed.elb_calls_healthy(&arn, "10.0.0.33", PORT).await;
    installed.elb_is_heard(&arn).await;
    let described = installed.described_groups();
    installed.kubelet("early", "10.0.0.33", true).await;
    cluster.gate_becomes("early", "web", "True").await;
    assert_eq!(
        installed.described_groups(),
        described,
        "it was not in doubt"
    );

    // An ungated pod ends, and its address is used again while ELB still calls its target healthy.
    let plain = json!({ "metadata": { "annotations": { "targetgate.dev/gate": "false" } } });
    create::<Pod>(&cluster.pods(), pod("plain", plain))
        .await
        .unwrap();
    installed.kubelet("plain", "10.0.0.41", true).await;
    installed.register(&arn, "10.0.0.41");
    installed.elb_calls_healthy(&arn, "10.0.0.41", PORT).await;
    let at_once = DeleteParams::default().grace_period(0);
    cluster.pods().delete("plain", &at_once).await.unwrap();
    cluster.gated_pod("successor", "web", &["web"]).await;
    let begun = Instant::now();
    installed.kubelet("successor", "10.0.0.41", true).await;
    cluster.gate_becomes("successor", "web", "True").await;
    let took = begun.elapsed().as_secs_f64();
    assert!(took >= PROVING_SECONDS, "{took} s after its first sight");
}

/// A binding of the Service of its name as the store has it, where no hook completed it.
fn unhooked(name: &str, more: Value) -> DynamicObject {
    let mut binding = json!({
        "apiVersion": "elbv2.k8s.aws/v1beta1",
        "kind": "TargetGroupBinding",
        "metadata": { "name": name },
        "spec": { "targetType": "ip", "serviceRef": { "name": name, "port": 80 } },
    });
    json_patch::merge(&mut binding, &more);
    serde_json::from_value(binding).unwrap()
}

impl Site {
    /// Creates a binding, and its Service of the pods `app=NAME`.
    async fn bind_unhooked(&self, name: &str, more: Value) {
        self.cluster.service(name).await;
        let binding = unhooked(name, more);
        until("the binding is created", async || {
            let params = PostParams::default();
            let bindings = self.bindings(BindingApi::Elbv2);
            bindings.create(&params, &binding).await.ok()
        })
        .await;
    }
}

#[rstest]
#[tokio::test]
async fn a_binding_made_while_the_hooks_were_off_tells_what_it_lacks_or_is_completed_by_the_loop(
    #[values(Way::Webhook, Way::Policy)] way: Way,
) {
    let site = Site::by(way).await;
    let (going, dns) = (site.group("going"), site.group("dns"));
    let by_name = site.group("by-name");
    let lacking = site.group("lacking");
    site.bind_unhooked("named", json!({ "spec": { "targetGroupName": "by-name" } }))
        .await;
    site.bind_unhooked(
        "unknown",
        json!({ "spec": { "targetGroupName": "nobodys" } }),
    )
    .await;
    site.bind_unhooked(
        "none",
        json!({ "spec": { "targetGroupARN": "not-an-arn" } }),
    )
    .await;
    let port = json!({ "spec": { "targetGroupARN": lacking, "serviceRef": { "port": 30080 } } });
    site.bind_unhooked("lacking", port).await;
    let finalizer = json!({
        "metadata": { "finalizers": ["elbv2.k8s.aws/resources"] },
        "spec": { "targetGroupARN": going },
    });
    site.bind_unhooked("going", finalizer).await;
    let udp = json!({ "spec": { "targetGroupARN": dns, "serviceRef": { "name": "udp" } } });
    site.bind_unhooked("dns", udp).await;
    let service = json!({
        "metadata": { "name": "udp" },
        "spec": {
            "selector": { "app": "dns" },
            "ports": [{ "port": 80, "protocol": "UDP", "targetPort": "dns" }],
        },
    });
    create(&site.cluster.api::<Service>(), service)
        .await
        .unwrap();
    let installed = Installed::started(site).await;
    let cluster = &installed.cluster;

    cluster.waiting_pod("leaves", "going", "10.0.0.1").await;
    let delete = DeleteParams::default();
    let bindings = installed.bindings(BindingApi::Elbv2);
    bindings.delete("going", &delete).await.unwrap();
    until(
        "new pods get no gate of a binding that is being deleted",
        async || {
            let dry_run = PostParams {
                dry_run: true,
                ..PostParams::default()
            };
            let wanted = serde_json::from_value(of_app("newcomer", "going")).unwrap();
            let made = cluster.pods().create(&dry_run, &wanted).await.unwrap();
            gates(&made).is_empty().then_some(())
        },
    )
    .await;

    cluster.waiting_pod("named", "named", "10.0.0.2").await;
    installed.register(&by_name, "10.0.0.2");
    cluster.gate_becomes("named", "named", "True").await;

    cluster.gated_pod("unknown", "unknown", &["unknown"]).await;
    installed.kubelet("unknown", "10.0.0.3", true).await;
    let message = installed
        .reason("unknown", "unknown", "TargetGroupUnknown")
        .await;
    assert!(
        message.contains("spec.targetGroupName is nobodys"),
        "{message}"
    );

    cluster.gated_pod("none", "none", &[]).await;

    cluster.gated_pod("lacking", "lacking", &["lacking"]).await;
    installed.kubelet("lacking", "10.0.0.4", true).await;
    let message = installed
        .reason("lacking", "lacking", "ServicePortNotFound")
        .await;
    assert!(
        message.contains("has ports 80, and it has no port 30080"),
        "{message}"
    );

    let ports = json!({ "metadata": { "labels": { "app": "dns" } }, "spec": {
        "readinessGates": [{ "conditionType": "target-health.elbv2.k8s.aws/dns" }],
        "containers": [
            { "name": "a", "image": "a", "ports": [{ "name": "dns", "containerPort": 5353 }] },
            { "name": "b", "image": "b",
              "ports": [{ "name": "dns", "containerPort": 5354, "protocol": "UDP" }] },
        ],
    } });
    create::<Pod>(&cluster.pods(), pod("dns", ports))
        .await
        .unwrap();
    let ip = "10.0.0.5";
    installed
        .elb
        .register(&dns, ip.parse().unwrap(), 5354)
        .unwrap();
    installed.kubelet("dns", ip, true).await;
    cluster.gate_becomes("dns", "dns", "True").await;

    let opened = cluster.gate_becomes("leaves", "going", "True").await;
    assert_eq!(
        opened.message.as_deref(),
        Some("Target Group Binding is deleted")
    );
    bindings.get("going").await.unwrap();
    strip_finalizers(&installed, "going").await;
}

/// Lets a binding go, so that nothing is left behind in the cluster.
async fn strip_finalizers(installed: &Installed, name: &str) {
    let none = Patch::Merge(json!({ "metadata": { "finalizers": null } }));
    let bindings = installed.bindings(BindingApi::Elbv2);
    bindings
        .patch(name, &PatchParams::default(), &none)
        .await
        .unwrap();
}
