//! Makes each fault of the table in `docs/troubleshooting.md`, and reads what `explain` says of it.

use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::api::DeleteParams;
use serde_json::json;
use targetgate_sandbox::elb::health::CheckFailure;
use targetgate_sandbox::elb::{Health, TargetGroupSpec};
use targetgate_sandbox::harness::waiting::until;
use tokio::time::sleep;

use crate::explain::scene::{IP, POD, Scene};
use crate::install::{Installed, PORT};
use crate::servers::{Server, strategic};
use crate::shop::gate;

const LEGACY: &str = "target-health.alb.ingress.k8s.aws/web_web_80";
const WHILE_AWAY: &str = "The pod was created while targetgate was away.";
/// Times of objects have whole seconds: what is done after this is seen to be later.
const LATER: Duration = Duration::from_millis(1100);

/// A row of the table.
pub(super) struct Row {
    pub(super) fault: String,
    pub(super) reason: String,
    pub(super) remedy: String,
}

/// The rows of the section of the page with this heading.
pub(super) fn rows_of(heading: &str) -> Vec<Row> {
    let page = include_str!("../../../docs/troubleshooting.md");
    let (_, section) = page.split_once(&format!("\n## {heading}\n")).unwrap();
    let section = section.split("\n## ").next().unwrap();
    let rows = section
        .lines()
        .filter(|line| line.starts_with("| "))
        .skip(2);
    let rows = rows.map(|line| {
        let cells: Vec<&str> = line.trim_matches('|').split(" | ").map(str::trim).collect();
        let [fault, _, reason, remedy] = cells[..] else {
            panic!("a row has four cells, not {cells:?}");
        };
        Row {
            fault: fault.to_owned(),
            reason: reason.trim_matches('`').to_owned(),
            remedy: remedy.to_owned(),
        }
    });
    rows.collect()
}

