//! Judges a run once all faults have ended.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;
use std::time::Duration;

use targetgate_core::names::ObjectKey;
use targetgate_sandbox::elb::check::CheckOutcome;
use tokio::runtime::Handle;
use tokio::time::Instant;

use crate::direct;
use crate::driver::{Driver, addresses, gate, pod_path};
use crate::facts::{Key, Pod, target};
use crate::line::{Failing, Weather};
use crate::replica::Life;
use crate::steps::{SLICES, WATCHED};
use crate::told_slices::ToldSlices;
use crate::witness::conditions;

/// The time in which each gate must open. Chosen: longer than an absence, a backoff, a proving time and a lease
/// one after the other.
const BOUND: Duration = Duration::from_secs(180);
/// The time in which each replica must know all objects. A request that hung when the faults ended may go on
/// for 30 s, and another may have to wait for its pause and its turn.
const KNOWN_WITHIN: Duration = Duration::from_secs(90);
/// The percentage of seeds in which a group is dropped in the end. Chosen: it costs five minutes of their time.
const DROPS: u64 = 15;
/// The percentage of seeds in which a pod that follows ELB is judged in the end. Chosen.
const FOLLOWS: u64 = 30;
/// The most tasks that may be left. Chosen, for two idle replicas, the world, and tasks that are about to end.
const TASKS: usize = 60;
/// The attempts to edit bindings, in 30 s. Chosen.
const EDITS: usize = 15;
/// The percentage of seeds in which a group is full in the end. Chosen: what waits then may pause for five minutes.
const FULL: u64 = 25;
/// The percentage of seeds in which a Service goes for good in the end. Chosen: it costs six minutes of their time.
const GIVEN_UP: u64 = 15;

/// The percentage of seeds in which slices are judged in the end. Chosen: it costs four minutes of their time.
const SLICED: u64 = 30;

/// Something that is not as it should be.
pub(crate) struct Wrong {
    pub(crate) what: String,
    /// Until when the product may pause, because AWS refused something before.
    pub(crate) until: Option<Instant>,
}

impl Wrong {
    pub(crate) fn now(what: String) -> Self {
        Self { what, until: None }
    }
}

impl Driver {
    /// Ends the faults, and judges the outcome.
    pub(crate) async fn end(&mut self) {
        self.heal().await;
        if !self.opens("nobody stuck").await {
            return;
        }
        // A replica that received the certificates and the first list just now can serve admissions after this
        // time.
        self.pass(Duration::from_secs(20)).await;
        self.healed = true;
        let spaces = self.namespaces.clone();
        for namespace in spaces {
            self.expect_due_gates(&namespace).await;
        }
        if !self.opens("the gates that are due").await {
            return;
        }
        if self.world.product_registers {
            self.judge_refused().await;
            if self.random.percent(SLICED) {
                self.judge_slices().await;
            }
            self.judge_late_call().await;
            if self.random.percent(FULL) {
                self.judge_full().await;
            }
            if self.random.percent(GIVEN_UP) && self.opens("nobody stuck").await {
                self.judge_given_up().await;
            }
            if !self.opens("nobody stuck").await {
                return;
            }
        }
        let failing = self.random.pick(&Failing::ALL).unwrap_or(Failing::Denied);
        let age = match self.random.percent(30) {
            true => self.random.millis(60_000, 200_000),
            false => Duration::ZERO,
        };
        let long = self.random.millis(0, 12_000);
        self.judge_promptness(failing, age, long).await;
        if self.opens("nobody stuck").await {
            self.pass(Duration::from_secs(10)).await;
            self.knows_all().await;
            if self.random.percent(FOLLOWS) {
                self.judge_following().await;
                self.knows_all().await;
            }
            self.judge_rates();
            if self.random.percent(DROPS) {
                self.judge_dropped().await;
            }
            self.judge_tasks();
        }
    }

