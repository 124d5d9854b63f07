//! Which part gets what: the tasks of the product, and the state that they share.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use axum::Router;
use fastrand::Rng;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use targetgate_core::elb::buckets::Limits;
use targetgate_core::explain::leader::{GatesView, RegistrarView};
use targetgate_core::gate_rules::TooLarge;
use targetgate_core::gates::machine::action::Settings as GateSettings;
use targetgate_core::targets::machine::action::Settings as RegistrarSettings;
use targetgate_core::targets::standing::Policy;
use tokio::sync::watch;
use tokio::time::sleep;
use tokio_rustls::TlsAcceptor;

use crate::admission;
use crate::admission::binding::BindingReviewer;
use crate::admission::binding::allowed::Allowed;
use crate::admission::pod::PodPolicy;
use crate::admission::{Hooks, body};
use crate::aws::budget::Budget;
use crate::aws::client::{ElbClient, Timeouts};
use crate::aws::target_groups::TargetGroups;
use crate::compose::parts::{Parts, Source};
use crate::controllers::certificates::Keeper;
use crate::controllers::certificates::trust_check::TrustCheck;
use crate::controllers::gate_rules;
use crate::controllers::gates::Loop;
use crate::controllers::targets::answers::Answers;
use crate::controllers::targets::registrations::Registrations;
use crate::controllers::targets::{self, CurrentAllowList};
use crate::kubernetes::events::Events;
use crate::kubernetes::server_version;
use crate::kubernetes::targets::records::TargetRecords;
use crate::kubernetes::watch::{WatchOptions, watches};
use crate::serve::PhaseReceiver;
use crate::serve::certificates::{self, Certificates};
use crate::serve::listener;
use crate::serve::readiness::{Health, Heartbeat, STALLED_AFTER};
use crate::state::cache::WatchedResource;
use crate::state::leadership::Leadership;
use crate::state::questions::{Asker, questions};

/// How long the loop may stall before the process ends. Chosen: the kubelet sees the failing `/livez` first.
const STALL_ENDS_AFTER: Duration = Duration::from_secs(15).saturating_add(STALLED_AFTER);

