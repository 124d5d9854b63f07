//! The policy alone against the hook's own decision, in worlds that are drawn at random.

use fastrand::Rng;
use serde_json::{Value, json};
use targetgate_core::fixtures::{DrawnPod, GateWorld, binding, service};
use targetgate_core::gate_rules::GateRules;
use targetgate_core::gates::inject::{GatePolicy, decide};
use targetgate_core::names::BindingApi;
use targetgate_sandbox::harness::waiting::until;

use crate::policy::cluster;
use crate::servers::{Cluster, pod};

/// How many worlds are drawn, of five pods each. Issue 16; they take a minute.
const WORLDS: u64 = 2000;

#[tokio::test]
async fn the_policy_alone_gives_the_gates_that_the_hook_gives_in_the_same_order() {
    let cluster = cluster().await;
    let policy = GatePolicy {
        apis: BindingApi::ALL.to_vec(),
        ..GatePolicy::default()
    };
    let (mut compared, mut injected) = (0, 0);
    for seed in 0..WORLDS {
        let mut world = GateWorld::drawn(&mut Rng::with_seed(seed));
        let mark = format!("world-{seed}");
        let marking = service().selecting("world", &mark);
        world.routes.apply_service(&"mark".into(), marking);
        let mut marker = binding(&mark);
        marker.service = "mark".into();
        world.routes.apply_binding(marker);
        cluster
            .put_gate_rules(&GateRules::of(&world.routes, &policy).unwrap())
            .await;
        cluster.reads_rules_of(&mark).await;
        for drawn in &world.pods {
            let present: Vec<&str> = drawn.gates.iter().map(|gate| &**gate).collect();
            let decision = decide(&drawn.new_pod(&present), &world.routes, &policy);
            let expected = drawn.after(&decision);
            let given = cluster.gates_of(asked(drawn)).await.unwrap();
            assert_eq!(given, expected, "seed {seed}: {drawn:?}");
            compared += 1;
            injected += usize::from(given != drawn.gates);
        }
    }
    println!("{compared} pods compared, {injected} of them changed");
    assert!(injected > compared / 10);
}

impl Cluster {
    /// Waits until the policy has the rules of this mark.
    pub(super) async fn reads_rules_of(&self, mark: &str) {
        until("the policy reads the rules", async || {
            let marked = pod(
                "marked",
                json!({ "metadata": { "labels": { "world": mark } } }),
            );
            let gates = self.gates_of(marked).await.unwrap();
            gates.iter().any(|gate| gate.ends_with(mark)).then_some(())
        })
        .await;
    }
}

fn asked(drawn: &DrawnPod) -> Value {
    let annotations = match drawn.opted_out {
        true => json!({ "targetgate.dev/gate": "false" }),
        false => Value::Null,
    };
    let gates = drawn.gates.iter();
    let gates: Vec<Value> = gates.map(|gate| json!({ "conditionType": gate })).collect();
    let labels = match drawn.labels.is_empty() {
        true => Value::Null,
        false => {
            let mut labels = json!({ "app": null });
            for (key, value) in &drawn.labels {
                labels[&**key] = json!(&**value);
            }
            labels
        }
    };
    pod(
        "drawn",
        json!({
            "metadata": { "labels": labels, "annotations": annotations },
            "spec": { "readinessGates": gates },
        }),
    )
}
