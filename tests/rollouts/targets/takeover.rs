//! Taking bindings over from the incumbent and giving them back, under traffic, with an accident at each step.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::future::join_all;
use kube::api::{Api, DynamicObject, Patch, PostParams};
use parking_lot::Mutex;
use rstest::rstest;
use serde_json::json;
use targetgate_sandbox::elb::{LoadBalancerKind, State};
use targetgate_sandbox::harness::object::patch;
use targetgate_sandbox::harness::site::{Site, fail};
use targetgate_sandbox::incumbent::{self, Incumbent};
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::{FINALIZER, Shop};
use crate::deployment::alb;
use crate::load::Load;

const ALB: LoadBalancerKind = LoadBalancerKind::Application;
const RATE: f64 = 50.0;
/// Not quite the minute for which the incumbent's Lease counts after it was renewed last. Contract 8.
const ALMOST: Duration = Duration::from_secs(45);

/// What goes wrong during the takeover or the return.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Accident {
    None,
    /// The incumbent comes back before its Lease has ceased to count, and is killed again.
    ItComesBackBefore,
    /// The incumbent comes back after we took over, and is killed.
    ItComesBackAfter,
    /// The incumbent was scaled down before its hooks were removed, so that they refuse our finalizer.
    HooksLeftBehind,
    /// The incumbent's hooks are registered before it runs again, so that they refuse that our finalizer goes.
    HooksTooEarly,
    /// We are killed while we wait for the incumbent's Lease, and again once our finalizer is on.
    WeAreKilled,
    /// We are killed when the binding is given back.
    WeAreKilledAtTheReturn,
}

/// Each walk waits for the incumbent's Lease most of the time, so several run together.
#[rstest]
#[case::on_the_way([
    Accident::None,
    Accident::ItComesBackBefore,
    Accident::HooksLeftBehind,
    Accident::WeAreKilled,
])]
#[case::on_the_way_back([
    Accident::None,
    Accident::ItComesBackAfter,
    Accident::HooksTooEarly,
    Accident::WeAreKilledAtTheReturn,
])]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_takeover_and_the_return_lose_nothing_and_no_target_leaves(
    #[case] accidents: [Accident; 4],
) {
    join_all(accidents.map(takes_over_and_returns)).await;
}

