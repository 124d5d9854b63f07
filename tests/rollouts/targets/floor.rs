//! What takes targets out, and the floor that holds them in.

use std::collections::BTreeSet;
use std::time::Duration;

use kube::api::{DeleteParams, DynamicObject, ListParams};
use rstest::rstest;
use serde_json::json;
use targetgate_sandbox::elb::{Health, LoadBalancerKind};
use targetgate_sandbox::harness::object::field;
use targetgate_sandbox::harness::workload::Workload;
use tokio::time::sleep;

use super::{Shop, addresses, say_nodes};
use crate::deployment::alb;
use crate::load::Load;

const ALB: LoadBalancerKind = LoadBalancerKind::Application;
const RATE: f64 = 100.0;
/// How long a floor is watched. A selector is believed after two looks 10 s apart, a Service that is gone after 30 s;
/// this is longer than the first, and shorter than the five minutes after which the floor no longer holds. Chosen.
const WATCHED: Duration = Duration::from_secs(45);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_of_twenty_unready_pods_leaves_and_comes_back() {
    let shop = Shop::open(ALB, alb(), 20).await;
    let pods = shop.pods().await;
    let all = addresses(&pods);
    let load = Load::start(shop.address, RATE);
    shop.site.set_ready(&pods[..1], false).await;
    shop.until_registered(&addresses(&pods[1..])).await;
    shop.site.set_ready(&pods[..1], true).await;
    shop.until_registered(&all).await;
    let numbers = load.stop().await;
    assert_eq!(numbers.lost(), 0, "{numbers:?}");
}

/// Something that takes every target of a Service away at once, though every pod serves on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cause {
    Unready,
    NodesNotReady,
    /// The slices of a Service that selects pods, from which its targets are not taken. The API server refuses addresses
    /// of loopback in a slice that is written by hand, so that a Service without a selector cannot be tried here.
    NoSlices,
    Typo,
    Unhealthy,
}

#[rstest]
#[case::all_of_twenty_pods_unready(Cause::Unready, 20)]
#[case::every_node_not_ready(Cause::NodesNotReady, 6)]
#[case::endpoint_slices_emptied(Cause::NoSlices, 6)]
#[case::a_typo_in_the_selector(Cause::Typo, 6)]
#[case::a_selector_of_pods_that_are_not_healthy_yet(Cause::Unhealthy, 6)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_common_cause_does_not_go_below_the_floor_and_traffic_goes_on(
    #[case] cause: Cause,
    #[case] replicas: usize,
) {
    let shop = Shop::open(ALB, alb(), replicas).await;
    let pods = shop.pods().await;
    let old = addresses(&pods);
    let load = Load::start(shop.address, RATE);
    cause.happens(&shop, &pods).await;
    let mut fewest = old.len();
    let watching = async {
        loop {
            let kept: BTreeSet<String> = &shop.registered().await & &old;
            fewest = fewest.min(kept.len());
            cause.goes_on(&shop).await;
            sleep(Duration::from_millis(200)).await;
        }
    };
    let _ = tokio::time::timeout(WATCHED, watching).await;
    let floor = match cause {
        // That is no reason to leave at all.
        Cause::NodesNotReady | Cause::NoSlices => replicas,
        _ => replicas / 2,
    };
    assert!(fewest >= floor, "{cause:?}: {fewest} were left");
    cause.ends(&shop, &pods).await;
    shop.until_registered(&old).await;
    let numbers = load.stop().await;
    let what = format!("{cause:?}, {fewest} of {replicas} were left");
    numbers.print(&what, &shop.site);
    assert_eq!(numbers.lost(), 0, "{numbers:?}");
}

impl Cause {
    /// What ends by itself begins anew.
    async fn goes_on(self, shop: &Shop) {
        match self {
            Self::NodesNotReady => say_nodes(&shop.site, "Unknown").await,
            Self::NoSlices => delete_slices(shop).await,
            _ => {}
        }
    }

    async fn happens(self, shop: &Shop, pods: &[DynamicObject]) {
        match self {
            Self::Unready => shop.site.set_ready(pods, false).await,
            Self::NodesNotReady | Self::NoSlices => self.goes_on(shop).await,
            Self::Typo => shop.site.select("web", json!({ "app": "wbe" })).await,
            Self::Unhealthy => {
                let next = next(shop, 6).await;
                for ip in addresses(&next) {
                    let (ip, unhealthy) = (ip.parse().unwrap(), Health::failed_checks());
                    let elb = &shop.site.aws.elb;
                    elb.script(&shop.group.arn, ip, 8080, unhealthy).unwrap();
                }
                shop.site.select("web", json!({ "app": "next" })).await;
            }
        }
    }

    async fn ends(self, shop: &Shop, pods: &[DynamicObject]) {
        match self {
            Self::Unready => shop.site.set_ready(pods, true).await,
            // The kubelet's next heartbeat does it, and the controller-manager makes slices anew.
            Self::NodesNotReady | Self::NoSlices => {}
            Self::Typo => shop.site.select("web", json!({ "app": "web" })).await,
            Self::Unhealthy => {
                shop.site.select("web", json!({ "app": "web" })).await;
                // A script would answer for a target that has left as well.
                for ip in addresses(&shop.site.pods("app=next").await) {
                    let (elb, ip) = (&shop.site.aws.elb, ip.parse().unwrap());
                    elb.unscript(&shop.group.arn, ip, 8080).unwrap();
                }
            }
        }
    }
}

/// Pods of another workload, which the Service does not select yet.
async fn next(shop: &Shop, replicas: usize) -> Vec<DynamicObject> {
    let next = Workload {
        replicas,
        ..Workload::new("Deployment", "next")
    };
    shop.site.apply(&next).await;
    shop.site.rolled(&next).await;
    shop.site.pods("app=next").await
}

async fn delete_slices(shop: &Shop) {
    let (now, every) = (DeleteParams::default(), ListParams::default());
    let slices = shop.site.api("EndpointSlice");
    slices.delete_collection(&now, &every).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_selector_swapped_from_ten_pods_to_six_healthy_ones_lets_all_ten_go() {
    let shop = Shop::open(ALB, alb(), 10).await;
    let next = next(&shop, 6).await;
    let load = Load::start(shop.address, RATE);
    shop.site.select("web", json!({ "app": "next" })).await;
    shop.until_registered(&addresses(&next)).await;
    let numbers = load.stop().await;
    numbers.print("a selector swapped to six healthy pods", &shop.site);
    assert_eq!(numbers.lost(), 0, "{numbers:?}");
    assert!(
        next.iter()
            .all(|pod| !field(pod, "/status/podIP").is_null())
    );
}
