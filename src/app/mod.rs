//! The composition root of `targetgate serve`: what is started in which order, and how it ends.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, anyhow, ensure};
use aws_config::{BehaviorVersion, SdkConfig};
use kube::config::{KubeConfigOptions, Kubeconfig, KubeconfigError};
use kube::{Client, Config};
use tokio::net::TcpListener;
use tokio::task::{self, JoinError, JoinHandle, JoinSet};
use tokio::time::sleep;
use tracing::{info, warn};

use crate::admission::binding::BindingReviewer;
use crate::admission::binding::allowed::Allowed;
use crate::admission::{self, BindingRoutes, Hooks, body};
use crate::args::Settings;
use crate::clock;
use crate::cluster::cache::Cache;
use crate::cluster::events::Events;
use crate::cluster::leadership::Leadership;
use crate::cluster::watch::{WatchOptions, watches};
use crate::elb::budget::Budget;
use crate::elb::client::{ElbClient, Timeouts};
use crate::elb::credentials;
use crate::elb::groups::TargetGroups;
use crate::elb::vpc;
use crate::health::{Loop, action};
use crate::metrics::Metrics;
use crate::rules::gates::GatePolicy;
use crate::serve::certificates::Certificates;
use crate::serve::clients::Clients;
use crate::serve::edge::{self, Edge, Limits};
use crate::serve::health::{Health, Heartbeat, STALLED_AFTER};
use crate::serve::{Phase, PhaseReceiver, PhaseSender, admin, phases};

use certificate::Source;
use election::Elected;
use signals::Signals;

mod certificate;
mod election;
mod signals;

/// A stalled loop ends the process, a while after `/livez` has begun to say so.
const STALL_ENDS_AFTER: Duration = Duration::from_secs(15).saturating_add(STALLED_AFTER);
/// Connections of the admin listener: many more than the kubelet and scrapers have, so that a flood of new
/// ones has to be quicker than a probe's answer.
const ADMIN_CONNECTIONS: usize = 256;
/// How long the admin listener waits for a byte. The kubelet sends its request at once.
const ADMIN_IDLE: Duration = Duration::from_secs(10);

/// Runs `targetgate serve` until a signal or a failure ends it. Returns the exit code.
///
/// # Errors
/// What could not be started, by its flag; or which task ended though it never should.
pub async fn run(settings: Settings) -> anyhow::Result<u8> {
    let mut signals = Signals::new().context("cannot listen for signals")?;
    let metrics = Arc::new(Metrics::default());
    let source = Source::new(&settings.tls)?;
    let certificates = Arc::new(source.certificates(&metrics)?);
    let clients = certificate::clients(&settings.tls, &metrics)?;
    let allowed = settings.allow_arns.clone();
    let allowed = allowed.map(|file| Allowed::read(file, metrics.clone()));
    let allowed = allowed.transpose()?.map(Arc::new);
    let kube = kubernetes(settings.kubeconfig.as_deref()).await?;
    let aws = Aws::new(&settings, &metrics).await?;
    let listener = bind("--listen", settings.listen).await?;
    let admin_listener = bind("--admin-listen", settings.admin_listen).await?;

    let (listen, admin) = (listener.local_addr()?, admin_listener.local_addr()?);

    let (phase, phases) = phases();
    let (election, leadership) = Elected::new(&settings, &kube, &metrics)?;
    let shared = Shared {
        cache: Arc::default(),
        leadership,
        heartbeat: Arc::default(),
        events: Arc::new(Events::new(kube.clone(), pod_name(&settings))),
        metrics,
        certificates,
        clients,
        allowed,
        kube,
        aws,
        phases,
    };
    let mut tasks = Tasks::default();
    shared.start_watches(&settings, &mut tasks);
    shared.start_loop(&settings, &mut tasks);
    let (name, keeper) = source.keeper(&settings, &shared);
    tasks.start(name, keeper);
    if let Some(allowed) = &shared.allowed {
        tasks.start("allow-list reload", allowed.clone().follow());
    }
    if let Some(clients) = &shared.clients {
        tasks.start("client CA reload", clients.clone().follow());
    }
    tasks.start(
        "admin listener",
        shared.admin().serve(admin_listener, shared.phases.clone()),
    );
    let mut hooks = task::spawn(
        shared
            .hooks(&settings)?
            .serve(listener, shared.phases.clone()),
    );
    let mut election = election.start(shared.cache.clone());
    info!(%listen, %admin, "started");
    task::spawn(credentials::tell(shared.aws.config.clone()));

    let first = tokio::select! {
        ended = tasks.ended() => return Err(ended),
        ended = &mut hooks => return Err(failure("HTTPS listener", ended)),
        ended = election.ended() => return Err(failure("leader election", ended)),
        first = signals.next() => first,
    };
    info!(signal = first.name, "ending: answering what is in flight");
    let wind_down = async {
        drain(&phase, settings.shutdown_delay, &mut hooks).await;
        // Whoever writes as the leader ends before the Lease is given back.
        tasks.stop().await;
        election.stop().await;
    };
    tokio::select! {
        () = wind_down => Ok(0),
        second = signals.next() => {
            warn!(signal = second.name, "ending at once");
            Ok(second.exit_code())
        }
    }
}

