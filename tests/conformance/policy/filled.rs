//! GateRules filled with whatever the schema lets through, as only an account with our rights could: no pod is refused.

use std::collections::BTreeMap;

use fastrand::Rng;
use serde_json::{Map, Value, json};

use crate::policy::cluster;
use crate::servers::{Cluster, pod};
use crate::shop::gate;

/// How many objects are drawn that the schema takes, with three pods each. Chosen: they take ten seconds.
const OBJECTS: usize = 200;
/// Values of labels.
const VALUES: [&str; 4] = ["app", "web", "", "tier"];

/// A text of these characters, of a length that is often an extreme.
fn text(rng: &mut Rng, characters: &str, most: usize) -> String {
    let characters: Vec<char> = characters.chars().collect();
    let length = match rng.u8(..4) {
        0 => most,
        1 => 1,
        _ => rng.usize(..=most),
    };
    let drawn = (0..length).map(|_| characters[rng.usize(..characters.len())]);
    drawn.collect()
}

fn drawn_gate(rng: &mut Rng) -> String {
    let name = format!("a{}0", text(rng, "aB0-_.", 61));
    match rng.u8(..16) {
        0 => gate(&text(rng, "aé \n/", 70)),
        1 => format!("{}/{name}", text(rng, "a0-.", 253)),
        2 => format!("target-health.alb.ingress.k8s.aws/{name}"),
        3 => format!("example.com/{name}"),
        _ => gate(&name),
    }
}

/// The labels of a pod.
fn drawn_labels(rng: &mut Rng) -> Map<String, Value> {
    let names = ["app", "web", "a.b/c", "tier"];
    let pairs = names.map(|name| (name.to_owned(), json!(VALUES[rng.usize(..VALUES.len())])));
    pairs.into_iter().collect()
}

/// A pair of these labels, or any other.
fn drawn_pair(rng: &mut Rng, labels: &Map<String, Value>) -> (String, String) {
    match rng.u8(..5) {
        0 => (text(rng, "aé=/ \n.", 63), text(rng, "aé=/ \n.", 63)),
        _ => {
            let (name, value) = labels.iter().nth(rng.usize(..labels.len())).unwrap();
            (name.clone(), value.as_str().unwrap().to_owned())
        }
    }
}

fn drawn_rule(rng: &mut Rng, labels: &Map<String, Value>) -> Value {
    let orders = [i64::from(i32::MIN), i64::from(i32::MAX), 0, 7];
    let order = match rng.u8(..30) {
        0 => 1 << 40,
        _ => orders[rng.usize(..orders.len())],
    };
    let pairs = (0..rng.usize(1..4)).map(|_| drawn_pair(rng, labels));
    let selector: BTreeMap<String, String> = pairs.collect();
    json!({ "order": order, "gate": drawn_gate(rng), "selector": selector })
}

fn drawn_spec(rng: &mut Rng, labels: &Map<String, Value>) -> Value {
    let mut by_label = Map::new();
    for _ in 0..rng.usize(1..4) {
        let (name, value) = drawn_pair(rng, labels);
        let rules = (0..rng.usize(..3)).map(|_| drawn_rule(rng, labels));
        by_label.insert(format!("{name}={value}"), rules.collect());
    }
    json!({ "byLabel": by_label })
}

impl Cluster {
    /// Writes rules, with one of a label `world` besides, and waits until the policy reads them. Says whether the schema
    /// takes them.
    async fn take_rules(&self, mut spec: Value, mark: &str) -> bool {
        if self.put_rules(&spec).await.is_err() {
            return false;
        }
        let rule = json!({ "order": 0, "gate": gate(mark), "selector": { "world": mark } });
        spec["byLabel"][format!("world={mark}")] = json!([rule]);
        self.put_rules(&spec).await.unwrap();
        self.reads_rules_of(mark).await;
        true
    }
}

#[tokio::test]
async fn no_pod_is_refused_whatever_the_schema_lets_into_the_rules() {
    let cluster = cluster().await;
    let (mut rng, mut taken, mut refused, mut changed) = (Rng::with_seed(3), 0, 0, 0);
    while taken < OBJECTS {
        let labels = drawn_labels(&mut rng);
        let spec = drawn_spec(&mut rng, &labels);
        let mark = format!("mark-{taken}");
        if !cluster.take_rules(spec.clone(), &mark).await {
            refused += 1;
            continue;
        }
        taken += 1;
        for labels in [labels, drawn_labels(&mut rng), drawn_labels(&mut rng)] {
            let brought = json!([{ "conditionType": "example.com/ready" }]);
            let wanted =
                json!({ "metadata": { "labels": labels }, "spec": { "readinessGates": brought } });
            let given = cluster.gates_of(pod("a", wanted)).await;
            let given = given.unwrap_or_else(|error| panic!("{labels:?} under {spec}: {error}"));
            changed += usize::from(given.len() > 1);
        }
    }
    println!("{taken} objects taken, {refused} not; {changed} pods changed");
    assert!(refused > 0 && changed > OBJECTS / 4, "{refused} {changed}");
}
