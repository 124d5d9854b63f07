//! Objects in the form of a real API server, and in forms that it should never send.

use std::net::IpAddr;

use jiff::Timestamp;
use rstest::rstest;
use serde_json::{Value, json};
use targetgate_core::drain::{DrainLabel, DrainMode, LoadBalancerKind};
use targetgate_core::model::{
    ControllerRef, IpFamily, Namespace, Policies, Registration, TargetType, WhenUnused,
};
use targetgate_core::names::{AssumedRole, INJECT_ENABLED, INJECT_LABEL};

use targetgate_core::model::PortRef;

use super::*;

fn read<O: for<'de> Deserialize<'de>>(object: Value) -> O {
    serde_json::from_str(&object.to_string()).unwrap()
}

fn running_pod() -> Value {
    json!({
        "metadata": {
            "name": "web-5d4f8-x2k", "generateName": "web-5d4f8-", "namespace": "shop",
            "uid": "6f0b1c1e-7a54-4c59-8c8f-0f3a0ad1a001", "resourceVersion": "4711", "generation": 1,
            "creationTimestamp": "2026-11-21T09:00:00Z",
            "labels": { "app": "web", "pod-template-hash": "5d4f8" },
            "annotations": { "kubectl.kubernetes.io/restartedAt": "2026-11-21T08:59:00Z" },
            "ownerReferences": [{ "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web-5d4f8",
                "uid": "a", "controller": true, "blockOwnerDeletion": true }],
            "managedFields": [{ "manager": "kubelet", "operation": "Update", "apiVersion": "v1",
                "fieldsType": "FieldsV1", "fieldsV1": { "f:status": {} }, "subresource": "status" }]
        },
        "spec": {
            "readinessGates": [
                { "conditionType": "target-health.elbv2.k8s.aws/web" },
                { "conditionType": "example.com/other" },
                { "conditionType": "target-health.elbv2.k8s.aws/api" },
                { "conditionType": "target-health.elbv2.k8s.aws/web" }
            ],
            "initContainers": [
                { "name": "migrate", "image": "m", "ports": [{ "name": "once", "containerPort": 1 }] },
                { "name": "proxy", "image": "p", "restartPolicy": "Always",
                  "ports": [{ "name": "https", "containerPort": 8443, "protocol": "UDP" }] }
            ],
            "containers": [
                { "name": "web", "image": "w", "env": [{ "name": "A", "value": "b" }],
                  "ports": [{ "name": "http", "containerPort": 8080, "protocol": "TCP" },
                            { "containerPort": 9090, "protocol": "TCP" },
                            { "name": "later", "containerPort": 9091, "protocol": "QUIC" }] }
            ],
            "restartPolicy": "Always", "nodeName": "node-1", "hostNetwork": true
        },
        "status": {
            "phase": "Running", "podIP": "10.0.0.7", "startTime": "2026-11-21T09:00:01Z",
            "podIPs": [{ "ip": "10.0.0.7" }, { "ip": "2001:db8::7" }],
            "conditions": [
                { "type": "ContainersReady", "status": "True", "lastProbeTime": null,
                  "lastTransitionTime": "2026-11-21T09:00:07Z" },
                { "type": "target-health.elbv2.k8s.aws/web", "status": "False", "lastProbeTime": null,
                  "lastTransitionTime": "2026-11-21T09:00:08Z",
                  "reason": "Elb.InitialHealthChecking", "message": "Initial health checks in progress" }
            ]
        }
    })
}

fn model(object: Value) -> Pod {
    pod(read(object), &[ConditionPrefix::default()]).unwrap()
}