/// What the parts of the process share.
struct Shared {
    cache: Arc<Cache>,
    metrics: Arc<Metrics>,
    heartbeat: Arc<Heartbeat>,
    certificates: Arc<Certificates>,
    /// Who may connect; `None` is anybody.
    clients: Option<Arc<Clients>>,
    allowed: Option<Arc<Allowed>>,
    events: Arc<Events>,
    kube: Client,
    leadership: Leadership,
    aws: Aws,
    phases: PhaseReceiver,
}

impl Shared {
    fn start_watches(&self, settings: &Settings, tasks: &mut Tasks) {
        let options = WatchOptions {
            namespaces: settings
                .watch_namespaces
                .iter()
                .map(|n| n.as_str().into())
                .collect(),
            prefixes: settings.served_prefixes(),
            seed: fastrand::u64(..),
            ..WatchOptions::default()
        };
        for (watched, watch) in watches(&self.kube, &self.cache, &self.metrics, &options) {
            tasks.start(format!("watch {}", watched.as_str()), watch);
        }
    }

    fn start_loop(&self, settings: &Settings, tasks: &mut Tasks) {
        tasks.start("target group descriptions", self.aws.groups.clone().run());
        let health = Loop {
            cache: self.cache.clone(),
            kube: self.kube.clone(),
            leadership: self.leadership.clone(),
            events: self.events.clone(),
            elb: self.aws.client.clone(),
            groups: self.aws.groups.clone(),
            budget: self.aws.budget.clone(),
            metrics: self.metrics.clone(),
            now: clock::system(),
            settings: action::Settings {
                apis: settings.gate_apis.clone(),
                orphan_after: settings.orphan_after,
                seed: fastrand::u64(..),
            },
        };
        let heartbeat = self.heartbeat.clone();
        tasks.start("health loop", health.run(move || heartbeat.beat()));
        tasks.start(
            "watchdog of the health loop",
            stalled(self.heartbeat.clone()),
        );
    }

    fn hooks(&self, settings: &Settings) -> anyhow::Result<Arc<Edge>> {
        let router = admission::router(Hooks {
            cache: self.cache.clone(),
            policy: GatePolicy {
                prefix: settings.condition_prefix.clone(),
                apis: settings.gate_apis.clone(),
            },
            metrics: self.metrics.clone(),
            bindings: Some(self.bindings()),
            limits: body::Limits::default(),
        });
        let certificates = self.certificates.clone();
        let tls = match self.clients.clone() {
            Some(clients) => edge::mutual_tls(certificates, clients, clock::system()),
            None => edge::tls(certificates),
        };
        let tls = tls.context("cannot set up TLS")?;
        let edge = Edge::https(router, tls, Limits::default(), self.metrics.clone());
        Ok(Arc::new(edge))
    }

