//! The driver draws what happens from a seed, step by step.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::{Value, json};
use targetgate_core::model::Policies;
use targetgate_core::targets::slices::SliceAddresses;
use targetgate_sandbox::elb::faults::On;
use tokio::time::{Instant, sleep};

use crate::drained::{DRAINED, DRAINS, Gated};
use crate::facts::{Key, Pod, Service};
use crate::line::Weather;
use crate::random::Random;
use crate::replica::{Replica, Setup};
use crate::slices::six;
use crate::world::World;

/// The steps of one run. Chosen.
const STEPS: usize = 18;
/// The time in which the replicas make a certificate that the API server trusts. Chosen.
const CERTIFIED_WITHIN: Duration = Duration::from_secs(8);
/// The highest percentage of answers that arrive later than the events of watches, before anything goes wrong.
/// Chosen.
const SLOW: u64 = 40;
/// The number of addresses that the pods of a namespace share. Chosen, so small that addresses are reused soon.
const ADDRESSES: u64 = 7;
/// The percentage of namespaces that have a Service without a selector from the start. Chosen.
const SLICED: u64 = 60;
const CONDITION_PREFIX: &str = "target-health.elbv2.k8s.aws";

/// The run of one seed.
pub(crate) struct Driver {
    pub(crate) world: World,
    pub(crate) random: Random,
    pub(crate) replicas: [Replica; 2],
    pub(crate) namespaces: Vec<String>,
    /// By UID, the pods whose containers are going to be ready, and when.
    starting: BTreeMap<String, (Instant, Key)>,
    /// The number in the name of the next object.
    number: usize,
    /// Groups and calls with a fault that has to end.
    pub(crate) hanging: Vec<On>,
    pub(crate) frozen: Vec<String>,
    /// The namespaces whose addresses are outside the VPC, by the third number of these.
    pub(crate) outside: BTreeSet<String>,
    /// Whether AWS has lower quotas than it commonly has.
    pub(crate) limited: bool,
    /// Whether all faults have ended for so long that the replicas know the API server's version.
    pub(crate) healed: bool,
}

impl Driver {
    pub(crate) async fn new(seed: u64) -> Self {
        let mut random = Random::new(seed);
        // Every other seed has our own registrar.
        let registers = seed.is_multiple_of(2);
        let world = World::of_seed(&mut random, registers).await;
        // Where it is that, every other seed takes endpoints without a pod.
        let takes_podless = seed.is_multiple_of(4);
        world.facts.lock().takes_podless = takes_podless;
        let setup = Setup {
            registers,
            slice_addresses: match takes_podless {
                true => SliceAddresses::Any,
                false => SliceAddresses::Pods,
            },
            ..Setup::of_seeds()
        };
        let mut driver = Self {
            world,
            random,
            replicas: ["a", "b"].map(|name| Replica::new(name, setup.clone())),
            namespaces: vec![],
            starting: BTreeMap::new(),
            number: 0,
            hanging: vec![],
            frozen: vec![],
            outside: BTreeSet::new(),
            limited: false,
            healed: false,
        };
        driver.attend_replicas().await;
        sleep(CERTIFIED_WITHIN).await;
        for replica in &driver.replicas {
            let slow = driver.random.between(0, SLOW);
            let weather = Weather {
                slow,
                ..Weather::default()
            };
            *replica.weather.lock() = weather;
        }
        for n in 1..=driver.random.between(1, 2) {
            driver.namespace(&format!("ns-{n}")).await;
        }
        driver
    }

    /// Takes all steps, until an invariant is broken.
    pub(crate) async fn drive(&mut self) {
        self.begin_policies().await;
        for _ in 0..STEPS {
            self.step().await;
            let pause = self.random.millis(0, 400).max(Duration::from_millis(1));
            let long = self
                .random
                .percent(40)
                .then(|| self.random.millis(1_000, 15_000));
            self.pass(long.unwrap_or(pause)).await;
            if !self.world.trace.violations().is_empty() {
                return;
            }
        }
    }