#[test]
fn a_running_pod_is_read_down_to_what_decides() {
    let pod = model(running_pod());
    assert_eq!(pod.key, ObjectKey::new("shop", "web-5d4f8-x2k"));
    assert_eq!(&*pod.uid, "6f0b1c1e-7a54-4c59-8c8f-0f3a0ad1a001");
    assert_eq!(&*pod.resource_version, "4711");
    assert_eq!(
        pod.template.labels.get("app").map(|label| &**label),
        Some("web")
    );
    let gates: Vec<_> = pod.gates.iter().map(|(gate, _)| gate.name()).collect();
    assert_eq!(gates, ["web", "api"]);
    let waiting = Condition {
        status: false,
        reason: "Elb.InitialHealthChecking".into(),
        message: "Initial health checks in progress".into(),
    };
    assert_eq!(pod.gates[0].1, Some(waiting));
    assert_eq!(pod.gates[1].1, None);
    let ips: [IpAddr; 2] = ["10.0.0.7".parse().unwrap(), "2001:db8::7".parse().unwrap()];
    assert_eq!(pod.ips, ips);
    let port = |name: &str, protocol, number| NamedPort {
        name: name.into(),
        protocol,
        number,
    };
    let ports = [
        port("http", Protocol::Tcp, 8080),
        port("https", Protocol::Udp, 8443),
    ];
    assert_eq!(pod.template.ports, ports);
    let started: Timestamp = "2026-11-21T09:00:01Z".parse().unwrap();
    assert_eq!((pod.started, pod.host_network), (Some(started), true));
    let ready: Timestamp = "2026-11-21T09:00:07Z".parse().unwrap();
    assert_eq!(pod.containers_ready, Some(ready));
    assert!(pod.is_due() && !pod.opted_out);
}

#[rstest]
#[case::before_its_first_status(json!({}), None)]
#[case::not_ready(json!({ "type": "ContainersReady", "status": "False",
    "lastTransitionTime": "2026-11-21T09:00:07Z" }), None)]
#[case::ready(json!({ "type": "ContainersReady", "status": "True",
    "lastTransitionTime": "2026-11-21T09:00:07Z" }), Some("2026-11-21T09:00:07Z"))]
#[case::ready_without_a_time(json!({ "type": "ContainersReady", "status": "True",
    "lastTransitionTime": null }), Some("2026-11-21T09:00:00Z"))]
fn containers_are_ready_since_the_condition_says_so(
    #[case] condition: Value,
    #[case] since: Option<&str>,
) {
    let mut object = running_pod();
    object["status"]["conditions"] = json!([condition]);
    let since = since.map(|since| since.parse::<Timestamp>().unwrap());
    assert_eq!(model(object).containers_ready, since);
}

#[rstest]
#[case::with_its_grace_period(Some("2026-11-21T10:00:30Z"), Some(30), Some("2026-11-21T10:00:00Z"))]
#[case::at_once(Some("2026-11-21T10:00:00Z"), Some(0), Some("2026-11-21T10:00:00Z"))]
#[case::of_an_unknown_grace_period(Some("2026-11-21T10:00:30Z"), None, None)]
#[case::of_one_that_lasts_for_ever(Some("2026-11-21T10:00:30Z"), Some(i64::MAX), None)]
#[case::not_at_all(None, None, None)]
fn a_deletion_was_requested_before_its_timestamp_by_the_grace_period(
    #[case] deleted: Option<&str>,
    #[case] grace: Option<i64>,
    #[case] requested: Option<&str>,
) {
    let mut object = running_pod();
    object["metadata"]["deletionTimestamp"] = json!(deleted);
    object["metadata"]["deletionGracePeriodSeconds"] = json!(grace);
    let object: PodObject = serde_json::from_str(&object.to_string()).unwrap();
    let requested = requested.map(|time| time.parse::<Timestamp>().unwrap());
    let expected = PodTimes {
        created: "2026-11-21T09:00:00Z".parse().ok(),
        deletion_requested: requested,
    };
    assert_eq!(object.times(), expected);
}

#[rstest]
#[case::running("Running", None, false, false)]
#[case::succeeded("Succeeded", None, false, true)]
#[case::failed("Failed", None, false, true)]
#[case::terminating("Running", Some("2026-11-21T10:00:00Z"), true, false)]
fn a_pod_may_be_at_its_end(
    #[case] phase: &str,
    #[case] deleted: Option<&str>,
    #[case] terminating: bool,
    #[case] finished: bool,
) {
    let mut object = running_pod();
    object["status"]["phase"] = json!(phase);
    object["metadata"]["deletionTimestamp"] = json!(deleted);
    let pod = model(object);
    assert_eq!((pod.terminating, pod.finished), (terminating, finished));
}

