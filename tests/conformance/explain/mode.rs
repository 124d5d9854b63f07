//! Whether `explain` knows that the API server itself injects gates (`--admission both`).

use kube::api::{Api, DeleteParams, DynamicObject, Patch, PatchParams};
use serde_json::json;
use targetgate_sandbox::harness::waiting::until;

use crate::explain::scene::{Said, Scene, explain, run, said};
use crate::explain::troubleshooting::rows_of;
use crate::install::Installed;
use crate::servers::{Server, resource};

/// Explains as an administrator, who may read the policy.
async fn explained(scene: &Scene<'_>, words: &[&str]) -> Said {
    let all = [
        "--all",
        "-n",
        &*scene.namespace,
        "--no-aws",
        "--no-leader",
        "-o",
        "json",
    ];
    let kubeconfig = scene.installed.cluster.control_plane().kubeconfig();
    let words = [&all, words].concat();
    said(run(scene.installed, &words, Some(kubeconfig)).await)
}

#[tokio::test]
async fn each_fault_of_the_policy_is_named_and_a_sound_one_as_well() {
    let cluster = Server::Kubernetes.own_cluster().await;
    cluster.apply_crd().await;
    cluster.apply_policy().await;
    let installed = Installed::on(cluster, &["--admission=both"]).await;
    let scene = Scene::new(&installed, "both").await;
    scene.service(json!({})).await;
    scene.bind(json!({})).await;
    let reason = |said: &Said| said.json["mode"]["why"]["reason"].clone();
    until("the rules of the namespace are written", async || {
        let said = explained(&scene, &["--admission=both"]).await;
        (reason(&said) == "PolicyInjects" && said.json["mode"]["injects"] == true).then_some(())
    })
    .await;
    let webhook = explained(&scene, &[]).await;
    assert!(webhook.json["mode"].is_null());
    // The shipped account may not read the policy, and unknown is not yes.
    let words = [
        "--all",
        "-n",
        &*scene.namespace,
        "--no-aws",
        "--admission=both",
    ];
    let denied = explain(&installed, &words).await;
    assert_eq!(reason(&denied), "NotKnown");
    assert!(denied.json["mode"]["injects"].is_null());

    for row in rows_of("Gates while the webhook is away") {
        make(&row.fault, &scene).await;
        let said = until(&row.fault, async || {
            let said = explained(&scene, &["--admission=both"]).await;
            (reason(&said) == row.reason).then_some(said)
        })
        .await;
        assert_eq!(said.json["mode"]["injects"], false);
        assert_eq!(said.json["mode"]["why"]["remedy"], row.remedy);
        let words = [
            "--all",
            "-n",
            &*scene.namespace,
            "--no-aws",
            "--admission=both",
        ];
        let kubeconfig = installed.cluster.control_plane().kubeconfig();
        let text = run(&installed, &words, Some(kubeconfig)).await;
        let text = String::from_utf8(text.stdout).unwrap();
        assert!(
            text.contains("Gates while the webhook is away: no"),
            "{text}"
        );
    }
}

/// Makes a fault, which the page names by this sentence.
async fn make(fault: &str, scene: &Scene<'_>) {
    let client = scene.installed.cluster.client.clone();
    match fault {
        "The rules of the namespace are old." => {
            // Nothing is the leader's that no other may write: the keeper puts an edit back, and is taken away first.
            let kind = resource("rbac.authorization.k8s.io", "v1", "ClusterRole");
            let roles: Api<DynamicObject> = Api::all_with(client.clone(), &kind);
            for role in roles.list(&Default::default()).await.unwrap() {
                let name = role.metadata.name.unwrap();
                if name.contains("gate-rules") {
                    let none = Patch::Merge(json!({ "rules": [] }));
                    let params = PatchParams::default();
                    roles.patch(&name, &params, &none).await.unwrap();
                }
            }
            scene
                .service_named("api", json!({ "selector": { "app": "api" } }))
                .await;
            let arn = scene.installed.group("api");
            scene
                .bind_to(
                    &arn,
                    json!({ "metadata": { "name": "api" }, "spec": { "serviceRef": { "name": "api" } } }),
                )
                .await;
        }
        "The policy or its binding is not there." => {
            let kind = resource(
                "admissionregistration.k8s.io",
                "v1",
                "MutatingAdmissionPolicyBinding",
            );
            let bindings: Api<DynamicObject> = Api::all_with(client, &kind);
            let deleted = bindings
                .delete("targetgate-gates", &DeleteParams::default())
                .await;
            deleted.unwrap();
        }
        other => panic!("no test makes this fault: {other}"),
    }
}
