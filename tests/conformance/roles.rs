//! Whether the shipped roles grant everything that targetgate uses, and nothing else.

use std::collections::BTreeSet;

use http::StatusCode;
use k8s_openapi::api::core::v1::{Event, Secret, Service};
use kube::ResourceExt as _;
use kube::api::{Api, ApiResource, DeleteParams, ListParams, Patch, PatchParams};
use kube::core::GroupVersionKind;
use serde_json::{Value, json};
use targetgate_core::names::BindingApi;
use targetgate_sandbox::elb::faults::On;
use targetgate_sandbox::harness::OWN_CERTIFICATE;
use targetgate_sandbox::harness::waiting::until;

use crate::install::{ACCOUNT, Installed, NAMESPACE};
use crate::servers::{Cluster, Server};

/// Verb, group, and resource with subresource.
pub(crate) type Grant = (String, String, String);

#[tokio::test]
async fn the_shipped_roles_grant_what_is_used_and_nothing_else() {
    let cluster = Server::Kubernetes.own_cluster().await;
    cluster.apply_crd().await;
    cluster.serve_bindings(BindingApi::Eks).await;
    let arguments = [
        OWN_CERTIFICATE,
        "--tls-ca-wait=300ms",
        "--tls-names=127.0.0.1",
    ];
    let installed = Installed::on(cluster, &arguments).await;
    let cluster = &installed.cluster;
    let arn = installed.bind("web").await;
    installed.bind_whole(BindingApi::Eks, "auto", &arn).await;
    cluster.waiting_pod("a", "web", "10.0.0.1").await;

    // A missing group is reported once, and again after it was found in between.
    for times in [1, 2] {
        let health = On::action("DescribeTargetHealth");
        let (code, status) = ("TargetGroupNotFound", StatusCode::BAD_REQUEST);
        installed.elb.faults().fail(health, code, status, Some(1));
        until("users are told", async || {
            (told(cluster).await == times).then_some(())
        })
        .await;
        installed.elb_is_heard(&arn).await;
    }
    // A deleted Service is confirmed by a live read before its gates open.
    let services = cluster.api::<Service>();
    services
        .delete("web", &DeleteParams::default())
        .await
        .unwrap();
    let opened = cluster.gate_becomes("a", "web", "True").await;
    assert_eq!(
        opened.message.as_deref(),
        Some("Target Group Binding is deleted")
    );

    its_certificate_is_broken(cluster).await;

    let (granted, used) = (granted(&installed.shipped), used(cluster));
    let more: Vec<_> = used.difference(&granted).collect();
    assert!(more.is_empty(), "not in the roles of deploy/base: {more:?}");
    let unused: Vec<_> = granted.difference(&used).collect();
    assert!(
        unused.is_empty(),
        "in the roles of deploy/base, but not used: {unused:?}"
    );
}

/// Breaks the Secret of certificates twice, the second time so that it can only be deleted. Waits until it is
/// repaired.
async fn its_certificate_is_broken(cluster: &Cluster) {
    let secrets: Api<Secret> = Api::namespaced(cluster.client.clone(), NAMESPACE);
    for immutable in [false, true] {
        let spoilt = json!({ "stringData": { "ca.key": "nonsense" }, "immutable": immutable });
        let (params, spoilt) = (PatchParams::default(), Patch::Merge(spoilt));
        let patched = secrets.patch("targetgate-tls", &params, &spoilt).await;
        patched.unwrap();
        until("the Secret is whole again", async || {
            let secret = secrets.get_opt("targetgate-tls").await.unwrap()?;
            let key = secret.data?.remove("ca.key")?;
            (secret.immutable != Some(true) && key.0 != b"nonsense").then_some(())
        })
        .await;
    }
}

/// How often users were told of a missing group, by the Events that `kubectl describe targetgroupbinding web` shows.
async fn told(cluster: &Cluster) -> i32 {
    let kind = GroupVersionKind::gvk("elbv2.k8s.aws", "v1beta1", "TargetGroupBinding");
    let bindings = cluster.dynamic(&ApiResource::from_gvk(&kind));
    let binding = bindings.get("web").await.unwrap();
    let uid = binding.uid().unwrap();
    let params = ListParams::default().fields(&format!("involvedObject.uid={uid}"));
    let events = cluster.api::<Event>().list(&params).await.unwrap().items;
    let told = events
        .iter()
        .filter(|e| e.reason.as_deref() == Some("TargetGroupNotFound"));
    told.map(|event| event.series.as_ref().and_then(|s| s.count).unwrap_or(1))
        .sum()
}

/// Requests of the shipped ServiceAccount, allowed or not.
pub(crate) fn used(cluster: &Cluster) -> BTreeSet<Grant> {
    let events = cluster.control_plane().audit_log().unwrap();
    let ours = events
        .into_iter()
        .filter(|event| event.user.username == ACCOUNT);
    let objects = ours.filter_map(|event| Some((event.verb, event.object_ref?)));
    objects
        .map(|(verb, object)| {
            let resource = match object.subresource.as_str() {
                "" => object.resource,
                subresource => format!("{}/{subresource}", object.resource),
            };
            (verb, object.api_group, resource)
        })
        .collect()
}

/// Grants of the rendered roles.
pub(crate) fn granted(shipped: &[Value]) -> BTreeSet<Grant> {
    let is_role = |object: &&Value| {
        ["Role", "ClusterRole"]
            .iter()
            .any(|kind| object["kind"] == *kind)
    };
    let roles = shipped.iter().filter(is_role);
    let mut granted = BTreeSet::new();
    for rule in roles.flat_map(|role| role["rules"].as_array().unwrap()) {
        for verb in words(&rule["verbs"]) {
            for group in words(&rule["apiGroups"]) {
                for resource in words(&rule["resources"]) {
                    granted.insert((verb.clone(), group.clone(), resource));
                }
            }
        }
    }
    granted
}

fn words(list: &Value) -> Vec<String> {
    let words = list.as_array().unwrap().iter();
    words
        .map(|word| word.as_str().unwrap().to_owned())
        .collect()
}
