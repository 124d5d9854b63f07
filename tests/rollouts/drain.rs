//! The end of a pod whose application has no preStop hook of its own, without drain and with it.

use std::net::SocketAddr;
use std::time::Duration;

use kube::ResourceExt as _;
use kube::api::DynamicObject;
use rstest::rstest;
use serde_json::json;
use targetgate_sandbox::elb::{Delays, LoadBalancerKind};
use targetgate_sandbox::harness::ending::Ending;
use targetgate_sandbox::harness::object::field;
use targetgate_sandbox::harness::observer::Stage;
use targetgate_sandbox::harness::site::{Group, Site};
use targetgate_sandbox::harness::workload::{GRACE, Workload};
use targetgate_sandbox::harness::{Registrar, Setup};
use targetgate_sandbox::kubelet::Reuse;

use crate::binary;
use crate::deployment::{alb, nlb};
use crate::load::Load;

/// The number of requests to a workload with drain, of which none may be lost. Issue 13.
const REQUESTS: u64 = 10_000;
pub(crate) const RATE: f64 = 120.0;
/// How long the long requests take, which are in flight when a pod's sleep is over. Issue 13.
const LONG: Duration = Duration::from_secs(10);
/// Three seconds more than the registrar's delay and the data plane's, for a busy machine. The data plane of the NLB
/// is held back for longer than the pods of an ALB sleep. Chosen.
pub(crate) const FLAG: &str = "--drain-seconds=alb=4,nlb=8";
pub(crate) const ALB: Held = Held {
    lag: Duration::from_millis(500),
    sleep: 4,
};
const NLB: Held = Held {
    lag: Duration::from_millis(4_500),
    sleep: 8,
};

/// How long the data plane is held back, and how long the pods sleep for it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Held {
    lag: Duration,
    /// In seconds.
    sleep: i64,
}

/// A site whose pods get gates but no sleep, with three replicas behind a load balancer whose data plane is held
/// back.
pub(crate) struct Shop {
    pub(crate) site: Site,
    pub(crate) web: Workload,
    pub(crate) group: Group,
    pub(crate) address: SocketAddr,
    held: Held,
}

impl Shop {
    pub(crate) async fn open(
        kind: LoadBalancerKind,
        delays: Delays,
        held: Held,
        web: Workload,
    ) -> Self {
        Self::registered_by(Registrar::Sandbox, kind, delays, held, web).await
    }

    pub(crate) async fn registered_by(
        registrar: Registrar,
        kind: LoadBalancerKind,
        delays: Delays,
        held: Held,
        web: Workload,
    ) -> Self {
        let setup = Setup::new(binary(), Reuse::Late).registrar(registrar);
        let mut site = Site::shared(setup.flags(&[FLAG])).await;
        let delays = Delays {
            // Longer than the sleep and the longest request together.
            deregistration_delay: Duration::from_secs(60),
            ..delays
        };
        let mut group = site.group("web", kind, delays);
        site.hold_back(&mut group, held.lag);
        let (_, address) = site.balance(kind, &[(&group, 1)]).await;
        site.service("web", json!({ "app": "web" })).await;
        site.bind("web", "web", &group).await;
        Self {
            site,
            web,
            group,
            address,
            held,
        }
    }

    /// Opts in to gates, and creates the pods.
    pub(crate) async fn gate(&self) {
        self.site.gate("web").await;
        self.site.open(&self.web, &self.group).await;
    }

    /// Opts in to drain, and replaces all pods by such that sleep.
    pub(crate) async fn drain(&self) {
        self.site.opt_in_to_drain().await;
        let labels = json!({ "app": "web" });
        self.site.gives_sleep(labels, self.held.sleep).await;
        self.roll().await;
        let ending = self.drained();
        for pod in self.pods().await {
            assert_eq!(Ending::of(&pod), ending, "{}", pod.name_any());
        }
    }

    /// How a pod ends that was drained.
    pub(crate) fn drained(&self) -> Ending {
        let sleep = self.held.sleep;
        Ending {
            sleep: Some(sleep),
            grace: Some(GRACE + sleep),
            drained: Some(format!("{sleep}/{GRACE}")),
        }
    }