#[tokio::test]
async fn each_fault_of_the_page_is_named_with_what_to_do() {
    // The faults stay, and other tests count some of them.
    let cluster = Server::Kubernetes.own_cluster().await;
    cluster.apply_crd().await;
    let mut installed = Installed::on(cluster, &[]).await;
    let (rows, mut wrong) = (rows_of("What goes wrong"), vec![]);
    assert!(rows.len() >= 12, "{} rows", rows.len());
    for (number, row) in rows.iter().enumerate() {
        let namespace = Scene::new(&installed, &format!("f{number}"))
            .await
            .namespace;
        if row.fault == WHILE_AWAY {
            pod_while_away(&mut installed, &namespace).await;
        } else {
            make(&row.fault, &Scene::of(&installed, &namespace)).await;
        }
        wrong.extend(problem(row, &Scene::of(&installed, &namespace)).await);
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

/// Makes the one fault for which the process must not run.
async fn pod_while_away(installed: &mut Installed, namespace: &str) {
    let scene = Scene::of(installed, namespace);
    scene.service(json!({})).await;
    scene.bind(json!({})).await;
    sleep(LATER).await;
    installed.kill();
    Scene::of(installed, namespace).pod(json!({})).await;
    installed.start().await;
}

/// What `explain` says otherwise than the row.
async fn problem(row: &Row, scene: &Scene<'_>) -> Option<String> {
    let (said, text) = (scene.explained().await, scene.text().await);
    let mut whys = said.whys().into_iter();
    let told = whys.find(|why| why["reason"] == *row.reason);
    let remedy = told
        .and_then(|why| why["remedy"].as_str())
        .unwrap_or_default();
    let found = told.is_some() && remedy == row.remedy && said.status == 1;
    let in_text = text.contains(&row.reason) && text.contains(&row.remedy);
    (!found || !in_text).then(|| {
        let Row { fault, reason, .. } = row;
        format!(
            "{fault}: not {reason}, {:?}, but exit status {}, {remedy:?}\n{:#}\n{}\n{text}",
            row.remedy, said.status, said.json, said.errors
        )
    })
}

/// Makes a fault, which the page names by this sentence, in an empty namespace that has opted in.
async fn make(fault: &str, scene: &Scene<'_>) {
    let (elb, pod_ip) = (&scene.installed.elb, IP.parse().unwrap());
    match fault {
        "The namespace has no binding." => _ = scene.pod(json!({})).await,
        "The binding registers nodes." => {
            scene.service(json!({ "type": "NodePort" })).await;
            let spec = TargetGroupSpec {
                target_type: "instance".to_owned(),
                ..TargetGroupSpec::http(scene.group())
            };
            let arn = elb.create_target_group(spec);
            scene
                .bind_to(&arn, json!({ "spec": { "targetType": "instance" } }))
                .await;
            scene.pod(json!({})).await;
        }
        "The binding's Service does not exist." => {
            scene.bind(json!({})).await;
            scene.pod(json!({})).await;
        }
        "The Service selects other pods." => {
            scene.service(json!({ "selector": { "app": "api" } })).await;
            scene.bind(json!({})).await;
            scene.pod(json!({})).await;
        }
        "The Service is an `ExternalName`." => {
            let external = json!({ "type": "ExternalName", "externalName": "shop.example",
                "selector": null });
            scene.service(external).await;
            scene.bind(json!({})).await;
            scene.pod(json!({})).await;
        }
        "The Service has no selector." => {
            scene.service(json!({ "selector": null })).await;
            scene.bind(json!({})).await;
            scene.pod(json!({})).await;
        }
        "An annotation opts the pod out." => {
            scene.service(json!({})).await;
            scene.bind(json!({})).await;
            let annotations = json!({ "targetgate.dev/gate": "false" });
            scene
                .pod(json!({ "metadata": { "annotations": annotations } }))
                .await;
        }
        "The binding is being deleted." => {
            scene.service(json!({})).await;
            scene
                .bind(json!({ "metadata": { "finalizers": ["elbv2.k8s.aws/resources"] } }))
                .await;
            let deleted = scene
                .bindings()
                .delete("web", &DeleteParams::default())
                .await;
            deleted.unwrap();
            scene.pod_with_gates(0, json!({})).await;
        }
        "The namespace is not labelled." => {
            let label = json!({ "elbv2.k8s.aws/pod-readiness-gate-inject": null });
            scene.label(label).await;
            scene.service(json!({})).await;
            scene.bind(json!({})).await;
            scene.pod(json!({})).await;
        }
        "The pod is older than the binding." => {
            scene.service(json!({})).await;
            scene.pod(json!({})).await;
            sleep(LATER).await;
            scene.bind(json!({})).await;
        }
        "The pod is older than the label." => {
            let label = "elbv2.k8s.aws/pod-readiness-gate-inject";
            scene.label(json!({ label: null })).await;
            scene.service(json!({})).await;
            scene.bind(json!({})).await;
            sleep(LATER).await;
            scene.pod(json!({})).await;
            sleep(LATER).await;
            scene.label(json!({ label: "enabled" })).await;
        }
        "A container of the pod is not ready." => {
            scene.gated(json!({})).await;
            let status = json!({ "status": { "conditions": [
                { "type": "ContainersReady", "status": "False" }] } });
            strategic(&scene.api(), POD, status).await.unwrap();
        }
        "The target is not registered." => _ = scene.gated(json!({})).await,
        "The health check of the target times out." => {
            let arn = scene.gated(json!({})).await;
            scene.installed.register(&arn, IP);
            let health = Health::unhealthy(CheckFailure::Timeout);
            elb.script(&arn, pod_ip, PORT, health).unwrap();
        }
        "No load balancer uses the target group." => {
            scene.service(json!({})).await;
            let arn = elb.create_target_group(TargetGroupSpec::http(scene.group()));
            scene.bind_to(&arn, json!({})).await;
            scene.gated_pod(json!({})).await;
            scene.installed.register(&arn, IP);
        }
        "No container has the port that the Service targets." => {
            let ports = json!([{ "port": 80, "targetPort": "grpc" }]);
            scene.service(json!({ "ports": ports })).await;
            scene.bind(json!({})).await;
            scene.gated_pod(json!({})).await;
        }
        "The Service has no such port." => {
            scene.service(json!({})).await;
            let port = json!({ "spec": { "serviceRef": { "port": 8443 } } });
            scene.bind(port).await;
            scene.gated_pod(json!({})).await;
        }
        "AWS does not have the target group." => {
            let arn = scene.gated(json!({})).await;
            elb.remove_target_group(&arn).unwrap();
        }
        "The binding was deleted under living pods." => {
            let arn = scene.gated(json!({})).await;
            scene.installed.register(&arn, IP);
            scene.gate_opens().await;
            let deleted = scene
                .bindings()
                .delete("web", &DeleteParams::default())
                .await;
            deleted.unwrap();
            until("explain finds the binding gone", async || {
                let said = scene.explained().await;
                (said.reason() == "BindingLost").then_some(())
            })
            .await;
        }
        "The pod keeps a legacy gate." => {
            let gates = json!([{ "conditionType": LEGACY }]);
            scene
                .pod(json!({ "spec": { "readinessGates": gates } }))
                .await;
        }
        "The container's own `preStop` is too short." => {
            scene
                .label(json!({ "targetgate.dev/drain": "sleep" }))
                .await;
            let lifecycle = json!({ "preStop": { "sleep": { "seconds": 5 } } });
            let containers = json!([{ "name": "web", "image": "web", "lifecycle": lifecycle }]);
            scene
                .gated(json!({ "spec": { "containers": containers } }))
                .await;
        }
        "An annotation cannot be read." => {
            let annotations = json!({ "targetgate.dev/open-after": "soon" });
            scene
                .gated(json!({ "metadata": { "annotations": annotations } }))
                .await;
        }
        other => panic!("no test makes this fault: {other}"),
    }
}

impl Scene<'_> {
    /// Waits until the pod's gate is open.
    pub(crate) async fn gate_opens(&self) {
        until("the gate is open", async || {
            let pod = self.api::<Pod>().get(POD).await.unwrap();
            let mut conditions = pod.status?.conditions?.into_iter();
            let gate = conditions.find(|condition| condition.type_ == gate("web"))?;
            (gate.status == "True").then_some(())
        })
        .await;
    }

    /// Service, binding, and the pod with its gate, whose containers are ready. Returns the group's ARN.
    pub(crate) async fn gated(&self, pod: serde_json::Value) -> String {
        self.service(json!({})).await;
        let arn = self.bind(json!({})).await;
        self.gated_pod(pod).await;
        arn
    }
}
