//! The hooks as a cluster calls them: registered as shipped, over TLS, by the sandbox's API server.

use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use targetgate_sandbox::elb::TargetGroupSpec;
use targetgate_sandbox::elb::faults::On;

use super::stage::{GATE, Stage};

const OPEN: (&str, &str) = ("True", "");
const CONTAINERS: &str = r#"{ "containers": [{ "name": "web", "image": "web" }] }"#;

fn containers() -> Value {
    serde_json::from_str(CONTAINERS).unwrap()
}

fn gates(pod: &k8s_openapi::api::core::v1::Pod) -> Vec<String> {
    let gates = pod.spec.as_ref().unwrap().readiness_gates.iter().flatten();
    gates.map(|gate| gate.condition_type.clone()).collect()
}

/// Creates a binding with a group and a Service, and no other field.
async fn bind_sparsely(stage: &Stage, arn: &str) -> kube::Result<kube::api::DynamicObject> {
    let binding = json!({
        "apiVersion": "elbv2.k8s.aws/v1beta1",
        "kind": "TargetGroupBinding",
        "metadata": { "name": "web" },
        "spec": { "targetGroupARN": arn, "serviceRef": { "name": "web" } },
    });
    let binding = serde_json::from_value(binding).unwrap();
    stage
        .bindings()
        .create(&PostParams::default(), &binding)
        .await
}

#[tokio::test(start_paused = true)]
async fn a_new_pod_gets_its_gate_and_it_opens_when_elb_says_healthy() {
    let stage = Stage::new().await;
    stage.install_hooks().await;
    let arn = stage.bind("web").await;
    stage.settle().await;
    let pod = stage.create_pod("web-1", containers()).await;
    assert_eq!(gates(&pod), [GATE]);
    stage.containers_are_ready("web-1", "10.0.0.1").await;
    stage.register(&arn, "10.0.0.1");
    stage.until_gate("web-1", OPEN).await;
    let audit = stage.api.audit();
    let said = |key| {
        audit
            .iter()
            .find(|said| said.key == key)
            .map(|said| &*said.value)
    };
    assert_eq!(said("mpod.elbv2.k8s.aws/decision"), Some("Injected"));
    assert_eq!(said("mpod.elbv2.k8s.aws/bindings"), Some("web=Injected"));
}

#[tokio::test(start_paused = true)]
async fn a_binding_is_filled_in_from_aws_and_its_service_before_the_schema_is_checked() {
    let stage = Stage::new().await;
    stage.install_hooks().await;
    stage.settle().await;
    let arn = stage.elb.create_target_group(TargetGroupSpec::http("web"));
    let binding = bind_sparsely(&stage, &arn).await.unwrap();
    let spec = &binding.data["spec"];
    assert_eq!(spec["targetType"], "ip");
    assert_eq!(spec["serviceRef"]["port"], 80);
    assert_eq!(spec["targetGroupProtocol"], "HTTP");
    assert_eq!(stage.calls("DescribeTargetGroups"), 1);
}

#[tokio::test(start_paused = true)]
async fn a_new_group_is_refused_in_the_incumbents_words_and_a_finalizer_is_accepted() {
    let stage = Stage::new().await;
    stage.install_hooks().await;
    stage.settle().await;
    stage.bind("web").await;
    let other = stage
        .elb
        .create_target_group(TargetGroupSpec::http("other"));
    let params = PatchParams::default();
    let patch = Patch::Merge(json!({ "spec": { "targetGroupARN": other } }));
    let refused = stage
        .bindings()
        .patch("web", &params, &patch)
        .await
        .unwrap_err();
    let words = "TargetGroupBinding update may not change these fields: spec.targetGroupARN";
    assert!(refused.to_string().contains(words), "{refused}");
    stage.elb.faults().hang(On::any());
    let finalizer = Patch::Merge(json!({ "metadata": { "finalizers": ["example.com/wait"] } }));
    stage
        .bindings()
        .patch("web", &params, &finalizer)
        .await
        .unwrap();
}

#[tokio::test(start_paused = true)]
async fn while_we_are_away_pods_pass_ungated_and_bindings_can_be_cleaned_up_but_not_changed() {
    let mut stage = Stage::new().await;
    stage.install_hooks().await;
    stage.settle().await;
    stage.bind("web").await;
    stage.settle().await;
    stage.stop();
    let pod = stage.create_pod("web-1", containers()).await;
    assert!(gates(&pod).is_empty());
    let params = PatchParams::default();
    let annotation = Patch::Merge(json!({ "metadata": { "annotations": { "a": "b" } } }));
    stage
        .bindings()
        .patch("web", &params, &annotation)
        .await
        .unwrap();
    let spec = Patch::Merge(json!({ "spec": { "serviceRef": { "port": 81 } } }));
    let refused = stage
        .bindings()
        .patch("web", &params, &spec)
        .await
        .unwrap_err();
    assert!(
        refused.to_string().contains("failed calling webhook"),
        "{refused}"
    );
    stage
        .bindings()
        .delete("web", &DeleteParams::default())
        .await
        .unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_unlabelled_namespace_never_calls_the_pod_hook() {
    let stage = Stage::new().await;
    stage.install_hooks().await;
    stage.bind("web").await;
    stage.settle().await;
    stage.opt_in(Value::Null).await;
    let pod = stage.create_pod("web-1", containers()).await;
    assert!(gates(&pod).is_empty());
    assert_eq!(stage.api.webhook_counts("mpod.elbv2.k8s.aws").calls, 0);
}
