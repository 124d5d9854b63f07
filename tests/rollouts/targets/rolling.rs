//! Rolling updates with everything ours, of which no request may be lost.

use std::time::Duration;

use rstest::rstest;
use targetgate_sandbox::elb::{Delays, LoadBalancerKind};
use targetgate_sandbox::harness::Openings;
use targetgate_sandbox::harness::Start;
use targetgate_sandbox::harness::observer::Gate;
use targetgate_sandbox::harness::site::{Site, control_plane, fail};

use super::Shop;
use crate::deployment::{alb, nlb};
use crate::load::{Load, Numbers};

/// The number of requests, of which none may be lost. Issue 14.
const REQUESTS: u64 = 10_000;
/// Chosen: 10,000 requests take twenty seconds, in which several rollouts follow each other.
const RATE: f64 = 500.0;
const ALB: LoadBalancerKind = LoadBalancerKind::Application;

impl Shop {
    /// Rolls at least once, and until enough requests were sent.
    async fn rolls_on(&self, load: Load) -> Numbers {
        self.roll().await;
        while load.sent() < REQUESTS {
            self.roll().await;
        }
        load.stop().await
    }
}

#[rstest]
#[case::alb(ALB, alb())]
#[case::nlb(
    LoadBalancerKind::Network,
    Delays { registration: Duration::from_secs(1), ..nlb() }
)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rollouts_with_everything_ours_lose_nothing(
    #[case] kind: LoadBalancerKind,
    #[case] delays: Delays,
) {
    let mut shop = Shop::open(kind, delays, 3).await;
    let load = Load::start(shop.address, RATE);
    shop.site.scale(&mut shop.web, 6).await;
    shop.settled().await;
    shop.site.scale(&mut shop.web, 3).await;
    shop.settled().await;
    let numbers = shop.rolls_on(load).await;
    numbers.print(&format!("{kind:?}, everything ours"), &shop.site);
    assert_eq!(numbers.lost(), 0, "{numbers:?}");
    let pods: Vec<_> = shop.site.observer.by_uid().into_values().collect();
    assert!(pods.iter().all(|pod| pod.gate == Gate::Open), "{pods:?}");
    assert_eq!(Openings::of(&pods, &shop.site.aws.elb.log()).early, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_killed_in_the_middle_of_a_rollout_loses_nothing() {
    let mut shop = Shop::elected(3).await;
    let successor = Start {
        pod: Some("targetgate-1".to_owned()),
        ..shop.site.start.clone()
    };
    let (cluster, aws) = (&shop.site.cluster, &shop.site.aws);
    let successor = successor.process(cluster, aws).await.unwrap_or_else(fail);
    let load = Load::start(shop.address, RATE);
    shop.roll().await;
    shop.site.restart(&shop.web).await;
    let former = shop.registered().await;
    shop.site
        .until("a new pod to be registered", async || {
            (shop.registered().await != former).then_some(())
        })
        .await;
    // The successor answers the hooks from now on, and leads once the lease is over.
    shop.site.point_hooks(successor.hooks).await;
    shop.site.kill_targetgate().await;
    shop.settled().await;
    let numbers = shop.rolls_on(load).await;
    numbers.print("the leader killed, everything ours", &shop.site);
    assert_eq!(numbers.lost(), 0, "{numbers:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_api_server_restarted_in_the_middle_of_a_rollout_loses_nothing() {
    // A control plane of its own, so that other tests keep theirs.
    let mut control_plane = control_plane(crate::binary()).await.unwrap();
    let site = Site::with(&control_plane, Shop::setup()).await;
    let shop = Shop::furnish(site, ALB, alb(), 3).await;
    let load = Load::start(shop.address, RATE);
    shop.site.restart(&shop.web).await;
    let former = shop.registered().await;
    shop.site
        .until("a new pod to be registered", async || {
            (shop.registered().await != former).then_some(())
        })
        .await;
    control_plane.stop_api_server();
    let sent = load.sent();
    shop.site
        .until("requests to be answered without it", async || {
            (load.sent() > sent + 500).then_some(())
        })
        .await;
    control_plane.start_api_server().await.unwrap();
    shop.settled().await;
    let numbers = shop.rolls_on(load).await;
    numbers.print("the API server restarted, everything ours", &shop.site);
    assert_eq!(numbers.lost(), 0, "{numbers:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rollout_of_twenty_pods_under_a_throttled_registration_loses_nothing() {
    let shop = Shop::open(ALB, alb(), 20).await;
    // What AWS allows, without its burst.
    shop.site.aws.elb.faults().throttle_registration(4.0, 1);
    let load = Load::start(shop.address, RATE);
    let numbers = shop.rolls_on(load).await;
    numbers.print("registration throttled, everything ours", &shop.site);
    assert_eq!(numbers.lost(), 0, "{numbers:?}");
}
