//! A pod and a binding that are created by a server-side dry-run: the API server calls the hooks, and keeps nothing.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Pod, Service};
use kube::Client;
use kube::api::{Api, DynamicObject, PostParams};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use targetgate_core::doctor::{
    BindingTrial, GraceOutcome, HookKind, IMMUTABILITY, Known, PodTrial,
};
use targetgate_core::names::{BindingApi, ConditionPrefix, INJECT_ENABLED, INJECT_LABEL};
use tokio::time::timeout;

use crate::commands::doctor::objects::{Binding, OptedIn, resource};
use crate::commands::doctor::read;
use crate::kubernetes::{CALL_TIMEOUT, MANAGER, why};

/// The name of what is created.
const NAME: &str = "targetgate-doctor";
/// A group that cannot exist: the account is not one of AWS's.
const NO_GROUP: &str = "arn:aws:elasticloadbalancing:us-east-1:000000000000:targetgroup/targetgate-doctor/0000000000000000";
/// At most this many bindings are looked at for one with a Service that selects pods. Chosen.
const MOST: usize = 20;

/// The namespace of both: the one that is named, else the first that has opted in and has a binding that gates pods,
/// else any that has opted in.
pub(super) fn place(
    named: Option<&str>,
    bindings: &[Binding],
    opted_in: &[OptedIn],
) -> Known<String> {
    let gates = |place: &&OptedIn| {
        let mut bindings = bindings.iter();
        bindings.any(|b| b.namespace() == place.name && b.gated_service().is_some())
    };
    let first = || opted_in.iter().find(gates).or(opted_in.first());
    let found = named.or_else(|| first().map(|place| place.name.as_str()));
    found
        .map(str::to_owned)
        .ok_or_else(|| "No namespace has opted in: name one with --namespace.".to_owned())
}

/// Creates a pod that a Service of a binding selects.
pub(super) async fn pod(
    client: &Client,
    place: &Known<String>,
    bindings: &[Binding],
) -> Known<PodTrial> {
    let namespace = place.clone()?;
    let (binding, labels) = selected(client, &namespace, bindings).await?;
    let pods: Api<Pod> = Api::namespaced(client.clone(), &namespace);
    let created = dry_run_pod(&pods, manifest(labels)).await;
    let created = created.map_err(|error| {
        format!("The API server refuses a dry-run pod in namespace {namespace}: {error}.")
    })?;
    let gate = gate(&created, &binding);
    Ok(match gate {
        Some(gate) => PodTrial::Gated { namespace, gate },
        None => PodTrial::Ungated { namespace, binding },
    })
}

/// A binding of the namespace that gates pods, and the labels of pods that its Service selects.
async fn selected(
    client: &Client,
    namespace: &str,
    bindings: &[Binding],
) -> Known<(String, BTreeMap<String, String>)> {
    let services: Api<Service> = Api::namespaced(client.clone(), namespace);
    let own = bindings.iter().filter(|b| b.namespace() == namespace);
    for binding in own.take(MOST) {
        let Some(name) = binding.gated_service() else {
            continue;
        };
        let service = read::get(&services, "Service", name).await?;
        let selector = service.and_then(|service| service.spec?.selector);
        if let Some(labels) = selector.filter(|selector| !selector.is_empty()) {
            return Ok((binding.name().to_owned(), labels));
        }
    }
    Err(format!(
        "No pod of namespace {namespace} would be due a gate: no binding of ip targets has a Service with a selector."
    ))
}

/// Creates a pod with the grace period that drain gives, and where that is refused, one with the default.
pub(super) async fn grace(
    client: &Client,
    namespace: &str,
    seconds: u32,
    default: u32,
) -> GraceOutcome {
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let with = async |grace: u32| {
        let mut pod = manifest(BTreeMap::new());
        pod["spec"]["terminationGracePeriodSeconds"] = json!(grace);
        dry_run_pod(&pods, pod).await
    };
    let Err(words) = with(seconds).await else {
        return GraceOutcome::Admitted;
    };
    match with(default).await {
        Ok(_) => GraceOutcome::Refused(words),
        Err(_) => GraceOutcome::Unknown(words),
    }
}

async fn dry_run_pod(pods: &Api<Pod>, pod: Value) -> Result<Pod, String> {
    let pod: Pod = serde_json::from_value(pod).map_err(|error| error.to_string())?;
    dry_run(pods, &pod).await
}