async fn takes_over_and_returns(accident: Accident) {
    let mut walk = Walk::begin().await;
    walk.creates_a_service("beside-the-incumbent").await;
    if accident == Accident::HooksLeftBehind {
        walk.incumbent.kill();
        // Its Lease counts no more, and we have tried.
        walk.is_told_of_the_hook().await;
        walk.shop.until_finalizers(&[incumbent::FINALIZER]).await;
        walk.removes_hooks().await;
    } else {
        walk.removes_hooks().await;
        walk.creates_a_service("without-its-hooks").await;
        walk.incumbent.kill();
    }
    walk.creates_a_service("without-the-incumbent").await;
    match accident {
        Accident::WeAreKilled => walk.restarts_targetgate().await,
        Accident::ItComesBackBefore => {
            sleep(ALMOST).await;
            walk.incumbent.start().await.unwrap();
            walk.creates_a_service("beside-it-once-more").await;
            // Its Lease would have ceased to count.
            sleep(ALMOST).await;
            walk.shop.until_finalizers(&[incumbent::FINALIZER]).await;
            walk.incumbent.kill();
        }
        _ => {}
    }
    walk.shop.until_finalizers(&[FINALIZER]).await;
    walk.creates_a_service("taken-over").await;
    match accident {
        Accident::WeAreKilled => walk.restarts_targetgate().await,
        Accident::ItComesBackAfter => {
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

    match accident {
        Accident::WeAreKilledAtTheReturn => {
            walk.gives_back().await;
            walk.restarts_targetgate().await;
        }
        Accident::HooksTooEarly => {
            // We are away, so that our finalizer is there for the hooks to refuse.
            walk.shop.site.kill_targetgate().await;
            walk.gives_back().await;
            walk.installs_hooks().await;
            walk.shop.site.start_targetgate().await;
            walk.is_told_of_the_hook().await;
            walk.shop.until_finalizers(&[FINALIZER]).await;
            walk.removes_hooks().await;
        }
        _ => walk.gives_back().await,
    }
    walk.shop.until_finalizers(&[]).await;
    walk.creates_a_service("given-back").await;
    walk.incumbent.start().await.unwrap();
    walk.shop.until_finalizers(&[incumbent::FINALIZER]).await;
    walk.no_target_has_left();
    walk.shop.roll().await;
    walk.ends(accident).await;
}

struct Walk {
    shop: Shop,
    incumbent: Incumbent,
    load: Load,
    creations: Creations,
    /// How many changes of targets were accounted for.
    seen: usize,
}

/// Services that are created all the time, as dry runs.
struct Creations {
    /// Whether a refusal counts: the incumbent's hooks are gone.
    counts: Arc<AtomicBool>,
    refused: Arc<Mutex<Vec<String>>>,
    creating: JoinSet<()>,
}

impl Creations {
    fn start(services: Api<DynamicObject>) -> Self {
        let (counts, refused) = (
            Arc::<AtomicBool>::default(),
            Arc::<Mutex<Vec<_>>>::default(),
        );
        let mut creating = JoinSet::new();
        let (counting, refusals) = (counts.clone(), refused.clone());
        creating.spawn(async move {
            let (service, dry) = (service("steady"), dry_run());
            loop {
                // One that was sent while hooks were there may be refused afterwards.
                let counts = counting.load(Ordering::SeqCst);
                if let Err(error) = services.create(&dry, &service).await
                    && counts
                    && counting.load(Ordering::SeqCst)
                {
                    refusals.lock().push(error.to_string());
                }
                sleep(Duration::from_millis(200)).await;
            }
        });
        Self {
            counts,
            refused,
            creating,
        }
    }

    fn count(&self, counts: bool) {
        self.counts.store(counts, Ordering::SeqCst);
    }
}

fn service(name: &str) -> DynamicObject {
    let service = json!({
        "metadata": { "name": name },
        "spec": { "selector": { "app": name }, "ports": [{ "port": 80 }] },
    });
    serde_json::from_value(service).unwrap()
}

fn dry_run() -> PostParams {
    PostParams {
        dry_run: true,
        ..PostParams::default()
    }
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
            creations: Creations::start(shop.site.api("Service")),
            shop,
            incumbent,
            seen: 0,
        };
        walk.forget_targets_that_left();
        walk
    }

    /// A new Service is refused at no step.
    async fn creates_a_service(&self, name: &str) {
        let services = self.shop.site.api("Service");
        let created = services.create(&<_>::default(), &service(name)).await;
        created.unwrap_or_else(fail);
    }

    /// Removes the incumbent's hooks. From then on no Service may be refused.
    async fn removes_hooks(&self) {
        self.incumbent.remove_hooks().await.unwrap();
        // The API server goes on to call them for a moment.
        let (services, service) = (self.shop.site.api("Service"), service("try"));
        let dry = dry_run();
        self.shop
            .site
            .until("the hooks to be gone", async || {
                services.create(&dry, &service).await.ok()
            })
            .await;
        self.creations.count(true);
    }

    /// Registers the incumbent's hooks, though it does not run.
    async fn installs_hooks(&self) {
        self.creations.count(false);
        self.incumbent.install_hooks().await.unwrap();
        let services = self.shop.site.api("Service");
        let (service, dry) = (service("try"), dry_run());
        self.shop
            .site
            .until("the hooks to be called", async || {
                services.create(&dry, &service).await.err()
            })
            .await;
    }

    /// Waits until the log names the hook by which our patch was refused.
    async fn is_told_of_the_hook(&self) {
        let product = &self.shop.site.product;
        self.shop
            .site
            .until("the hook's name in the log", async || {
                let named = product.log().contains("targetgroupbinding.elbv2.k8s.aws");
                named.then_some(())
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

    /// Checks what was lost and refused, and deletes the binding, on which no finalizer may stay.
    async fn ends(mut self, accident: Accident) {
        let numbers = self.load.stop().await;
        numbers.print(
            &format!("takeover and return, {accident:?}"),
            &self.shop.site,
        );
        assert_eq!(numbers.lost(), 0, "{accident:?}: {numbers:?}");
        self.creations.creating.shutdown().await;
        assert_eq!(*self.creations.refused.lock(), [""; 0], "{accident:?}");
        self.shop.site.delete("TargetGroupBinding", "web").await;
        self.shop.until_unbound().await;
    }
}
