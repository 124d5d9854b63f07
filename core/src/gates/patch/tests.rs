//! The patch does what was decided, and nothing else: for any pod.

use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;
use proptest::sample::{select, subsequence};

use super::*;
use crate::gates::inject::{GatePolicy, NewPod, decide};
use crate::index::services::ServiceIndex;
use crate::model::{Binding, IpFamily, Labels, Policies, Registration, Service, TargetType};
use crate::names::{BindingApi, LEGACY_CONDITION_PREFIX, is_legacy_gate};

const NAMES: [&str; 4] = ["api", "web", "web-2", "ünïcode"];

/// A namespace's bindings, in the order of their names, and its Services.
#[derive(Debug)]
struct World {
    bindings: Vec<Binding>,
    services: BTreeMap<Arc<str>, Service>,
}

impl World {
    fn routes(&self) -> ServiceIndex {
        let mut routes = ServiceIndex::default();
        for binding in &self.bindings {
            routes.apply_binding(binding.clone());
        }
        for (name, service) in &self.services {
            routes.apply_service(name, service.clone());
        }
        routes
    }
}

/// What the decision of a pod gives: the patched pod and how many operations it took.
fn carry_out(world: &World, pod: &Value) -> (Value, Patch) {
    let gates = gates(pod);
    let gates: Vec<&str> = gates.iter().map(String::as_str).collect();
    let new = NewPod {
        labels: &labels(pod),
        gates: &gates,
        opted_out: false,
    };
    let (routes, policy) = (world.routes(), GatePolicy::default());
    let decision = decide(&new, &routes, &policy);
    let patch = of_pod(&decision, pod["spec"]["readinessGates"].is_array());
    let mut patched = pod.clone();
    json_patch::patch(&mut patched, &patch).unwrap();
    (patched, patch)
}

fn gates(pod: &Value) -> Vec<String> {
    let gates = pod["spec"]["readinessGates"].as_array();
    let types = gates.into_iter().flatten().map(|g| &g["conditionType"]);
    types.map(|t| t.as_str().unwrap().to_owned()).collect()
}

fn labels(pod: &Value) -> Labels {
    let labels = pod["metadata"]["labels"].as_object().into_iter().flatten();
    labels
        .map(|(k, v)| (k.as_str().into(), v.as_str().unwrap().into()))
        .collect()
}

/// The gates that contract 2 asks for, computed without the code under test.
fn due(world: &World, pod: &Value) -> Vec<String> {
    let labels = labels(pod);
    let selected = world.bindings.iter().filter(|b| {
        b.target_type == Some(TargetType::Ip)
            && !b.opted_out
            && world.services.get(&b.service).is_some_and(|s| {
                let mut selector = s.selector.iter();
                !s.selector.is_empty()
                    && !s.opted_out
                    && !s.external_name
                    && selector.all(|(k, v)| labels.get(k) == Some(v))
            })
    });
    selected
        .map(|b| format!("target-health.elbv2.k8s.aws/{}", b.name))
        .collect()
}

/// Labels from so few words that selectors match often.
fn some_labels() -> impl Strategy<Value = BTreeMap<&'static str, &'static str>> {
    let key = select(vec!["app", "tier", "größe"]);
    proptest::collection::btree_map(key, select(vec!["web", "", "日本"]), 0..3)
}

fn some_service() -> impl Strategy<Value = Service> {
    let flag = || proptest::bool::weighted(0.1);
    (some_labels(), flag(), flag()).prop_map(|(selector, external_name, opted_out)| Service {
        selector: selector
            .iter()
            .map(|(k, v)| (Arc::from(*k), Arc::from(*v)))
            .collect(),
        external_name,
        publish_not_ready: false,
        ports: vec![],
        opted_out,
    })
}

