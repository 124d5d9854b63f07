//! What a client can do that has the token of our ServiceAccount, as installed by the chart.

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Pod, Secret, ServiceAccount};
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use targetgate_sandbox::harness::waiting::until;

use crate::helm::NAMESPACE;
use crate::lifecycle::account;
use crate::reader::{INSTALL, Reader};
use crate::steady;

const GATE: &str = "target-health.elbv2.k8s.aws/web";

/// A client with the token of the account.
pub(crate) async fn thief(reader: &Reader) -> Client {
    let kubeconfig = account(&reader.server, &reader.client, "targetgate").await;
    let kubeconfig = Kubeconfig::read_from(kubeconfig).unwrap();
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await;
    Client::try_from(config.unwrap()).unwrap()
}

fn object<K: DeserializeOwned>(object: Value) -> K {
    serde_json::from_value(object).unwrap()
}

/// A Secret of this name and type.
fn secret(name: &str, of: &str) -> Secret {
    object(json!({
        "metadata": {
            "name": name,
            "annotations": { "kubernetes.io/service-account.name": "another" },
        },
        "type": of,
        "stringData": match of {
            "kubernetes.io/tls" => json!({ "tls.crt": "", "tls.key": "" }),
            _ => json!({}),
        },
    }))
}

fn lease(name: &str) -> Lease {
    object(json!({ "metadata": { "name": name }, "spec": {} }))
}

/// Why a request is refused; `None` if it is not.
fn refusal<T>(answer: kube::Result<T>) -> Option<String> {
    answer.err().map(|error| error.to_string())
}

#[tokio::test]
async fn it_gets_no_token_of_another_account_and_no_lease_of_another_program() {
    const TOKEN: &str = "kubernetes.io/service-account-token";
    let reader = Reader::new().await;
    reader.types(INSTALL);
    let accounts: Api<ServiceAccount> = Api::namespaced(reader.client.clone(), NAMESPACE);
    let another = object(json!({ "metadata": { "name": "another" } }));
    let params = PostParams::default();
    accounts.create(&params, &another).await.unwrap();
    let thief = thief(&reader).await;
    let secrets: Api<Secret> = Api::namespaced(thief.clone(), NAMESPACE);
    let leases: Api<Lease> = Api::namespaced(thief, NAMESPACE);
    let dry = PostParams {
        dry_run: true,
        ..PostParams::default()
    };

    until("the policies are in force", async || {
        refusal(leases.create(&dry, &lease("another")).await)
    })
    .await;
    // It may delete its own Secret, and so make place for another of the name.
    let own = secret("targetgate-tls", "kubernetes.io/tls");
    secrets.create(&params, &own).await.unwrap();
    let deleted = secrets
        .delete("targetgate-tls", &DeleteParams::default())
        .await;
    deleted.unwrap();
    for (name, of) in [
        ("targetgate-tls", TOKEN),
        ("token", TOKEN),
        ("another", "kubernetes.io/tls"),
    ] {
        let refused = refusal(secrets.create(&params, &secret(name, of)).await);
        let refused = refused.unwrap_or_else(|| panic!("{name} of {of} was created"));
        assert!(
            refused.contains("ValidatingAdmissionPolicy 'targetgate'"),
            "{refused}"
        );
    }
    for ours in ["targetgate", "targetgate-certificates"] {
        let refused = refusal(leases.create(&dry, &lease(ours)).await);
        let denied = refused.is_some_and(|refused| refused.contains("Policy"));
        assert!(!denied, "{ours}");
    }
}

/// Creates a pod with a gate, and reports that it runs.
async fn gated_pod(reader: &Reader) {
    reader.types("kubectl create namespace shop");
    let pods: Api<Pod> = Api::namespaced(reader.client.clone(), steady::NAMESPACE);
    let pod = object(json!({
        "metadata": { "name": "web-0" },
        "spec": {
            "readinessGates": [{ "conditionType": GATE }],
            "containers": [{ "name": "web", "image": "web" }],
        },
    }));
    pods.create(&PostParams::default(), &pod).await.unwrap();
    let status = json!({
        "phase": "Running",
        "podIP": "10.0.0.1",
        "podIPs": [{ "ip": "10.0.0.1" }],
        "conditions": [{ "type": "ContainersReady", "status": "True" }],
    });
    let told = Patch::Strategic(json!({ "status": status }));
    let patched = pods
        .patch_status("web-0", &PatchParams::default(), &told)
        .await;
    patched.unwrap();
}

#[tokio::test]
async fn it_changes_no_pod_but_the_conditions_of_gates() {
    let reader = Reader::new().await;
    reader.types(INSTALL);
    gated_pod(&reader).await;
    let pods: Api<Pod> = Api::namespaced(thief(&reader).await, steady::NAMESPACE);
    let write = async |status: Value, dry_run: bool| {
        let params = PatchParams {
            dry_run,
            ..PatchParams::default()
        };
        let patch = Patch::Strategic(json!({ "status": status }));
        refusal(pods.patch_status("web-0", &params, &patch).await)
    };
    let condition = |kind: &str| json!({ "conditions": [{ "type": kind, "status": "False" }] });
    until("the policies are in force", async || {
        write(condition("Ready"), true).await
    })
    .await;

    let stolen =
        json!({ "podIP": "10.0.0.2", "podIPs": [{ "$patch": "replace" }, { "ip": "10.0.0.2" }] });
    let gone = json!({ "conditions": [{ "$patch": "delete", "type": "ContainersReady" }] });
    for status in [
        stolen,
        gone,
        json!({ "phase": "Failed" }),
        condition("ContainersReady"),
        condition("another.example.com/gate"),
    ] {
        let refused = write(status.clone(), false).await;
        let refused = refused.unwrap_or_else(|| panic!("{status} was written"));
        assert!(refused.contains("targetgate-conditions"), "{refused}");
    }
    assert_eq!(write(condition(GATE), false).await, None);
    // The kubelet's own reports pass, here those of the administrator.
    let kubelets: Api<Pod> = Api::namespaced(reader.client.clone(), steady::NAMESPACE);
    let report = Patch::Strategic(json!({ "status": { "phase": "Failed" } }));
    let params = PatchParams::default();
    kubelets
        .patch_status("web-0", &params, &report)
        .await
        .unwrap();
}
