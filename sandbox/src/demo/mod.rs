//! The demo: a Deployment is rolled three times under steady traffic, beside the real targetgate.
//!
//! (a) as Kubernetes does it alone, (b) with targetgate's gates, (c) with gates and the preStop
//! sleep that operators use. All of it is measured by those who would notice: the client of the
//! load balancer, ELB's own log, a watch of the demo's own.

mod measure;
mod report;
mod screen;
mod settings;
mod shop;
mod world;

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::pin::pin;

use anyhow::Context;
use tokio::signal::unix::{SignalKind, signal};

use self::measure::{Bench, Numbers};
use self::report::Report;
use self::screen::Live;
pub use self::settings::Settings;
use self::shop::{LABEL, NAMESPACE, Shop, Variant};
use self::world::World;
use crate::harness::observer::Observer;
use crate::harness::{Nodes, Parts, Process, Start, define_bindings};

/// What to run.
#[derive(Clone, Debug)]
pub struct Options {
    /// The `targetgate` binary.
    pub targetgate: PathBuf,
    /// Delays and load.
    pub settings: Settings,
    /// Whose cluster the pods are in: the current context's. None given means the sandbox's own.
    /// The demo refuses a cluster that has objects of its names, keeps to its own namespace and
    /// nodes, and removes at the end what it has made.
    pub kubeconfig: Option<PathBuf>,
    /// The address of this machine at which the API server reaches the hooks.
    pub hooks_ip: IpAddr,
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

/// Runs the demo. Whatever it started has ended when this returns, or when it is dropped; what it
/// made in a cluster of others is gone when this returns.
///
/// # Errors
///
/// When something cannot be started, ends by itself, takes longer than it can, or cannot be removed
/// again.
pub async fn run(options: Options) -> anyhow::Result<Ended> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupted = pin!(async {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    });
    let directory = tempfile::Builder::new()
        .prefix("targetgate-demo-")
        .tempdir()
        .context("cannot make a temporary directory")?;
    let mut parts = Parts::default();
    let world = tokio::select! {
        world = World::start(&mut parts, &options, directory.path()) => world?,
        () = &mut interrupted => return Ok(Ended::Interrupted),
    };
    let mut ended = Ended::Interrupted;
    let played = tokio::select! {
        played = play(&options, &world, &mut parts, directory.path(), &mut ended) => played,
        () = &mut interrupted => Ok(()),
    };
    if world.cluster.sandbox {
        return played.map(|()| ended);
    }
    // The kubelet is a part, and has to end the pods.
    println!("Removing from the cluster what the demo has made there.");
    let removed = world.claim.remove().await;
    match (played, removed) {
        (Err(error), Err(left)) => Err(error.context(format!("{left:#}"))),
        (played, removed) => removed.and(played).map(|()| ended),
    }
}

/// Starts targetgate, rolls three times and prints the numbers, which say how it `ended`; with `keep`
/// it goes on until a part ends.
async fn play(
    options: &Options,
    world: &World,
    parts: &mut Parts,
    directory: &Path,
    ended: &mut Ended,
) -> anyhow::Result<()> {
    let nodes = world.inhabit(parts, &options.settings).await?;
    for line in options.settings.describe() {
        println!("{line}");
    }
    let start = Start {
        hooks_ip: options.hooks_ip,
        ..Start::new(&options.targetgate, directory, NAMESPACE)
    };
    define_bindings(&options.targetgate, &world.claim).await?;
    let mut product = start.process(&world.cluster, &world.aws).await?;
    start.register_hooks(product.hooks, &world.claim).await?;
    let stage = Stage::new(world, &nodes);
    let measured = tokio::select! {
        measured = stage.play(&options.settings) => measured?,
        error = broken(parts, &mut product) => return Err(error),
    };
    let report = Report::new(&options.settings, measured);
    println!("\n{}", report.table());
    for complaint in &report.complaints {
        println!("Not as it should be: {complaint}");
    }
    *ended = match report.complaints.is_empty() {
        true => Ended::AsItShould,
        false => Ended::Otherwise,
    };
    if let Some(path) = &options.json {
        write_json(path, &report)?;
    }
    if options.keep {
        println!("{}", hints(world, &product, directory));
        return Err(broken(parts, &mut product).await);
    }
    product.kill();
    Ok(())
}

/// Waits for a part to end, which none should, and says why.
async fn broken(parts: &mut Parts, product: &mut Process) -> anyhow::Error {
    tokio::select! {
        error = parts.broken() => error,
        error = product.broken() => error,
    }
}

fn hints(world: &World, product: &Process, directory: &Path) -> String {
    let kubeconfig = world.cluster.kubeconfig.display();
    let kubectl = format!("kubectl --kubeconfig {kubeconfig}");
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
        world.load_balancer,
        product.admin,
        directory.display(),
    )
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
    fn new(world: &World, nodes: &Nodes) -> Self {
        Self {
            shop: Shop {
                client: world.cluster.client.clone(),
                elb: world.aws.client.clone(),
                target_group: world.target_group.clone(),
                placement: nodes.placement(),
            },
            elb: world.aws.elb.clone(),
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
        let client = self.shop.client.clone();
        let watch = self.observer.clone().watch(client, NAMESPACE.to_owned());
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
