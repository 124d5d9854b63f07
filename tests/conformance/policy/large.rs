//! A namespace whose rules exceed what the API server evaluates: the webhook injects its gates, and its owners are told.

use k8s_openapi::api::core::v1::Namespace;
use kube::ResourceExt as _;
use kube::api::Api;
use serde_json::json;
use targetgate_core::names::BindingApi;
use targetgate_sandbox::harness::waiting::until;

use crate::install::{Installed, Site};
use crate::policy::cluster;
use crate::shop::of_app;

/// One more than a pod may meet.
const RULES: usize = 301;

#[tokio::test]
async fn a_namespace_whose_rules_are_too_large_is_told_and_the_webhook_gives_its_gates() {
    let cluster = cluster().await;
    cluster.apply_crd().await;
    let site = Site::on(cluster, &["--admission=both"]).await;
    let arn = site.group("web");
    site.cluster.service("web").await;
    for number in 0..RULES {
        let name = format!("web-{number:03}");
        site.bind_service(BindingApi::Elbv2, &name, "web", &arn)
            .await;
    }
    let installed = Installed::started(site).await;
    let cluster = &installed.cluster;
    let namespaces = Api::<Namespace>::all(cluster.client.clone());
    let namespace = namespaces.get(&cluster.namespace).await.unwrap();
    let uid = namespace.uid().unwrap();
    let state = "targetgate_gate_rules_namespaces{state=\"TooLarge\"}";
    until("the namespace is left to the webhook", async || {
        let left = installed.process().metric(state).await.ok()?;
        (left == 1.0).then_some(())
    })
    .await;
    let event = installed.told("default", &uid, "RulesTooLarge").await;
    let note = event.note.unwrap();
    let words = "the webhook alone injects gates, because the gate rules are too large: a pod may meet 301 of them";
    assert!(note.starts_with(words), "{note}");
    let objects = cluster.gate_rules().list(&<_>::default()).await.unwrap();
    assert_eq!(objects.items.len(), 0, "{}", json!(objects.items));
    until("the webhook gives all gates", async || {
        let gates = cluster.gates_of(of_app("a", "web")).await.unwrap();
        (gates.len() == RULES).then_some(())
    })
    .await;
}
