//! What the binary answers besides the reasons of the page: yes, and why there is no answer.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::Stdio;

use http::StatusCode;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::authentication::v1::TokenRequest;
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::api::{Api, Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use targetgate_core::names::BindingApi;
use targetgate_sandbox::elb::faults::On;
use targetgate_sandbox::harness::waiting::until;
use tokio::io::{AsyncBufReadExt as _, BufReader};

use crate::explain::scene;
use crate::explain::scene::{IP, POD, Said, Scene, explain, run, said};
use crate::install::{Installed, NAMESPACE, Site};
use crate::servers::Server;
use crate::shop::gate;

#[tokio::test]
async fn a_pod_whose_gate_is_open_is_a_yes() {
    let installed = Installed::new().await;
    let scene = Scene::new(&installed, "open").await;
    scene.service(json!({})).await;
    let arn = scene.bind(json!({})).await;
    scene.gated_pod(json!({})).await;
    let waiting = scene.explained().await;
    assert_eq!((waiting.status, waiting.reason()), (1, "NotRegistered"));
    assert_eq!(waiting.json["evidence"]["source"], "elb");
    let without = explain(&installed, &["pod", &name(&scene), "--no-aws"]).await;
    assert_eq!(without.json["evidence"]["source"], "condition");

    let words = ["pod", &name(&scene), "--watch"].map(str::to_owned);
    let mut watching = scene::command(&installed, &words.each_ref().map(String::as_str), None);
    let mut watching = watching.stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(watching.stdout.take().unwrap()).lines();
    let first = lines.next_line().await.unwrap().unwrap();
    assert!(first.contains(": not yet, NotRegistered: "), "{first}");
    installed.register(&arn, IP);
    let mut last = first;
    while let Some(line) = lines.next_line().await.unwrap() {
        last = line;
    }
    assert!(last.contains(": yes, Healthy: "), "{last}");
    assert_eq!(watching.wait().await.unwrap().code(), Some(0));

    let open = scene.explained().await;
    assert_eq!(
        (open.reason(), &open.json["verdict"]),
        ("Healthy", &json!("Yes"))
    );
    assert_eq!(open.json["gates"][0]["targets"][0]["elb"], "healthy");
    let namespace = &scene.namespace;
    let all = explain(&installed, &["--all", "-n", namespace]).await;
    assert_eq!((all.status, &all.json["pods"]["gated"]), (0, &json!(1)));
    let binding = format!("{namespace}/web");
    let of_binding = explain(&installed, &["binding", &binding]).await;
    assert_eq!((of_binding.status, of_binding.reason()), (0, "Healthy"));
}

fn name(scene: &Scene<'_>) -> String {
    format!("{}/{POD}", scene.namespace)
}

#[tokio::test]
async fn a_manifest_is_explained_before_it_is_applied() {
    let installed = Installed::new().await;
    let scene = Scene::new(&installed, "new").await;
    scene.service(json!({})).await;
    scene.bind(json!({})).await;
    let template = |app: &str| {
        json!({ "metadata": { "labels": { "app": app } },
            "spec": { "containers": [{ "name": "main", "image": "main" }] } })
    };
    let deployment = |app| {
        json!({ "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": "web" },
            "spec": { "selector": {}, "template": template(app) } })
    };
    let yes = of_manifest(&installed, &scene, &deployment("web").to_string()).await;
    assert_eq!(
        (yes.status, yes.reason()),
        (0, "Injected"),
        "{}",
        yes.errors
    );
    assert_eq!(yes.json["created"], Value::Null);
    let no = of_manifest(&installed, &scene, &deployment("api").to_string()).await;
    assert_eq!((no.status, no.reason()), (1, "SelectorMismatch"));
    for wrong in [
        "kind: Service\nmetadata: { name: web }",
        "",
        "a: [",
        "kind: Pod\nspec: []",
    ] {
        let refused = of_manifest(&installed, &scene, wrong).await;
        assert_eq!(refused.status, 2, "{wrong}: {}", refused.errors);
        assert!(
            refused.errors.contains("--filename -"),
            "{}",
            refused.errors
        );
    }
}