    /// Lets time pass, in which containers become ready and replicas are started.
    pub(crate) async fn pass(&mut self, time: Duration) {
        let end = Instant::now() + time;
        loop {
            self.attend_replicas().await;
            self.attend_pods().await;
            self.world.witness.see_bindings_go();
            let wakes = self.starting.values().map(|(at, _)| *at);
            let wake = wakes.chain([end]).min().unwrap_or(end);
            let wake = wake.min(Instant::now() + Duration::from_secs(1));
            tokio::time::sleep_until(wake).await;
            if Instant::now() >= end {
                return;
            }
        }
    }

    pub(crate) async fn attend_replicas(&mut self) {
        for replica in &mut self.replicas {
            replica.bury(&self.world).await;
            if replica.life.is_none() && replica.starts_at <= Instant::now() {
                replica.start(&self.world, &mut self.random);
            }
        }
    }

    async fn attend_pods(&mut self) {
        let now = Instant::now();
        let ready: Vec<(String, Key)> = self
            .starting
            .iter()
            .filter(|(_, (at, _))| *at <= now)
            .map(|(uid, (_, key))| (uid.clone(), key.clone()))
            .collect();
        for (uid, key) in ready {
            self.starting.remove(&uid);
            let known = self.world.facts.lock().pods.get(&key).cloned();
            if let Some(pod) = known.filter(|pod| pod.uid == uid && !pod.terminating) {
                self.readiness(&key, &pod, true).await;
            }
        }
    }

    /// Reports as the kubelet whether the containers of a pod are ready.
    pub(crate) async fn readiness(&mut self, key: &Key, pod: &Pod, ready: bool) {
        let since = (self.world.now)()
            .strftime("%Y-%m-%dT%H:%M:%SZ")
            .to_string();
        let mut ips = vec![json!({ "$patch": "replace" }), json!({ "ip": pod.ip })];
        ips.extend(
            self.world
                .product_registers
                .then(|| json!({ "ip": six(&pod.ip) })),
        );
        let status = json!({ "status": {
            "phase": "Running", "podIP": pod.ip, "podIPs": ips,
            "conditions": [{
                "type": "ContainersReady", "status": if ready { "True" } else { "False" },
                "lastTransitionTime": since,
            }],
        } });
        let path = format!("{}/status", pod_path(key));
        let occupants = (pod.ip.clone(), pod.uid.clone());
        if ready {
            let mut facts = self.world.facts.lock();
            let here = facts.occupants.entry(occupants.0).or_default();
            here.insert(occupants.1);
            facts
                .due
                .entry(pod.uid.clone())
                .or_insert_with(Instant::now);
        }
        let (code, _) = self.world.call("PATCH", &path, Some(status)).await;
        if code == 200 {
            let mut facts = self.world.facts.lock();
            if let Some(pod) = facts.pods.get_mut(key) {
                pod.ready = ready;
            }
        } else if ready {
            self.starts(key, &pod.uid, Duration::from_secs(1));
        }
    }

    /// Keeps the containers of a new pod from becoming ready.
    pub(crate) fn hold_back(&mut self, pod: &Pod) {
        self.starting.remove(&pod.uid);
    }

    fn starts(&mut self, key: &Key, uid: &str, after: Duration) {
        let at = Instant::now() + after;
        self.starting.insert(uid.to_owned(), (at, key.clone()));
    }

    /// Creates a namespace with Services and bindings.
    async fn namespace(&mut self, name: &str) {
        let mut namespace = json!({ "metadata": {
            "name": name,
            "labels": { "elbv2.k8s.aws/pod-readiness-gate-inject": "enabled" },
        } });
        if name == DRAINS {
            namespace["metadata"]["labels"]["targetgate.dev/drain"] = json!("sleep");
        }
        self.world
            .call("POST", "/api/v1/namespaces", Some(namespace))
            .await;
        self.namespaces.push(name.to_owned());
        let services = self.random.between(1, 2);
        for n in 1..=services {
            let key = (name.to_owned(), format!("svc-{n}"));
            self.service(&key, &format!("svc-{n}")).await;
        }
        for n in 1..=self.random.between(1, 3) {
            let service = format!("svc-{}", self.random.between(1, services));
            self.bind(&(name.to_owned(), format!("tgb-{n}")), &service)
                .await;
        }
        for n in 1..=services {
            for _ in 0..2 {
                self.pod(name, &format!("svc-{n}"), None, None).await;
            }
        }
        if self.world.product_registers && self.random.percent(SLICED) {
            let service = (name.to_owned(), "ext-1".to_owned());
            self.sliced_service_comes(&service).await;
        }
    }

