//! The very first install: our own pods must be created while no process answers our hooks.

use std::net::SocketAddr;

use k8s_openapi::api::core::v1::{Namespace, Pod};
use kube::Client;
use kube::api::{Api, Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use targetgate_core::names::{INJECT_ENABLED, INJECT_LABEL};
use targetgate_sandbox::harness::waiting::until;
use tokio::net::TcpListener;

use super::gated::Gated;
use crate::install::NAMESPACE;

/// A pod as the shipped Deployment creates it.
fn own_pod(site: &Gated, name: &str) -> Pod {
    let mut deployments = site.shipped.iter();
    let deployment = deployments.find(|object| object["kind"] == "Deployment");
    let mut pod = deployment.unwrap()["spec"]["template"].clone();
    pod["metadata"]["name"] = json!(name);
    serde_json::from_value(pod).unwrap()
}

async fn opt_in(client: &Client, namespace: &str, value: Value) {
    let patch = Patch::Merge(json!({ "metadata": { "labels": { INJECT_LABEL: value } } }));
    let namespaces = Api::<Namespace>::all(client.clone());
    let params = PatchParams::default();
    namespaces.patch(namespace, &params, &patch).await.unwrap();
}

/// An address on which no process listens.
async fn nobody() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    listener.local_addr().unwrap()
}

fn dry_run() -> PostParams {
    PostParams {
        dry_run: true,
        ..PostParams::default()
    }
}

#[tokio::test]
async fn our_own_pods_are_created_while_the_hook_is_not_there_whatever_its_policy() {
    let site = Gated::new().await;
    let client = &site.cluster.client;
    opt_in(client, NAMESPACE, json!(INJECT_ENABLED)).await;
    site.register_hooks(nobody().await, json!({ "failurePolicy": "Fail" }))
        .await;
    until("the API server asks the hook", async || {
        let pod = own_pod(&site, "elsewhere");
        site.cluster.pods().create(&dry_run(), &pod).await.err()
    })
    .await;
    let pods: Api<Pod> = Api::namespaced(client.clone(), NAMESPACE);
    let created = pods.create(&dry_run(), &own_pod(&site, "own")).await;
    created.unwrap_or_else(|error| panic!("{error}"));
    opt_in(client, NAMESPACE, Value::Null).await;
}

#[tokio::test]
async fn pods_of_a_labelled_kube_system_are_created_while_the_hook_is_not_there() {
    let site = Gated::new().await;
    let client = &site.cluster.client;
    opt_in(client, "kube-system", json!(INJECT_ENABLED)).await;
    site.register_hooks(nobody().await, json!({})).await;
    let pods: Api<Pod> = Api::namespaced(client.clone(), "kube-system");
    let created = pods.create(&dry_run(), &own_pod(&site, "own")).await;
    created.unwrap_or_else(|error| panic!("{error}"));
    opt_in(client, "kube-system", Value::Null).await;
}
