//! The faults of the table about `doctor`, each made in a namespace that has opted in, and mended.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::{Timestamp, ToSpan as _};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Pod, Secret};
use k8s_openapi::api::rbac::v1::ClusterRole;
use kube::api::{Api, DeleteParams, DynamicObject, Patch, PatchParams};
use rcgen::{CertificateParams, KeyPair};
use serde_json::{Value, json};
use targetgate_sandbox::elb::faults::On;
use targetgate_sandbox::elb::{Health, TargetGroupSpec};

use crate::doctor::{MUTATING, VALIDATING, configurations, policies};
use crate::explain::scene::Scene;
use crate::install::{Installed, NAMESPACE, PORT, apply};
use crate::servers::{create, resource};

const POLICY: &str = "ValidatingAdmissionPolicy";
const POLICY_BINDING: &str = "ValidatingAdmissionPolicyBinding";
const KUBE_SYSTEM: &str = "kube-system";
const INCUMBENT: &str = "aws-load-balancer-controller";
const INCUMBENT_HOOKS: &str = "aws-load-balancer-webhook";
const INCUMBENT_LEASE: &str = "aws-load-balancer-controller-leader";

const NO_DEPLOYMENT: &str = "The Deployment has another name.";
const NO_LEASE: &str = "No replica has been leader.";
const NOT_OPTED_IN: &str = "The dry-run pod's namespace has not opted in.";
/// The words of the command line with which some faults show, where `NAMESPACE` is that of the scene.
pub(super) const WORDS: [(&str, &[&str]); 3] = [
    (
        NO_DEPLOYMENT,
        &["--installation", "targetgate-system/other"],
    ),
    (NO_LEASE, &["--installation", "NAMESPACE/targetgate"]),
    (NOT_OPTED_IN, &["--namespace", "NAMESPACE"]),
];