    /// Creates a Service that selects the pods of an app.
    pub(crate) async fn service(&mut self, key: &Key, app: &str) {
        let (namespace, name) = key;
        let service = json!({
            "metadata": { "name": name },
            "spec": { "selector": { "app": app }, "ports": [{ "port": 80, "targetPort": 8080 }] },
        });
        let path = format!("/api/v1/namespaces/{namespace}/services");
        let (code, _) = self.world.call("POST", &path, Some(service)).await;
        if code == 201 {
            let selector = BTreeMap::from([("app".to_owned(), app.to_owned())]);
            let mut facts = self.world.facts.lock();
            facts.services.insert(key.clone(), Service { selector });
            facts.remember();
        }
    }

    /// Creates a binding of a Service to a group of its own, which is sometimes in the other account.
    pub(crate) async fn bind(&mut self, key: &Key, service: &str) {
        let theirs = self.random.percent(30);
        self.bind_in(key, service, theirs).await;
    }

    /// Creates a binding whose group is in the other account or in ours. An existing group stays where it is.
    pub(crate) async fn bind_in(&mut self, key: &Key, service: &str, theirs: bool) {
        let (namespace, name) = key;
        let group = format!("{namespace}-{name}");
        let known = self.world.facts.lock().groups.get(key).cloned();
        let known = known.and_then(|groups| groups.first().cloned());
        let arn = known.unwrap_or_else(|| self.world.group(&group, theirs));
        let multi = self.world.product_registers && self.random.percent(25);
        self.bind_to(key, service, &arn, multi).await;
    }

    /// Creates a pod of an app, whose containers become ready after a while. Returns its name if it was
    /// created.
    pub(crate) async fn pod(
        &mut self,
        namespace: &str,
        app: &str,
        name: Option<&str>,
        ip: Option<&str>,
    ) -> Option<Key> {
        let by_hand = self
            .random
            .percent(15)
            .then(|| self.some_binding(namespace))
            .flatten();
        self.gated_pod(namespace, app, (name, ip), by_hand).await
    }

    /// Creates a pod to which its owner may have given a gate by hand.
    pub(crate) async fn gated_pod(
        &mut self,
        namespace: &str,
        app: &str,
        at: (Option<&str>, Option<&str>),
        by_hand: Option<String>,
    ) -> Option<Key> {
        let kept = json!({ "keep": "me" });
        self.annotated_pod(namespace, app, at, by_hand, kept).await
    }

    /// Creates a pod that is opted out of its gates.
    pub(crate) async fn ungated_pod(
        &mut self,
        namespace: &str,
        app: &str,
        at: (Option<&str>, Option<&str>),
    ) -> Option<Key> {
        let opted_out = json!({ "targetgate.dev/gate": "false" });
        self.annotated_pod(namespace, app, at, None, opted_out)
            .await
    }