/// Explains a manifest that comes on standard input.
async fn of_manifest(site: &Site, scene: &Scene<'_>, text: &str) -> Said {
    let mut command = site.program.tool();
    command.args([
        "explain",
        "pod",
        "-f",
        "-",
        "-o",
        "json",
        "-n",
        &scene.namespace,
    ]);
    command.arg("--kubeconfig").arg(&site.program.kubeconfig);
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(text.as_bytes())
        .unwrap();
    let waited = tokio::task::spawn_blocking(move || child.wait_with_output());
    said(waited.await.unwrap().unwrap())
}

#[tokio::test]
async fn the_flags_are_those_of_the_installation_unless_they_are_given() {
    let cluster = Server::Kubernetes.own_cluster().await;
    cluster.apply_crd().await;
    let installed = Installed::on(cluster, &[]).await;
    let scene = Scene::new(&installed, "flags").await;
    scene.service(json!({})).await;
    scene.bind(json!({})).await;
    scene.gated_pod(json!({})).await;
    let deployment = format!("{NAMESPACE}/targetgate");
    let said = scene.explained().await;
    assert_eq!(said.json["settings"], json!({ "deployment": deployment }));
    assert_eq!(said.json["bindings"][0]["why"]["reason"], "AlreadyInjected");

    let variables = json!([{ "name": "TARGETGATE_GATE_APIS", "value": "eks.amazonaws.com" }]);
    let container = json!({ "name": "targetgate", "env": variables });
    let patch = json!({ "spec": { "template": { "spec": { "containers": [container] } } } });
    let client = installed.cluster.client.clone();
    let deployments: Api<Deployment> = Api::namespaced(client, NAMESPACE);
    let (params, patch) = (PatchParams::default(), Patch::Strategic(patch));
    deployments
        .patch("targetgate", &params, &patch)
        .await
        .unwrap();
    let said = scene.explained().await;
    assert_eq!(said.json["bindings"][0]["why"]["reason"], "ApiNotGated");
    let given = ["pod", &name(&scene), "--gate-apis=elbv2.k8s.aws"];
    let said = explain(&installed, &given).await;
    assert_eq!(said.json["bindings"][0]["why"]["reason"], "AlreadyInjected");
    let elsewhere = ["pod", &name(&scene), "--installation=default/other"];
    let said = explain(&installed, &elsewhere).await;
    let why = said.json["settings"]["why"].as_str().unwrap();
    assert!(why.contains("Deployment default/other"), "{why}");
}

#[tokio::test]
async fn what_does_not_exist_is_named() {
    let site = Site::new().await;
    let namespace = site.cluster.namespace.as_str();
    let gone = |kind: &str, name: &str| format!("{kind} {namespace}/{name} does not exist");
    for (kind, expected) in [("pod", gone("pod", "x")), ("binding", gone("binding", "x"))] {
        let refused = explain(&site, &[kind, &format!("{namespace}/x")]).await;
        assert_eq!(refused.status, 1);
        assert!(refused.errors.contains(&expected), "{}", refused.errors);
    }
    let absent = "namespace not-there does not exist";
    for words in [&["pod", "not-there/x"][..], &["--all", "-n", "not-there"]] {
        let refused = explain(&site, words).await;
        assert_eq!(refused.status, 1);
        assert!(refused.errors.contains(absent), "{}", refused.errors);
    }
}

#[tokio::test]
async fn what_is_denied_or_out_of_reach_is_unknown() {
    let site = Site::new().await;
    let namespace = site.cluster.namespace.as_str();
    let words = ["--all", "-n", namespace];
    let powerless = powerless(&site).await;
    let output = run(&site, &words, Some(&powerless)).await;
    let errors = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(3), "{errors}");
    assert!(
        errors.contains("cannot get namespace") && errors.contains("forbidden"),
        "{errors}"
    );
    let nowhere = site.program.files.path().join("nowhere.kubeconfig");
    let text = std::fs::read_to_string(&site.program.kubeconfig).unwrap();
    let server = text
        .split("server: \"")
        .nth(1)
        .unwrap()
        .split('"')
        .next()
        .unwrap();
    std::fs::write(&nowhere, text.replace(server, "https://127.0.0.1:1")).unwrap();
    let output = run(&site, &words, Some(&nowhere)).await;
    let errors = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(3), "{errors}");
    assert!(errors.contains("refused"), "{errors}");
    let output = run(&site, &words, Some(&PathBuf::from("/nonexistent"))).await;
    assert_eq!(output.status.code(), Some(3));
}

