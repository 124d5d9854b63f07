//! The policy that holds immutable fields of bindings, as the chart renders it.

use rstest::rstest;
use serde_json::{Value, json};
use targetgate_sandbox::harness::waiting::until;
use targetgate_sandbox::versions::Version;

use crate::helm::{Helm, find};
use crate::server::{api, apply, own_control_plane};

const COMPONENT: &str = include_str!("../../deploy/components/immutability/policy.yaml");
const NAME: &str = "targetgate-bindings";

fn component() -> Vec<Value> {
    serde_saphyr::from_multiple(COMPONENT).unwrap()
}

/// What the chart renders of the policy and its binding.
fn policies(objects: &[Value]) -> Vec<&Value> {
    let ours = objects
        .iter()
        .filter(|object| object["metadata"]["name"] == NAME);
    ours.collect()
}

/// The operations on which the validating hook of bindings is asked.
fn operations(objects: &[Value]) -> &Value {
    let hooks = find(objects, "ValidatingWebhookConfiguration");
    &hooks["webhooks"][0]["rules"][0]["operations"]
}

#[rstest]
#[case::hook("hook", 0, json!(["CREATE", "UPDATE"]))]
#[case::both("both", 2, json!(["CREATE", "UPDATE"]))]
#[case::policy("policy", 2, json!(["CREATE"]))]
fn the_chart_renders_the_components_policy_where_it_is_asked_for(
    #[case] immutability: &str,
    #[case] count: usize,
    #[case] asked: Value,
) {
    let objects = Helm::new().template(&json!({ "immutability": immutability }));
    let rendered = policies(&objects);
    assert_eq!(rendered.len(), count);
    for (of_chart, object) in rendered.iter().zip(component()) {
        for part in ["apiVersion", "kind", "spec"] {
            assert_eq!(of_chart[part], object[part], "{part}");
        }
    }
    assert_eq!(*operations(&objects), asked);
}

#[rstest]
fn a_server_without_such_policies_has_the_hook_alone(
    #[values("both", "policy")] immutability: &str,
) {
    let version = format!("{}.0", Version::admission_policies().previous_minor());
    let values = json!({ "immutability": immutability });
    let objects = Helm::new().template_for(&version, &values).unwrap();
    assert!(policies(&objects).is_empty());
    assert_eq!(*operations(&objects), json!(["CREATE", "UPDATE"]));
}

#[test]
fn the_policy_holds_fields_where_no_hook_of_bindings_is_registered() {
    let values = json!({ "immutability": "policy", "hooks": { "bindings": { "enabled": false } } });
    assert_eq!(policies(&Helm::new().template(&values)).len(), 2);
}

/// The API server type-checks the expressions against the CRD, and tells it in the policy's status.
#[tokio::test]
async fn the_expressions_have_the_types_of_the_crds_fields() {
    let server = own_control_plane().await;
    let client = server.client().await.unwrap();
    let crd = include_str!("../../deploy/crd/targetgroupbindings.yaml");
    let crd: Value = serde_saphyr::from_str(crd).unwrap();
    apply(&client, &crd, false).await.unwrap();
    let [mut policy, _] = component().try_into().unwrap();
    let checked = async |policy: &Value| {
        // A policy that is checked before the CRD is served is checked against nothing: so each look is at a new one.
        let policies = api(&client, policy);
        until("the policy is type-checked", async || {
            apply(&client, policy, false).await.unwrap();
            let name = policy["metadata"]["name"].as_str().unwrap();
            let status = policies.get(name).await.unwrap().data["status"].clone();
            status["typeChecking"].is_object().then_some(status)
        })
        .await
    };
    // Its warning proves that the CRD's schema is known.
    let mut wrong = policy.clone();
    wrong["spec"]["validations"][0]["expression"] = json!("object.spec.targetType == 1");
    until("the CRD is type-checked against", async || {
        wrong["metadata"]["name"] = json!(format!("wrong-{}", fastrand::u64(..)));
        let warned = &checked(&wrong).await["typeChecking"]["expressionWarnings"];
        (!warned.is_null()).then_some(())
    })
    .await;
    policy["metadata"]["name"] = json!("right");
    let status = checked(&policy).await;
    assert_eq!(status["typeChecking"], json!({}), "{status}");
}
