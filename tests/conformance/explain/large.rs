//! A namespace of 5,000 pods and 500 bindings. How long `explain` takes for it is printed and not asserted, because a
//! busy machine shifts it.

use std::collections::BTreeMap;
use std::time::Instant;

use futures::{StreamExt as _, stream};
use k8s_openapi::api::core::v1::{Pod, Service};
use kube::api::{Api, DynamicObject};
use serde_json::{Value, json};
use targetgate_core::names::BindingApi;
use targetgate_sandbox::harness::waiting::until;

use crate::explain::scene::explain;
use crate::install::{ACCOUNT, Site};
use crate::servers::{Cluster, Server, create, pod};
use crate::shop::gate;

const BINDINGS: usize = 500;
const PODS: usize = 5_000;
/// What is created at once. Chosen.
const AT_ONCE: usize = 32;

fn app(number: usize) -> String {
    format!("app-{number:03}")
}

async fn create_all<K>(api: &Api<K>, objects: impl Iterator<Item = Value>)
where
    K: Clone + std::fmt::Debug + serde::Serialize + serde::de::DeserializeOwned,
{
    let made = stream::iter(objects.map(|object| create(api, object)));
    let made = made.buffer_unordered(AT_ONCE);
    made.for_each(|made| async { drop(made.unwrap()) }).await;
}

#[tokio::test]
async fn a_large_namespace_is_explained_from_one_list_of_each_kind() {
    // Other tests are not to find so many objects.
    let cluster = Server::Kubernetes.own_cluster().await;
    cluster.apply_crd().await;
    let site = Site::on(cluster, &[]).await;
    let cluster = &site.cluster;
    let bindings: Api<DynamicObject> = site.bindings(BindingApi::Elbv2);
    until("the CRD is served", async || {
        bindings.list(&Default::default()).await.ok().map(drop)
    })
    .await;
    let services = (0..BINDINGS).map(|number| {
        json!({ "metadata": { "name": app(number) }, "spec": {
            "selector": { "app": app(number) }, "ports": [{ "port": 80 }] } })
    });
    create_all(&cluster.api::<Service>(), services).await;
    let group = "arn:aws:elasticloadbalancing:eu-west-1:123456789012:targetgroup";
    let all = (0..BINDINGS).map(|number| {
        json!({ "apiVersion": "elbv2.k8s.aws/v1beta1", "kind": "TargetGroupBinding",
            "metadata": { "name": app(number) },
            "spec": { "targetGroupARN": format!("{group}/{}/0123456789abcdef", app(number)),
                "targetType": "ip", "serviceRef": { "name": app(number), "port": 80 } } })
    });
    create_all(&bindings, all).await;
    // Of each app, one half of the pods has its gate.
    let pods = (0..PODS).map(|number| {
        let app = app(number % BINDINGS);
        let gates = match number < PODS / 2 {
            true => json!([{ "conditionType": gate(&app) }]),
            false => json!([]),
        };
        pod(
            &format!("{app}-{number:04}"),
            json!({
            "metadata": { "labels": { "app": app } }, "spec": { "readinessGates": gates } }),
        )
    });
    create_all(&cluster.api::<Pod>(), pods).await;

    let words = ["--all", "-n", &cluster.namespace, "--no-aws"];
    let began = Instant::now();
    let said = explain(&site, &words).await;
    println!("answered after {:?}", began.elapsed());
    let pods = &said.json["pods"];
    assert_eq!(pods["all"], json!(PODS), "{}", said.errors);
    let half = &json!(PODS / 2);
    assert_eq!((&pods["waiting"], &pods["ungated"]), (half, half));
    let once = [
        "pods.",
        "services.",
        "targetgroupbindings.eks.amazonaws.com",
        "targetgroupbindings.elbv2.k8s.aws",
    ];
    let once = once.map(|resource| (resource.to_owned(), 1));
    assert_eq!(lists(cluster), once.into());
}

/// How often the shipped account has begun to list each resource in the namespace.
fn lists(cluster: &Cluster) -> BTreeMap<String, usize> {
    let mut lists = BTreeMap::new();
    for event in cluster.control_plane().audit_log().unwrap() {
        let ours = event.user.username == ACCOUNT && event.verb == "list";
        let Some(object) = event.object_ref.filter(|_| ours) else {
            continue;
        };
        let here = object.namespace == cluster.namespace;
        let resource = format!("{}.{}", object.resource, object.api_group);
        if here && !event.request_uri.contains("continue=") {
            *lists.entry(resource).or_default() += 1;
        }
    }
    lists
}
