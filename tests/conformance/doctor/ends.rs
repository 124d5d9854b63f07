//! Settings of groups, load balancers and workloads that lose requests when pods end, and what is said where AWS does not
//! tell them.

use std::time::Duration;

use k8s_openapi::api::apps::v1::{DaemonSet, Deployment};
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};
use targetgate_sandbox::elb::{Delays, LoadBalancerKind, TargetGroupSpec};

use crate::doctor::faults::{deny, mend};
use crate::doctor::{doctor, installed};
use crate::explain::scene::Scene;
use crate::servers::create;

/// What only doctor asks AWS for.
const READS: [&str; 3] = [
    "DescribeTargetGroupAttributes",
    "DescribeLoadBalancers",
    "DescribeLoadBalancerAttributes",
];
const ZONES: [&str; 3] = ["eu-west-1a", "eu-west-1b", "eu-west-1c"];

/// Makes the fault that the page names by this sentence.
pub(super) async fn make(fault: &str, scene: &Scene<'_>) {
    match fault {
        "The deregistration delay is longer than the grace period." => {
            let spec = TargetGroupSpec::http(scene.group()).delays(delays(300));
            behind(scene, spec, json!({})).await;
        }
        "The load balancer cuts connections before the pod ends." => {
            let spec = TargetGroupSpec {
                connection_termination: true,
                ..TargetGroupSpec::tcp(scene.group()).delays(delays(10))
            };
            behind(scene, spec, json!({})).await;
        }
        // An NLB sends within a zone by itself.
        "A rollout takes away the only pod of a zone." => {
            deployment(scene, json!({ "maxUnavailable": 1 })).await;
            behind(scene, TargetGroupSpec::tcp(scene.group()), of_deployment()).await;
        }
        "A zone has one pod." => {
            daemon_set(scene, json!({ "maxUnavailable": 0, "maxSurge": 1 })).await;
            let spec = TargetGroupSpec {
                cross_zone: Some(false),
                ..TargetGroupSpec::http(scene.group())
            };
            behind(scene, spec, owned_by("DaemonSet", "web")).await;
        }
        other => panic!("no test makes this fault: {other}"),
    }
}

fn delays(deregistration: u64) -> Delays {
    Delays {
        deregistration_delay: Duration::from_secs(deregistration),
        ..Delays::alb().scaled(0.01)
    }
}

/// A pod with its gate behind a group of this kind, whose load balancer has three zones.
async fn behind(scene: &Scene<'_>, spec: TargetGroupSpec, pod: Value) {
    let elb = &scene.installed.elb;
    let kind = spec.kind();
    let arn = elb.create_target_group(spec);
    let balancer = elb.create_load_balancer(&scene.group(), kind, &ZONES);
    elb.add_listener(&balancer, &[(&arn, 1)]).unwrap();
    scene.service(json!({})).await;
    scene.bind_to(&arn, json!({})).await;
    scene.gated_pod(pod).await;
}

/// A Deployment of three replicas, of which nothing makes pods here.
async fn deployment(scene: &Scene<'_>, rolling: Value) {
    let labels = json!({ "app": "web" });
    let template = json!({ "metadata": { "labels": labels },
        "spec": { "containers": [{ "name": "web", "image": "web" }] } });
    let strategy = json!({ "type": "RollingUpdate", "rollingUpdate": rolling });
    let deployment = json!({ "metadata": { "name": "web" }, "spec": { "replicas": 3,
        "selector": { "matchLabels": labels }, "strategy": strategy, "template": template } });
    create(&scene.api::<Deployment>(), deployment)
        .await
        .unwrap();
}

/// What marks a pod as one of that Deployment.
fn of_deployment() -> Value {
    let mut pod = owned_by("ReplicaSet", "web-5d4f8");
    pod["metadata"]["labels"] = json!({ "pod-template-hash": "5d4f8" });
    pod
}

/// A DaemonSet with a pod on each of three nodes, as its controller would tell, which does not run here.
async fn daemon_set(scene: &Scene<'_>, rolling: Value) {
    let labels = json!({ "app": "web" });
    let template = json!({ "metadata": { "labels": labels },
        "spec": { "containers": [{ "name": "web", "image": "web" }] } });
    let strategy = json!({ "type": "RollingUpdate", "rollingUpdate": rolling });
    let set = json!({ "metadata": { "name": "web" }, "spec": {
        "selector": { "matchLabels": labels }, "updateStrategy": strategy, "template": template } });
    let sets = scene.api::<DaemonSet>();
    create(&sets, set).await.unwrap();
    let scheduled = json!({ "status": { "desiredNumberScheduled": 3, "currentNumberScheduled": 3,
        "numberMisscheduled": 0, "numberReady": 3 } });
    let (params, patch) = (PatchParams::default(), Patch::Merge(scheduled));
    sets.patch_status("web", &params, &patch).await.unwrap();
}

/// What marks a pod as one of a controller.
fn owned_by(kind: &str, name: &str) -> Value {
    let owner = json!({ "apiVersion": "apps/v1", "kind": kind, "name": name, "uid": "5d4f8",
        "controller": true });
    json!({ "metadata": { "ownerReferences": [owner] } })
}

#[tokio::test]
async fn without_its_own_policy_it_names_each_action_that_is_missing_and_fails_for_none() {
    let installed = installed().await;
    let scene = Scene::new(&installed, "denied").await;
    deployment(&scene, json!({ "maxUnavailable": 1 })).await;
    let spec = TargetGroupSpec {
        connection_termination: true,
        ..TargetGroupSpec::tcp(scene.group())
    };
    assert_eq!(spec.kind(), LoadBalancerKind::Network);
    behind(&scene, spec, of_deployment()).await;
    let lints = ["DeregistrationDelayTooLong", "ZoneEmptied", "OnePodPerZone"];
    let said = doctor(&installed, &[]).await;
    let advised = said.of("Advice");
    let told = |lint: &&str| advised.iter().any(|(.., reason)| reason == lint);
    assert!(lints.iter().all(told), "{:#}", said.json);
    assert_eq!(said.of("Unknown"), [], "{:#}", said.json);

    for action in READS {
        deny(&installed, action);
        let said = doctor(&installed, &[]).await;
        let about = format!("elasticloadbalancing:{action}");
        let unknown = said.of("Unknown");
        assert!(
            unknown.contains(&("End", &*about, "NotKnown")),
            "{:#}",
            said.json
        );
        assert!(said.broken().is_empty(), "{:#}", said.json);
        // Advice alone would come of it.
        assert_eq!(said.status, 0, "{:#}", said.json);
        let text = said.json.to_string();
        assert!(text.contains("deploy/iam/policy-doctor.json"), "{text}");
        let without_zones = said.of("Advice");
        let mut zones = without_zones.iter().map(|(.., reason)| *reason);
        assert!(!zones.any(|reason| ["ZoneEmptied", "OnePodPerZone"].contains(&reason)));
        installed.elb.faults().clear_failures();
    }
    let without = doctor(&installed, &["--no-aws"]).await;
    assert_eq!(without.of("Unknown"), [], "{:#}", without.json);
    mend(&scene).await;
}