#[test]
fn a_pod_without_ips_may_still_have_one() {
    let mut object = running_pod();
    object["status"]["podIPs"] = Value::Null;
    assert_eq!(
        model(object.clone()).ips,
        ["10.0.0.7".parse::<IpAddr>().unwrap()]
    );
    object["status"] = Value::Null;
    assert!(model(object).ips.is_empty());
}

#[test]
fn gates_under_a_former_prefix_are_read_too() {
    let mut object = running_pod();
    let former = "target-health.targetgate.dev/web";
    object["spec"]["readinessGates"] = json!([{ "conditionType": former }]);
    let prefixes = [
        ConditionPrefix::default(),
        "target-health.targetgate.dev".parse().unwrap(),
    ];
    let pod = pod(read(object), &prefixes).unwrap();
    assert_eq!(pod.gates[0].0.as_str(), former);
}

#[rstest]
#[case::absent(json!({}), false)]
#[case::other(json!({ "annotations": { "targetgate.dev/gate": "true" } }), false)]
#[case::out(json!({ "annotations": { "targetgate.dev/gate": "false" } }), true)]
fn an_annotation_opts_out(#[case] metadata: Value, #[case] out: bool) {
    let mut object = json!({ "metadata": { "name": "web", "namespace": "shop" } });
    object["metadata"]["annotations"] = metadata["annotations"].clone();
    assert_eq!(service(read(object.clone())).unwrap().1.opted_out, out);
    assert_eq!(model(object.clone()).opted_out, out);
    assert_eq!(
        binding(read(object), BindingApi::Elbv2)
            .unwrap()
            .1
            .opted_out,
        out
    );
}

#[test]
fn a_service_keeps_the_ports_that_are_ports() {
    let object = json!({
        "metadata": { "name": "web", "namespace": "shop" },
        "spec": {
            "type": "ClusterIP", "clusterIP": "10.96.0.9", "selector": { "app": "web" },
            "ports": [
                { "name": "http", "port": 80, "protocol": "TCP", "targetPort": "http" },
                { "name": "admin", "port": 8080, "targetPort": 9090 },
                { "name": "dns", "port": 53, "protocol": "UDP", "targetPort": "dns" },
                { "name": "plain", "port": 443 },
                { "name": "high", "port": 70000 },
                { "name": "nowhere", "port": 81, "targetPort": -1 },
                { "name": "text", "port": "eighty" },
                { "name": "zero", "port": 82, "targetPort": 0 }
            ]
        },
        "status": { "loadBalancer": {} }
    });
    let (key, service) = service(read(object)).unwrap();
    assert_eq!(key, ObjectKey::new("shop", "web"));
    let port = |name: &str, port, target_port| ServicePort {
        name: Some(name.into()),
        port,
        protocol: Protocol::Tcp,
        target_port,
    };
    assert_eq!(
        service.ports,
        [
            port("http", 80, Some(PortRef::Name("http".into()))),
            port("admin", 8080, Some(PortRef::Number(9090))),
            ServicePort {
                protocol: Protocol::Udp,
                ..port("dns", 53, Some(PortRef::Name("dns".into())))
            },
            port("plain", 443, None),
            port("zero", 82, None),
        ]
    );
    assert_eq!(service.selector.len(), 1);
    assert!(!service.external_name && !service.opted_out && !service.publish_not_ready);
}

#[test]
fn a_service_without_selector_selects_nothing() {
    let object = json!({ "metadata": { "name": "db", "namespace": "shop" },
        "spec": { "type": "ExternalName", "externalName": "db.example.com", "selector": null,
                  "publishNotReadyAddresses": true } });
    let (_, service) = service(read(object)).unwrap();
    assert!(service.selector.is_empty() && service.external_name && service.publish_not_ready);
}