/// Makes the fault that the page names by this sentence.
pub(super) async fn make(fault: &str, scene: &Scene<'_>) {
    let installed = scene.installed;
    let elb = &installed.elb;
    match fault {
        NO_DEPLOYMENT | NO_LEASE => {}
        NOT_OPTED_IN => {
            scene.service(json!({})).await;
            scene.bind(json!({})).await;
            scene.label(opted_in(false)).await;
        }
        "The CRD is an older one." => an_older_crd(installed).await,
        "Registration is on, and the CRD of TargetRecords is not there." => {
            register(installed).await;
        }
        "A webhook configuration is missing." => delete_rules(installed).await,
        "The hook for pods has `failurePolicy: Fail`." => {
            let fails = json!({ "failurePolicy": "Fail" });
            installed
                .register_hooks(installed.process().hooks, fails)
                .await;
        }
        "The hook for pods selects other namespaces." => {
            let others = json!({ "namespaceSelector": { "matchLabels": { "other": "yes" } } });
            installed
                .register_hooks(installed.process().hooks, others)
                .await;
            scene.service(json!({})).await;
            scene.bind(json!({})).await;
        }
        "A `caBundle` is empty." | "The API server does not trust targetgate." => {
            empty_bundle(installed).await;
        }
        "A `caBundle` holds more than certificates." => spoil_bundle(installed).await,
        "The CA injector is away, and the bundle is of another CA." => {
            serve_files(installed).await;
            secret(installed, "own-tls", 90).await;
        }
        "The certificate has expired." => secret(installed, "targetgate-tls", -2).await,
        "The certificate is not renewed." => secret(installed, "targetgate-tls", 2).await,
        "The Service of the hooks has no endpoints." => ship(installed, MUTATING).await,
        "The Service of the hooks has another name." => name_another_service(installed).await,
        "The account lacks a right." => take_a_right(installed).await,
        "AWS Load Balancer Controller runs without its Lease, and registration is on." => {
            register(installed).await;
            run_incumbent(installed).await;
        }
        "AWS Load Balancer Controller leads, and registration is on." => {
            register(installed).await;
            incumbent_leads(installed).await;
        }
        "The hooks of AWS Load Balancer Controller were left behind." => {
            register_incumbent(installed).await;
        }
        "AWS Load Balancer Controller injects gates as well." => {
            run_incumbent(installed).await;
            register_incumbent(installed).await;
        }
        "AWS Load Balancer Controller made the listener." => {
            let label = json!({ "ingress.k8s.aws/stack": "web" });
            scene.bind(json!({ "metadata": { "labels": label } })).await;
        }
        "A finalizer was left behind." => {
            let finalizers = json!(["targetgate.dev/targets"]);
            scene
                .bind(json!({ "metadata": { "finalizers": finalizers } }))
                .await;
        }
        "AWS denies the reads." => {
            scene.bind(json!({})).await;
            deny(installed, "DescribeTargetGroups");
        }
        "The target group does not exist." => {
            let arn = scene.bind(json!({})).await;
            elb.remove_target_group(&arn).unwrap();
        }
        "No load balancer uses the group." => {
            let arn = elb.create_target_group(TargetGroupSpec::http(scene.group()));
            scene.bind_to(&arn, json!({})).await;
        }
        "The binding has another VPC than its group." => {
            delete_rules(installed).await;
            scene
                .bind(json!({ "spec": { "vpcID": "vpc-00000000" } }))
                .await;
        }
        "The load balancer does not have the zone of a target." => {
            let arn = scene.bind(json!({})).await;
            installed.register(&arn, "10.0.0.1");
            let health = Health::zone_not_enabled();
            let ip = "10.0.0.1".parse().unwrap();
            elb.script(&arn, ip, PORT, health).unwrap();
        }
        "AWS denies the registration of targets." => {
            scene.bind(json!({})).await;
            register(installed).await;
            deny(installed, "RegisterTargets");
        }
        "Two bindings name one group." => {
            delete_rules(installed).await;
            let arn = scene.bind(json!({})).await;
            let second = json!({ "metadata": { "name": "second" } });
            scene.bind_to(&arn, second).await;
        }
        "Another cluster registers targets in the group." => {
            scene.service(json!({})).await;
            let arn = scene.bind(json!({})).await;
            installed.register(&arn, "10.9.0.1");
        }
        "A namespace has opted in and has no binding." => {}
        "A container has no `preStop`." => gated(scene, json!({})).await,
        "A probe's own grace period is shorter than the sleep." => {
            let pre_stop = json!({ "preStop": { "sleep": { "seconds": 30 } } });
            let probe =
                json!({ "tcpSocket": { "port": 8080 }, "terminationGracePeriodSeconds": 5 });
            let container = json!({ "name": "web", "image": "web", "lifecycle": pre_stop,
                "livenessProbe": probe });
            let spec = json!({ "containers": [container], "terminationGracePeriodSeconds": 60 });
            gated(scene, json!({ "spec": spec })).await;
        }
        "A policy refuses the grace period of drain." => {
            scene.service(json!({})).await;
            scene.bind(json!({})).await;
            scene
                .label(json!({ "targetgate.dev/drain": "sleep" }))
                .await;
            refuse_long_grace_periods(installed).await;
        }
        other => policies::make(other, scene).await,
    }
}

/// A pod behind an ALB, with its gate, and this merged into it.
async fn gated(scene: &Scene<'_>, pod: Value) {
    scene.service(json!({})).await;
    scene.bind(json!({})).await;
    scene.gated_pod(pod).await;
}

