//! The steps and the end of a run in which the product registers targets.

use std::net::{IpAddr, SocketAddr};

use serde_json::{Value, json};

use crate::direct;
use crate::driver::Driver;
use crate::facts::{Key, PORT, Pod, target};
use crate::world::World;

/// The finalizer of another controller.
const OTHERS: &str = "example.com/held";
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
        match self.random.below(12) {
            0..3 => self.calls_have_trouble(),
            3 => self.registrations_are_throttled(),
            4 => self.registrations_show_late(),
            5 => self.refused_pod_comes().await,
            6..9 => self.all_become_unready().await,
            9 => self.target_is_removed_by_hand(),
            _ => self.another_registers(),
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

    async fn refused_pod_comes(&mut self) {
        let (namespace, app) = (self.some_namespace(), self.some_app());
        self.refused_pod(&namespace, &app).await;
    }

    /// Creates a pod whose address ELB refuses as a target.
    async fn refused_pod(&mut self, namespace: &str, app: &str) -> Option<Key> {
        let part = namespace.rsplit('-').next().unwrap_or_default();
        let ip = format!("10.0.{part}.{}", self.random.between(200, 250));
        let address: IpAddr = ip.parse().unwrap();
        for elb in self.world.accounts.all() {
            elb.refuse(address);
        }
        self.world.facts.lock().refused.insert(ip.clone());
        self.note(&format!("ELB refuses {ip}"));
        self.ungated_pod(namespace, app, (None, Some(&ip))).await
    }

    /// Deletes the pods whose addresses ELB refuses.
    pub(crate) async fn refused_pods_go(&mut self) {
        let refused: Vec<Key> = {
            let facts = self.world.facts.lock();
            let pods = facts.pods.iter();
            let refused = pods.filter(|(_, pod)| facts.refused.contains(&pod.ip));
            refused.map(|(key, _)| key.clone()).collect()
        };
        for key in refused {
            self.remove(&key).await;
        }
    }

    /// A dependency of an app breaks: all its pods become unready, one soon after the other.
    async fn all_become_unready(&mut self) {
        let (namespace, app) = (self.some_namespace(), self.some_app());
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
        elb.deregister(&arn, target.ip(), PORT).unwrap();
    }

    fn another_registers(&mut self) {
        let arns: Vec<String> = {
            let facts = self.world.facts.lock();
            facts.groups.values().flatten().cloned().collect()
        };
        let Some(arn) = self.random.pick(&arns) else {
            return;
        };
        let target = target(FOREIGN);
        self.note(&format!("another registers {target}"));
        let elb = self.world.accounts.of(&arn);
        elb.register(&arn, target.ip(), PORT).unwrap();
        self.world.facts.lock().foreign.insert((arn, target));
    }

    /// The targets that are not where they should be: wanted ones outside of their groups, those of others that have
    /// left, and those of pods that have ended.
    pub(crate) fn misplaced(&self) -> Vec<String> {
        let facts = self.world.facts.lock();
        let wanted = facts.targets();
        let mut misplaced = vec![];
        for (arn, targets) in &wanted {
            let outside = targets.iter().filter(|t| !self.world.is_in(arn, **t));
            misplaced.extend(outside.map(|t| format!("{t} is outside of {arn}")));
        }
        let left = facts.foreign.iter();
        let left = left.filter(|(arn, target)| !self.world.is_in(arn, *target));
        misplaced.extend(left.map(|(arn, target)| format!("{target} of another left {arn}")));
        let lives = |target: &SocketAddr| facts.pods.values().any(|p| p.target() == *target);
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
            misplaced.extend(ended.map(|t| format!("{t} has ended, and is in {arn}")));
        }
        misplaced
    }
}
