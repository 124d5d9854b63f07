//! Makes each fault of the table of targets in `docs/troubleshooting.md`, with a registrar, and reads what `explain`
//! says of it: without the leader, by the binding, its condition and its finalizers.

use std::time::Duration;

use http::StatusCode;
use jiff::{Timestamp, Unit};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::Api;
use serde_json::{Value, json};
use targetgate_sandbox::elb::faults::On;
use targetgate_sandbox::elb::{Health, Quotas, TargetGroupSpec};
use targetgate_sandbox::harness::waiting::until;
use tokio::time::{Instant, sleep};

use crate::explain::kubelet::Kubelet;
use crate::explain::scene::{IP, POD, Said, Scene, explain, run, said};
use crate::explain::troubleshooting::{Row, rows_of};
use crate::install::PORT;
use crate::servers::{create, pod, strategic};
use crate::targets_roles::registering;

const LEFT_OUT: &str = "An endpoint of an EndpointSlice names no pod.";
const HELD: &str = "AWS Load Balancer Controller holds the binding.";
/// What the registrar takes to tell: it compares a group twice before anything leaves, 10 s apart.
const PATIENCE: Duration = Duration::from_secs(60);
const AGAIN: Duration = Duration::from_millis(500);
const OTHER_IP: &str = "10.0.0.9";