/// Puts everything back that a fault changes.
pub(super) async fn mend(scene: &Scene<'_>) {
    let installed = scene.installed;
    let pods: Api<Pod> = scene.api();
    for pod in pods.list(&Default::default()).await.unwrap() {
        let (name, at_once) = (
            pod.metadata.name.unwrap(),
            DeleteParams::default().grace_period(0),
        );
        pods.delete(&name, &at_once).await.unwrap();
    }
    installed.elb.faults().clear_failures();
    let bindings = scene.bindings();
    for binding in bindings.list(&Default::default()).await.unwrap() {
        let (name, params) = (binding.metadata.name.unwrap(), PatchParams::default());
        let free = Patch::Merge(json!({ "metadata": { "finalizers": null } }));
        bindings.patch(&name, &params, &free).await.unwrap();
        bindings
            .delete(&name, &DeleteParams::default())
            .await
            .unwrap();
    }
    scene.label(opted_in(false)).await;
    let client = &installed.cluster.client;
    policies::mend(installed).await;
    let left: [(&str, &str, &str, &str, &str); 8] = [
        (
            "admissionregistration.k8s.io",
            "v1",
            POLICY,
            "",
            "short-graces",
        ),
        (
            "admissionregistration.k8s.io",
            "v1",
            POLICY_BINDING,
            "",
            "short-graces",
        ),
        ("apps", "v1", "Deployment", KUBE_SYSTEM, INCUMBENT),
        ("apps", "v1", "Deployment", NAMESPACE, "targetgate"),
        (
            "coordination.k8s.io",
            "v1",
            "Lease",
            KUBE_SYSTEM,
            INCUMBENT_LEASE,
        ),
        ("", "v1", "Secret", NAMESPACE, "targetgate-tls"),
        ("", "v1", "Secret", NAMESPACE, "own-tls"),
        (
            "admissionregistration.k8s.io",
            "v1",
            MUTATING,
            "",
            INCUMBENT_HOOKS,
        ),
    ];
    for (group, version, kind, namespace, name) in left {
        let resource = resource(group, version, kind);
        let api: Api<DynamicObject> = match namespace {
            "" => Api::all_with(client.clone(), &resource),
            namespace => Api::namespaced_with(client.clone(), namespace, &resource),
        };
        // It may not exist.
        let _ = api.delete(name, &DeleteParams::default()).await;
    }
    for kind in ["Deployment", "ClusterRole"] {
        ship(installed, kind).await;
    }
    installed.cluster.apply_crd().await;
    let hooks = installed.process().hooks;
    installed.register_hooks(hooks, json!({})).await;
}

fn opted_in(opted_in: bool) -> Value {
    json!({ "elbv2.k8s.aws/pod-readiness-gate-inject": opted_in.then_some("enabled") })
}

/// Applies the shipped objects of a kind.
async fn ship(installed: &Installed, kind: &str) {
    for object in installed.shipped.iter().filter(|o| o["kind"] == kind) {
        apply(&installed.cluster.client, object).await;
    }
}

/// Takes a field out of the CRD.
async fn an_older_crd(installed: &Installed) {
    let kind = resource("apiextensions.k8s.io", "v1", "CustomResourceDefinition");
    let crds: Api<DynamicObject> = Api::all_with(installed.cluster.client.clone(), &kind);
    let name = "targetgroupbindings.elbv2.k8s.aws";
    let mut crd = crds.get(name).await.unwrap();
    for version in crd.data["spec"]["versions"].as_array_mut().unwrap() {
        let fields = &mut version["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"];
        fields
            .as_object_mut()
            .unwrap()
            .remove("targetGroupName")
            .unwrap();
    }
    crds.replace(name, &Default::default(), &crd).await.unwrap();
}

pub(super) async fn delete_rules(installed: &Installed) {
    let api = configurations(installed, VALIDATING);
    let deleted = api.delete("targetgate", &DeleteParams::default()).await;
    deleted.unwrap();
}

async fn empty_bundle(installed: &Installed) {
    write_bundle(installed, "").await;
}

