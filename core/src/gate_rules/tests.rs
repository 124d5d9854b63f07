//! The rules of a namespace, held to the hook's own decision.

use fastrand::Rng;

use super::*;
use crate::fixtures::{GateWorld, binding, service};
use crate::gates::inject::{NewPod, decide};
use crate::model::{Binding, Service};
use crate::names::{BindingApi, is_legacy_gate};

/// How many worlds are drawn. Chosen.
const WORLDS: u64 = 2000;

fn index(bound: impl IntoIterator<Item = (Binding, Service)>) -> ServiceIndex {
    let mut routes = ServiceIndex::default();
    for (binding, service) in bound {
        routes.apply_service(&binding.service.clone(), service);
        routes.apply_binding(binding);
    }
    routes
}

/// A binding and its Service, both of this name.
fn bound(name: &str, selector: &[(&str, &str)]) -> (Binding, Service) {
    let mut bound = (binding(name), service());
    bound.0.service = name.into();
    for (key, value) in selector {
        bound.1 = bound.1.selecting(key, value);
    }
    bound
}

fn both() -> GatePolicy {
    GatePolicy {
        apis: BindingApi::ALL.to_vec(),
        ..GatePolicy::default()
    }
}

fn rules(routes: &ServiceIndex) -> GateRules {
    GateRules::of(routes, &both()).unwrap()
}

/// What the policy makes of a pod's gates, as its expressions say.
fn admitted(rules: &GateRules, pod: &NewPod<'_, Labels>) -> Vec<String> {
    let pairs = pod
        .labels
        .iter()
        .map(|(key, value)| format!("{key}={value}"));
    let met = pairs.filter_map(|pair| rules.by_label.get(&pair)).flatten();
    let has = |(key, value): (&String, &String)| {
        pod.labels.get(&**key).map(AsRef::as_ref) == Some(&**value)
    };
    let mut met: Vec<_> = met.filter(|rule| rule.selector.iter().all(has)).collect();
    let present = || pod.gates.iter().map(|gate| (*gate).to_owned());
    if pod.opted_out || met.is_empty() {
        return present().collect();
    }
    met.sort_by_key(|rule| rule.order);
    let mut gates: Vec<String> = present().filter(|gate| !is_legacy_gate(gate)).collect();
    for rule in met {
        if !gates.contains(&rule.gate) {
            gates.push(rule.gate.clone());
        }
    }
    gates
}

#[test]
fn the_policy_gives_each_pod_the_gates_that_the_hook_gives_in_the_same_order() {
    let mut injected = 0;
    for seed in 0..WORLDS {
        let world = GateWorld::drawn(&mut Rng::with_seed(seed));
        let rules = rules(&world.routes);
        let policy = both();
        for pod in &world.pods {
            let gates: Vec<&str> = pod.gates.iter().map(|gate| &**gate).collect();
            let new = pod.new_pod(&gates);
            let decided = pod.after(&decide(&new, &world.routes, &policy));
            assert_eq!(admitted(&rules, &new), decided, "seed {seed}: {pod:?}");
            injected += usize::from(decided != pod.gates);
        }
    }
    assert!(injected > 1000, "only {injected} pods had anything to gain");
}

#[test]
fn a_rule_stands_under_the_pair_that_the_fewest_selectors_share() {
    let rules = rules(&index([
        bound("api", &[("app", "shop"), ("tier", "api")]),
        bound("web", &[("app", "shop"), ("tier", "web")]),
        bound("all", &[("app", "shop")]),
    ]));
    let written = serde_json::to_value(&rules).unwrap();
    let by_label = written["byLabel"].as_object().unwrap();
    let pairs: Vec<&String> = by_label.keys().collect();
    assert_eq!(pairs, ["app=shop", "tier=api", "tier=web"]);
    let api = &by_label["tier=api"][0];
    assert_eq!(api["gate"], "target-health.elbv2.k8s.aws/api");
    assert_eq!(api["selector"]["app"], "shop");
    assert_eq!((&api["order"], rules.len()), (&1.into(), 3));
}

#[test]
fn bindings_of_one_name_in_both_api_groups_share_a_rule_and_an_order() {
    let (first, service) = bound("web", &[("app", "web")]);
    let second = first.clone().of_api(BindingApi::Eks);
    let one = index([
        (first.clone(), service.clone()),
        (second.clone(), service.clone()),
    ]);
    assert_eq!(rules(&one).len(), 1);
    let other = Binding {
        service: "other".into(),
        ..second
    };
    let two = index([
        (first, service),
        (other, bound("other", &[("app", "other")]).1),
        bound("z", &[("app", "z")]),
    ]);
    let orders = rules(&two);
    let orders = orders
        .by_label
        .iter()
        .map(|(pair, of_pair)| (&**pair, of_pair[0].order));
    let orders: Vec<_> = orders.collect();
    assert_eq!(orders, [("app=other", 0), ("app=web", 0), ("app=z", 1)]);
}

#[test]
fn what_opts_out_or_gives_no_gate_has_no_rule() {
    let (web, service) = bound("web", &[("app", "web")]);
    let out = Binding {
        opted_out: true,
        ..web.clone()
    };
    let ending = Binding {
        terminating: true,
        ..web.clone()
    };
    let of_instances = web.clone().of_instances();
    for binding in [out, ending, of_instances] {
        assert!(rules(&index([(binding, service.clone())])).is_empty());
    }
    let opted_out = Service {
        opted_out: true,
        ..service.clone()
    };
    assert!(rules(&index([(web.clone(), opted_out)])).is_empty());
    let eks = web.clone().of_api(BindingApi::Eks);
    let of_elbv2 = GatePolicy::default();
    let left_out = GateRules::of(&index([(eks, service.clone())]), &of_elbv2);
    assert!(left_out.unwrap().is_empty());
    assert_eq!(rules(&index([(web, service)])).len(), 1);
}

#[test]
fn as_many_rules_fit_as_one_pod_may_meet() {
    let many = |rules: usize| {
        let all = (0..rules).map(|at| bound(&format!("b-{at}"), &[("app", "shop")]));
        GateRules::of(&index(all), &both())
    };
    assert_eq!(many(MOST_RULES).unwrap().len(), MOST_RULES);
    let rules = MOST_RULES + 1;
    assert_eq!(many(rules), Err(TooLarge::Rules { rules }));
}

#[test]
fn rules_that_no_pod_meets_together_fit_until_the_object_is_too_large() {
    let many = |rules: usize| {
        let all = (0..rules).map(|at| bound(&format!("b-{at}"), &[("app", &format!("a-{at}"))]));
        GateRules::of(&index(all), &both())
    };
    assert_eq!(many(3000).unwrap().len(), 3000);
    assert!(matches!(many(6000), Err(TooLarge::Bytes { .. })));
}

#[test]
fn rules_are_read_as_they_are_written() {
    let rules = rules(&index([bound("web", &[("app", "web"), ("empty", "")])]));
    let written = serde_json::to_string(&rules).unwrap();
    assert_eq!(serde_json::from_str::<GateRules>(&written).unwrap(), rules);
}
