//! The steps and the end of a run in which the product registers targets.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use crate::direct;
use crate::driver::Driver;
use crate::ending::Wrong;
use crate::facts::{Key, PORT, Pod, target};
use crate::line::Weather;
use crate::slices::is_podless;
use crate::world::World;

/// The finalizer of another controller.
const OTHERS: &str = "example.com/held";
/// How long an app stays unready before anything else happens. Chosen.
const UNREADY_FOR: Duration = Duration::from_secs(10);
/// The time in which targets go in beside one that ELB refuses: the time in which they are collected, a write of the
/// record, the halving of the refused call, and an answer that is on its way. Chosen.
pub(crate) const IN_WITHIN: Duration = Duration::from_secs(10);
/// The time in which a successor repairs what a late call of its predecessor did: its takeover, which takes 8 s at most,
/// the second look after 10 s (contract 8), and a registration that is not repeated for 5 s. Chosen beyond that: 3 s.
const REPAIRED_WITHIN: Duration = Duration::from_secs(8 + 10 + 5 + 3);
/// A target that others registered.
const FOREIGN: &str = "10.9.9.9";

impl World {
    /// The finalizers of an object, with or without that of another controller.
    pub(crate) fn finalizers(&self, path: &str, held: bool) -> Value {
        let object = direct::get(&self.api, path).unwrap_or_default();
        let all = object["metadata"]["finalizers"].as_array();
        let mut all = all.cloned().unwrap_or_default();
        all.retain(|finalizer| finalizer != OTHERS);
        all.extend(held.then(|| json!(OTHERS)));
        json!(all)
    }

    /// Whether a target is registered, and not being deregistered.
    pub(crate) fn is_in(&self, arn: &str, target: SocketAddr) -> bool {
        let health = self
            .accounts
            .of(arn)
            .health(arn, target.ip(), target.port());
        health.is_some_and(|health| health.state.as_str() != "draining")
    }
}

impl Driver {
    pub(crate) async fn registration_step(&mut self) {
        match self.random.below(32) {
            0..3 => self.calls_have_trouble(),
            3 => self.registrations_are_throttled(),
            4 => self.registrations_show_late(),
            5..10 => self.all_become_unready().await,
            10 => self.target_is_removed_by_hand(),
            11 => self.another_registers(),
            12..15 => self.absences_step().await,
            15..21 => self.sharing_step().await,
            21..24 => self.incumbent_comes_or_goes().await,
            _ => self.limits_step().await,
        }
    }

    fn calls_have_trouble(&mut self) {
        let which = self.random.below(2);
        let mut share = |most| self.random.between(0, most);
        let (lost, late) = (share(60), share(60));
        let replica = &self.replicas[which];
        let mut weather = replica.weather.lock();
        (weather.calls_lost, weather.calls_late) = (lost, late);
        drop(weather);
        let name = self.replicas[which].name;
        self.note(&format!("calls of {name} are lost {lost}, late {late}"));
    }

    fn registrations_are_throttled(&mut self) {
        let rate = self.random.between(1, 8) as f64 / 2.0;
        for elb in self.world.accounts.all() {
            elb.faults().throttle_registration(rate, 2);
        }
        self.note(&format!("ELB throttles registrations to {rate}"));
    }

    fn registrations_show_late(&mut self) {
        let lag = self.random.millis(0, 4_000);
        for elb in self.world.accounts.all() {
            elb.faults().show_registrations_after(lag);
        }
        self.note(&format!("registrations show after {lag:?}"));
    }

    /// A dependency of an app breaks: all its pods become unready, one soon after the other.
    async fn all_become_unready(&mut self) {
        let Some((namespace, app, _)) = self.some_served() else {
            return;
        };
        let pods: Vec<(Key, Pod)> = {
            let facts = self.world.facts.lock();
            let all = facts.pods.iter();
            let mine = all.filter(|((of, _), pod)| {
                *of == namespace && pod.ready && pod.labels.get("app") == Some(&app)
            });
            mine.map(|(key, pod)| (key.clone(), pod.clone())).collect()
        };
        self.note(&format!("all pods of {namespace}/{app} become unready"));
        for (key, pod) in pods {
            self.readiness(&key, &pod, false).await;
            let time = self.random.millis(0, 8_000);
            self.pass(time).await;
        }
        // The floor is judged by an answer that may have to be requested.
        self.pass(UNREADY_FOR).await;
    }

    fn target_is_removed_by_hand(&mut self) {
        let wanted = self.world.facts.lock().targets();
        let all: Vec<(String, SocketAddr)> = wanted
            .into_iter()
            .flat_map(|(arn, targets)| targets.into_iter().map(move |t| (arn.clone(), t)))
            .collect();
        let Some((arn, target)) = self.random.pick(&all) else {
            return;
        };
        self.note(&format!("{target} is removed by hand"));
        let elb = self.world.accounts.of(&arn);
        elb.deregister(&arn, target.ip(), target.port()).unwrap();
    }

    fn another_registers(&mut self) {
        let arns: Vec<String> = {
            let facts = self.world.facts.lock();
            facts.groups.values().flatten().cloned().collect()
        };
        let Some(arn) = self.random.pick(&arns) else {
            return;
        };
        self.register_foreign(&arn, FOREIGN);
    }