fn some_binding(name: &'static str) -> impl Strategy<Value = Binding> {
    let types = vec![
        Some(TargetType::Ip),
        Some(TargetType::Ip),
        Some(TargetType::Instance),
        None,
    ];
    let parts = (
        select(types),
        select(NAMES.to_vec()),
        proptest::bool::weighted(0.1),
    );
    parts.prop_map(move |(target_type, service, opted_out)| Binding {
        api: BindingApi::Elbv2,
        name: name.into(),
        uid: None,
        arn: None,
        group_name: Some("web".into()),
        target_type,
        family: IpFamily::V4,
        load_balancer: None,
        service: service.into(),
        port: None,
        role: None,
        multi_cluster: false,
        opted_out,
        terminating: false,
        policies: Policies::default(),
        registration: Registration::default(),
        unreadable: vec![],
    })
}

fn some_world() -> impl Strategy<Value = World> {
    let services = proptest::collection::btree_map(select(NAMES.to_vec()), some_service(), 0..4);
    let bindings = subsequence(NAMES.to_vec(), 0..=NAMES.len())
        .prop_flat_map(|names| names.into_iter().map(some_binding).collect::<Vec<_>>());
    (bindings, services).prop_map(|(bindings, services)| World {
        bindings,
        services: services.into_iter().map(|(k, v)| (k.into(), v)).collect(),
    })
}

/// An absent list, an explicit null, or a list of gates, foreign, legacy, ours, even twice.
fn some_gates() -> impl Strategy<Value = Option<Value>> {
    let prefix = select(vec![
        "example.com",
        LEGACY_CONDITION_PREFIX,
        "target-health.elbv2.k8s.aws",
    ]);
    let gate = (prefix, select(NAMES.to_vec()))
        .prop_map(|(prefix, name)| json!({ "conditionType": format!("{prefix}/{name}") }));
    let list = proptest::collection::vec(gate, 0..6).prop_map(|list| Some(Value::Array(list)));
    prop_oneof![Just(None), Just(Some(Value::Null)), list]
}

fn some_pod() -> impl Strategy<Value = Value> {
    (some_labels(), some_gates(), any::<String>()).prop_map(|(labels, gates, text)| {
        let mut pod = json!({
            "kind": "Pod",
            "metadata": { "labels": labels, "annotations": { "text": text } },
            "spec": { "containers": [{ "name": "web", "unknownField": [1, null, text] }] },
        });
        if let Some(gates) = gates {
            pod["spec"]["readinessGates"] = gates;
        }
        pod
    })
}

/// The pod without its gates: what no patch of ours may change.
fn without_gates(pod: &Value) -> Value {
    let mut rest = pod.clone();
    rest["spec"]
        .as_object_mut()
        .unwrap()
        .remove("readinessGates");
    rest
}

proptest! {
    #[test]
    fn the_patched_pod_has_its_gates_then_those_due_and_nothing_else_changed(
        world in some_world(),
        pod in some_pod(),
    ) {
        let due = due(&world, &pod);
        let mut planned = gates(&pod);
        if !due.is_empty() {
            planned.retain(|gate| !is_legacy_gate(gate));
        }
        let missing: Vec<_> = due.into_iter().filter(|gate| !planned.contains(gate)).collect();
        planned.extend(missing);

        let (patched, _) = carry_out(&world, &pod);
        prop_assert_eq!(gates(&patched), planned);
        prop_assert_eq!(without_gates(&patched), without_gates(&pod));
    }

    #[test]
    fn deciding_again_over_the_result_gives_no_patch(world in some_world(), pod in some_pod()) {
        let (patched, _) = carry_out(&world, &pod);
        let (_, again) = carry_out(&world, &patched);
        prop_assert!(again.is_empty(), "{again}");
    }

    #[test]
    fn each_operation_changes_the_pod(world in some_world(), pod in some_pod()) {
        let (patched, patch) = carry_out(&world, &pod);
        let mut now = pod.clone();
        for operation in patch.0 {
            let before = now.clone();
            json_patch::patch(&mut now, &Patch(vec![operation])).unwrap();
            prop_assert_ne!(&now, &before);
        }
        prop_assert_eq!(now, patched);
    }

    #[test]
    fn a_pod_that_is_due_no_gate_gets_no_patch(world in some_world(), pod in some_pod()) {
        if due(&world, &pod).is_empty() {
            let (_, patch) = carry_out(&world, &pod);
            prop_assert!(patch.is_empty(), "{patch}");
        }
    }
}
