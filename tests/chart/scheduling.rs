//! Where the pods may run, and how long they have to end.

use std::time::Duration;

use rstest::rstest;
use serde_json::{Value, json};
use targetgate::kubernetes::lease::RELEASE_WITHIN;
use targetgate::serve::listener::Limits;

use crate::helm::{Helm, find, is_of_test};

/// The Deployment's pod, and the pod of `helm test`.
fn pods(values: &Value) -> [Value; 2] {
    let objects = Helm::new().template(values);
    let deployed = find(&objects, "Deployment")["spec"]["template"]["spec"].clone();
    let mut pods = objects.iter().filter(|object| object["kind"] == "Pod");
    let of_test = pods.next().unwrap();
    assert!(is_of_test(of_test));
    [deployed, of_test["spec"].clone()]
}

#[test]
fn no_pod_is_scheduled_on_a_windows_node_whatever_else_is_selected() {
    for pod in pods(&json!({})) {
        let linux = json!({ "kubernetes.io/os": "linux" });
        assert_eq!(pod["nodeSelector"], linux);
    }
    let tolerations = json!([{ "key": "system", "operator": "Exists" }]);
    let values = json!({ "nodeSelector": { "pool": "system" }, "tolerations": tolerations });
    for pod in pods(&values) {
        let both = json!({ "kubernetes.io/os": "linux", "pool": "system" });
        assert_eq!(pod["nodeSelector"], both);
        assert_eq!(pod["tolerations"], tolerations);
    }
}

#[test]
fn constraints_of_ones_own_replace_those_that_are_shipped() {
    let constraint = json!({
        "topologyKey": "kubernetes.io/hostname",
        "maxSkew": 1,
        "whenUnsatisfiable": "DoNotSchedule",
    });
    let own = json!([constraint]);
    let [pod, _] = pods(&json!({ "topologySpreadConstraints": own }));
    assert_eq!(pod["topologySpreadConstraints"], own);
    let [pod, _] = pods(&json!({ "topologySpreadConstraints": [] }));
    assert_eq!(pod["topologySpreadConstraints"], Value::Null);
}

#[rstest]
#[case(json!({}), 5)]
#[case(json!({ "shutdown-delay": "5s" }), 5)]
#[case(json!({ "shutdown-delay": "90s" }), 90)]
#[case(json!({ "shutdown-delay": "0s" }), 0)]
fn the_grace_period_follows_the_delay(#[case] settings: Value, #[case] delay: u64) {
    let [pod, _] = pods(&json!({ "settings": settings }));
    let grace = pod["terminationGracePeriodSeconds"].as_u64().unwrap();
    let end = Duration::from_secs(delay) + Limits::default().drain + RELEASE_WITHIN;
    assert!(end < Duration::from_secs(grace), "{end:?}");
}