/// Adds a block to a bundle that kube-apiserver passes over, because it has a header, and takes for sound.
async fn spoil_bundle(installed: &Installed) {
    let api = configurations(installed, MUTATING);
    let configuration = api.get("targetgate").await.unwrap();
    let bundle = &configuration.data["webhooks"][0]["clientConfig"]["caBundle"];
    let mut bundle = STANDARD.decode(bundle.as_str().unwrap()).unwrap();
    bundle.extend(
        b"-----BEGIN CERTIFICATE-----\nNote: none\n\nbm9uZQ==\n-----END CERTIFICATE-----\n",
    );
    write_bundle(installed, &STANDARD.encode(bundle)).await;
}

async fn write_bundle(installed: &Installed, bundle: &str) {
    let webhook = json!({ "name": "mpod.elbv2.k8s.aws", "clientConfig": { "caBundle": bundle } });
    let patch = Patch::Strategic(json!({ "webhooks": [webhook] }));
    let api = configurations(installed, MUTATING);
    let patched = api
        .patch("targetgate", &PatchParams::default(), &patch)
        .await;
    patched.unwrap();
}

async fn name_another_service(installed: &Installed) {
    let shipped = installed.shipped.iter();
    for object in shipped.filter(|object| object["kind"] == MUTATING) {
        let mut object = object.clone();
        for webhook in object["webhooks"].as_array_mut().unwrap() {
            webhook["clientConfig"]["service"]["name"] = json!("other");
        }
        apply(&installed.cluster.client, &object).await;
    }
}

/// A certificate of a CA that no bundle has, which was valid for long and expires after so many days.
async fn secret(installed: &Installed, name: &str, days: i64) {
    let mut params = CertificateParams::new(vec!["targetgate".to_owned()]).unwrap();
    let day = |at: Timestamp| {
        let date = at.to_zoned(jiff::tz::TimeZone::UTC).date();
        let part = |number: i8| u8::try_from(number).unwrap();
        rcgen::date_time_ymd(date.year().into(), part(date.month()), part(date.day()))
    };
    params.not_before = day(Timestamp::now() - (24 * 300).hours());
    params.not_after = day(Timestamp::now() + (24 * days).hours());
    let key = KeyPair::generate().unwrap();
    let certificate = params.self_signed(&key).unwrap();
    let secrets: Api<Secret> = Api::namespaced(installed.cluster.client.clone(), NAMESPACE);
    let secret = json!({ "metadata": { "name": name }, "type": "kubernetes.io/tls",
        "stringData": { "tls.crt": certificate.pem(), "tls.key": key.serialize_pem() } });
    create(&secrets, secret).await.unwrap();
}

/// Changes our Deployment by a strategic merge patch of its pod.
async fn start_with(installed: &Installed, container: Value, volumes: Value) {
    let deployments: Api<Deployment> = Api::namespaced(installed.cluster.client.clone(), NAMESPACE);
    let mut container = container;
    container["name"] = json!("targetgate");
    let pod = json!({ "containers": [container], "volumes": volumes });
    let patch = Patch::Strategic(json!({ "spec": { "template": { "spec": pod } } }));
    let params = PatchParams::default();
    let patched = deployments.patch("targetgate", &params, &patch).await;
    patched.unwrap();
}

/// Sets a variable of our Deployment.
pub(super) async fn set(installed: &Installed, name: &str, value: &str) {
    let env = json!({ "env": [{ "name": name, "value": value }] });
    start_with(installed, env, json!([])).await;
}

async fn register(installed: &Installed) {
    set(installed, "TARGETGATE_REGISTER", "all").await;
}

/// Lets our Deployment serve files out of Secret `own-tls`, as beside cert-manager.
async fn serve_files(installed: &Installed) {
    let container = json!({
        "env": [
            { "name": "TARGETGATE_TLS_CERT", "value": "/tls/tls.crt" },
            { "name": "TARGETGATE_TLS_KEY", "value": "/tls/tls.key" },
        ],
        "volumeMounts": [{ "name": "tls", "mountPath": "/tls", "readOnly": true }],
    });
    let volumes = json!([{ "name": "tls", "secret": { "secretName": "own-tls" } }]);
    start_with(installed, container, volumes).await;
}