#[rstest]
#[case(json!({ "elbv2.k8s.aws/pod-readiness-gate-inject": "enabled" }), true)]
#[case(json!({ "elbv2.k8s.aws/pod-readiness-gate-inject": "disabled" }), false)]
#[case(Value::Null, false)]
fn a_namespace_opts_in_by_its_label(#[case] labels: Value, #[case] opted_in: bool) {
    let object = json!({ "metadata": { "name": "shop", "labels": labels },
        "spec": { "finalizers": ["kubernetes"] }, "status": { "phase": "Active" } });
    let expected = (
        "shop".into(),
        Namespace {
            opted_in,
            ..Namespace::default()
        },
    );
    assert_eq!(namespace(read(object)).unwrap(), expected);
}

/// Three clients changed the labels, two of them the one that opts in.
fn managed(value: &str) -> Value {
    let fields = |label: &str| json!({ "f:metadata": { "f:labels": { label: {} } } });
    let opt_in = "f:elbv2.k8s.aws/pod-readiness-gate-inject";
    json!({ "metadata": { "name": "shop", "uid": "u-1",
        "labels": { "elbv2.k8s.aws/pod-readiness-gate-inject": value },
        "managedFields": [
            { "manager": "helm", "time": "2026-11-21T08:00:00Z", "fieldsV1": fields("f:team") },
            { "manager": "kubectl-label", "time": "2026-11-21T09:00:00Z", "fieldsV1": fields(opt_in) },
            { "manager": "argocd", "time": "2026-11-21T10:00:00Z", "fieldsV1": fields(opt_in) },
        ] } })
}

#[test]
fn a_namespace_tells_when_it_opted_in_at_the_latest() {
    let (_, enabled) = namespace(read(managed("enabled"))).unwrap();
    assert_eq!(enabled.labelled, "2026-11-21T09:00:00Z".parse().ok());
    assert_eq!(enabled.uid.as_deref(), Some("u-1"));
    let (_, disabled) = namespace(read(managed("disabled"))).unwrap();
    assert_eq!(disabled, Namespace::default());
}

#[rstest]
#[case(json!({ "targetgate.dev/drain": "sleep" }), DrainLabel::Mode(DrainMode::Sleep))]
#[case(json!({ "targetgate.dev/drain": "off" }), DrainLabel::Mode(DrainMode::Off))]
#[case(json!({ "targetgate.dev/drain": "yes" }), DrainLabel::Unreadable)]
#[case(json!({}), DrainLabel::Absent)]
fn a_namespace_asks_for_drain_by_its_label(#[case] labels: Value, #[case] expected: DrainLabel) {
    let object = json!({ "metadata": { "name": "shop", "labels": labels } });
    let (_, namespace) = namespace(read(object)).unwrap();
    assert_eq!(namespace.drain, expected);
}

const ARN: &str =
    "arn:aws:elasticloadbalancing:eu-west-1:123456789012:targetgroup/web/0123456789abcdef";

