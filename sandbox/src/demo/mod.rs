//! The demo, which rolls a Deployment four times under steady traffic, with the real targetgate
//! beside it.
//!
//! The rollouts are (a) as Kubernetes does it alone, (b) with targetgate's gates, (c) with gates
//! and the preStop sleep that operators use, (d) with gates and drain: targetgate gives the pods
//! their sleep. They are measured from outside targetgate: by the client of the load balancer, by
//! ELB's own log, and by a watch of the demo's own.

mod frame;
mod live;
mod measure;
mod page;
mod report;
mod screen;
mod settings;
mod shop;
mod variant;
mod world;

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use anyhow::Context;

use self::live::Live;
use self::measure::{Bench, Numbers};
use self::page::{Page, Server};
use self::report::Report;
pub use self::settings::Settings;
use self::shop::{DRAIN_LABEL, LABEL, NAMESPACE, Shop};
use self::variant::{Variant, variants};
use self::world::World;
use crate::harness::observer::Observer;
use crate::harness::{Nodes, Parts, Process, Start, define_bindings};
use crate::interrupt::Interrupt;

#[derive(Clone, Debug)]
pub struct Options {
    pub targetgate: PathBuf,
    /// The delays and the load.
    pub settings: Settings,
    /// The kubeconfig whose current context names the cluster; `None` means the sandbox's own. In a
    /// cluster that exists the demo keeps to its own namespace and nodes, refuses to start if
    /// objects with its names exist, and removes at the end what it has created.
    pub kubeconfig: Option<PathBuf>,
    /// The address of this machine at which the API server reaches the hooks.
    pub hooks_ip: IpAddr,
    /// The port of 127.0.0.1 for the page; 0 means a free one.
    pub page_port: u16,
    /// Whether everything keeps running after the table, until Ctrl-C.
    pub keep: bool,
    /// The file for the numbers as JSON.
    pub json: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// The results are as expected: (a) and (b) lost requests, (c) and (d) lost none.
    AsItShould,
    /// The results are not as expected; the differences have been printed.
    Otherwise,
    /// Ctrl-C or SIGTERM ended the run.
    Interrupted,
}

/// Runs the demo. All processes and actors that it started have ended when this returns or is
/// dropped; the objects that it created in an existing cluster are gone when this returns.
///
/// # Errors
///
/// When a part cannot be started, ends by itself or takes too long, or when an object cannot be
/// removed.
pub async fn run(options: Options) -> anyhow::Result<Ended> {
    let mut interrupt = Interrupt::listen()?;
    let directory = tempfile::Builder::new()
        .prefix("targetgate-demo-")
        .tempdir()
        .context("cannot make a temporary directory")?;
    let mut parts = Parts::default();
    let world = tokio::select! {
        world = World::start(&mut parts, &options, directory.path()) => world?,
        () = interrupt.received() => return Ok(Ended::Interrupted),
    };
    let mut ended = Ended::Interrupted;
    let played = tokio::select! {
        played = play(&options, &world, &mut parts, directory.path(), &mut ended) => played,
        () = interrupt.received() => Ok(()),
    };
    if world.cluster.sandbox {
        return played.map(|()| ended);
    }
    // The kubelet must still run, because it ends the pods.
    println!("Removing the demo's objects from the cluster.");
    let removed = world.claim.remove().await;
    match (played, removed) {
        (Err(error), Err(left)) => Err(error.context(format!("{left:#}"))),
        (played, removed) => removed.and(played).map(|()| ended),
    }
}