/// A pod that the restricted Pod Security Standard admits.
fn manifest(mut labels: BTreeMap<String, String>) -> Value {
    labels.insert(INJECT_LABEL.to_owned(), INJECT_ENABLED.to_owned());
    json!({
        "metadata": { "name": NAME, "labels": labels },
        "spec": {
            "securityContext": { "runAsNonRoot": true, "seccompProfile": { "type": "RuntimeDefault" } },
            "containers": [{
                "name": "pause",
                "image": "registry.k8s.io/pause:3.10",
                "resources": {
                    "requests": { "cpu": "1m", "memory": "1Mi" },
                    "limits": { "cpu": "1m", "memory": "16Mi" },
                },
                "securityContext": {
                    "allowPrivilegeEscalation": false,
                    "capabilities": { "drop": ["ALL"] },
                },
            }],
        },
    })
}

/// The gate of the binding, under whatever prefix.
fn gate(pod: &Pod, binding: &str) -> Option<String> {
    let expected = ConditionPrefix::default().gate(binding);
    let gates = pod.spec.iter().flat_map(|spec| &spec.readiness_gates);
    let mut types = gates.flatten().map(|gate| &gate.condition_type);
    let of_binding = |kind: &&String| {
        let name = kind.split_once('/').map(|(_, name)| name);
        name == Some(expected.name())
    };
    types.find(of_binding).cloned()
}

/// Creates a binding that breaks a rule which needs no answer of AWS: `nodeSelector` is for instances only. A policy of the
/// API server can deny that before the hook is asked, but not a group that has a binding.
pub(super) async fn binding(
    client: &Client,
    place: &Known<String>,
    bindings: &[Binding],
) -> Known<BindingTrial> {
    let namespace = place.clone()?;
    let of_instances = json!({ "targetGroupARN": NO_GROUP, "nodeSelector": {} });
    let tried = wrong_binding(client, &namespace, of_instances).await?;
    let mut own = bindings.iter().filter(|b| b.namespace() == namespace);
    match (&tried, own.find_map(Binding::bound_arn)) {
        (BindingTrial::DeniedByPolicy, Some(arn)) => {
            let second = json!({ "targetGroupARN": arn });
            wrong_binding(client, &namespace, second).await
        }
        _ => Ok(tried),
    }
}

/// Creates a binding with this merged into its spec. It has each field that would be filled in, so that the hook of defaults
/// lets it pass.
async fn wrong_binding(client: &Client, namespace: &str, more: Value) -> Known<BindingTrial> {
    let api = BindingApi::Elbv2;
    let bindings: Api<DynamicObject> =
        Api::namespaced_with(client.clone(), namespace, &resource(api));
    let mut wrong = json!({
        "apiVersion": format!("{}/{}", api.group(), api.version()),
        "kind": "TargetGroupBinding",
        "metadata": { "name": NAME },
        "spec": {
            "targetType": "ip",
            "ipAddressType": "ipv4",
            "targetGroupProtocol": "HTTP",
            "vpcID": "vpc-00000000",
            "serviceRef": { "name": NAME, "port": 80 },
        },
    });
    json_patch::merge(&mut wrong, &json!({ "spec": more }));
    let wrong = serde_json::from_value(wrong);
    let wrong: DynamicObject = wrong.map_err(|error| error.to_string())?;
    match dry_run(&bindings, &wrong).await {
        Ok(_) => Ok(BindingTrial::Admitted),
        Err(words) => of_words(namespace, words),
    }
}

/// What the API server says of a hook.
fn of_words(namespace: &str, words: String) -> Known<BindingTrial> {
    // The API server asks its own policies first.
    if words.contains(&format!("ValidatingAdmissionPolicy '{IMMUTABILITY}'")) {
        return Ok(BindingTrial::DeniedByPolicy);
    }
    let denial = format!("\"{}\" denied", HookKind::BindingRules.webhook());
    if words.contains(&denial) {
        return Ok(BindingTrial::Denied);
    }
    match words.contains("failed calling webhook") {
        true => Ok(BindingTrial::NotReached(words)),
        false => Err(format!(
            "The API server refuses a dry-run binding in namespace {namespace}: {words}."
        )),
    }
}

/// Creates an object without keeping it. The error is what the API server says.
async fn dry_run<K>(api: &Api<K>, object: &K) -> Result<K, String>
where
    K: Serialize + DeserializeOwned + Clone + std::fmt::Debug,
{
    let params = PostParams {
        dry_run: true,
        field_manager: Some(MANAGER.to_owned()),
    };
    match timeout(CALL_TIMEOUT, api.create(&params, object)).await {
        Ok(created) => created.map_err(|error| why(&error)),
        Err(_) => Err(read::no_answer()),
    }
}