    async fn annotated_pod(
        &mut self,
        namespace: &str,
        app: &str,
        (name, ip): (Option<&str>, Option<&str>),
        by_hand: Option<String>,
        annotations: Value,
    ) -> Option<Key> {
        self.number += 1;
        let name = name.map_or_else(|| format!("{app}-{}", self.number), str::to_owned);
        let key: Key = (namespace.to_owned(), name.clone());
        let ip = ip
            .map(str::to_owned)
            .or_else(|| self.free_address(namespace))?;
        let by_hand = by_hand.map(|name| json!([{ "conditionType": gate(&name) }]));
        let end = self.some_end(namespace, app);
        let mut pod = json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": { "name": name, "labels": { "app": app }, "annotations": annotations },
            "spec": {
                "nodeName": "node-1",
                "readinessGates": by_hand.unwrap_or_else(|| json!([{ "conditionType": "example.com/own" }])),
            },
        });
        end.write_into(&mut pod);
        let path = format!("/api/v1/namespaces/{namespace}/pods");
        let (code, made) = self.world.call("POST", &path, Some(pod.clone())).await;
        if code == 422 {
            let what = format!("{key:?}: {pod}: {made}");
            self.world.trace.violated("no pod refused", &what);
        }
        if code != 201 {
            return None;
        }
        self.expect_kept(&key, &pod, &made);
        let gated = match (gates(&pod).len(), gates(&made).len()) {
            (_, 0) => Gated::Never,
            (sent, made) if sent == made => Gated::ByHand,
            _ => Gated::ByUs,
        };
        self.expect_drained(&key, &end, &made, gated);
        let known = Pod {
            uid: text(&made["metadata"]["uid"]),
            ip,
            labels: BTreeMap::from([("app".to_owned(), app.to_owned())]),
            gates: gates(&made),
            ready: false,
            terminating: false,
            policies: Policies::default(),
        };
        self.world
            .trace
            .note("world", &format!("{name} has {:?}", known.gates));
        let after = self.random.millis(0, 6_000);
        self.starts(&key, &known.uid, after);
        let mut facts = self.world.facts.lock();
        facts.pods.insert(key.clone(), known);
        if !facts.names.contains(&key) {
            facts.names.push(key.clone());
        }
        facts.remember();
        Some(key)
    }

    /// Judges that the created pod has everything that was sent, and each gate once.
    fn expect_kept(&self, key: &Key, sent: &Value, made: &Value) {
        let all = |pod: &Value| {
            pod["spec"]["readinessGates"]
                .as_array()
                .cloned()
                .unwrap_or_default()
        };
        let (mut asked, has) = (all(sent), all(made));
        let twice = has
            .iter()
            .enumerate()
            .any(|(n, gate)| has[..n].contains(gate));
        asked.retain(|gate| !has.contains(gate));
        let kept = ["/metadata/labels", "/spec/containers/0/env"]
            .iter()
            .all(|at| sent.pointer(at) == made.pointer(at))
            && kept_annotations(sent, made);
        if twice || !asked.is_empty() || !kept {
            let what = format!("{key:?}: {sent} became {made}");
            self.world.trace.violated("no gate lost or doubled", &what);
        }
    }

    /// An address that no pod has. There are so few that most of them had another pod before.
    pub(crate) fn free_address(&mut self, namespace: &str) -> Option<String> {
        let facts = self.world.facts.lock();
        let taken: Vec<&str> = facts.pods.values().map(|pod| pod.ip.as_str()).collect();
        let all = addresses(namespace).into_iter();
        let free: Vec<String> = all.filter(|ip| !taken.contains(&ip.as_str())).collect();
        drop(facts);
        self.random.pick(&free)
    }

    fn some_binding(&mut self, namespace: &str) -> Option<String> {
        let groups: Vec<Key> = self.world.facts.lock().groups.keys().cloned().collect();
        let here: Vec<Key> = groups
            .into_iter()
            .filter(|(of, _)| of == namespace)
            .collect();
        self.random.pick(&here).map(|(_, name)| name)
    }
}

/// Whether a created pod has each annotation that was sent, but for that of its end.
fn kept_annotations(sent: &Value, made: &Value) -> bool {
    let annotations = |pod: &Value| {
        let mut annotations = pod["metadata"]["annotations"].clone();
        annotations.as_object_mut().map(|all| all.remove(DRAINED));
        annotations
    };
    annotations(sent) == annotations(made)
}

/// All addresses for the pods of a namespace.
pub(crate) fn addresses(namespace: &str) -> Vec<String> {
    let part = namespace.rsplit('-').next().unwrap_or_default();
    (1..=ADDRESSES)
        .map(|n| format!("10.0.{part}.{n}"))
        .collect()
}

pub(crate) fn gate(binding: &str) -> String {
    format!("{CONDITION_PREFIX}/{binding}")
}

/// The names of the bindings that a pod's gates name.
fn gates(pod: &Value) -> Vec<String> {
    let gates = pod["spec"]["readinessGates"].as_array();
    let kinds = gates
        .into_iter()
        .flatten()
        .filter_map(|gate| gate["conditionType"].as_str());
    let ours = kinds.filter_map(|kind| kind.strip_prefix(CONDITION_PREFIX)?.strip_prefix('/'));
    ours.map(str::to_owned).collect()
}

pub(crate) fn pod_path((namespace, name): &Key) -> String {
    format!("/api/v1/namespaces/{namespace}/pods/{name}")
}

pub(crate) fn bindings_path(namespace: &str) -> String {
    format!("/apis/elbv2.k8s.aws/v1beta1/namespaces/{namespace}/targetgroupbindings")
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}
