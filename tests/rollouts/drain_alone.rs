//! Pods end while targetgate is away.

use std::time::Duration;

use kube::ResourceExt as _;
use kube::api::DynamicObject;
use targetgate_sandbox::elb::{Delays, LoadBalancerKind, State};
use targetgate_sandbox::harness::ending::Ending;
use targetgate_sandbox::harness::object::field;
use targetgate_sandbox::harness::workload::{GRACE, condition, gates};

use crate::deployment::alb;
use crate::drain::{ALB, RATE, Shop, web};
use crate::load::{Load, Numbers};

const KIND: LoadBalancerKind = LoadBalancerKind::Application;

fn names(pods: &[DynamicObject]) -> Vec<String> {
    pods.iter().map(DynamicObject::name_any).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn old_pods_lose_nothing_although_targetgate_is_killed_once_the_new_ones_are_open() {
    let mut shop = Shop::open(KIND, alb(), ALB, web()).await;
    shop.gate().await;
    shop.drain().await;
    let old = names(&shop.pods().await);
    let load = Load::start(shop.address, RATE);
    shop.site.restart(&shop.web).await;
    let is_open = |pod: &DynamicObject| condition(pod, "web")["status"] == "True";
    shop.site
        .until("all new pods to be open", async || {
            let mut pods = shop.site.pods("app=web").await;
            pods.retain(|pod| !old.contains(&pod.name_any()));
            (pods.len() == 3 && pods.iter().all(is_open)).then_some(())
        })
        .await;
    shop.site.kill_targetgate().await;
    let left = names(&shop.site.pods("app=web").await);
    let ending = old.iter().filter(|name| left.contains(name)).count();
    assert!(ending > 0, "all old pods had ended before");
    shop.site
        .until("the old pods to end", async || {
            let left = names(&shop.site.pods("app=web").await);
            let over = old.iter().all(|name| !left.contains(name));
            over.then_some(())
        })
        .await;
    shop.settled().await;
    let numbers = load.stop().await;
    numbers.print("targetgate away while the old pods end", &shop.site);
    assert_eq!(numbers.lost(), 0, "{numbers:?}");
}

impl Shop {
    /// Rolls once under traffic, until ELB finds all new pods healthy.
    async fn rolled_under_load(&self, what: &str) -> Numbers {
        let load = Load::start(self.address, RATE);
        self.site.restart(&self.web).await;
        self.site.rolled(&self.web).await;
        self.site
            .until("the new pods to be healthy", async || {
                let pods = self.pods().await;
                let healthy = pods.iter().all(|pod| self.is_healthy(pod));
                (pods.len() == self.web.replicas && healthy).then_some(())
            })
            .await;
        self.settled().await;
        let numbers = load.stop().await;
        numbers.print(what, &self.site);
        numbers
    }

    fn is_healthy(&self, pod: &DynamicObject) -> bool {
        let ip = field(pod, "/status/podIP").as_str();
        let ip = ip.and_then(|ip| ip.parse().ok());
        let health = ip.and_then(|ip| self.site.aws.elb.health(&self.group.arn, ip, 8080));
        health.is_some_and(|health| health.state == State::Healthy)
    }

    /// The number of gates of each pod, and how it ends.
    async fn guards(&self) -> Vec<(usize, Ending)> {
        let pods = self.pods().await;
        let guards = pods.iter().map(|pod| (gates(pod).len(), Ending::of(pod)));
        guards.collect()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rollout_while_targetgate_is_away_loses_no_more_than_one_without_it() {
    // Without gates, all old pods end before the registration is over.
    let delays = Delays {
        registration: Duration::from_secs(6),
        ..alb()
    };
    let mut shop = Shop::open(KIND, delays, ALB, web()).await;
    shop.site.apply(&shop.web).await;
    shop.settled().await;
    let without = shop.rolled_under_load("without targetgate").await;
    assert!(without.lost() > 0, "{without:?}");
    shop.gate().await;
    shop.drain().await;

    shop.site.kill_targetgate().await;
    let away = shop.rolled_under_load("targetgate away").await;
    assert!(away.lost() <= without.lost(), "{away:?} {without:?}");
    let unguarded = || {
        let ending = Ending {
            sleep: None,
            grace: Some(GRACE),
            drained: None,
        };
        (0, ending)
    };
    let expected = [(); 3].map(|()| unguarded());
    assert_eq!(shop.guards().await, expected);

    shop.site.start_targetgate().await;
    shop.gate().await;
    // The pods that end here were created while it was away, so that they do not sleep.
    let back = shop.rolled_under_load("targetgate back, first").await;
    assert!(back.lost() <= without.lost(), "{back:?} {without:?}");
    let expected = [(); 3].map(|()| (1, shop.drained()));
    assert_eq!(shop.guards().await, expected);
    let next = shop.rolled_under_load("targetgate back, second").await;
    assert_eq!(next.lost(), 0, "{next:?}");
}
