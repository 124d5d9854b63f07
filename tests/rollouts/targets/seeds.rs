//! The walks of the two articles that operators follow.

use std::collections::BTreeSet;

use serde_json::json;
use targetgate_sandbox::elb::LoadBalancerKind;
use targetgate_sandbox::harness::Setup;
use targetgate_sandbox::harness::object::field;
use targetgate_sandbox::harness::site::{Group, Site, control_plane};
use targetgate_sandbox::harness::workload::Workload;

use super::{Shop, addresses};
use crate::deployment::alb;
use crate::load::Load;

const ALB: LoadBalancerKind = LoadBalancerKind::Application;
/// The number of requests, of which none may be lost, and how many are sent a second. Issue 14, and chosen.
const REQUESTS: u64 = 10_000;
const RATE: f64 = 500.0;

/// "Flexible management of load balancers with TargetGroupBinding": a group made by hand, a binding of a Service of
/// type ClusterIP, more replicas, and the end of the binding.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_made_by_hand_follows_its_service_and_is_empty_after_its_binding() {
    let mut shop = Shop::open(ALB, alb(), 1).await;
    let binding = shop
        .site
        .api("TargetGroupBinding")
        .get("web")
        .await
        .unwrap();
    assert_eq!(field(&binding, "/spec/targetType"), "ip", "inferred");
    let service = shop.site.api("Service").get("web").await.unwrap();
    assert_eq!(field(&service, "/spec/type"), "ClusterIP");
    shop.until_registered(&addresses(&shop.pods().await)).await;
    shop.site.scale(&mut shop.web, 3).await;
    shop.settled().await;
    let pods = shop.pods().await;
    assert_eq!(pods.len(), 3);
    shop.until_registered(&addresses(&pods)).await;

    shop.site.delete("TargetGroupBinding", "web").await;
    shop.until_unbound().await;
    shop.until_registered(&BTreeSet::new()).await;
}

/// "Blue-green upgrade of a cluster": two clusters, each with its binding and group, and one listener that is moved
/// from the old group to the new one, back and forth once before it stays.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_listener_moved_from_the_old_cluster_to_the_new_loses_nothing() {
    let blue_plane = control_plane(crate::binary()).await.unwrap();
    let green_plane = control_plane(crate::binary()).await.unwrap();
    let mut blue = Site::with(&blue_plane, Shop::setup()).await;
    let setup = Setup {
        aws: Some(blue.aws.clone()),
        ..Shop::setup()
    };
    let green = Site::with(&green_plane, setup).await;
    green.annotate("targetgate.dev/when-unused", "open").await;
    let blue_group = blue.group("blue", ALB, alb());
    let (balancer, address) = blue.balance(ALB, &[(&blue_group, 1)]).await;
    let green_group = green.group("green", ALB, alb());
    let old = open(&blue, "blue", &blue_group).await;
    blue.settled(&blue_group, 3).await;
    let load = Load::start(address, RATE);

    // The new group is on no load balancer yet, so that its targets are unused; its pods get ready all the same.
    open(&green, "green", &green_group).await;
    let states = green.target_states(&green_group).await;
    assert_eq!(states.len(), 3, "{states:?}");
    assert!(states.values().all(|state| state == "unused"), "{states:?}");
    // ELB checks the targets of a group once a listener names it, though with no weight.
    blue.shift(&balancer, &[(&blue_group, 1), (&green_group, 0)]);
    green.settled(&green_group, 3).await;
    for weights in [(0, 1), (1, 0), (0, 1)] {
        let (old, new) = weights;
        blue.shift(&balancer, &[(&blue_group, old), (&green_group, new)]);
        until_more(&green, &load, 1_000).await;
    }
    blue.shift(&balancer, &[(&green_group, 1)]);
    a_group_cannot_be_exchanged(&green, &blue_group.arn).await;
    blue.delete("TargetGroupBinding", "blue").await;
    blue.until("the old cluster's targets to leave", async || {
        blue.registered(&blue_group).await.is_empty().then_some(())
    })
    .await;
    blue.delete(old.kind, old.name).await;
    until_more(&green, &load, REQUESTS.saturating_sub(load.sent())).await;
    let numbers = load.stop().await;
    numbers.print("two clusters, everything ours", &green);
    assert_eq!(numbers.lost(), 0, "{numbers:?}");
}

async fn open(site: &Site, name: &'static str, group: &Group) -> Workload {
    site.service("web", json!({ "app": "web" })).await;
    site.bind(name, "web", group).await;
    site.opt_in().await;
    site.opt_in_to_drain().await;
    site.gives_gates(json!({ "app": "web" }), &[name]).await;
    let web = Workload::new("Deployment", "web");
    site.apply(&web).await;
    site.rolled(&web).await;
    web
}

/// Waits until so many more requests have been sent.
async fn until_more(site: &Site, load: &Load, requests: u64) {
    let sent = load.sent();
    site.until("more requests", async || {
        (load.sent() >= sent + requests).then_some(())
    })
    .await;
}

async fn a_group_cannot_be_exchanged(site: &Site, arn: &str) {
    let change = kube::api::Patch::Merge(json!({ "spec": { "targetGroupARN": arn } }));
    let params = kube::api::PatchParams::default();
    let bindings = site.api("TargetGroupBinding");
    let refused = bindings.patch("green", &params, &change).await.unwrap_err();
    let words = "TargetGroupBinding update may not change these fields: spec.targetGroupARN";
    assert!(refused.to_string().contains(words), "{refused}");
}