/// Takes the right to write Events away.
async fn take_a_right(installed: &Installed) {
    let roles: Api<ClusterRole> = Api::all(installed.cluster.client.clone());
    let mut role = roles.get("targetgate").await.unwrap();
    let is_of_events = |group: &String| group == "events.k8s.io";
    let rules = role.rules.as_mut().unwrap();
    rules.retain(|rule| !rule.api_groups.iter().flatten().any(is_of_events));
    let replaced = roles
        .replace("targetgate", &Default::default(), &role)
        .await;
    replaced.unwrap();
}

async fn run_incumbent(installed: &Installed) {
    let deployments: Api<Deployment> =
        Api::namespaced(installed.cluster.client.clone(), KUBE_SYSTEM);
    let labels = json!({ "app": INCUMBENT });
    let image = "public.ecr.aws/eks/aws-load-balancer-controller:v3.5.0";
    let template = json!({ "metadata": { "labels": labels },
        "spec": { "containers": [{ "name": "controller", "image": image }] } });
    let deployment = json!({ "metadata": { "name": INCUMBENT },
        "spec": { "selector": { "matchLabels": labels }, "template": template } });
    create(&deployments, deployment).await.unwrap();
}

async fn incumbent_leads(installed: &Installed) {
    let leases: Api<Lease> = Api::namespaced(installed.cluster.client.clone(), KUBE_SYSTEM);
    let renewed = Timestamp::now().strftime("%Y-%m-%dT%H:%M:%S.000000Z");
    let lease = json!({ "metadata": { "name": INCUMBENT_LEASE },
        "spec": { "holderIdentity": "lbc-0", "renewTime": renewed.to_string(), "leaseDurationSeconds": 15 } });
    create(&leases, lease).await.unwrap();
}

/// Registers the incumbent's hook for pods at a Service that does not exist, for no namespace of these tests.
async fn register_incumbent(installed: &Installed) {
    let service = json!({ "namespace": KUBE_SYSTEM, "name": "aws-load-balancer-webhook-service",
        "path": "/mutate-v1-pod" });
    let rule = json!({ "apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"],
        "resources": ["pods"] });
    let webhook = json!({
        "name": "mpod.elbv2.k8s.aws",
        "clientConfig": { "service": service },
        "failurePolicy": "Ignore",
        "namespaceSelector": { "matchLabels": { "none": "yes" } },
        "admissionReviewVersions": ["v1"],
        "sideEffects": "None",
        "rules": [rule],
    });
    let configuration = json!({ "metadata": { "name": INCUMBENT_HOOKS }, "webhooks": [webhook],
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": MUTATING });
    apply(&installed.cluster.client, &configuration).await;
}

/// A policy of the cluster's own, which admits a grace period of 40 s at most.
async fn refuse_long_grace_periods(installed: &Installed) {
    let rule = json!({ "apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"],
        "resources": ["pods"] });
    let expression = "object.spec.terminationGracePeriodSeconds <= 40";
    let policy = json!({ "apiVersion": "admissionregistration.k8s.io/v1", "kind": POLICY,
        "metadata": { "name": "short-graces" },
        "spec": { "matchConstraints": { "resourceRules": [rule] },
            "validations": [{ "expression": expression, "message": "grace periods end at 40 s" }] } });
    let binding = json!({ "apiVersion": "admissionregistration.k8s.io/v1", "kind": POLICY_BINDING,
        "metadata": { "name": "short-graces" },
        "spec": { "policyName": "short-graces", "validationActions": ["Deny"] } });
    for object in [policy, binding] {
        apply(&installed.cluster.client, &object).await;
    }
}

pub(super) fn deny(installed: &Installed, action: &str) {
    let faults = installed.elb.faults();
    faults.fail(
        On::action(action),
        "AccessDenied",
        http::StatusCode::FORBIDDEN,
        None,
    );
}