/// A kubeconfig of an account without rights.
async fn powerless(site: &Site) -> PathBuf {
    let accounts: Api<ServiceAccount> = site.cluster.api();
    let account = json!({ "metadata": { "name": "powerless" } });
    crate::servers::create(&accounts, account).await.unwrap();
    let wanted: TokenRequest =
        serde_json::from_value(json!({ "spec": { "audiences": [] } })).unwrap();
    let params = PostParams::default();
    let issued = accounts
        .create_token_request("powerless", &params, &wanted)
        .await;
    let token = issued.unwrap().status.unwrap().token;
    let name = format!("{}-powerless.kubeconfig", site.cluster.namespace);
    site.cluster
        .control_plane()
        .kubeconfig_for(&name, &token)
        .unwrap()
}

#[tokio::test]
async fn wrong_usage_is_a_status_of_its_own() {
    let site = Site::new().await;
    for words in [
        &["pod"][..],
        &["pod", "a/b", "-n", "c"],
        &["binding", "-f", "x"],
        &[],
    ] {
        let output = run(&site, words, None).await;
        assert_eq!(output.status.code(), Some(2), "{words:?}");
    }
}

#[tokio::test]
async fn where_elb_does_not_answer_the_condition_is_told() {
    let installed = Installed::new().await;
    let scene = Scene::new(&installed, "silent").await;
    scene.service(json!({})).await;
    scene.bind(json!({})).await;
    scene.gated_pod(json!({})).await;
    let words = ["pod", &name(&scene), "-o", "json"];
    let mut without = scene::command(&installed, &words, None);
    without.env_remove("AWS_ACCESS_KEY_ID");
    let said = said(without.output().await.unwrap());
    let evidence = &said.json["evidence"];
    assert_eq!((said.status, &evidence["source"]), (1, &json!("condition")));
    let why = evidence["why"].as_str().unwrap();
    assert!(why.starts_with("no AWS credentials"), "{why}");

    let health = On::action("DescribeTargetHealth");
    let faults = installed.elb.faults();
    faults.fail(health, "AccessDenied", StatusCode::FORBIDDEN, None);
    let said = scene.explained().await;
    let gate = &said.json["gates"][0];
    let failure = gate["targets"][0]["failure"].as_str().unwrap();
    assert!(
        failure.contains("DescribeTargetHealth") && failure.contains("AccessDenied"),
        "{failure}"
    );
    assert_eq!((said.status, &gate["source"]), (1, &json!("condition")));
}

#[tokio::test]
async fn a_group_by_its_name_is_looked_up() {
    // Without hooks nothing completes the bindings.
    let cluster = Server::Kubernetes.own_cluster().await;
    cluster.apply_crd().await;
    let site = Site::on(cluster, &[]).await;
    let namespace = site.cluster.namespace.clone();
    let arn = site.group("known");
    site.cluster.service("web").await;
    for group in ["known", "unknown"] {
        let spec = json!({ "targetGroupName": group, "targetType": "ip",
            "serviceRef": { "name": "web", "port": 80 } });
        let binding = json!({ "apiVersion": "elbv2.k8s.aws/v1beta1", "kind": "TargetGroupBinding",
            "metadata": { "name": group }, "spec": spec });
        let bindings = site.bindings(BindingApi::Elbv2);
        let binding = serde_json::from_value(binding).unwrap();
        until("the binding is created", async || {
            bindings.create(&PostParams::default(), &binding).await.ok()
        })
        .await;
        let gates = json!([{ "conditionType": gate(group) }]);
        let pod = json!({ "metadata": { "labels": { "app": "web" } }, "spec": { "readinessGates": gates } });
        site.cluster.pod(group, pod).await.unwrap();
        site.cluster.containers_become_ready(group, IP).await;
    }
    let said = explain(&site, &["pod", &format!("{namespace}/known")]).await;
    assert_eq!(said.reason(), "NotRegistered", "{}", said.errors);
    assert_eq!(said.json["gates"][0]["targets"][0]["targetGroupARN"], arn);
    let said = explain(&site, &["pod", &format!("{namespace}/unknown")]).await;
    assert_eq!(said.reason(), "TargetGroupUnknown", "{}", said.errors);
}
