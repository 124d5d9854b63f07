//! Each option is rendered, and accepted by a real API server.

use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, PostParams};
use serde_json::{Value, json};

use crate::helm::{Helm, NAMESPACE, find};
use crate::server::{TURN, apply, cert_manager, control_plane, prometheus_operator};
use crate::values::known;

/// The beginning of a CA's certificate. The API server does not read further than the PEM.
pub(crate) const CA: &str = "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n";

/// Values for each option, by its purpose.
pub(crate) fn options() -> Vec<(&'static str, Value)> {
    vec![
        ("the defaults", json!({})),
        (
            "the image",
            json!({
                "image": {
                    "repository": "registry.example.com/targetgate",
                    "tag": "1",
                    "digest": format!("sha256:{}", "0".repeat(64)),
                    "pullPolicy": "Always",
                },
                "imagePullSecrets": [{ "name": "registry" }],
            }),
        ),
        (
            "one replica",
            json!({ "replicas": 1, "podDisruptionBudget": { "enabled": false } }),
        ),
        ("Argo CD", json!({ "lease": { "create": false } })),
        (
            "a budget of half",
            json!({ "podDisruptionBudget": { "maxUnavailable": "50%" } }),
        ),
        (
            "hooks by object",
            json!({
                "optIn": "object",
                "hooks": {
                    "excludedNamespaces": ["kube-system", "kube-node-lease"],
                    "pods": { "failurePolicy": "Fail", "timeoutSeconds": 5 },
                    "bindings": { "failurePolicy": "Ignore", "timeoutSeconds": 30 },
                },
            }),
        ),
        (
            "no hooks of bindings",
            json!({ "hooks": { "bindings": { "enabled": false } } }),
        ),
        ("hooks by either", json!({ "optIn": "either" })),
        (
            "gates by the API server",
            json!({ "optIn": "either", "admission": { "mode": "both" } }),
        ),
        (
            "bindings held by the API server",
            json!({
                "immutability": "both",
                "hooks": { "bindings": { "failurePolicy": "Ignore" } },
            }),
        ),
        (
            "updates of bindings judged by the API server",
            json!({ "immutability": "policy" }),
        ),
        (
            "drain",
            json!({ "drain": { "mode": "sleep", "seconds": { "alb": 30, "nlb": 120 } } }),
        ),
        (
            "targets",
            json!({
                "targets": {
                    "register": "annotated",
                    "sliceAddresses": "any",
                    "incumbent": {
                        "leaseNamespace": "default",
                        "leaseName": "lbc",
                        "namespaces": ["shop"],
                    },
                },
            }),
        ),
        (
            "doctor",
            json!({
                "doctor": {
                    "enabled": true,
                    "namespace": "default",
                    "aws": true,
                    "serviceAccountAnnotations": {
                        "eks.amazonaws.com/role-arn": "arn:aws:iam::123456789012:role/targetgate-doctor",
                    },
                },
            }),
        ),
        (
            "an allow-list",
            json!({
                "allowList": [{
                    "name": "payments",
                    "namespaces": ["payments", "payments-*"],
                    "targetGroupARNs": ["*:targetgroup/payments-*"],
                }],
            }),
        ),
        ("nothing allowed", json!({ "allowList": [] })),
        (
            "cert-manager",
            json!({
                "certificates": {
                    "source": "cert-manager",
                    "issuerRef": { "name": "ca", "kind": "ClusterIssuer", "group": "cert-manager.io" },
                },
            }),
        ),
        (
            "an issuer of another API group",
            json!({
                "certificates": {
                    "source": "cert-manager",
                    "issuerRef": {
                        "name": "ca",
                        "kind": "AWSPCAClusterIssuer",
                        "group": "awspca.cert-manager.io",
                    },
                },
            }),
        ),
        (
            "a Secret of one's own",
            json!({ "certificates": { "source": "secret", "secretName": "own", "caBundle": CA } }),
        ),
        (
            "another name for our Secret",
            json!({ "certificates": { "secretName": "own" } }),
        ),
        (
            "clients of a CA in a ConfigMap",
            json!({ "clientCA": { "name": "clients", "names": ["kube-apiserver", "api.example.com"] } }),
        ),
        (
            "clients of a CA in a Secret",
            json!({ "clientCA": { "kind": "Secret", "name": "clients", "key": "tls.crt" } }),
        ),
        (
            "AWS",
            json!({
                "aws": {
                    "region": "us-gov-west-1",
                    "useFipsEndpoint": true,
                    "useDualstackEndpoint": true,
                    "vpcId": "vpc-0123456789abcdef0",
                },
                "proxy": { "https": "http://proxy.example.com:3128", "bypass": [".internal", "10.0.0.0/8"] },
                "serviceAccount": { "annotations": { "eks.amazonaws.com/role-arn": "arn:aws:iam::123456789012:role/targetgate" } },
            }),
        ),
        (
            "an account of eksctl's",
            json!({ "serviceAccount": { "create": false, "name": "gate-sa" } }),
        ),
        (
            "settings",
            json!({
                "settings": { "elb-burst": 20, "orphan-after": "10m", "shutdown-delay": "90s" },
                "env": [{ "name": "AWS_EC2_METADATA_DISABLED", "value": "true" }],
                "extraArgs": ["--log-level=debug"],
            }),
        ),
        (
            "a proxy with a CA of its own",
            json!({
                "proxy": { "https": "http://proxy.example.com:3128" },
                "env": [{ "name": "SSL_CERT_FILE", "value": "/proxy-ca/bundle.crt" }],
                "extraVolumes": [{ "name": "proxy-ca", "configMap": { "name": "proxy-ca" } }],
                "extraVolumeMounts": [{ "name": "proxy-ca", "mountPath": "/proxy-ca", "readOnly": true }],
            }),
        ),
        (
            "slow nodes",
            json!({
                "revisionHistoryLimit": 0,
                "readinessProbe": { "timeoutSeconds": 5 },
                "livenessProbe": { "timeoutSeconds": 5, "failureThreshold": 6 },
            }),
        ),
        (
            "the Prometheus operator",
            json!({
                "podMonitor": { "enabled": true, "labels": { "release": "prometheus" }, "interval": "30s" },
                "alerts": { "enabled": true, "labels": { "release": "prometheus" } },
            }),
        ),
        (
            "labels",
            json!({
                "labels": { "team": "web" },
                "podLabels": { "tier": "control" },
                "podAnnotations": { "prometheus.io/scrape": "true" },
            }),
        ),
        (
            "the nodes' network",
            json!({ "hostNetwork": true, "ports": { "webhook": 10443, "admin": 10080 } }),
        ),
        (
            "a network policy",
            json!({
                "networkPolicy": {
                    "enabled": true,
                    "adminFrom": [{ "namespaceSelector": { "matchLabels": { "kubernetes.io/metadata.name": "monitoring" } } }],
                    "egress": [{ "ports": [{ "port": 3128 }] }],
                },
            }),
        ),
        (
            "no policies",
            json!({ "admissionPolicies": { "enabled": false } }),
        ),
        (
            "users that the cluster chooses",
            json!({
                "podSecurityContext": { "runAsUser": null, "runAsGroup": null, "fsGroup": null },
                "securityContext": { "privileged": false },
            }),
        ),
        (
            "scheduling",
            json!({
                "priorityClassName": "system-node-critical",
                "resources": { "limits": { "cpu": "1", "memory": "512Mi" } },
                "nodeSelector": { "pool": "system" },
                "tolerations": [{ "key": "CriticalAddonsOnly", "operator": "Exists" }],
                "affinity": { "podAntiAffinity": { "requiredDuringSchedulingIgnoredDuringExecution": [{
                    "topologyKey": "kubernetes.io/hostname",
                    "labelSelector": { "matchLabels": { "app.kubernetes.io/name": "targetgate" } },
                }] } },
                "topologySpreadConstraints": [{
                    "topologyKey": "kubernetes.io/hostname",
                    "maxSkew": 1,
                    "whenUnsatisfiable": "DoNotSchedule",
                    "labelSelector": { "matchLabels": { "app.kubernetes.io/name": "targetgate" } },
                }],
            }),
        ),
        (
            "a test in a namespace with a binding",
            json!({ "test": { "image": "registry.example.com/kubectl", "namespace": NAMESPACE, "podLabels": { "app": "web" }, "expectGate": true } }),
        ),
    ]
}

