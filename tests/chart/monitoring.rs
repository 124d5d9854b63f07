//! Alerts are about metrics that are served.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use targetgate::compose;
use targetgate::metrics::Metrics;

use crate::helm::{Helm, find};

/// The names of the metrics that targetgate serves.
fn served() -> BTreeSet<String> {
    let metrics = Metrics::default();
    compose::register(&metrics);
    metrics.described().iter().map(|m| m.name()).collect()
}

fn rules(values: &Value) -> Vec<Value> {
    let objects = Helm::new().template(values);
    let rule = find(&objects, "PrometheusRule");
    let rules = rule["spec"]["groups"][0]["rules"].as_array();
    rules.unwrap().clone()
}

#[test]
fn every_alert_asks_for_a_metric_that_is_served() {
    let served = served();
    let rules = rules(&json!({ "alerts": { "enabled": true } }));
    let of_a_name = |c: char| !c.is_ascii_alphanumeric() && c != '_';
    for rule in &rules {
        let asked = rule["expr"].as_str().unwrap();
        let names: Vec<&str> = asked
            .split(of_a_name)
            .filter(|word| word.starts_with("targetgate_"))
            .collect();
        // One alert asks what kube-apiserver counts, because ours cannot count what never arrived.
        assert_eq!(names.is_empty(), asked.contains("apiserver_"), "{asked}");
        for name in names {
            assert!(served.contains(name), "{asked}: {name}");
        }
    }
    assert_eq!(rules.len(), 9);
}

#[test]
fn the_monitor_reads_the_admin_port_of_our_pods() {
    let labels = json!({ "release": "prometheus" });
    let values = json!({ "podMonitor": { "enabled": true, "labels": labels, "interval": "30s" } });
    let objects = Helm::new().template(&values);
    let monitor = find(&objects, "PodMonitor");
    assert_eq!(monitor["metadata"]["labels"]["release"], "prometheus");
    let endpoint = &monitor["spec"]["podMetricsEndpoints"][0];
    assert_eq!(*endpoint, json!({ "port": "admin", "interval": "30s" }));
    let template = &find(&objects, "Deployment")["spec"]["template"];
    let selector = monitor["spec"]["selector"]["matchLabels"]
        .as_object()
        .unwrap();
    let labels = template["metadata"]["labels"].as_object().unwrap();
    assert!(
        selector
            .iter()
            .all(|(key, value)| labels.get(key) == Some(value))
    );
    let ports = template["spec"]["containers"][0]["ports"]
        .as_array()
        .unwrap();
    assert!(ports.iter().any(|port| port["name"] == "admin"));
}