/// A task that runs as long as the process does, with its name.
pub type Task = (String, BoxFuture<'static, ()>);

/// The state that the parts of the product share.
pub(super) struct Wiring {
    pub(super) parts: Parts,
    random: Rng,
    certificates: Arc<Certificates>,
    pub(super) leadership: Leadership,
    /// Whether this process writes certificates.
    keeper_leadership: Leadership,
    events: Arc<Events>,
    budget: Budget,
    elb: ElbClient,
    groups: TargetGroups,
    heartbeat: Arc<Heartbeat>,
    /// Where the registrar hears of whole groups; `None` without one.
    answers: Option<Answers>,
    /// What the health loop hears of the registrar; `None` without one.
    registrations: Option<Registrations>,
    /// Where the keeper of the gate rules tells which are too large.
    too_large: watch::Sender<BTreeMap<Arc<str>, TooLarge>>,
}

impl Wiring {
    pub(super) fn new(parts: Parts, leadership: Leadership, keeper_leadership: Leadership) -> Self {
        let mut random = Rng::with_seed(parts.seed);
        let metrics = &parts.metrics;
        let Limits {
            rate,
            highest,
            burst,
        } = parts.elb;
        let budget = Budget::new(rate, highest, burst, metrics);
        let (aws, timeouts) = (parts.aws.clone(), Timeouts::default());
        let elb = ElbClient::new(aws, timeouts, budget.clone(), metrics);
        Self {
            certificates: Arc::new(parts.certificate.served(metrics)),
            events: Arc::new(Events::new(parts.kube.clone(), parts.pod_name.clone())),
            groups: TargetGroups::new(elb.clone(), budget.clone(), random.u64(..)),
            heartbeat: Arc::default(),
            answers: parts.registration.is_some().then(Answers::default),
            registrations: parts.registration.is_some().then(Registrations::default),
            too_large: watch::Sender::default(),
            random,
            leadership,
            keeper_leadership,
            budget,
            elb,
            parts,
        }
    }

    pub(super) fn watches(&mut self) -> Vec<Task> {
        let parts = &self.parts;
        let options = WatchOptions {
            namespaces: parts.namespaces.clone(),
            prefixes: parts.prefixes.clone(),
            records: parts
                .registration
                .as_ref()
                .map(|registration| registration.namespace.clone()),
            seed: self.random.u64(..),
            ..WatchOptions::default()
        };
        let watches = watches(&parts.kube, &parts.cache, &parts.metrics, &options);
        let named =
            |(watched, watch): (WatchedResource, _)| (format!("watch {}", watched.as_str()), watch);
        watches.into_iter().map(named).collect()
    }

    /// The health loop, with the tasks that it needs, and the asker of its questions.
    pub(super) fn gates(&mut self) -> (Asker<GatesView>, [Task; 3]) {
        let parts = &self.parts;
        let gates = Loop {
            cache: parts.cache.clone(),
            kube: parts.kube.clone(),
            leadership: self.leadership.clone(),
            events: self.events.clone(),
            elb: self.elb.clone(),
            groups: self.groups.clone(),
            budget: self.budget.clone(),
            answers: self.answers.clone(),
            registrations: self.registrations.clone(),
            metrics: parts.metrics.of(),
            endings: parts.metrics.of(),
            now: parts.now.clone(),
            drain: parts.drain.clone(),
            measure_drain: parts.measure_drain,
            too_large: self.too_large.subscribe(),
            settings: GateSettings {
                apis: parts.policy.apis.clone(),
                orphan_after: parts.orphan_after,
                seed: self.random.u64(..),
            },
        };
        let (heartbeat, groups) = (self.heartbeat.clone(), self.groups.clone());
        let (asker, asked) = questions();
        let tasks = [
            task("target group descriptions", groups.run()),
            task("health loop", gates.run(asked, move || heartbeat.beat())),
            task(
                "watchdog of the health loop",
                stalled(self.heartbeat.clone()),
            ),
        ];
        (asker, tasks)
    }

    /// The registrar, with its watchdog, where targets are registered, and the asker of its questions.
    pub(super) fn targets(&self) -> (Option<Asker<RegistrarView>>, Vec<Task>) {
        let parts = &self.parts;
        let (Some(registration), Some(answers)) = (&parts.registration, &self.answers) else {
            return (None, vec![]);
        };
        let allowed = parts.allowed.clone();
        let current = |allowed: Arc<Allowed>| Box::new(move || allowed.list()) as CurrentAllowList;
        let controller = targets::Controller {
            cache: parts.cache.clone(),
            kube: parts.kube.clone(),
            leadership: self.leadership.clone(),
            elb: self.elb.clone(),
            budget: self.budget.clone(),
            metrics: parts.metrics.of(),
            answers: answers.clone(),
            registrations: self.registrations.clone().unwrap_or_default(),
            records: TargetRecords::new(parts.kube.clone(), registration.namespace.clone()),
            incumbent_lease: registration.incumbent_lease.clone(),
            now: parts.now.clone(),
            settings: RegistrarSettings {
                policy: Policy {
                    mode: registration.mode,
                    allow_list: allowed.as_ref().map(|allowed| allowed.list()),
                    incumbent_namespaces: registration.incumbent_namespaces.clone(),
                    deployment: registration.deployment.clone(),
                },
                slice_addresses: registration.slice_addresses,
            },
            allow_list: allowed.map(current),
        };
        let heartbeat = Arc::<Heartbeat>::default();
        let beats = heartbeat.clone();
        let (asker, asked) = questions();
        let tasks = vec![
            task("registrar", controller.run(asked, move || beats.beat())),
            task("watchdog of the registrar", stalled(heartbeat)),
        ];
        (Some(asker), tasks)
    }

    /// The keeper of the certificate, and the tasks that follow files of operators.
    pub(super) fn reloads(&self) -> impl Iterator<Item = Task> {
        let parts = &self.parts;
        let (allowed, clients) = (parts.allowed.clone(), parts.clients.clone());
        let allowed = allowed.map(|allowed| task("allow-list reload", allowed.follow()));
        let clients = clients.map(|clients| task("client CA reload", clients.follow()));
        let certificate = self.certificate().into_iter();
        certificate.chain(allowed).chain(clients)
    }

    fn certificate(&self) -> Vec<Task> {
        let (parts, certificates) = (&self.parts, self.certificates.clone());
        match &parts.certificate {
            Source::None | Source::Given(_) => vec![],
            Source::Files(files, _, configurations) => {
                let check = TrustCheck {
                    kube: parts.kube.clone(),
                    configurations: configurations.clone(),
                    certificates: certificates.clone(),
                    events: self.events.clone(),
                    now: parts.now.clone(),
                };
                let follow = certificates::follow(files.clone(), certificates);
                vec![
                    task("certificate reload", follow),
                    task("check of the caBundles", check.run()),
                ]
            }
            Source::Own(place, maker, now) => {
                let keeper = Keeper {
                    kube: parts.kube.clone(),
                    place: place.clone(),
                    maker: maker.clone(),
                    certificates,
                    leadership: self.keeper_leadership.clone(),
                    events: self.events.clone(),
                    metrics: parts.metrics.of(),
                    now: now.clone(),
                };
                vec![task("certificate keeper", keeper.run())]
            }
        }
    }

    pub(super) fn server_version(&self) -> Task {
        let (kube, server) = (self.parts.kube.clone(), self.parts.server.clone());
        task("API server's version", server_version::follow(kube, server))
    }

    /// The keeper of the gate rules, where it is asked for.
    pub(super) fn gate_rules(&self) -> Option<Task> {
        let parts = &self.parts;
        let keeper = || gate_rules::Keeper {
            kube: parts.kube.clone(),
            cache: parts.cache.clone(),
            leadership: self.leadership.clone(),
            policy: parts.policy.clone(),
            metrics: parts.metrics.of(),
            too_large: self.too_large.clone(),
        };
        parts
            .gate_rules
            .then(|| task("gate rules keeper", keeper().run()))
    }

    pub(super) fn reviews(&self) -> Router {
        let parts = &self.parts;
        let (cache, groups) = (parts.cache.clone(), self.groups.clone());
        let describe = Box::new(move |query, deadline| {
            let groups = groups.clone();
            async move { groups.describe(&query, deadline).await }.boxed()
        });
        let reviewer = BindingReviewer::new(cache, describe, parts.vpc_id.clone())
            .in_region(self.elb.default_region());
        admission::router(Hooks {
            cache: parts.cache.clone(),
            policy: PodPolicy {
                gates: parts.policy.clone(),
                prefixes: parts.prefixes.clone(),
                drain: parts.drain.clone(),
                server: parts.server.clone(),
            },
            metrics: parts.metrics.clone(),
            bindings: Arc::new(reviewer.with_allow_list(parts.allowed.clone())),
            limits: body::Limits::default(),
        })
    }

    pub(super) fn tls(&self) -> anyhow::Result<TlsAcceptor> {
        let certificates = self.certificates.clone();
        let tls = match self.parts.clients.clone() {
            Some(clients) => listener::mutual_tls(certificates, clients, self.parts.now.clone()),
            None => listener::tls(certificates),
        };
        tls.context("cannot set up TLS")
    }

    pub(super) fn health(&self, phases: PhaseReceiver) -> Arc<Health> {
        Arc::new(Health {
            cache: self.parts.cache.clone(),
            certificates: self.certificates.clone(),
            heartbeat: self.heartbeat.clone(),
            phases,
            now: self.parts.now.clone(),
        })
    }
}

fn task(name: &str, task: impl Future<Output = ()> + Send + 'static) -> Task {
    (name.to_owned(), task.boxed())
}

/// Returns once the loop has stalled for [`STALL_ENDS_AFTER`].
async fn stalled(heartbeat: Arc<Heartbeat>) {
    while heartbeat.age() < STALL_ENDS_AFTER {
        sleep(STALL_ENDS_AFTER - heartbeat.age()).await;
    }
}

#[cfg(test)]
mod tests {
    use tokio::task;
    use tokio::time::Instant;

    use super::*;

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
