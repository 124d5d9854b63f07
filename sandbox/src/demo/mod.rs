//! The demo: a Deployment is rolled three times under steady traffic, beside the real targetgate.
//!
//! (a) as Kubernetes does it alone, (b) with targetgate's gates, (c) with gates and the preStop
//! sleep that operators use. All of it is measured by those who would notice: the client of the
//! load balancer, ELB's own log, a watch of the demo's own.

mod measure;
mod observer;
mod product;
mod report;
mod screen;
mod settings;
mod shop;
mod world;

use std::path::{Path, PathBuf};
use std::pin::pin;

use anyhow::Context;
use tempfile::TempDir;
use tokio::signal::unix::{SignalKind, signal};

use self::measure::{Bench, Numbers};
use self::observer::Observer;
use self::product::Product;
use self::report::Report;
use self::screen::Live;
pub use self::settings::Settings;
use self::shop::{LABEL, NAMESPACE, Shop, Variant};
use self::world::World;

/// What to run.
#[derive(Clone, Debug)]
pub struct Options {
    /// The `targetgate` binary.
    pub targetgate: PathBuf,
    /// Delays and load.
    pub settings: Settings,
    /// Leave everything running after the table, until Ctrl-C.
    pub keep: bool,
    /// Where to write the numbers as JSON.
    pub json: Option<PathBuf>,
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// (a) lost requests and (c) lost none.
    AsItShould,
    /// Something else was measured; it has been printed.
    Otherwise,
    /// By Ctrl-C or SIGTERM.
    Interrupted,
}

/// Runs the demo. Whatever it started has ended when this returns, or when it is dropped.
///
/// # Errors
///
/// When something cannot be started, ends by itself, or takes longer than it can.
pub async fn run(options: Options) -> anyhow::Result<Ended> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupted = pin!(async {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    });
    let mut running = tokio::select! {
        running = roll(&options) => running?,
        () = &mut interrupted => return Ok(Ended::Interrupted),
    };
    if options.keep {
        println!("{}", running.hints());
        tokio::select! {
            error = running.broken() => return Err(error),
            () = interrupted => {}
        }
    }
    running.product.stop().await;
    Ok(running.ended)
}

/// Starts everything, rolls three times and prints the numbers.
async fn roll(options: &Options) -> anyhow::Result<Running> {
    let directory = tempfile::Builder::new()
        .prefix("targetgate-demo-")
        .tempdir()
        .context("cannot make a temporary directory")?;
    for line in options.settings.describe() {
        println!("{line}");
    }
    let world = World::start(&options.settings, directory.path()).await?;
    let product = Product::start(&options.targetgate, &world, directory.path()).await?;
    let stage = Stage::new(&world);
    let mut running = Running {
        product,
        world,
        directory,
        ended: Ended::AsItShould,
    };
    let measured = tokio::select! {
        measured = stage.play(&options.settings) => measured?,
        error = running.broken() => return Err(error),
    };
    let report = Report::new(&options.settings, measured);
    println!("\n{}", report.table());
    for complaint in &report.complaints {
        println!("Not as it should be: {complaint}");
        running.ended = Ended::Otherwise;
    }
    if let Some(path) = &options.json {
        write_json(path, &report)?;
    }
    Ok(running)
}

/// What runs; all of it ends when this is dropped, targetgate first.
struct Running {
    product: Product,
    world: World,
    directory: TempDir,
    /// What was measured.
    ended: Ended,
}

impl Running {
    /// Waits for a part to end, which none should, and says why.
    async fn broken(&mut self) -> anyhow::Error {
        tokio::select! {
            error = self.world.broken() => error,
            error = self.product.ended() => error,
        }
    }

    fn hints(&self) -> String {
        let kubectl = format!("kubectl --kubeconfig {}", self.world.kubeconfig.display());
        format!(
            "Everything goes on running until Ctrl-C. Look around:\n\
             \x20 {kubectl} get pods -n {NAMESPACE} -w\n\
             \x20 {kubectl} get targetgroupbindings -n {NAMESPACE} -o yaml\n\
             \x20 {kubectl} describe pod -n {NAMESPACE} -l app=web\n\
             \x20 {kubectl} rollout restart -n {NAMESPACE} deployment/web\n\
             \x20 {kubectl} label namespace {NAMESPACE} {LABEL}-\n\
             \x20 curl http://{}/\n\
             \x20 curl http://{}/metrics\n\
             \x20 tail -f {}/targetgate.log",
            self.world.load_balancer,
            self.product.admin,
            self.directory.path().display(),
        )
    }
}

/// What is needed to roll and to watch, apart from the world's own running parts.
struct Stage {
    shop: Shop,
    elb: crate::elb::Elb,
    load_balancer: std::net::SocketAddr,
    observer: Observer,
    live: Live,
}

impl Stage {
    fn new(world: &World) -> Self {
        Self {
            shop: Shop {
                client: world.client.clone(),
                elb: world.elb_client.clone(),
                target_group: world.target_group.clone(),
            },
            elb: world.elb.clone(),
            load_balancer: world.load_balancer,
            observer: Observer::default(),
            live: Live::default(),
        }
    }

    /// Rolls three times, with the timeline.
    async fn play(&self, settings: &Settings) -> anyhow::Result<Vec<Numbers>> {
        self.shop.open(self.shop.least_binding()).await?;
        let rollouts = async {
            let mut numbers = Vec::new();
            for variant in variants(settings) {
                numbers.push(self.measure(settings, &variant).await?);
            }
            Ok(numbers)
        };
        let screen = screen::show(
            self.live.clone(),
            self.observer.clone(),
            self.elb.clone(),
            self.shop.target_group.clone(),
        );
        tokio::select! {
            numbers = rollouts => numbers,
            () = screen => anyhow::bail!("the timeline has ended by itself"),
        }
    }

    async fn measure(&self, settings: &Settings, variant: &Variant) -> anyhow::Result<Numbers> {
        let bench = Bench {
            shop: &self.shop,
            elb: &self.elb,
            load_balancer: self.load_balancer,
            observer: &self.observer,
            settings,
            live: &self.live,
        };
        let watch = self.observer.clone().watch(self.shop.client.clone());
        tokio::select! {
            numbers = bench.measure(variant) => numbers,
            () = watch => anyhow::bail!("the watch of the pods has ended by itself"),
        }
    }
}

fn variants(settings: &Settings) -> [Variant; 3] {
    [
        Variant {
            title: "(a) Kubernetes alone",
            gates: false,
            pre_stop: None,
        },
        Variant {
            title: "(b) with gates",
            gates: true,
            pre_stop: None,
        },
        Variant {
            title: "(c) with gates and preStop sleep",
            gates: true,
            pre_stop: Some(settings.pre_stop),
        },
    ]
}

fn write_json(path: &Path, report: &Report) -> anyhow::Result<()> {
    let text = serde_json::to_string_pretty(report)? + "\n";
    std::fs::write(path, text).with_context(|| format!("--json: cannot write {}", path.display()))
}

#[cfg(test)]
mod tests;
