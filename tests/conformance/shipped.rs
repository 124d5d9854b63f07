//! The whole of it on the real API server, as shipped: under RBAC, through its own hooks.

use std::collections::BTreeSet;
use std::net::IpAddr;

use k8s_openapi::api::core::v1::{Pod, PodCondition, Secret, Service};
use kube::ResourceExt as _;
use kube::api::{Api, DeleteParams, DynamicObject, Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use crate::install::{ACCOUNT, Installed, NAMESPACE, Site};
use crate::servers::{Cluster, control_plane, create, pod, refused, strategic, until};

const GATE: &str = "target-health.elbv2.k8s.aws/web";
const IP: &str = "10.0.0.1";

/// A Service, and a binding that says no more than it has to; returns when the hooks have filled in
/// the rest.
async fn bind(installed: &Site) {
    let service = json!({
        "metadata": { "name": "web" },
        "spec": { "selector": { "app": "web" }, "ports": [{ "port": 80, "targetPort": 8080 }] },
    });
    create(&installed.cluster.api::<Service>(), service)
        .await
        .unwrap();
    let binding: DynamicObject = serde_json::from_value(json!({
        "apiVersion": "elbv2.k8s.aws/v1beta1",
        "kind": "TargetGroupBinding",
        "metadata": { "name": "web" },
        "spec": { "serviceRef": { "name": "web" }, "targetGroupARN": installed.arn },
    }))
    .unwrap();
    // Until the API server and our index know of everything, it refuses the absent port.
    let made = until("the binding is created", async || {
        let params = PostParams::default();
        installed.bindings().create(&params, &binding).await.ok()
    })
    .await;
    assert_eq!(made.data["spec"]["targetType"], "ip");
    assert_eq!(made.data["spec"]["serviceRef"]["port"], 80);
}

/// A new pod of the Service, once the hook knows of the binding.
async fn gated_pod(cluster: &Cluster) -> Pod {
    let dry = PostParams {
        dry_run: true,
        ..PostParams::default()
    };
    let wanted: Pod = serde_json::from_value(pod("a", json!({}))).unwrap();
    until("the hook knows of the binding", async || {
        let shown = cluster.pods().create(&dry, &wanted).await.unwrap();
        shown.spec.unwrap().readiness_gates
    })
    .await;
    cluster.pod("a", json!({})).await.unwrap()
}

/// What a kubelet writes when the containers are ready.
async fn containers_become_ready(cluster: &Cluster) {
    let status = json!({ "status": {
        "phase": "Running",
        "podIP": IP,
        "podIPs": [{ "ip": IP }],
        "conditions": [{ "type": "ContainersReady", "status": "True" }],
    } });
    strategic(&cluster.pods(), "a", status).await.unwrap();
}

/// Waits for the gate's condition to have this status.
async fn gate_becomes(cluster: &Cluster, status: &str) -> PodCondition {
    until("the gate's condition", async || {
        let pod = cluster.pods().get("a").await.unwrap();
        let conditions = pod.status.unwrap().conditions.unwrap_or_default();
        let mut conditions = conditions.into_iter();
        conditions.find(|c| c.type_ == GATE && c.status == status)
    })
    .await
}

#[tokio::test]
async fn a_pod_gets_its_gate_and_opens_when_elb_says_healthy() {
    let installed = Installed::new().await;
    let cluster = &installed.cluster;
    bind(&installed).await;
    let made = gated_pod(cluster).await;
    let gates = made.spec.unwrap().readiness_gates.unwrap();
    assert_eq!(gates.len(), 1);
    assert_eq!(gates[0].condition_type, GATE);

    containers_become_ready(cluster).await;
    let waits = gate_becomes(cluster, "False").await;
    assert_eq!(waits.reason.as_deref(), Some("Elb.RegistrationInProgress"));
    installed.register(IP.parse::<IpAddr>().unwrap(), 8080);
    gate_becomes(cluster, "True").await;
    let pod = cluster.pods().get("a").await.unwrap();
    let conditions = pod.status.unwrap().conditions.unwrap();
    assert!(
        conditions
            .iter()
            .any(|c| c.type_ == "ContainersReady" && c.status == "True")
    );

    the_audit_log_says_why(cluster).await;
    nothing_was_asked_for_that_is_not_granted(&installed, ("patch", "pods/status")).await;
}

async fn the_audit_log_says_why(cluster: &Cluster) {
    let decision = "mpod.elbv2.k8s.aws/decision";
    let found = until("the pod's creation is in the audit log", async || {
        let events = control_plane().await.audit_log().unwrap();
        events.into_iter().find(|event| {
            let object = event.object_ref.as_ref();
            event.verb == "create"
                && !event.request_uri.contains("dryRun")
                && object.is_some_and(|o| o.resource == "pods" && o.namespace == cluster.namespace)
        })
    })
    .await;
    assert_eq!(found.annotations[decision], "Injected");
    assert_eq!(
        found.annotations["mpod.elbv2.k8s.aws/bindings"],
        "web=Injected"
    );
}

/// Verb, group, resource with subresource.
type Grant = (String, String, String);

/// `proof` is what must have been asked for in the core group: a verb and a resource.
async fn nothing_was_asked_for_that_is_not_granted(installed: &Site, proof: (&str, &str)) {
    let used: BTreeSet<Grant> = control_plane()
        .await
        .audit_log()
        .unwrap()
        .into_iter()
        .filter(|event| event.user.username == ACCOUNT)
        .filter_map(|event| Some((event.verb, event.object_ref?)))
        .map(|(verb, object)| {
            let resource = match object.subresource.as_str() {
                "" => object.resource,
                subresource => format!("{}/{subresource}", object.resource),
            };
            (verb, object.api_group, resource)
        })
        .collect();
    let granted = granted(&installed.shipped);
    let more: Vec<_> = used.difference(&granted).collect();
    assert!(more.is_empty(), "not in deploy/base/rbac.yaml: {more:?}");
    // The log was worth reading.
    let done = (proof.0.to_owned(), String::new(), proof.1.to_owned());
    assert!(used.contains(&done), "{used:?}");
}

fn granted(shipped: &[Value]) -> BTreeSet<Grant> {
    let roles = shipped
        .iter()
        .filter(|object| object["kind"] == "ClusterRole" || object["kind"] == "Role");
    let rules = roles.flat_map(|role| role["rules"].as_array().unwrap());
    let mut granted = BTreeSet::new();
    for rule in rules {
        let strings = |field: &str| {
            let listed = rule[field].as_array().unwrap().iter();
            listed
                .map(|text| text.as_str().unwrap().to_owned())
                .collect::<Vec<_>>()
        };
        for verb in strings("verbs") {
            for group in strings("apiGroups") {
                for resource in strings("resources") {
                    granted.insert((verb.clone(), group.clone(), resource));
                }
            }
        }
    }
    granted
}

#[tokio::test]
async fn a_binding_keeps_its_group_and_can_be_cleaned_up_while_we_are_away() {
    let mut installed = Installed::new().await;
    bind(&installed).await;
    let bindings = installed.bindings();
    let patch = async |patch: Value| {
        let params = PatchParams::default();
        bindings.patch("web", &params, &Patch::Merge(patch)).await
    };
    let other = installed
        .arn
        .replace("targetgroup/web", "targetgroup/other");
    let moved = json!({ "spec": { "targetGroupARN": other } });
    let (code, _, message) = refused(patch(moved.clone()).await);
    assert_eq!(code, 403);
    let words = "admission webhook \"vtargetgroupbinding.elbv2.k8s.aws\" denied the request: \
                 TargetGroupBinding update may not change these fields: spec.targetGroupARN";
    assert!(message.starts_with(words), "{message}");
    let held = json!({ "metadata": { "finalizers": ["elbv2.k8s.aws/resources"] } });
    patch(held).await.unwrap();

    installed.kill();
    assert_eq!(refused(patch(moved).await).0, 500);
    let noted = patch(json!({ "metadata": { "annotations": { "a": "b" } } }))
        .await
        .unwrap();
    assert_eq!(noted.annotations()["a"], "b");
    bindings
        .delete("web", &DeleteParams::default())
        .await
        .unwrap();
    patch(json!({ "metadata": { "finalizers": null } }))
        .await
        .unwrap();
    assert_eq!(refused(bindings.get("web").await).0, 404);
    // A pod is never stopped by us.
    installed.cluster.pod("a", json!({})).await.unwrap();
}

#[tokio::test]
async fn it_keeps_its_own_certificate_with_no_more_than_the_shipped_roles() {
    let site = Site::new().await;
    let client = &site.cluster.client;
    let secrets: Api<Secret> = Api::namespaced(client.clone(), NAMESPACE);
    let tls = ["--tls-ca-wait=300ms", "--tls-names=127.0.0.1"].map(str::to_owned);
    let replica = site.start_as("targetgate-0", &tls, &site.kubeconfig).await;
    site.register_as_shipped(replica.hooks, json!({})).await;
    // The hooks of bindings fail unless they are trusted.
    bind(&site).await;

    let secret = secrets.get("targetgate-tls").await.unwrap();
    let owner = &secret.owner_references()[0];
    assert_eq!((&*owner.kind, &*owner.name), ("Deployment", "targetgate"));
    // Nor does it need more to begin anew.
    let params = DeleteParams::default();
    secrets.delete("targetgate-tls", &params).await.unwrap();
    until(
        "there is a Secret again, and its leaf is served",
        async || {
            let data = secrets.get_opt("targetgate-tls").await.unwrap()?.data?;
            let metrics = replica.admin("/metrics").await.unwrap();
            let trusted = metrics.contains("targetgate_certificate_trusted 1");
            (trusted && !data["tls.crt"].0.is_empty()).then_some(())
        },
    )
    .await;
    nothing_was_asked_for_that_is_not_granted(&site, ("create", "secrets")).await;
}