#[test]
fn a_binding_is_read_whole() {
    let object = json!({
        "metadata": { "name": "web", "namespace": "shop", "uid": "u-1", "generation": 3,
            "finalizers": ["elbv2.k8s.aws/resources", "example.com/other", "targetgate.dev/targets"],
            "creationTimestamp": "2026-11-21T08:00:00Z", "deletionTimestamp": "2026-11-21T09:00:00Z",
            "annotations": { "targetgate.dev/when-unused": "open", "targetgate.dev/register": "true",
                "targetgate.dev/abandon": "true" } },
        "spec": {
            "targetGroupARN": ARN, "targetGroupName": "web", "targetType": "ip", "ipAddressType": "ipv6",
            "serviceRef": { "name": "web", "port": "http" }, "vpcID": "vpc-01234567",
            "iamRoleArnToAssume": "arn:aws:iam::210987654321:role/elb", "assumeRoleExternalId": "x1",
            "multiClusterTargetGroup": true, "targetGroupProtocol": "TLS",
            "registerTargetsWithPodAvailabilityZone": true,
            "networking": { "ingress": [{ "ports": [{ "protocol": "TCP" }] }] }
        },
        "status": { "observedGeneration": 1 }
    });
    let (namespace, binding) = binding(read(object), BindingApi::Eks).unwrap();
    assert_eq!(&*namespace, "shop");
    let role = AssumedRole {
        arn: "arn:aws:iam::210987654321:role/elb".into(),
        external_id: Some("x1".into()),
    };
    let expected = Binding {
        api: BindingApi::Eks,
        name: "web".into(),
        uid: Some("u-1".into()),
        arn: Some(ARN.parse().unwrap()),
        group_name: Some("web".into()),
        target_type: Some(TargetType::Ip),
        family: IpFamily::V6,
        load_balancer: Some(LoadBalancerKind::Nlb),
        service: "web".into(),
        port: Some(PortRef::Name("http".into())),
        role: Some(role),
        multi_cluster: true,
        opted_out: false,
        terminating: true,
        policies: Policies {
            when_unused: Some(WhenUnused::Open),
            ..Policies::default()
        },
        registration: Registration {
            asked: Some(true),
            abandoned: true,
            created: Some("2026-11-21T08:00:00Z".parse().unwrap()),
            generation: 3,
            our_finalizer: true,
            incumbent_finalizer: true,
            quic: false,
            pod_zone: true,
        },
        unreadable: vec![],
    };
    assert_eq!(binding, expected);
}

#[rstest]
#[case::of_another(json!({ "finalizers": ["example.com/other"] }), (false, false))]
#[case::ours(json!({ "finalizers": ["targetgate.dev/targets"] }), (true, false))]
#[case::the_incumbents(json!({ "finalizers": ["elbv2.k8s.aws/resources"] }), (false, true))]
#[case::none(json!({ "finalizers": null }), (false, false))]
fn a_binding_shows_who_holds_it(#[case] metadata: Value, #[case] expected: (bool, bool)) {
    let mut object = json!({ "metadata": metadata });
    object["metadata"]["name"] = json!("web");
    let registration = binding(read(object), BindingApi::Elbv2)
        .unwrap()
        .1
        .registration;
    let held = (registration.our_finalizer, registration.incumbent_finalizer);
    assert_eq!(held, expected);
}

#[test]
fn what_there_is_to_tell_is_read_with_whom_to_tell_it() {
    let mut object = running_pod();
    let owner = |name: &str, controller| {
        json!({ "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": name, "uid": "u-5d",
            "controller": controller })
    };
    object["metadata"]["ownerReferences"] =
        json!([owner("other", Value::Null), owner("web-5d", json!(true))]);
    object["metadata"]["annotations"] = json!({ "targetgate.dev/open-after": "x".repeat(100) });
    object["spec"]["readinessGates"] = json!([{ "conditionType": LEGACY }]);
    let pod = model(object.clone());
    let controller = pod.template.controller.clone().unwrap();
    let ControllerRef {
        kind, name, uid, ..
    } = &*controller;
    assert_eq!((&**kind, &**name, &**uid), ("ReplicaSet", "web-5d", "u-5d"));
    let remarks = pod.template.remarks.clone().unwrap();
    assert_eq!(remarks.legacy_gate.as_deref(), Some(LEGACY));
    assert_eq!(&*remarks.unreadable[0].value, "x".repeat(60));

    object["metadata"]["annotations"] = json!({ "targetgate.dev/open-after": "10m" });
    object["status"]["conditions"] = json!([{ "type": LEGACY, "status": "True" }]);
    assert_eq!(model(object).template.remarks, None);
}

#[rstest]
#[case::the_shortest(json!({}), &[json!({ "sleep": { "seconds": 9 } }), json!({ "sleep": { "seconds": 5 } })], Some(5))]
#[case::another_handler(json!({}), &[json!({ "exec": {} }), json!({ "sleep": { "seconds": "5" } })], None)]
#[case::ours(json!({ "targetgate.dev/drained": "20/30" }), &[json!({ "sleep": { "seconds": 20 } })], None)]
#[case::beside_ours(json!({ "targetgate.dev/drained": "20/30" }),
    &[json!({ "sleep": { "seconds": 20 } }), json!({ "sleep": { "seconds": 40 } })], Some(40))]