    fn bindings(&self) -> BindingRoutes {
        let (cache, groups) = (self.cache.clone(), self.aws.groups.clone());
        let reviewer = BindingReviewer::new(cache, groups, self.aws.vpc_id.clone());
        reviewer.with_allow_list(self.allowed.clone()).into()
    }

    fn admin(&self) -> Arc<Edge> {
        let health = Health {
            cache: self.cache.clone(),
            certificates: self.certificates.clone(),
            heartbeat: self.heartbeat.clone(),
            phases: self.phases.clone(),
            now: clock::system(),
        };
        let router = admin::router(Arc::new(health), self.metrics.clone());
        let limits = Limits {
            connections: ADMIN_CONNECTIONS,
            keep_alive: false,
            idle: ADMIN_IDLE,
            ..Limits::default()
        };
        Arc::new(Edge::http(router, limits, self.metrics.clone()))
    }
}

/// Tells clients that the end is near, then answers what is in flight.
async fn drain(phase: &PhaseSender, delay: Duration, hooks: &mut JoinHandle<()>) {
    // Everyone who listens may be gone already.
    let _ = phase.send(Phase::Lingering);
    sleep(delay).await;
    let _ = phase.send(Phase::Closing);
    let _ = hooks.await;
}

/// Returns once the loop has not come round for too long.
async fn stalled(heartbeat: Arc<Heartbeat>) {
    while heartbeat.age() < STALL_ENDS_AFTER {
        sleep(STALL_ENDS_AFTER - heartbeat.age()).await;
    }
}

async fn kubernetes(kubeconfig: Option<&Path>) -> anyhow::Result<Client> {
    let mut config = match kubeconfig {
        Some(path) => {
            let file = Kubeconfig::read_from(path)
                .with_context(|| format!("--kubeconfig: cannot read {}", path.display()))?;
            of_file(file)
                .await
                .with_context(|| format!("--kubeconfig: cannot use {}", path.display()))?
        }
        None => match Config::incluster() {
            Ok(config) => config,
            Err(_) => of_default_file().await.context(
                "--kubeconfig is not given, this is no pod with a service account, \
                 and the default kubeconfig cannot be used",
            )?,
        },
    };
    // kube would send a request that was answered with 429 or 503 again, unseen and after ever longer
    // pauses. Who asks here has pauses, deadlines and reasons of its own to try again or not.
    config.default_retry = false;
    Client::try_from(config).context("cannot make a client of the Kubernetes API")
}

async fn of_default_file() -> Result<Config, KubeconfigError> {
    of_file(Kubeconfig::read()?).await
}

/// The cluster of the file's context. A proxy of the environment is for AWS, as kube has it in a
/// cluster; one that the file names is meant.
async fn of_file(file: Kubeconfig) -> Result<Config, KubeconfigError> {
    let mut clusters = file.clusters.iter().filter_map(|c| c.cluster.as_ref());
    let named = clusters.any(|cluster| cluster.proxy_url.is_some());
    let mut config = Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await?;
    config.proxy_url = config.proxy_url.filter(|_| named);
    Ok(config)
}

/// What talks to AWS, out of one budget.
struct Aws {
    config: SdkConfig,
    budget: Budget,
    client: ElbClient,
    groups: TargetGroups,
    /// The cluster's own VPC, where it is known.
    vpc_id: Option<Arc<str>>,
}