    /// Ends all faults, and starts what is down.
    async fn heal(&mut self) {
        self.world.trace.note("world", "heals");
        self.refusals_end().await;
        for replica in &mut self.replicas {
            replica.spare();
            *replica.weather.lock() = Weather::default();
            replica.skew.store(0, Ordering::Relaxed);
            replica.starts_at = Instant::now();
        }
        let faults = self.world.api.faults();
        faults.away(None);
        for resource in WATCHED.into_iter().chain([SLICES]) {
            faults.delay_watch(resource, Duration::ZERO);
        }
        for elb in self.world.accounts.all() {
            let faults = elb.faults();
            faults.unthrottle();
            faults.clear_failures();
            faults.delay(Duration::ZERO);
            faults.show_registrations_after(Duration::ZERO);
            self.hanging.iter().for_each(|on| faults.release(on));
            self.frozen.iter().for_each(|arn| faults.thaw(arn));
        }
        let unused: Vec<String> = self.world.unused.lock().iter().cloned().collect();
        unused
            .iter()
            .for_each(|arn| self.world.put_in_use(arn, true));
        self.world.registers.store(true, Ordering::Relaxed);
        let all = self.namespaces.iter().flat_map(|name| addresses(name));
        let mut all: Vec<String> = all.collect();
        all.extend(self.world.facts.lock().pods.values().map(|p| p.ip.clone()));
        for ip in all {
            let passed = Some(CheckOutcome::Passed);
            self.world.probe.answer(target(&ip), passed);
        }
        let unready: Vec<(Key, Pod)> = {
            let facts = self.world.facts.lock();
            let unready = facts
                .pods
                .iter()
                .filter(|(_, pod)| !pod.ready && !pod.terminating);
            unready
                .map(|(key, pod)| (key.clone(), pod.clone()))
                .collect()
        };
        for (key, pod) in unready {
            self.readiness(&key, &pod, true).await;
        }
        self.incumbent_ends();
        // Edits of bindings need a replica that answers the hooks.
        for _ in 0..EDITS {
            if self.bindings_are_freed().await && self.all_are_served().await {
                break;
            }
            self.pass(Duration::from_secs(2)).await;
        }
        self.its_lease_gets_old().await;
    }

    /// Waits until each gate that has to open is open.
    async fn opens(&mut self, invariant: &str) -> bool {
        let end = Instant::now() + BOUND;
        loop {
            self.pass(Duration::from_secs(2)).await;
            let shut = self.shut();
            if shut.is_empty() || !self.world.trace.violations().is_empty() {
                return shut.is_empty();
            }
            let due = |wrong: &&Wrong| wrong.until.map_or(end, |until| end.max(until + BOUND));
            let mut late = shut.iter().filter(|wrong| Instant::now() >= due(wrong));
            if late.next().is_some() {
                let what: Vec<&str> = shut.iter().map(|wrong| wrong.what.as_str()).collect();
                self.world.trace.violated(invariant, &what.join("; "));
                return false;
            }
        }
    }

    /// The gates of ready pods that are not open.
    fn shut(&self) -> Vec<Wrong> {
        let facts = self.world.facts.lock();
        let mut shut = vec![];
        for (key, pod) in facts.pods.iter().filter(|(_, pod)| !pod.terminating) {
            let object = direct::get(&self.world.api, &pod_path(key)).unwrap_or_default();
            let conditions = conditions(&object);
            let served = |binding: &&String| {
                let of_binding = (key.0.clone(), (*binding).clone());
                !facts.bindings.contains_key(&of_binding) || facts.is_served(&of_binding)
            };
            for binding in pod.gates.iter().filter(served) {
                let condition = conditions
                    .iter()
                    .find(|c| c["type"] == gate(binding).as_str());
                if condition.is_none_or(|c| c["status"] != "True") {
                    let of_binding = (key.0.clone(), binding.clone());
                    let groups = facts.groups.get(&of_binding).into_iter().flatten();
                    let pauses = groups.map(|arn| facts.pauses_until(arn, pod.target()));
                    shut.push(Wrong {
                        what: format!("{}/{} {binding} {condition:?}", key.0, key.1),
                        until: pauses.max().flatten(),
                    });
                }
            }
        }
        drop(facts);
        if self.world.product_registers {
            shut.extend(self.misplaced());
        }
        shut
    }

    async fn expect_due_gates(&mut self, namespace: &str) {
        for app in ["svc-1", "svc-2"] {
            let Some(key) = self.pod(namespace, app, None, None).await else {
                continue;
            };
            let facts = self.world.facts.lock();
            let pod = &facts.pods[&key];
            let due = facts.due_gates(namespace, &pod.labels);
            // The pod has its gates by hand or from us.
            let has: BTreeSet<&String> = pod.gates.iter().collect();
            let missing = due.iter().any(|gate| !has.contains(gate));
            if missing || pod.gates.len() > due.len() + 1 {
                let what = format!("{key:?} has {:?}, is due {due:?}", pod.gates);
                drop(facts);
                self.world.trace.violated("the gates that are due", &what);
            }
        }
    }