#[tokio::test]
async fn each_fault_of_targets_is_named_with_what_to_do() {
    let (installed, _) = registering("annotated").await;
    let (mut rows, mut wrong) = (rows_of("Targets that are not registered"), vec![]);
    assert!(rows.len() >= 7, "{} rows", rows.len());
    // A Lease of the incumbent's is about all bindings.
    rows.sort_by_key(|row| row.fault == HELD);
    for (number, row) in rows.iter().enumerate() {
        let scene = Scene::new(&installed, &format!("t{number}")).await;
        make(&row.fault, &scene).await;
        let began = Instant::now();
        wrong.extend(loop {
            match problem(row, &scene).await {
                Some(_) if began.elapsed() < PATIENCE => sleep(AGAIN).await,
                ended => break ended,
            }
        });
        mend(&scene);
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

/// What `explain` says otherwise than the row, of the pod or of the binding.
async fn problem(row: &Row, scene: &Scene<'_>) -> Option<String> {
    let installed = scene.installed;
    let flags = ["--register=annotated", "--no-leader"];
    let (pod, binding) = (
        format!("{}/{POD}", scene.namespace),
        format!("{}/web", scene.namespace),
    );
    let of_pod = explain(installed, &[&["pod", &*pod][..], &flags].concat()).await;
    let of_binding = explain(installed, &[&["binding", &*binding][..], &flags].concat()).await;
    let whys = [&of_pod.json["why"], &of_binding.json["registration"]["why"]];
    let told = |why: &&&Value| why["reason"] == *row.reason && why["remedy"] == *row.remedy;
    let text = |words: Vec<&str>| {
        let words: Vec<String> = words.into_iter().map(str::to_owned).collect();
        async move {
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            String::from_utf8(run(installed, &words, None).await.stdout).unwrap()
        }
    };
    let of_text = text([&["binding", &*binding][..], &flags].concat()).await
        + &text([&["pod", &*pod][..], &flags].concat()).await;
    let found = whys.iter().find(told).is_some() && of_text.contains(&row.remedy);
    let Said { errors, .. } = &of_pod;
    (!found).then(|| {
        let Row { fault, reason, .. } = row;
        format!(
            "{fault}: not {reason}, but {:#}\n{:#}\n{errors}",
            whys[0], of_binding.json
        )
    })
}

/// Ends what is about all groups, so that the next fault is alone.
fn mend(scene: &Scene<'_>) {
    scene.installed.elb.set_quotas(Quotas::default());
    scene.installed.elb.accept(IP.parse().unwrap());
    scene.installed.elb.faults().clear_failures();
}

/// Makes a fault, which the page names by this sentence, in an empty namespace that has opted in.
async fn make(fault: &str, scene: &Scene<'_>) {
    let elb = &scene.installed.elb;
    let asked = json!({ "metadata": { "annotations": { "targetgate.dev/register": "true" } } });
    if fault != LEFT_OUT {
        scene.service(json!({})).await;
    }
    match fault {
        "ELB refuses the target." => {
            elb.refuse(IP.parse().unwrap());
            scene.bind(asked).await;
            scene.gated_pod(json!({})).await;
        }
        "The target group takes no more targets." => {
            elb.set_quotas(Quotas {
                targets_per_group: 0,
                ..Quotas::default()
            });
            scene.bind(asked).await;
            scene.gated_pod(json!({})).await;
        }
        "AWS refuses the calls that register." => {
            let calls = On::action("RegisterTargets");
            elb.faults()
                .fail(calls, "AccessDenied", StatusCode::FORBIDDEN, None);
            scene.bind(asked).await;
            scene.gated_pod(json!({})).await;
        }
        "Too few healthy targets would be left." => {
            let arn = scene.bind(asked).await;
            scene.gated_pod(json!({})).await;
            until("the pod is registered", async || {
                let health = elb.health(&arn, IP.parse().unwrap(), PORT);
                (health == Some(Health::healthy())).then_some(())
            })
            .await;
            let unready = json!({ "status": { "conditions": [
                { "type": "ContainersReady", "status": "False" }] } });
            strategic(&scene.api::<Pod>(), POD, unready).await.unwrap();
        }
        "A target has the address of a pod of another Service." => {
            let arn = scene.bind(asked).await;
            scene.gated_pod(json!({})).await;
            let other = pod(
                "api-0",
                json!({ "metadata": { "labels": { "app": "api" } } }),
            );
            let pods = scene.api::<Pod>();
            create(&pods, other).await.unwrap();
            let status = json!({ "status": { "phase": "Running", "podIP": OTHER_IP,
                "podIPs": [{ "ip": OTHER_IP }],
                "conditions": [{ "type": "ContainersReady", "status": "True" }] } });
            strategic(&pods, "api-0", status).await.unwrap();
            elb.register(&arn, OTHER_IP.parse().unwrap(), PORT).unwrap();
        }
        "The target group speaks QUIC." => {
            let spec = TargetGroupSpec {
                protocol: "QUIC".to_owned(),
                ..TargetGroupSpec::http(scene.group())
            };
            let arn = elb.create_target_group(spec);
            scene.bind_to(&arn, asked).await;
            scene.gated_pod(json!({})).await;
        }
        LEFT_OUT => {
            scene.bind_slice(json!([{ "addresses": [IP] }])).await;
        }
        "The binding does not ask for registration." => {
            scene.bind(json!({})).await;
            scene.gated_pod(json!({})).await;
        }
        HELD => {
            let leases: Api<Lease> =
                Api::namespaced(scene.installed.cluster.client.clone(), "kube-system");
            let now = Timestamp::now().round(Unit::Second).unwrap();
            let lease = json!({
                "metadata": { "name": "aws-load-balancer-controller-leader" },
                "spec": { "holderIdentity": "lbc", "leaseDurationSeconds": 15,
                    "renewTime": format!("{}", now.strftime("%Y-%m-%dT%H:%M:%S.000000Z")) } });
            create(&leases, lease).await.unwrap();
            scene.bind(asked).await;
            scene.gated_pod(json!({})).await;
        }
        other => panic!("no test makes this fault: {other}"),
    }
}

impl Scene<'_> {
    /// Service `web` without a selector, a slice of these endpoints, and a binding whose targets are to be registered.
    async fn bind_slice(&self, endpoints: Value) {
        self.service(json!({ "selector": null })).await;
        let slice = json!({
            "metadata": { "name": "web-x", "labels": { "kubernetes.io/service-name": "web" } },
            "addressType": "IPv4",
            "ports": [{ "port": PORT }],
            "endpoints": endpoints,
        });
        create(&self.api::<EndpointSlice>(), slice).await.unwrap();
        let asked = json!({ "metadata": { "annotations": { "targetgate.dev/register": "true" } } });
        self.bind(asked).await;
    }
}

#[tokio::test]
async fn endpoints_that_are_left_out_are_named_one_by_one_by_the_leader() {
    let (installed, _) = registering("annotated").await;
    let scene = Scene::new(&installed, "slices").await;
    let of_pod = |name: &str, ip: &str| {
        let pod = json!({ "kind": "Pod", "name": name });
        json!({ "addresses": [ip], "targetRef": pod })
    };
    let endpoints = [of_pod("gone", OTHER_IP), json!({ "addresses": [IP] })];
    scene.bind_slice(json!(endpoints)).await;
    let _kubelet = Kubelet::of(&installed).await;
    let port = installed.process().explain.unwrap().port();
    let listen = format!("--explain-listen=127.0.0.1:{port}");
    let flags = ["--register=annotated", "--no-aws", &listen];
    let name = format!("{}/web", scene.namespace);
    let of_binding = [&["binding", &*name][..], &flags].concat();
    let of_namespace = [&["--all", "-n", &*scene.namespace][..], &flags].concat();
    let kubeconfig = installed.cluster.control_plane().kubeconfig();
    for words in [of_binding, of_namespace] {
        let text = until("the endpoints are named", async || {
            let text = run(&installed, &words, Some(kubeconfig)).await.stdout;
            let text = String::from_utf8(text).unwrap();
            text.contains("left out: 2").then_some(text)
        })
        .await;
        for part in [
            format!("{IP} port {PORT} names no pod."),
            format!("{OTHER_IP} port {PORT} names pod gone, which does not live"),
            "web: EndpointsLeftOut".to_owned(),
            "What to do: Give them a `targetRef`".to_owned(),
            "What to do: Mend its `targetRef`".to_owned(),
        ] {
            assert!(text.contains(&part), "{part}\n{text}");
        }
        let json = [&words[..], &["-o", "json"]].concat();
        said(run(&installed, &json, Some(kubeconfig)).await);
    }
}

#[tokio::test]
async fn a_namespace_tells_what_is_unregistered() {
    let (installed, _) = registering("all").await;
    let scene = Scene::new(&installed, "all").await;
    scene.service(json!({})).await;
    installed.elb.refuse(IP.parse().unwrap());
    scene.bind(json!({})).await;
    scene.gated_pod(json!({})).await;
    let words = [
        "--all",
        "-n",
        &*scene.namespace,
        "--register=all",
        "--no-leader",
    ];
    let said = until("the refusal is told", async || {
        let said = explain(&installed, &words).await;
        let told = said.json["unregistered"][0]["why"]["reason"] == "TargetRefused";
        told.then_some(said)
    })
    .await;
    assert_eq!(said.status, 1);
    assert_eq!(said.json["unregistered"][0]["binding"], "web");
    let words = said.json["unregistered"][0]["why"]["message"]
        .as_str()
        .unwrap();
    assert!(words.contains("InvalidTarget"), "{words}");
}