impl Aws {
    async fn new(settings: &Settings, metrics: &Arc<Metrics>) -> anyhow::Result<Self> {
        let (rate, highest) = (settings.elb_rate, settings.elb_rate_max);
        ensure!(
            rate <= highest,
            "--elb-rate-max {highest} is below --elb-rate {rate}: raise the one or lower the other"
        );
        let budget = Budget::new(rate, highest, settings.elb_burst, metrics.clone());
        let config = aws_config::load_defaults(BehaviorVersion::latest()).await;
        let vpc_id = match &settings.vpc_id {
            Some(vpc_id) => Some(vpc_id.as_str().into()),
            None => vpc::own(&config).await,
        };
        let timeouts = Timeouts::default();
        let client = ElbClient::new(config.clone(), timeouts, budget.clone(), metrics.clone());
        Ok(Self {
            config,
            groups: TargetGroups::new(client.clone(), budget.clone(), fastrand::u64(..)),
            budget,
            client,
            vpc_id,
        })
    }
}

async fn bind(flag: &str, address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| {
        format!("{flag}: cannot listen on {address}; give a free address of this machine")
    })
}

/// The name of our own pod. Kubernetes gives a host the pod's name, unless it uses the node's network.
fn pod_name(settings: &Settings) -> Option<String> {
    let host = || std::env::var("HOSTNAME").ok();
    settings.pod_name.clone().or_else(host)
}

/// The namespace that this runs in.
fn namespace<'a>(settings: &'a Settings, kube: &'a Client) -> &'a str {
    let namespace = settings.namespace.as_deref();
    namespace.unwrap_or(kube.default_namespace())
}

/// The tasks that run for as long as the process does. Dropping it stops them.
#[derive(Default)]
struct Tasks {
    running: JoinSet<()>,
    names: HashMap<task::Id, String>,
}

impl Tasks {
    fn start(&mut self, name: impl Into<String>, task: impl Future<Output = ()> + Send + 'static) {
        let id = self.running.spawn(task).id();
        self.names.insert(id, name.into());
    }

    /// The failure of the first task that ends: none of them should.
    async fn ended(&mut self) -> anyhow::Error {
        match self.running.join_next_with_id().await {
            Some(Ok((id, ()))) => failure(self.name(id), Ok(())),
            Some(Err(error)) => failure(self.name(error.id()), Err(error)),
            None => anyhow!("there is nothing left to do"),
        }
    }

    /// Stops them all.
    async fn stop(&mut self) {
        self.running.shutdown().await;
    }

    fn name(&self, id: task::Id) -> &str {
        self.names.get(&id).map_or("a task", String::as_str)
    }
}

fn failure(task: &str, ended: Result<(), JoinError>) -> anyhow::Error {
    match ended {
        Ok(()) => anyhow!("{task} ended, though it never should; ending the process"),
        Err(error) => {
            anyhow::Error::new(error).context(format!("{task} failed; ending the process"))
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;

    #[tokio::test]
    async fn a_task_that_ends_or_panics_is_named() {
        let mut tasks = Tasks::default();
        tasks.start("endless", std::future::pending());
        tasks.start("watch pods", async {});
        let error = tasks.ended().await;
        assert!(error.to_string().starts_with("watch pods ended"), "{error}");
        tasks.start("health loop", async { panic!("on purpose") });
        let error = tasks.ended().await;
        assert!(
            format!("{error:#}").contains("health loop failed"),
            "{error:#}"
        );
        assert!(format!("{error:#}").contains("on purpose"), "{error:#}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_loop_that_stalls_fails_livez_before_it_ends_the_process() {
        let heartbeat = Arc::new(Heartbeat::default());
        let begun = Instant::now();
        let watchdog = task::spawn(stalled(heartbeat.clone()));
        for _ in 0..10 {
            sleep(STALLED_AFTER - Duration::from_secs(1)).await;
            heartbeat.beat();
        }
        assert!(!watchdog.is_finished());
        let last_beat = begun.elapsed();
        watchdog.await.unwrap();
        assert_eq!(begun.elapsed() - last_beat, STALL_ENDS_AFTER);
        assert!(heartbeat.age() > STALLED_AFTER);
    }
}