#[test]
fn every_value_is_among_the_options() {
    let options = options();
    let unset = known().into_iter().filter(|path| {
        let pointer = format!("/{}", path.replace('.', "/"));
        options
            .iter()
            .all(|(_, values)| values.pointer(&pointer).is_none())
    });
    assert_eq!(unset.collect::<Vec<_>>(), Vec::<String>::new());
}

/// Creates the namespace of the releases, with the `restricted` level of Pod Security.
pub(crate) async fn restricted_namespace(client: &kube::Client) {
    let namespace = json!({
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {
            "name": NAMESPACE,
            "labels": { "pod-security.kubernetes.io/enforce": "restricted" },
        },
    });
    apply(client, &namespace, false).await.unwrap();
}

#[tokio::test]
async fn every_option_is_accepted_by_the_api_server() {
    let _turn = TURN.lock().await;
    let client = control_plane().await.client().await.unwrap();
    restricted_namespace(&client).await;
    cert_manager(&client).await;
    prometheus_operator(&client).await;
    let helm = Helm::new();
    for (option, values) in options() {
        for object in helm.template(&values) {
            let accepted = apply(&client, &object, true).await;
            accepted.unwrap_or_else(|error| panic!("{option}: {error}: {object:#}"));
        }
    }
}

#[tokio::test]
async fn the_pods_pass_the_strictest_pod_security_but_on_the_nodes_network() {
    let client = control_plane().await.client().await.unwrap();
    restricted_namespace(&client).await;
    let pods: Api<Pod> = Api::namespaced(client.clone(), NAMESPACE);
    let params = PostParams {
        dry_run: true,
        ..PostParams::default()
    };
    let helm = Helm::new();
    for (option, values) in options() {
        let objects = helm.template(&values);
        let mut pod = find(&objects, "Deployment")["spec"]["template"].clone();
        pod["metadata"]["name"] = json!("pod");
        let created = pods
            .create(&params, &serde_json::from_value(pod).unwrap())
            .await;
        let refused = created.err().map(|error| error.to_string());
        match values["hostNetwork"] == true {
            false => assert_eq!(refused, None, "{option}"),
            true => assert!(refused.unwrap().contains("host namespaces"), "{option}"),
        }
    }
}