    /// Rolls the workload, and waits until the old targets are let go.
    pub(crate) async fn roll(&self) {
        self.site.restart(&self.web).await;
        self.settled().await;
    }

    pub(crate) async fn settled(&self) {
        self.site.rolled(&self.web).await;
        self.site.settled(&self.group, self.web.replicas).await;
    }

    /// The pods that are not being deleted.
    pub(crate) async fn pods(&self) -> Vec<DynamicObject> {
        let mut pods = self.site.pods("app=web").await;
        pods.retain(|pod| pod.metadata.deletion_timestamp.is_none());
        pods
    }

    /// Evicts the pods of every node in turn, under a budget that lets one pod be away. Returns how often the budget
    /// refused.
    async fn empty_every_node(&self) -> usize {
        let labels = json!({ "app": "web" });
        self.site.budget("web", labels).await;
        self.site.evict(&self.pods().await).await
    }

    /// The number of pods that have ended.
    fn ended(&self) -> usize {
        let pods = self.site.observer.by_uid();
        let gone = pods.values().filter(|pod| pod.stage == Stage::Gone);
        gone.count()
    }
}

/// A Deployment whose new pods all start at once.
pub(crate) fn web() -> Workload {
    Workload {
        surge: 3,
        ..Workload::new("Deployment", "web")
    }
}

#[rstest]
#[case::alb(LoadBalancerKind::Application, alb(), ALB)]
#[case::nlb(
    LoadBalancerKind::Network,
    Delays { registration: Duration::from_millis(400), ..nlb() },
    NLB
)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_end_of_a_pod_loses_requests_unless_it_drains(
    #[case] kind: LoadBalancerKind,
    #[case] delays: Delays,
    #[case] held: Held,
    #[values(("Deployment", Registrar::Sandbox), ("StatefulSet", Registrar::Targetgate))] rolled: (
        &'static str,
        Registrar,
    ),
) {
    let (workload, registrar) = rolled;
    let web = Workload {
        kind: workload,
        ..web()
    };
    let mut shop = Shop::registered_by(registrar, kind, delays, held, web).await;
    shop.gate().await;
    let load = Load::start(shop.address, RATE);
    shop.roll().await;
    let numbers = load.stop().await;
    numbers.print(&format!("{workload}, {kind:?}, gates alone"), &shop.site);
    assert!(numbers.lost() > 0, "no request was lost without drain");

    shop.drain().await;
    let ended = shop.ended();
    let load = Load::with_long(shop.address, RATE, LONG);
    shop.site
        .until("long requests to be in flight", async || {
            (load.long() >= 30).then_some(())
        })
        .await;
    shop.roll().await;
    shop.site.scale(&mut shop.web, 2).await;
    shop.settled().await;
    shop.site.scale(&mut shop.web, 3).await;
    shop.settled().await;
    let refused = shop.empty_every_node().await;
    shop.settled().await;
    assert!(refused > 0, "the budget let all pods go at once");
    while load.sent() < REQUESTS {
        shop.roll().await;
    }
    shop.site
        .until("the evicted pods to end", async || {
            (shop.ended() >= ended + 3 + 1 + 3).then_some(())
        })
        .await;
    let numbers = load.stop().await;
    numbers.print(&format!("{workload}, {kind:?}, with drain"), &shop.site);
    assert_eq!(numbers.lost(), 0, "{numbers:?}");
    assert!(numbers.long.ok >= 30, "{numbers:?}");
    let ending = shop.drained();
    for pod in shop.pods().await {
        assert_eq!(Ending::of(&pod), ending, "{}", pod.name_any());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_native_sidecar_that_takes_the_traffic_ends_after_the_sleep_of_the_main_container() {
    let web = Workload {
        sidecar: true,
        ..web()
    };
    let shop = Shop::open(LoadBalancerKind::Application, alb(), ALB, web).await;
    shop.gate().await;
    shop.drain().await;
    for pod in shop.pods().await {
        let hook = field(&pod, "/spec/initContainers/0/lifecycle");
        assert!(hook.is_null(), "the sidecar is left alone: {hook}");
    }
    let load = Load::start(shop.address, RATE);
    shop.roll().await;
    let numbers = load.stop().await;
    numbers.print("native sidecars, with drain", &shop.site);
    assert_eq!(numbers.lost(), 0, "{numbers:?}");
}
