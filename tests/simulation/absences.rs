//! Services that are gone for long, and pods that a new leader does not see.

use std::net::SocketAddr;
use std::time::Duration;

use targetgate_sandbox::elb::State;
use tokio::time::Instant;

use crate::driver::Driver;
use crate::facts::Key;
use crate::line::Weather;
use crate::steps::{SLICES, WATCHED};

/// A Service is absent for so long before a live read confirms that (contract 5.5), and what may come in between.
const CONFIRMED_WITHIN: Duration = Duration::from_secs(30 + 15);
/// What the floor holds goes once a Service has been confirmed gone for so long (contract 8).
const GIVEN_UP_AFTER: Duration = Duration::from_secs(300);
/// The time in which targets become healthy: the window of a call, the write of a record, ELB's own time, and its
/// checks.
const HEALTHY_WITHIN: Duration = Duration::from_secs(15);
/// The time until a standby leads and has looked twice: the Lease's 15 s, a retry period of 2 s, and 10 s between the
/// looks. Chosen beyond that: 13 s. A leader that sees no pods for a minute would leave.
const LOOKED_TWICE_WITHIN: Duration = Duration::from_secs(15 + 2 + 10 + 13);
/// The pods that it does not see.
const UNSEEN: usize = 2;

impl Driver {
    pub(crate) async fn absences_step(&mut self) {
        match self.random.below(3) {
            0 => self.blind_replica_takes_the_lead().await,
            1 => self.service_is_gone_for_long().await,
            _ => self.service_is_back_unseen().await,
        }
    }

    /// A Service that a binding names, with the app of its pods.
    fn some_service(&mut self) -> Option<(Key, String)> {
        let (namespace, app, arn) = self.some_served()?;
        let facts = self.world.facts.lock();
        let mut bindings = facts.bindings.iter();
        let (_, binding) = bindings.find(|((of, _), b)| *of == namespace && b.arn == arn)?;
        Some(((namespace, binding.service.clone()), app))
    }

    async fn service_goes(&mut self, key: &Key) {
        let path = format!("/api/v1/namespaces/{}/services/{}", key.0, key.1);
        let (code, _) = self.world.call("DELETE", &path, None).await;
        if code == 200 {
            let mut facts = self.world.facts.lock();
            facts.services.remove(key);
            facts.remember();
        }
    }

    async fn service_is_gone_for_long(&mut self) {
        let Some((service, app)) = self.some_service() else {
            return;
        };
        self.service_goes(&service).await;
        let long = self.random.millis(30_000, 420_000);
        self.note(&format!("{service:?} is gone for {long:?}"));
        self.pass(long).await;
        if self.random.percent(60) {
            self.service(&service, &app).await;
        }
    }

    /// A Service goes, which is confirmed. Then it comes back, and no watch says so for longer than the floor would hold.
    async fn service_is_back_unseen(&mut self) {
        let Some((service, app)) = self.some_service() else {
            return;
        };
        self.calm_down();
        self.service_goes(&service).await;
        self.pass(CONFIRMED_WITHIN).await;
        for replica in &self.replicas {
            replica.weather.lock().no_services = true;
        }
        self.note(&format!("{service:?} is back, and no watch says so"));
        self.world.api.faults().close_watches();
        self.service(&service, &app).await;
        self.pass(GIVEN_UP_AFTER).await;
        for replica in &self.replicas {
            replica.weather.lock().no_services = false;
        }
    }

    /// Ends what is wrong with the replicas and their lines.
    fn calm_down(&self) {
        for replica in &self.replicas {
            replica.spare();
            *replica.weather.lock() = Weather::default();
        }
        for resource in WATCHED.into_iter().chain([SLICES]) {
            let faults = self.world.api.faults();
            faults.delay_watch(resource, Duration::ZERO);
        }
    }

    /// A standby ceases to see pods. More pods come, the leader registers them and dies, and the standby leads.
    async fn blind_replica_takes_the_lead(&mut self) {
        let holder = self.world.witness.holder().unwrap_or_default();
        let mut names = self.replicas.iter().map(|replica| replica.name);
        let Some(leads) = names.position(|name| holder.starts_with(name)) else {
            return;
        };
        let Some((namespace, app, _)) = self.some_served() else {
            return;
        };
        self.calm_down();
        let standby = &self.replicas[1 - leads];
        standby.weather.lock().no_pods = true;
        self.note(&format!("{} sees no pods", standby.name));
        self.world.api.faults().close_watches();
        for _ in 0..UNSEEN {
            let key = self.ungated_pod(&namespace, &app, (None, None)).await;
            if let Some((key, pod)) = self.held_back(key).await {
                self.readiness(&key, &pod, true).await;
            }
        }
        self.pass(HEALTHY_WITHIN).await;
        self.note(&format!(
            "{holder} dies, and a replica that sees no pods takes the lead"
        ));
        self.replicas[leads].crash(&self.world);
        self.replicas[leads].starts_at = Instant::now() + LOOKED_TWICE_WITHIN;
        self.pass(LOOKED_TWICE_WITHIN).await;
        self.replicas[1 - leads].weather.lock().no_pods = false;
    }

    /// Judges that the targets of a Service that is gone stay for five minutes, and then go.
    pub(crate) async fn judge_given_up(&mut self) {
        let Some((namespace, app, arn)) = self.some_served() else {
            return;
        };
        let (services, targets) = {
            let facts = self.world.facts.lock();
            let all = facts.bindings.iter().filter(|(_, b)| b.arn == arn);
            let services = all.map(|((of, _), b)| (of.clone(), b.service.clone()));
            let services: Vec<Key> = services.collect();
            (services, facts.targets().remove(&arn).unwrap_or_default())
        };
        let [service] = &services[..] else {
            return;
        };
        // What is not in now may pause.
        let are_in = targets.into_iter().filter(|t| self.world.is_in(&arn, *t));
        let are_in: Vec<SocketAddr> = are_in.collect();
        self.note(&format!("{service:?} of {namespace} goes for good"));
        self.service_goes(service).await;
        self.pass(GIVEN_UP_AFTER).await;
        self.expect_in(&arn, &are_in, true);
        self.pass(CONFIRMED_WITHIN * 2).await;
        self.expect_in(&arn, &are_in, false);
        self.service(service, &app).await;
    }

    fn expect_in(&self, arn: &str, targets: &[SocketAddr], expected: bool) {
        for target in targets {
            let elb = self.world.accounts.of(arn);
            let health = elb.health(arn, target.ip(), target.port());
            if self.world.is_in(arn, *target) != expected {
                let state: Option<State> = health.map(|health| health.state);
                let what = format!("{target} of {arn} is {state:?}");
                self.world.trace.violated("given up in time", &what);
            }
        }
    }
}
