//! `targetgate serve`: turns settings into parts, starts the tasks in order, and ends them.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, anyhow, ensure};
use aws_config::BehaviorVersion;
use futures::FutureExt as _;
use humantime::format_duration;
use kube::Client;
use targetgate_core::drain::DrainPolicy;
use targetgate_core::elb::buckets::Limits;
use targetgate_core::gates::inject::GatePolicy;
use targetgate_core::index::HookScope;
use targetgate_core::names::ObjectKey;
use tokio::sync::oneshot;
use tokio::task::{self, JoinError, JoinHandle, JoinSet};
use tokio::time::{sleep, timeout};
use tracing::{info, warn};

use crate::admission::binding::allowed::Allowed;
use crate::args::{Admission, Settings};
use crate::aws::{credentials, vpc};
use crate::clock;
use crate::commands::cluster;
use crate::commands::serve::certificate::Served;
use crate::commands::serve::listen::bind;
use crate::commands::serve::signals::Signals;
use crate::compose::{Parts, Registration, compose};
use crate::kubernetes::lease::Seat;
use crate::kubernetes::owner;
use crate::metrics::Metrics;
use crate::serve::places::Places;
use crate::serve::{Phase, PhaseSender};

mod certificate;
mod listen;
mod open_files;
mod signals;

/// The Lease of conditions of all replicas of one namespace, as `deploy/base/rbac.yaml` names it.
pub(super) const LEASE: &str = "targetgate";

/// How long the tasks may take to stop. Chosen: each stops when it next waits, and only one that is stuck does not.
const STOPS_WITHIN: Duration = Duration::from_secs(2);

/// Runs `targetgate serve` until a signal or a failure ends it. Returns the exit code.
///
/// # Errors
/// A part cannot be started, which the error names by its flag; or a task has ended.
pub async fn run(settings: Settings) -> anyhow::Result<u8> {
    let mut signals = Signals::new().context("cannot listen for signals")?;
    let parts = parts(&settings).await?;
    let aws = parts.aws.clone();
    let listener = bind("--listen", settings.listen)?;
    let admin_listener = bind("--admin-listen", settings.admin_listen)?;
    let (listen, admin) = (listener.local_addr()?, admin_listener.local_addr()?);

    let product = compose(parts)?;
    let (hooks, probes, explain) = (product.hooks(), product.admin(), product.explain());
    let phases = product.phases;
    let mut tasks = Tasks::default();
    for (name, task) in product.tasks {
        tasks.start(name, task);
    }
    tasks.start(
        "admin listener",
        probes.serve(admin_listener, phases.clone()),
    );
    let known = listen::on_loopback(settings.mode.explain_listen);
    let told = known.as_ref().and_then(|known| known.local_addr().ok());
    let told = told.map(|address| address.to_string());
    if let Some(listener) = known {
        let serving = explain.serve(listener, phases.clone());
        tasks.start("listener for explain", serving);
    }
    let mut hooks = task::spawn(hooks.serve(listener, phases));
    let (stop, stopped) = oneshot::channel();
    let election = task::spawn(product.election.run(stopped.map(drop)));
    let mut work = Work {
        tasks,
        election,
        stop,
    };
    info!(%listen, %admin, explain = told.as_deref(), "started");
    task::spawn(credentials::tell(aws));

    let ended = tokio::select! {
        ended = work.failed() => Err(ended),
        ended = &mut hooks => Err(failure("HTTPS listener", ended)),
        first = signals.next() => Ok(first),
    };
    let first = match ended {
        Ok(first) => first,
        Err(failure) => {
            work.end().await;
            return Err(failure);
        }
    };
    info!(signal = first.name, "ending: answering what is in flight");
    let wind_down = async {
        drain(&product.phase, settings.shutdown_delay, &mut hooks).await;
        work.end().await;
    };
    tokio::select! {
        () = wind_down => Ok(0),
        second = signals.next() => {
            warn!(signal = second.name, "ending at once");
            Ok(second.exit_code())
        }
    }
}

