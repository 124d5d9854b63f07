//! Whatever stands in a `GateRules` object, no pod is refused because of it.

use serde_json::{Value, json};
use targetgate_sandbox::harness::waiting::until;

use crate::policy::cluster;
use crate::servers::pod;
use crate::shop::gate;

fn rules(gates: &[&str]) -> Value {
    let rule = |(order, gate): (usize, &&str)| json!({ "order": order, "gate": gate, "selector": { "app": "web" } });
    let rules: Vec<Value> = gates.iter().enumerate().map(rule).collect();
    json!({ "byLabel": { "app=web": rules } })
}

#[tokio::test]
async fn a_gate_that_would_make_a_pod_invalid_is_not_let_into_the_rules() {
    let cluster = cluster().await;
    let long = |prefix: usize, name: usize| format!("{}/{}", "a".repeat(prefix), "b".repeat(name));
    let refused = [
        "",
        "web",
        "/web",
        "a/",
        "a/b/c",
        "A.b/c",
        "a..b/c",
        "-a/b",
        "a-/b",
        "a/-b",
        "a/b-",
        "a/b c",
        "a/b\nc",
        "a/é",
        &long(254, 1),
        &long(253, 64),
    ];
    for gate in refused {
        let put = cluster.put_rules(&rules(&[gate])).await;
        assert!(put.is_err(), "{gate:?} is let in");
    }
    for other in [
        json!({}),
        json!({ "byLabel": { "app=web": [{ "order": "first" }] } }),
        json!({ "byLabel": { "app=web": [{ "order": 1, "gate": "a/b", "selector": {} }] } }),
        json!({ "byLabel": { "app=web": [{ "order": 1, "gate": "a/b", "selector": { "app": 1 } }] } }),
    ] {
        assert!(
            cluster.put_rules(&other).await.is_err(),
            "{other} is let in"
        );
    }
    // Kubernetes takes what the schema takes: a pod may bring each of these gates.
    let (longest, kind) = (long(253, 63), long(1, 63));
    let let_in = ["a/b", "0.a-b.c/A-._b", &longest, &kind];
    cluster.put_rules(&rules(&let_in)).await.unwrap();
    for gate in let_in {
        let brought = json!({ "spec": { "readinessGates": [{ "conditionType": gate }] } });
        cluster.gates_of(pod("a", brought)).await.unwrap();
    }
}

#[tokio::test]
async fn entries_without_the_shipped_prefix_are_passed_over_and_no_pod_is_refused() {
    let cluster = cluster().await;
    let (web, name) = (gate("web"), format!("{}.", "b".repeat(62)));
    let foreign = [
        "example.com/gate",
        "target-health.elbv2.k8s.awsx/web",
        "target-health.alb.ingress.k8s.aws/web",
        &web,
        &web,
    ];
    let mut spec = rules(&foreign);
    spec["byLabel"]["app=web"][0]["order"] = json!(i32::MIN);
    spec["byLabel"]["app=web"][1]["order"] = json!(i32::MAX);
    spec["byLabel"][""] = json!([]);
    spec["byLabel"][&name] = json!([{ "order": 0, "gate": "a/b", "selector": { "": "" } }]);
    cluster.put_rules(&spec).await.unwrap();
    until("the policy reads the rules", async || {
        let gates = cluster.gates_of(pod("a", json!({}))).await.unwrap();
        (gates == [web.as_str()]).then_some(())
    })
    .await;
}

#[tokio::test]
async fn rules_beyond_the_budget_of_cel_leave_pods_as_they_are() {
    let cluster = cluster().await;
    let many: Vec<String> = (0..2000).map(|at| gate(&format!("b-{at}"))).collect();
    let many: Vec<&str> = many.iter().map(|gate| &**gate).collect();
    let one = gate("b-0");
    cluster.put_rules(&rules(&many[..1])).await.unwrap();
    let gates = async || cluster.gates_of(pod("a", json!({}))).await.unwrap();
    until("the policy injects", async || {
        (gates().await == [one.as_str()]).then_some(())
    })
    .await;
    cluster.put_rules(&rules(&many)).await.unwrap();
    until("the policy gives up", async || {
        gates().await.is_empty().then_some(())
    })
    .await;
}
