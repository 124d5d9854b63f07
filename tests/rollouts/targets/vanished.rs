//! A Service or its port goes and comes back. What is compared is ELB's answer, not what was done before.

use std::time::Duration;

use futures::future::join_all;
use kube::ResourceExt as _;
use kube::api::Patch;
use serde_json::json;
use targetgate_sandbox::elb::LoadBalancerKind;
use targetgate_sandbox::harness::object::patch;
use tokio::time::sleep;

use super::{Shop, addresses};
use crate::deployment::alb;
use crate::load::Load;

const RATE: f64 = 50.0;
/// Shorter than the 30 s for which an absence has to last (contract 5.5), longer than two looks at the group.
const BRIEFLY: Duration = Duration::from_secs(20);
/// Longer than registrations are collected for a call. Contract 8.
const A_CALL: Duration = Duration::from_secs(2);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Vanishing {
    Port,
    Service,
}

/// B7. Both wait for an absence to last 30 s, so they run together.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_vanishes_and_comes_back_is_registered_anew_and_takes_no_pod_out() {
    join_all([Vanishing::Port, Vanishing::Service].map(comes_back)).await;
}

async fn comes_back(vanishing: Vanishing) {
    let shop = Shop::open(LoadBalancerKind::Application, alb(), 3).await;
    let load = Load::start(shop.address, RATE);
    let calls = || {
        let calls = ["RegisterTargets", "DeregisterTargets"];
        calls.map(|action| shop.site.calls(action))
    };
    let before = calls();
    vanishing.begins(&shop).await;
    sleep(BRIEFLY).await;
    vanishing.ends(&shop).await;
    sleep(A_CALL).await;
    assert_eq!(calls(), before, "{vanishing:?}: it was away for a moment");

    vanishing.begins(&shop).await;
    shop.until_told(vanishing.reason()).await;
    // What is not wanted any more stays, but for a pod that ends. Its successor is not wanted, either.
    let pods = shop.pods().await;
    let mut stay = addresses(&pods[1..]);
    shop.site.delete("Pod", &pods[0].name_any()).await;
    shop.until_registered(&stay).await;
    let successor = shop
        .site
        .until("the pod's successor", async || {
            let now = addresses(&shop.pods().await);
            let new = now.difference(&addresses(&pods)).next().cloned()?;
            (now.len() == 3).then_some(new)
        })
        .await;
    sleep(A_CALL).await;
    assert_eq!(shop.registered().await, stay, "{vanishing:?}");
    vanishing.ends(&shop).await;
    stay.insert(successor);
    shop.until_registered(&stay).await;
    shop.settled().await;
    let numbers = load.stop().await;
    numbers.print(&format!("{vanishing:?} vanished"), &shop.site);
    assert_eq!(numbers.lost(), 0, "{numbers:?}");
}

impl Vanishing {
    async fn begins(self, shop: &Shop) {
        match self {
            Self::Port => ports(shop, 9090).await,
            Self::Service => shop.site.delete("Service", "web").await,
        }
    }

    async fn ends(self, shop: &Shop) {
        match self {
            Self::Port => ports(shop, 80).await,
            Self::Service => shop.site.service("web", json!({ "app": "web" })).await,
        }
    }

    fn reason(self) -> &'static str {
        match self {
            Self::Port => "ServicePortNotFound",
            Self::Service => "ServiceGone",
        }
    }
}

/// Replaces the Service's ports by this one, as a GitOps tool does.
async fn ports(shop: &Shop, port: u16) {
    let ports = json!([{ "port": port, "targetPort": "http" }]);
    let change = json!([{ "op": "replace", "path": "/spec/ports", "value": ports }]);
    let change = Patch::Json(serde_json::from_value(change).unwrap());
    patch(&shop.site.api("Service"), "web", change).await;
}