/// The parts for the settings: files are read here, so that a start without them fails.
async fn parts(settings: &Settings) -> anyhow::Result<Parts> {
    let metrics = Arc::new(Metrics::default());
    let served = Served::read(&settings.tls)?;
    let clients = certificate::clients(&settings.tls, &metrics)?;
    let allowed = settings.allow_arns.clone();
    let allowed = allowed.map(|file| Allowed::read(file, &metrics));
    let allowed = allowed.transpose()?.map(Arc::new);
    let elb = limits(settings)?;
    let kube = cluster::client(settings.kubeconfig.as_deref(), None).await?;
    let certificate = served.source(&settings.tls, namespace(settings, &kube));
    let aws = aws_config::load_defaults(BehaviorVersion::latest()).await;
    let vpc_id = match &settings.vpc_id {
        Some(vpc_id) => Some(vpc_id.as_str().into()),
        None => vpc::own(&aws).await,
    };
    let namespaces = settings.watch_namespaces.iter();
    let registration = registration(settings, &kube).await;
    Ok(Parts {
        elb,
        vpc_id,
        metrics,
        seed: fastrand::u64(..),
        pod_name: pod_name(settings),
        namespaces: namespaces.map(|name| name.as_str().into()).collect(),
        policy: GatePolicy {
            prefix: settings.gates.condition_prefix.clone(),
            apis: settings.gates.gate_apis.clone(),
        },
        drain: DrainPolicy {
            mode: settings.drain.drain,
            seconds: settings.drain.drain_seconds,
        },
        measure_drain: settings.measure_drain,
        gate_rules: settings.mode.admission == Admission::Both,
        scope: scope(settings, &kube),
        prefixes: settings.gates.served_prefixes(),
        orphan_after: settings.orphan_after,
        certificate,
        clients,
        allowed,
        seat: seat(settings, &kube)?,
        registration,
        places: Places::of(open_files::raise_limit()),
        ..Parts::new(kube, aws, clock::system())
    })
}

/// The settings of the registrar; `None` with `--register none`.
async fn registration(settings: &Settings, kube: &Client) -> Option<Registration> {
    let mode = settings.targets.register.mode()?;
    let namespace = namespace(settings, kube);
    let deployment = &settings.tls.tls_owner;
    let watched = settings.targets.incumbent_namespaces.iter();
    let watched: BTreeSet<Arc<str>> = watched.map(|name| name.as_str().into()).collect();
    Some(Registration {
        mode,
        incumbent_lease: settings.targets.incumbent_lease.clone(),
        incumbent_namespaces: Some(watched).filter(|watched| !watched.is_empty()),
        slice_addresses: settings.targets.slice_addresses.into(),
        namespace: namespace.into(),
        deployment: owner::uid(kube, namespace, deployment).await,
    })
}

/// The pods for which the hook is called. It always leaves out our own namespace.
fn scope(settings: &Settings, kube: &Client) -> HookScope {
    let excluded = settings
        .gates
        .excluded_namespaces
        .iter()
        .map(String::as_str);
    let own = namespace(settings, kube);
    HookScope {
        opt_in: settings.gates.opt_in.into(),
        excluded: excluded.chain([own]).map(Into::into).collect(),
    }
}

fn limits(settings: &Settings) -> anyhow::Result<Limits> {
    let (rate, highest) = (settings.elb_rate, settings.elb_rate_max);
    ensure!(
        rate <= highest,
        "--elb-rate-max {highest} is below --elb-rate {rate}: raise the one or lower the other"
    );
    Ok(Limits {
        rate,
        highest,
        burst: settings.elb_burst,
    })
}

/// The Lease of the election; `None` with `--lease off`.
fn seat(settings: &Settings, kube: &Client) -> anyhow::Result<Option<Seat>> {
    let timing = settings.lease_timing().with_context(|| {
        format!(
            "--lease-duration {}, --lease-renew-deadline {} and --lease-retry-period {} do not \
             go together",
            format_duration(settings.lease_duration),
            format_duration(settings.lease_renew_deadline),
            format_duration(settings.lease_retry_period),
        )
    })?;
    let pod = pod_name(settings).unwrap_or_else(|| "targetgate".to_owned());
    Ok(timing.map(|timing| Seat {
        lease: ObjectKey::new(namespace(settings, kube), LEASE),
        // A restarted container of the same pod is another candidate.
        identity: format!("{pod}_{:08x}", fastrand::u32(..)),
        timing,
        owner: Some(settings.tls.tls_owner.clone()),
    }))
}