/// Starts targetgate, rolls four times and prints the results, from which it sets `ended`. With
/// `keep` it then waits until a part ends.
async fn play(
    options: &Options,
    world: &World,
    parts: &mut Parts,
    directory: &Path,
    ended: &mut Ended,
) -> anyhow::Result<()> {
    let titles = variants(&options.settings).map(|variant| variant.title);
    let page = Page::new(&options.settings, titles);
    let server = Server::start(page.clone(), options.page_port).await?;
    let nodes = world.inhabit(parts, &options.settings).await?;
    for line in options.settings.describe() {
        println!("{line}");
    }
    println!("As a moving picture: http://{}/", server.address());
    let start = Start {
        hooks_ip: options.hooks_ip,
        flags: vec![options.settings.drain_flag()],
        ..Start::new(&options.targetgate, directory, NAMESPACE)
    };
    define_bindings(&options.targetgate, &world.claim).await?;
    let mut product = start.process(&world.cluster, &world.aws).await?;
    start.register_hooks(product.hooks, &world.claim).await?;
    let stage = Stage::new(world, &nodes, page.clone());
    let measured = tokio::select! {
        measured = stage.play(&options.settings) => measured?,
        error = broken(parts, &mut product) => return Err(error),
    };
    let report = Report::new(&options.settings, measured);
    page.judged(&report.complaints);
    println!("\n{}", report.table());
    for complaint in &report.complaints {
        println!("Not as expected: {complaint}");
    }
    *ended = match report.complaints.is_empty() {
        true => Ended::AsItShould,
        false => Ended::Otherwise,
    };
    if let Some(path) = &options.json {
        write_json(path, &report)?;
    }
    if options.keep {
        println!("{}", hints(options, world, &product, directory));
        return Err(broken(parts, &mut product).await);
    }
    product.kill();
    server.close().await;
    Ok(())
}

/// Waits until a part ends, which it should not do, and returns the reason.
async fn broken(parts: &mut Parts, product: &mut Process) -> anyhow::Error {
    tokio::select! {
        error = parts.broken() => error,
        error = product.broken() => error,
    }
}

fn hints(options: &Options, world: &World, product: &Process, directory: &Path) -> String {
    let kubeconfig = world.cluster.kubeconfig.display();
    let kubectl = format!("kubectl --kubeconfig {kubeconfig}");
    format!(
        "Everything keeps running until Ctrl-C. To inspect it:\n\
         \x20 {kubectl} get pods -n {NAMESPACE} -w\n\
         \x20 {kubectl} get targetgroupbindings -n {NAMESPACE} -o yaml\n\
         \x20 {kubectl} describe pod -n {NAMESPACE} -l app=web\n\
         \x20 {kubectl} rollout restart -n {NAMESPACE} deployment/web\n\
         \x20 {kubectl} label namespace {NAMESPACE} {LABEL}- {DRAIN_LABEL}-\n\
         \x20 curl http://{}/\n\
         \x20 curl http://{}/metrics\n\
         \x20 tail -f {}/targetgate.log\n\
         To break it, and be told why (docs/troubleshooting.md has ten ways):\n\
         \x20 export KUBECONFIG={kubeconfig} {}\n\
         \x20 {targetgate} explain -n {NAMESPACE} --all\n\
         \x20 {targetgate} doctor -n {NAMESPACE}\n\
         \x20 {targetgate} watch -n {NAMESPACE}",
        world.load_balancer,
        product.admin,
        directory.display(),
        world.aws.variables(),
        targetgate = options.targetgate.display(),
    )
}

/// The parts that roll and observe, without the world's own running parts.
struct Stage {
    shop: Shop,
    elb: crate::elb::Elb,
    load_balancer: std::net::SocketAddr,
    observer: Observer,
    live: Live,
    page: Page,
}

impl Stage {
    fn new(world: &World, nodes: &Nodes, page: Page) -> Self {
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
            page,
        }
    }

    /// Rolls once for each variant, and shows the timeline.
    async fn play(&self, settings: &Settings) -> anyhow::Result<Vec<Numbers>> {
        self.shop.open(self.shop.least_binding()).await?;
        let rollouts = async {
            let mut numbers = Vec::new();
            for variant in variants(settings) {
                let measured = self.measure(settings, &variant).await?;
                self.page.measured(&measured);
                numbers.push(measured);
            }
            Ok(numbers)
        };
        let screen = screen::show(
            self.live.clone(),
            self.observer.clone(),
            self.elb.clone(),
            self.shop.target_group.clone(),
            self.page.clone(),
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

fn write_json(path: &Path, report: &Report) -> anyhow::Result<()> {
    let text = serde_json::to_string_pretty(report)? + "\n";
    std::fs::write(path, text).with_context(|| format!("--json: cannot write {}", path.display()))
}

#[cfg(test)]
mod tests;