    pub(crate) fn register_foreign(&mut self, arn: &str, ip: &str) {
        let target = target(ip);
        self.note(&format!("another registers {target}"));
        let elb = self.world.accounts.of(arn);
        elb.register(arn, target.ip(), PORT).unwrap();
        let foreign = (arn.to_owned(), target);
        self.world.facts.lock().foreign.insert(foreign);
    }

    /// The targets that are not where they should be: wanted ones outside of their groups, those of others that have
    /// left, and those of pods that have ended.
    pub(crate) fn misplaced(&self) -> Vec<Wrong> {
        let facts = self.world.facts.lock();
        let wanted = facts.targets();
        let mut misplaced = vec![];
        for (arn, targets) in &wanted {
            let outside = targets.iter().filter(|t| !self.world.is_in(arn, **t));
            misplaced.extend(outside.map(|target| Wrong {
                what: format!("{target} is outside of {arn}"),
                until: facts.pauses_until(arn, *target),
            }));
        }
        let left = facts.foreign.iter();
        // What was in a group of the incumbent's is ours to take out once that is taken over.
        let left = left.filter(|(arn, _)| !facts.incumbent.claimed.contains(arn));
        let left = left.filter(|(arn, target)| !self.world.is_in(arn, *target));
        let left = left.map(|(arn, target)| format!("{target} of another left {arn}"));
        misplaced.extend(left.map(Wrong::now));
        let lives = |target: &SocketAddr| {
            let mut pods = facts.pods.values();
            is_podless(target.ip()) || pods.any(|p| p.target().ip() == target.ip())
        };
        for (arn, targets) in &facts.put_in {
            let wanted = wanted.get(arn).map(Vec::as_slice).unwrap_or_default();
            let held = |t: &&SocketAddr| lives(t) && !wanted.contains(t);
            // Those that nothing wants may hold what a list merely lacked at the floor.
            if wanted.is_empty()
                || targets
                    .keys()
                    .any(|t| held(&t) && self.world.is_in(arn, *t))
            {
                continue;
            }
            let ended = targets.keys().filter(|target| !lives(target));
            let ended = ended.filter(|target| self.world.is_in(arn, **target));
            let ended = ended.map(|t| format!("{t} has ended, and is in {arn}"));
            misplaced.extend(ended.map(Wrong::now));
        }
        misplaced
    }

    /// A binding that is served, by the namespace and app of its pods, and its group.
    pub(crate) fn some_served(&mut self) -> Option<(String, String, String)> {
        let served: Vec<(String, String, String)> = {
            let facts = self.world.facts.lock();
            let bindings = facts.bindings.iter();
            let bindings = bindings.filter(|(key, b)| !b.terminating && facts.is_served(key));
            let served = bindings.filter_map(|((namespace, _), binding)| {
                let service = facts
                    .services
                    .get(&(namespace.clone(), binding.service.clone()))?;
                let app = service.selector.get("app")?;
                Some((namespace.clone(), app.clone(), binding.arn.clone()))
            });
            served.collect()
        };
        self.random.pick(&served)
    }

    pub(crate) async fn held_back(&mut self, key: Option<Key>) -> Option<(Key, Pod)> {
        let key = key?;
        let pod = self.world.facts.lock().pods.get(&key).cloned()?;
        self.hold_back(&pod);
        Some((key, pod))
    }

    /// Judges that a late call of a leader that has left is undone by its successor. The call puts in what ends
    /// meanwhile, or takes out what is wanted again meanwhile.
    pub(crate) async fn judge_late_call(&mut self) {
        let Some((namespace, app, arn)) = self.some_served() else {
            return;
        };
        let holder = self.world.witness.holder().unwrap_or_default();
        let mut names = self.replicas.iter().map(|replica| replica.name);
        let Some(leads) = names.position(|name| holder.starts_with(name)) else {
            return;
        };
        let registers = self.random.percent(50);
        let key = self.ungated_pod(&namespace, &app, (None, None)).await;
        let Some((key, pod)) = self.held_back(key).await else {
            return;
        };
        if !registers {
            self.readiness(&key, &pod, true).await;
            self.pass(IN_WITHIN).await;
        }
        let late = Weather {
            calls_late: 100,
            ..Weather::default()
        };
        *self.replicas[leads].weather.lock() = late;
        self.note(&format!("{holder} leaves, and a call of it is late"));
        match registers {
            true => self.readiness(&key, &pod, true).await,
            false => _ = self.remove(&key).await,
        }
        // The window in which targets are collected, and a write of the record.
        self.pass(Duration::from_millis(200)).await;
        self.replicas[leads].stop();
        self.replicas[leads].starts_at = Instant::now() + REPAIRED_WITHIN;
        match registers {
            true => _ = self.remove(&key).await,
            false => {
                let at = (None, Some(pod.ip.as_str()));
                let key = self.ungated_pod(&namespace, &app, at).await;
                if let Some((key, pod)) = self.held_back(key).await {
                    self.readiness(&key, &pod, true).await;
                }
            }
        }
        self.pass(REPAIRED_WITHIN).await;
        *self.replicas[leads].weather.lock() = Weather::default();
        if self.world.is_in(&arn, pod.target()) == registers {
            let what = format!("{} of {arn}, registers: {registers}", pod.ip);
            self.world
                .trace
                .violated("late calls of a former leader are undone", &what);
        }
    }
}