/// Announces the end to clients, then answers the requests in flight.
async fn drain(phase: &PhaseSender, delay: Duration, hooks: &mut JoinHandle<()>) {
    // All receivers may have ended already.
    let _ = phase.send(Phase::Lingering);
    sleep(delay).await;
    let _ = phase.send(Phase::Closing);
    let _ = hooks.await;
}

/// The name of our own pod, by default the host's name: the kubelet sets it to the pod's name, unless the pod uses the
/// node's network.
fn pod_name(settings: &Settings) -> Option<String> {
    let host = || std::env::var("HOSTNAME").ok();
    settings.pod_name.clone().or_else(host)
}

/// The namespace of our own pod.
fn namespace<'a>(settings: &'a Settings, kube: &'a Client) -> &'a str {
    let namespace = settings.namespace.as_deref();
    namespace.unwrap_or(kube.default_namespace())
}

/// The work of this process, and the elections that let it write.
struct Work {
    tasks: Tasks,
    election: JoinHandle<()>,
    /// Ends the elections, which then release the Leases.
    stop: oneshot::Sender<()>,
}

impl Work {
    /// Waits for a task or an election that ends, which is always a failure.
    async fn failed(&mut self) -> anyhow::Error {
        tokio::select! {
            ended = self.tasks.ended() => ended,
            ended = &mut self.election => failure("leader election", ended),
        }
    }

    /// Stops the tasks, then releases the Leases, so that another replica leads at once. While a task does not stop,
    /// which may write as the leader, the Leases are left to run out.
    async fn end(mut self) {
        if timeout(STOPS_WITHIN, self.tasks.stop()).await.is_err() {
            return warn!("a task does not stop: the Leases are not given back, and run out");
        }
        let _ = self.stop.send(());
        if !self.election.is_finished() {
            // It bounds the release itself.
            let _ = self.election.await;
        }
    }
}

/// The tasks that run as long as the process does. Dropping this stops them.
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

    /// Waits for the first task that ends, which is always a failure.
    async fn ended(&mut self) -> anyhow::Error {
        match self.running.join_next_with_id().await {
            Some(Ok((id, ()))) => failure(self.name(id), Ok(())),
            Some(Err(error)) => failure(self.name(error.id()), Err(error)),
            None => anyhow!("there is nothing left to do"),
        }
    }

    /// Stops all tasks.
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
    use std::future::pending;
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    /// The work of a task, and an election that returns whether the task had ended when it was stopped.
    fn work(task: impl Future<Output = ()> + Send + 'static) -> (Work, oneshot::Receiver<bool>) {
        struct Ended(Arc<AtomicBool>);
        impl Drop for Ended {
            fn drop(&mut self) {
                self.0.store(true, Ordering::SeqCst);
            }
        }
        let ended = Arc::new(AtomicBool::new(false));
        let guard = Ended(ended.clone());
        let mut tasks = Tasks::default();
        tasks.start("health loop", async move {
            let _guard = guard;
            task.await;
        });
        let ((stop, stopped), (tell, told)) = (oneshot::channel(), oneshot::channel());
        let election = task::spawn(async move {
            if stopped.await.is_ok() {
                let _ = tell.send(ended.load(Ordering::SeqCst));
            }
        });
        let work = Work {
            tasks,
            election,
            stop,
        };
        (work, told)
    }

    #[tokio::test]
    async fn a_process_that_ends_on_a_failure_gives_the_lease_back_after_its_tasks_have_ended() {
        let (mut work, released) = work(pending());
        work.tasks.start("watch pods", async {});
        let error = work.failed().await;
        assert!(error.to_string().starts_with("watch pods ended"), "{error}");
        work.end().await;
        assert_eq!(released.await, Ok(true));
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn while_a_task_is_stuck_the_lease_is_left_to_run_out() {
        let (work, released) = work(async { std::thread::sleep(STOPS_WITHIN * 2) });
        task::yield_now().await;
        sleep(Duration::from_millis(50)).await;
        work.end().await;
        assert!(released.await.is_err(), "it was given back");
    }

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
}
