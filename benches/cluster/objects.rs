//! The objects of the clusters.

use serde_json::{Value, json};

use targetgate_sandbox::load::body;

/// The namespace of the reviews that are sent.
pub(crate) const SHOP: &str = "shop";
const GROUPS: &str = "arn:aws:elasticloadbalancing:eu-west-1:123456789012:targetgroup";

/// A Namespace that has opted in.
pub(crate) fn namespace(name: &str) -> Value {
    let labels = json!({ "elbv2.k8s.aws/pod-readiness-gate-inject": "enabled" });
    json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": name, "labels": labels } })
}

/// The Service of one application. The pods of the reviews belong to `checkout-37`.
pub(crate) fn service(namespace: &str, app: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": { "namespace": namespace, "name": app },
        "spec": { "selector": selector(app),
            "ports": [{ "name": "http", "port": 80, "targetPort": "http" }] }
    })
}

/// A binding of this Service to a target group of its own.
pub(crate) fn binding(namespace: &str, app: &str) -> Value {
    binding_to(
        namespace,
        app,
        &format!("{GROUPS}/{namespace}-{app}/0123456789abcdef"),
    )
}

/// A binding of this Service to the target group of this ARN.
pub(crate) fn binding_to(namespace: &str, app: &str, arn: &str) -> Value {
    let name = binding_name(app);
    json!({
        "apiVersion": "elbv2.k8s.aws/v1beta1", "kind": "TargetGroupBinding",
        "metadata": { "namespace": namespace, "name": name },
        "spec": {
            "targetGroupARN": arn,
            "targetType": "ip", "ipAddressType": "ipv4", "vpcID": "vpc-01234567",
            "serviceRef": { "name": app, "port": "http" },
        }
    })
}

/// A pod of an application of realistic size: 7 KB, with the `managedFields` that the API server adds.
pub(crate) fn large_pod(namespace: &str, app: &str, number: usize) -> Value {
    let review: Value = serde_json::from_slice(body("typical")).unwrap();
    let mut pod = review["request"]["object"].clone();
    let metadata = pod["metadata"].as_object_mut().unwrap();
    metadata.retain(|field, _| matches!(&**field, "annotations" | "ownerReferences"));
    metadata.insert("namespace".to_owned(), json!(namespace));
    metadata.insert(
        "name".to_owned(),
        json!(format!("{app}-7c9f8d6b5-{number:05}")),
    );
    metadata.insert("labels".to_owned(), labels(app));
    pod["spec"]["containers"]
        .as_array_mut()
        .unwrap()
        .truncate(1);
    pod
}

/// A pod of an application behind a load balancer, with its gate. It is small, because the index does not keep
/// anything else of a pod.
pub(crate) fn gated_pod(namespace: &str, app: &str, number: usize) -> Value {
    let ports = json!([{ "name": "http", "containerPort": 8080 }]);
    let set = format!("{app}-7c9f8d6b5");
    let owner = json!({ "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": &set, "uid": format!("uid-{set}"),
        "controller": true, "blockOwnerDeletion": true });
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": { "namespace": namespace, "name": format!("{set}-{number:05}"), "labels": labels(app),
            "ownerReferences": [owner] },
        "spec": { "containers": [{ "name": "app", "image": "app", "ports": ports }],
            "readinessGates": [{ "conditionType": gate(app) }] }
    })
}

/// The status of such a pod while it serves, at an address that no other pod has.
pub(crate) fn serving(app: &str, number: usize) -> Value {
    let [_, high, middle, low] = u32::try_from(number).unwrap().to_be_bytes();
    let address = format!("10.{high}.{middle}.{low}");
    let condition = |kind: &str| json!({ "type": kind, "status": "True", "lastTransitionTime": "2026-03-01T10:11:12Z" });
    json!({ "status": {
        "phase": "Running", "podIP": &address, "podIPs": [{ "ip": &address }],
        "conditions": [condition("ContainersReady"), condition(&gate(app)), condition("Ready")],
    } })
}

fn gate(app: &str) -> String {
    format!("target-health.elbv2.k8s.aws/{}", binding_name(app))
}

fn binding_name(app: &str) -> String {
    format!("k8s-shop-{app}")
}

fn selector(app: &str) -> Value {
    json!({ "app.kubernetes.io/name": app, "app.kubernetes.io/component": "api" })
}

fn labels(app: &str) -> Value {
    json!({
        "app.kubernetes.io/name": app, "app.kubernetes.io/component": "api",
        "pod-template-hash": "7c9f8d6b5", "app.kubernetes.io/instance": format!("{app}-prod"),
        "app.kubernetes.io/part-of": "shop", "app.kubernetes.io/version": "1.42.0",
        "app.kubernetes.io/managed-by": "Helm", "team": "payments", "tags.datadoghq.com/env": "prod",
    })
}
