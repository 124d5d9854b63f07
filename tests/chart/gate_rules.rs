//! The policy by which the API server itself injects gates, as the chart renders it.

use rstest::rstest;
use serde_json::{Value, json};
use targetgate_core::names::INJECT_LABEL;
use targetgate_sandbox::versions::Version;

use crate::helm::{Helm, find};

const COMPONENT: [&str; 3] = [
    include_str!("../../deploy/components/policy/crd.yaml"),
    include_str!("../../deploy/components/policy/policy.yaml"),
    include_str!("../../deploy/components/policy/rbac.yaml"),
];
/// The first version that serves the policy.
fn first() -> Version {
    Version::gates_by_policy()
}

fn rendered(values: &Value) -> Vec<Value> {
    let version = format!("{}.0", first());
    Helm::new().template_for(&version, values).unwrap()
}

fn is_named(object: &Value, kind: &Value, name: &Value) -> bool {
    object["kind"] == *kind && object["metadata"]["name"] == *name
}

#[test]
fn the_chart_and_kustomize_ship_the_same_policy() {
    let objects = rendered(&json!({ "admission": { "mode": "both" } }));
    let files = COMPONENT.map(|file| serde_saphyr::from_multiple::<Value>(file).unwrap());
    let shipped: Vec<Value> = files.into_iter().flatten().collect();
    assert_eq!(shipped.len(), 5);
    for object in shipped {
        let (kind, name) = (&object["kind"], &object["metadata"]["name"]);
        let of_chart = objects.iter().find(|other| is_named(other, kind, name));
        let of_chart = of_chart.unwrap_or_else(|| panic!("the chart has no {kind} {name}"));
        for part in ["spec", "rules", "roleRef", "subjects"] {
            assert_eq!(of_chart[part], object[part], "{kind} {name}");
        }
    }
}

#[rstest]
#[case::by_default(first(), "webhook")]
#[case::on_an_older_cluster(first().previous_minor(), "both")]
fn without_the_policy_there_is_no_right_and_no_object_of_it(
    #[case] version: Version,
    #[case] mode: &str,
) {
    let values = json!({ "admission": { "mode": mode } });
    let version = format!("{version}.0");
    let objects = Helm::new().template_for(&version, &values).unwrap();
    for object in objects {
        let kind = object["kind"].as_str().unwrap();
        assert!(
            !kind.contains("AdmissionPolic") || kind.starts_with("Validating"),
            "{kind}"
        );
        assert_ne!(kind, "CustomResourceDefinition");
        let rules = object["rules"].to_string();
        assert!(!rules.contains("gaterules"), "{rules}");
    }
}

#[rstest]
#[case("namespace", 1)]
#[case("object", 1)]
#[case("either", 2)]
fn the_policy_selects_the_pods_that_the_hook_is_called_for(
    #[case] opt_in: &str,
    #[case] count: usize,
) {
    let objects = rendered(&json!({
        "admission": { "mode": "both" },
        "optIn": opt_in,
        "hooks": { "excludedNamespaces": ["left-out"] },
    }));
    let hooks = find(&objects, "MutatingWebhookConfiguration");
    let hooks = hooks["webhooks"].as_array().unwrap().iter();
    let of_pods = hooks.filter(|hook| hook["clientConfig"]["service"]["path"] == "/mutate-v1-pod");
    let selected = |of: &Value| {
        (
            of["namespaceSelector"].clone(),
            of["objectSelector"].clone(),
        )
    };
    let hooked: Vec<_> = of_pods.map(selected).collect();
    let policies = objects
        .iter()
        .filter(|object| object["kind"] == "MutatingAdmissionPolicy");
    let policies: Vec<&Value> = policies.collect();
    let covered: Vec<_> = policies
        .iter()
        .map(|policy| selected(&policy["spec"]["matchConstraints"]))
        .collect();
    assert_eq!((&covered, covered.len()), (&hooked, count));
    assert!(format!("{covered:?}").contains(INJECT_LABEL));
    for policy in policies {
        let name = &policy["metadata"]["name"];
        let binding = json!("MutatingAdmissionPolicyBinding");
        let bound = objects
            .iter()
            .find(|object| is_named(object, &binding, name));
        assert_eq!(bound.unwrap()["spec"]["policyName"], *name);
    }
}

#[rstest]
#[case::by_a_setting(json!({ "settings": { "condition-prefix": "target-health.targetgate.dev" } }))]
#[case::by_a_variable(json!({ "env": [
    { "name": "TARGETGATE_CONDITION_PREFIX", "value": "target-health.targetgate.dev" },
] }))]
fn the_policy_takes_gates_of_the_prefix_that_the_process_gives(#[case] mut values: Value) {
    values["admission"] = json!({ "mode": "both" });
    let objects = rendered(&values);
    let policy = find(&objects, "MutatingAdmissionPolicy")["spec"].to_string();
    let taken = "r.gate.startsWith('target-health.targetgate.dev/')";
    assert_eq!(policy.matches(taken).count(), 2);
    assert!(!policy.contains("target-health.elbv2.k8s.aws"));
}