#[case::drain_is_off(json!({ "targetgate.dev/drain": "off" }), &[json!({ "sleep": { "seconds": 5 } })], None)]
fn the_shortest_sleep_of_the_owner_is_known_of_a_gated_pod(
    #[case] annotations: Value,
    #[case] pre_stops: &[Value],
    #[case] seconds: Option<u64>,
) {
    let mut object = running_pod();
    object["metadata"]["annotations"] = annotations;
    let containers = pre_stops.iter().enumerate().map(
        |(at, pre_stop)| json!({ "name": format!("c-{at}"), "lifecycle": { "preStop": pre_stop } }),
    );
    object["spec"]["containers"] = containers.collect();
    let own_sleep = |object: &Value| {
        let template = model(object.clone()).template;
        template.remarks.as_ref()?.own_sleep.clone()
    };
    assert_eq!(own_sleep(&object).map(|sleep| sleep.seconds), seconds);
    let of_last = format!("c-{}", pre_stops.len() - 1);
    assert!(own_sleep(&object).is_none_or(|sleep| *sleep.container == *of_last));
    object["spec"]["readinessGates"] = json!([]);
    assert_eq!(own_sleep(&object), None);
}

#[test]
fn a_legacy_gate_that_is_served_is_one_of_ours() {
    let mut object = running_pod();
    object["spec"]["readinessGates"] = json!([{ "conditionType": LEGACY }]);
    let served = "target-health.alb.ingress.k8s.aws".parse().unwrap();
    let pod = pod(read(object), &[served]).unwrap();
    assert_eq!((pod.gates.len(), &pod.template.remarks), (1, &None));
}

#[test]
fn a_namespace_is_known_by_its_uid_only_where_there_may_be_something_to_tell() {
    let object = |value: &str| {
        json!({ "metadata": { "name": "shop", "uid": "u-1",
            "annotations": { "targetgate.dev/when-unused": value } } })
    };
    let mut opted_in = object("open");
    opted_in["metadata"]["labels"] = json!({ INJECT_LABEL: INJECT_ENABLED });
    let (_, opted_in) = namespace(read(opted_in)).unwrap();
    assert_eq!(opted_in.uid.as_deref(), Some("u-1"));
    let read = |value: &str| namespace(read(object(value))).unwrap().1;
    assert_eq!((read("open").uid, read("open").unreadable), (None, vec![]));
    assert_eq!(read("Open").uid.as_deref(), Some("u-1"));
    assert_eq!(&*read("Open").unreadable[0].value, "Open");
}

const LEGACY: &str = "target-health.alb.ingress.k8s.aws/web_web_80";

#[test]
fn a_binding_may_lack_nearly_everything() {
    let object = json!({ "metadata": { "name": "web", "namespace": "shop" },
        "spec": { "targetGroupARN": "no-arn", "targetType": "lambda", "iamRoleArnToAssume": "",
            "serviceRef": { "name": "web", "port": 65536 } } });
    let (_, binding) = binding(read(object), BindingApi::Elbv2).unwrap();
    assert_eq!((binding.arn, binding.target_type), (None, None));
    assert_eq!((binding.port, binding.role), (None, None));
    assert_eq!(
        (binding.family, binding.multi_cluster),
        (IpFamily::V4, false)
    );
}

#[rstest]
#[case::spec(json!({ "metadata": { "name": "web", "namespace": "shop" }, "spec": "nonsense" }), "spec")]
#[case::selector(json!({ "metadata": { "name": "web", "namespace": "shop" },
    "spec": { "selector": { "app": 7 } } }), "spec")]
#[case::no_metadata(json!({ "spec": {} }), "metadata")]
#[case::labels(json!({ "metadata": { "name": "web", "labels": ["a"] } }), "metadata")]
fn what_cannot_be_read_is_told_by_its_part_and_without_its_content(
    #[case] object: Value,
    #[case] part: &str,
) {
    let error = service(read(object)).unwrap_err();
    assert_eq!(error.part, part);
    assert!(!error.to_string().contains("nonsense"), "{error}");
}
