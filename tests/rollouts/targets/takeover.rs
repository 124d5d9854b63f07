//! Taking bindings over from the incumbent and giving them back, under traffic, with an accident at each step.

use std::time::Duration;

use kube::api::{Patch, PostParams};
use rstest::rstest;
use serde_json::json;
use targetgate_sandbox::elb::{LoadBalancerKind, State};
use targetgate_sandbox::harness::object::patch;
use targetgate_sandbox::harness::site::Site;
use targetgate_sandbox::incumbent::{self, Incumbent};
use tokio::time::sleep;

use super::{FINALIZER, Shop};
use crate::deployment::alb;
use crate::load::{Load, Numbers};

const ALB: LoadBalancerKind = LoadBalancerKind::Application;
const RATE: f64 = 100.0;

/// What goes wrong during the takeover.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Accident {
    None,
    /// The incumbent comes back after we took over, and is killed.
    ItComesBack,
    /// The incumbent was scaled down before its hooks were removed, so that they refuse our finalizer.
    HooksLeftBehind,
    /// We are killed while we wait for the incumbent's Lease, and again once our finalizer is on.
    WeAreKilled,
}

#[rstest]
#[case::as_documented(Accident::None)]
#[case::the_incumbent_comes_back(Accident::ItComesBack)]
#[case::its_hooks_are_left_behind(Accident::HooksLeftBehind)]
#[case::we_are_killed(Accident::WeAreKilled)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_takeover_and_the_return_lose_nothing_and_no_target_leaves(#[case] accident: Accident) {
    let mut walk = Walk::begin().await;
    walk.creates_a_service("beside-the-incumbent").await;
    if accident == Accident::HooksLeftBehind {
        walk.incumbent.kill();
        // Longer than its Lease counts: by now we have tried.
        sleep(Duration::from_secs(75)).await;
        walk.shop.until_finalizers(&[incumbent::FINALIZER]).await;
        walk.incumbent.remove_hooks().await.unwrap();
    } else {
        walk.incumbent.remove_hooks().await.unwrap();
        walk.creates_a_service("without-its-hooks").await;
        walk.incumbent.kill();
    }
    walk.creates_a_service("without-the-incumbent").await;
    if accident == Accident::WeAreKilled {
        walk.restarts_targetgate().await;
    }
    walk.shop.until_finalizers(&[FINALIZER]).await;
    walk.creates_a_service("taken-over").await;
    match accident {
        Accident::WeAreKilled => walk.restarts_targetgate().await,
        Accident::ItComesBack => {
            walk.incumbent.start().await.unwrap();
            let both = [FINALIZER, incumbent::FINALIZER];
            walk.shop.until_finalizers(&both).await;
            walk.creates_a_service("beside-it-again").await;
            walk.incumbent.kill();
            walk.removes_its_finalizer().await;
        }
        _ => {}
    }
    walk.no_target_has_left();
    walk.shop.roll().await;
    walk.forget_targets_that_left();

    walk.gives_back().await;
    walk.shop.until_finalizers(&[]).await;
    walk.creates_a_service("given-back").await;
    walk.incumbent.start().await.unwrap();
    walk.shop.until_finalizers(&[incumbent::FINALIZER]).await;
    walk.no_target_has_left();
    walk.shop.roll().await;
    let numbers = walk.ends().await;
    assert_eq!(numbers.lost(), 0, "{accident:?}: {numbers:?}");
}

struct Walk {
    shop: Shop,
    incumbent: Incumbent,
    load: Load,
    /// How many changes of targets were accounted for.
    seen: usize,
}

impl Walk {
    /// An incumbent with its hooks and its Lease holds the binding, though we register too.
    async fn begin() -> Self {
        let mut site = Site::shared(Shop::setup()).await;
        // The incumbent was there first.
        site.kill_targetgate().await;
        let mut incumbent = site.incumbent(true);
        incumbent.install_hooks().await.unwrap();
        incumbent.start().await.unwrap();
        site.start_targetgate().await;
        let shop = Shop::furnish(site, ALB, alb(), 3).await;
        shop.until_finalizers(&[incumbent::FINALIZER]).await;
        let mut walk = Self {
            load: Load::start(shop.address, RATE),
            shop,
            incumbent,
            seen: 0,
        };
        walk.forget_targets_that_left();
        walk
    }

    /// A new Service is refused at no step.
    async fn creates_a_service(&self, name: &str) {
        let service = json!({
            "metadata": { "name": name },
            "spec": { "selector": { "app": name }, "ports": [{ "port": 80 }] },
        });
        let service = serde_json::from_value(service).unwrap();
        let services = self.shop.site.api("Service");
        // The API server goes on to call hooks for a moment after they were removed.
        self.shop
            .site
            .until("a Service to be created", async || {
                services.create(&PostParams::default(), &service).await.ok()
            })
            .await;
    }

    async fn restarts_targetgate(&mut self) {
        self.shop.site.kill_targetgate().await;
        self.shop.site.start_targetgate().await;
    }

    /// What the Event asks of the operator once the incumbent is gone for good. The rollout that follows needs us.
    async fn removes_its_finalizer(&self) {
        let change = json!({ "metadata": { "finalizers": [FINALIZER] } });
        let bindings = self.shop.site.api("TargetGroupBinding");
        patch(&bindings, "web", Patch::Merge(change)).await;
    }

    async fn gives_back(&self) {
        let change =
            json!({ "metadata": { "annotations": { "targetgate.dev/register": "false" } } });
        let bindings = self.shop.site.api("TargetGroupBinding");
        patch(&bindings, "web", Patch::Merge(change)).await;
    }

    fn forget_targets_that_left(&mut self) {
        self.seen = self.shop.site.aws.elb.log().len();
    }

    fn no_target_has_left(&self) {
        let log = self.shop.site.aws.elb.log();
        let mut left = log[self.seen..]
            .iter()
            .filter(|entry| entry.to == Some(State::Draining));
        assert_eq!(left.next(), None);
    }

    /// Deletes the binding, on which no finalizer may stay.
    async fn ends(self) -> Numbers {
        let numbers = self.load.stop().await;
        numbers.print("takeover and return", &self.shop.site);
        self.shop.site.delete("TargetGroupBinding", "web").await;
        self.shop
            .site
            .until("the binding to be gone", async || {
                let binding = self
                    .shop
                    .site
                    .api("TargetGroupBinding")
                    .get_opt("web")
                    .await;
                binding.unwrap().is_none().then_some(())
            })
            .await;
        numbers
    }
}
