//! Faults of what the API server does by itself, and of what stands beside it.

use std::time::Instant;

use kube::api::{Api, DeleteParams, DynamicObject};
use serde_json::{Value, json};
use targetgate_core::names::BindingApi;

use crate::doctor::ends;
use crate::doctor::faults::{delete_rules, set};
use crate::doctor::{
    DEADLINE, MUTATING, REGISTRATION, VALIDATING, configurations, doctor, finds, installed,
};
use crate::explain::scene::{IP, Scene};
use crate::install::{ACCOUNT, Installed};
use crate::servers::{Server, resource};

const POLICY: &str = "MutatingAdmissionPolicy";
const POLICY_BINDING: &str = "MutatingAdmissionPolicyBinding";
const GATES: &str = "targetgate-gates";
/// One more than a pod may meet.
const RULES: usize = 301;

/// Makes the fault that the page names by this sentence.
pub(super) async fn make(fault: &str, scene: &Scene<'_>) {
    let installed = scene.installed;
    match fault {
        // The first of these faults: the CRD stays when they are mended.
        "The CRD of gate rules is not there." => both(installed).await,
        "The policy is not there." => {
            with_policy(installed).await;
            delete(installed, POLICY).await;
        }
        "The policy's binding was deleted." => {
            with_policy(installed).await;
            delete(installed, POLICY_BINDING).await;
        }
        // The process that runs is one of `webhook`, so nothing writes rules.
        "The gate rules of a namespace are old." => {
            with_policy(installed).await;
            scene.service(json!({})).await;
            scene.bind(json!({})).await;
        }
        "The gate rules of a namespace are too large." => {
            with_policy(installed).await;
            delete_rules(installed).await;
            too_many_bindings(scene).await;
        }
        "Nothing keeps a binding at its group." => creations_only(installed).await,
        "There are no hooks of bindings." => pods_alone(installed).await,
        "The binding of living pods was deleted." => {
            let arn = scene.gated(json!({})).await;
            installed.register(&arn, IP);
            scene.gate_opens().await;
            let (bindings, params) = (scene.bindings(), DeleteParams::default());
            bindings.delete("web", &params).await.unwrap();
        }
        other => ends::make(other, scene).await,
    }
}

/// Takes the policies away.
pub(super) async fn mend(installed: &Installed) {
    for kind in [POLICY, POLICY_BINDING] {
        let (api, params) = (api(installed, kind), DeleteParams::default());
        // It may not exist.
        let _ = api.delete(GATES, &params).await;
    }
}

async fn both(installed: &Installed) {
    set(installed, "TARGETGATE_ADMISSION", "both").await;
}

async fn with_policy(installed: &Installed) {
    installed.cluster.apply_policy().await;
    both(installed).await;
}

fn api(installed: &Installed, kind: &str) -> Api<DynamicObject> {
    let client = installed.cluster.client.clone();
    Api::all_with(client, &resource(REGISTRATION, "v1", kind))
}

async fn delete(installed: &Installed, kind: &str) {
    let (api, params) = (api(installed, kind), DeleteParams::default());
    api.delete(GATES, &params).await.unwrap();
}

async fn too_many_bindings(scene: &Scene<'_>) {
    scene.service(json!({})).await;
    let arn = scene.installed.group(&scene.group());
    for number in 0..RULES {
        let name = json!({ "metadata": { "name": format!("web-{number:03}") } });
        scene.bind_to(&arn, name).await;
    }
}

/// Changes the webhooks of our configuration.
async fn change(installed: &Installed, kind: &str, change: impl Fn(&mut Vec<Value>)) {
    let api = configurations(installed, kind);
    let mut configuration = api.get("targetgate").await.unwrap();
    change(configuration.data["webhooks"].as_array_mut().unwrap());
    let params = Default::default();
    let replaced = api.replace("targetgate", &params, &configuration).await;
    replaced.unwrap();
}

/// Registers the validating hook as the chart does with `immutability: policy`.
async fn creations_only(installed: &Installed) {
    change(installed, VALIDATING, |webhooks| {
        webhooks[0]["rules"][0]["operations"] = json!(["CREATE"]);
    })
    .await;
}

/// Registers what the chart registers with `hooks.bindings.enabled: false`.
async fn pods_alone(installed: &Installed) {
    delete_rules(installed).await;
    change(installed, MUTATING, |webhooks| {
        webhooks.retain(|webhook| webhook["name"] == "mpod.elbv2.k8s.aws");
    })
    .await;
}

/// How often another user than the shipped account has listed the bindings of all namespaces.
fn lists_of_bindings(installed: &Installed) -> usize {
    let events = installed.cluster.control_plane().audit_log().unwrap();
    let lists = events.into_iter().filter(|event| {
        let object = event.object_ref.as_ref();
        let of_bindings = object.is_some_and(|object| {
            object.resource == "targetgroupbindings"
                && object.api_group == BindingApi::Elbv2.group()
                && object.namespace.is_empty()
        });
        of_bindings && event.verb == "list" && event.user.username != ACCOUNT
    });
    lists.count()
}

#[tokio::test]
async fn with_both_the_bindings_are_listed_once() {
    let installed = installed().await;
    with_policy(&installed).await;
    let before = lists_of_bindings(&installed);
    let said = doctor(&installed, &[]).await;
    // What the rules are compared with comes of that list.
    let about = format!("namespace {}", installed.cluster.namespace);
    let behind = ("GateRules", &*about, "RulesBehind");
    assert!(said.broken().contains(&behind), "{:#}", said.json);
    assert_eq!(lists_of_bindings(&installed) - before, 1);
}

#[tokio::test]
async fn an_installation_with_both_is_sound_and_one_without_hooks_of_bindings_is_advised() {
    let cluster = Server::Kubernetes.own_cluster().await;
    cluster.apply_crd().await;
    cluster.apply_policy().await;
    let installed = Installed::on(cluster, &["--admission=both"]).await;
    both(&installed).await;
    let scene = Scene::of(&installed, &installed.cluster.namespace);
    scene.service(json!({})).await;
    scene.bind(json!({})).await;
    creations_only(&installed).await;
    let group = BindingApi::Elbv2.group();
    installed
        .cluster
        .apply_immutability(group, &json!({}))
        .await;
    let begun = Instant::now();
    let said = loop {
        let said = finds(&installed, &[], &[]).await;
        if said.status == 0 {
            break said;
        }
        assert!(begun.elapsed() < DEADLINE, "{:#}", said.json);
    };
    for check in ["Policy", "GateRules", "Immutability"] {
        let sound = said.of("Sound");
        let told = sound.iter().any(|(told, ..)| *told == check);
        assert!(told, "{check}: {:#}", said.json);
    }
    assert!(said.of("Advice").is_empty(), "{:#}", said.json);
    // The policy denies a wrong binding before the hook is asked, and a second one proves that the hook is reached.
    let text = said.json.to_string();
    let denied = "A dry-run binding that breaks a rule is denied.";
    assert!(text.contains(denied), "{text}");
    let policy = "ValidatingAdmissionPolicy targetgate-bindings is there, and bound.";
    assert!(text.contains(policy), "{text}");

    pods_alone(&installed).await;
    let said = doctor(&installed, &[]).await;
    let reasons: Vec<_> = said.of("Advice").iter().map(|(.., why)| *why).collect();
    assert_eq!(reasons, ["HookNotRegistered"; 3], "{:#}", said.json);
    assert_eq!(said.status, 0, "{:#}", said.json);
}