    /// Waits until each replica knows the present objects.
    pub(crate) async fn knows_all(&mut self) {
        let end = Instant::now() + KNOWN_WITHIN;
        loop {
            let lives = self.replicas.iter();
            let lives = lives.filter_map(|replica| Some((replica.name, replica.life.as_ref()?)));
            let wrong: Vec<String> = lives
                .flat_map(|(name, life)| self.wrong(name, life))
                .collect();
            if wrong.is_empty() {
                return;
            }
            if Instant::now() >= end {
                for what in wrong {
                    self.world.trace.violated("the index is true", &what);
                }
                return;
            }
            self.pass(Duration::from_secs(2)).await;
        }
    }

    /// Judges that no replica allows itself a higher rate than the highest.
    pub(crate) fn judge_rates(&self) {
        for replica in &self.replicas {
            let highest = replica.limits().highest;
            let metrics = replica.life.as_ref().map(|life| life.metrics.encode());
            let metrics = metrics.unwrap_or_default();
            let rates = metrics
                .lines()
                .filter(|line| line.starts_with("targetgate_elb_rate{"));
            let rate = |line: &str| line.rsplit(' ').next()?.parse::<f64>().ok();
            for line in rates.filter(|line| rate(line).is_none_or(|rate| rate > highest)) {
                let what = format!("{} allows itself {line}", replica.name);
                self.world.trace.violated("the rate is kept", &what);
            }
        }
    }

    fn judge_tasks(&self) {
        let tasks = Handle::current().metrics().num_alive_tasks();
        if tasks > TASKS {
            let what = format!("{tasks} tasks");
            self.world.trace.violated("bounded", &what);
        }
    }

    /// Differences between what a replica knows and what exists.
    fn wrong(&self, name: &str, life: &Life) -> Vec<String> {
        let facts = self.world.facts.lock();
        let mut wrong = vec![];
        let here = |of: &Key, namespace: &str| of.0 == namespace;
        for namespace in &self.namespaces {
            let (services, bindings) = life.cache.read(|index| {
                let Some(view) = index.namespace(namespace) else {
                    return (BTreeSet::new(), BTreeSet::new());
                };
                let services = view.routes.services().map(|(name, _)| name.to_string());
                let bindings = view
                    .routes
                    .bindings()
                    .map(|binding| binding.name.to_string());
                (services.collect(), bindings.collect())
            });
            let there = facts.services.keys().filter(|key| here(key, namespace));
            let there: BTreeSet<String> = there.map(|key| key.1.clone()).collect();
            if there != services {
                wrong.push(format!(
                    "{name}: {namespace} has {there:?}, known are {services:?}"
                ));
            }
            let there = facts.bindings.keys().filter(|key| here(key, namespace));
            let there: BTreeSet<String> = there.map(|key| key.1.clone()).collect();
            if there != bindings {
                wrong.push(format!(
                    "{name}: {namespace} has {there:?}, known are {bindings:?}"
                ));
            }
        }
        for key in &facts.names {
            let object = ObjectKey::new(key.0.as_str(), key.1.as_str());
            let known = life
                .cache
                .read(|index| index.any_pod(&object).map(|pod| pod.uid.to_string()));
            let all = self.world.product_registers;
            let there = facts.pods.get(key);
            let there = there.filter(|pod| all || !pod.gates.is_empty());
            if known.as_ref() != there.map(|pod| &pod.uid) {
                wrong.push(format!(
                    "{name}: pod {object} is {there:?}, known as {known:?}"
                ));
            }
        }
        let told = facts.told_slices.get(&life.incarnation);
        let told = told.map(ToldSlices::all).unwrap_or_default();
        if self.world.product_registers && told != facts.slices {
            let there = &facts.slices;
            wrong.push(format!("{name}: slices are {there:?}, known are {told:?}"));
        }
        let metrics = life.metrics.encode();
        let pending = metrics
            .lines()
            .find_map(|l| l.strip_prefix("targetgate_gates_pending "));
        if pending != Some("0") {
            wrong.push(format!("{name}: all gates are open, {pending:?} wait"));
        }
        wrong
    }
}
