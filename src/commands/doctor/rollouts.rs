//! How many pods a rollout of a workload may take away before their replacements are ready.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::api::Api;
use kube::{Client, ResourceExt};
use targetgate_core::doctor::Known;
use targetgate_core::lint::Rollout;

use crate::commands::doctor::read;

/// The replicas of a workload that gives none. Kubernetes.
const DEFAULT_REPLICAS: i32 = 1;
/// What a Deployment may take away by default. Kubernetes.
const DEFAULT_UNAVAILABLE: &str = "25%";

/// The StatefulSets of the cluster.
pub(super) async fn stateful_sets(client: &Client) -> Known<Vec<StatefulSet>> {
    let all = read::list(&Api::all(client.clone()), "statefulsets", "").await?;
    Ok(all.unwrap_or_default())
}

/// The rollouts of the workloads, by kind, namespace and name.
pub(super) fn of(
    deployments: &[Deployment],
    stateful_sets: &[StatefulSet],
) -> BTreeMap<String, Rollout> {
    let deployments = deployments.iter();
    let deployments = deployments.map(|one| (workload("Deployment", one), of_deployment(one)));
    let stateful_sets = stateful_sets.iter();
    let stateful_sets =
        stateful_sets.map(|one| (workload("StatefulSet", one), of_stateful_set(one)));
    deployments.chain(stateful_sets).collect()
}

fn workload(kind: &str, object: &impl ResourceExt) -> String {
    let namespace = object.namespace().unwrap_or_default();
    format!("{kind} {namespace}/{}", object.name_any())
}

fn of_deployment(deployment: &Deployment) -> Rollout {
    let spec = deployment.spec.as_ref();
    let replicas = replicas(spec.and_then(|spec| spec.replicas));
    let strategy = spec.and_then(|spec| spec.strategy.as_ref());
    let recreates = strategy.is_some_and(|all| all.type_.as_deref() == Some("Recreate"));
    let rolling = strategy.and_then(|strategy| strategy.rolling_update.as_ref());
    let percent = IntOrString::String(DEFAULT_UNAVAILABLE.to_owned());
    let number = |field: Option<&IntOrString>, up| scaled(field.unwrap_or(&percent), replicas?, up);
    let surge = number(rolling.and_then(|all| all.max_surge.as_ref()), true);
    let gone = number(rolling.and_then(|all| all.max_unavailable.as_ref()), false);
    Rollout {
        replicas,
        max_unavailable: match (recreates, surge, gone) {
            (true, ..) => replicas,
            // It would never advance with neither.
            (false, Some(0), Some(0)) => Some(1),
            (false, _, gone) => gone,
        },
    }
}

/// A StatefulSet takes a pod away before it makes the one that replaces it.
fn of_stateful_set(set: &StatefulSet) -> Rollout {
    let spec = set.spec.as_ref();
    let replicas = replicas(spec.and_then(|spec| spec.replicas));
    let strategy = spec.and_then(|spec| spec.update_strategy.as_ref());
    let by_hand = strategy.is_some_and(|all| all.type_.as_deref() == Some("OnDelete"));
    let rolling = strategy.and_then(|strategy| strategy.rolling_update.as_ref());
    let most = rolling.and_then(|rolling| rolling.max_unavailable.as_ref());
    let most = most.map_or(Some(1), |most| scaled(most, replicas?, false));
    Rollout {
        replicas,
        max_unavailable: most.filter(|_| !by_hand).map(|most| most.max(1)),
    }
}

fn replicas(given: Option<i32>) -> Option<u32> {
    u32::try_from(given.unwrap_or(DEFAULT_REPLICAS)).ok()
}

/// A number, or so many percent of the replicas; `None` if it is neither.
fn scaled(value: &IntOrString, replicas: u32, up: bool) -> Option<u32> {
    let percent = match value {
        IntOrString::Int(number) => return u32::try_from(*number).ok(),
        IntOrString::String(text) => text.strip_suffix('%')?.parse::<u32>().ok()?,
    };
    let hundredths = u64::from(percent) * u64::from(replicas);
    let whole = match up {
        true => hundredths.div_ceil(100),
        false => hundredths / 100,
    };
    u32::try_from(whole).ok()
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::{Value, json};

    use super::*;

    fn rollout(kind: &str, spec: Value) -> Rollout {
        let metadata = json!({ "namespace": "shop", "name": "web" });
        let mut object = json!({ "metadata": metadata, "spec": { "selector": {}, "serviceName": "web",
            "template": {} } });
        json_patch::merge(&mut object, &json!({ "spec": spec }));
        let found = match kind {
            "Deployment" => of(&[serde_json::from_value(object).unwrap()], &[]),
            _ => of(&[], &[serde_json::from_value(object).unwrap()]),
        };
        found[&format!("{kind} shop/web")]
    }

    fn rolling(more: Value) -> Value {
        json!({ "type": "RollingUpdate", "rollingUpdate": more })
    }

    #[rstest]
    #[case::by_default(json!({}), 1, Some(0))]
    #[case::a_quarter(json!({ "replicas": 7 }), 7, Some(1))]
    #[case::a_number(json!({ "replicas": 3, "strategy": rolling(json!({ "maxUnavailable": 2 })) }), 3, Some(2))]
    #[case::none(json!({ "replicas": 9, "strategy": rolling(json!({ "maxUnavailable": 0 })) }), 9, Some(0))]
    #[case::neither(json!({ "replicas": 3, "strategy": rolling(json!({ "maxSurge": 0, "maxUnavailable": "10%" })) }), 3, Some(1))]
    #[case::all(json!({ "replicas": 3, "strategy": { "type": "Recreate" } }), 3, Some(3))]
    #[case::unreadable(json!({ "replicas": 3, "strategy": rolling(json!({ "maxUnavailable": "some" })) }), 3, None)]
    fn a_deployment_takes_away(
        #[case] spec: Value,
        #[case] replicas: u32,
        #[case] max_unavailable: Option<u32>,
    ) {
        let expected = Rollout {
            replicas: Some(replicas),
            max_unavailable,
        };
        assert_eq!(rollout("Deployment", spec), expected);
    }

    #[rstest]
    #[case::by_default(json!({}), Some(1))]
    #[case::several(json!({ "replicas": 4, "updateStrategy": rolling(json!({ "maxUnavailable": "50%" })) }), Some(2))]
    #[case::by_hand(json!({ "updateStrategy": { "type": "OnDelete" } }), None)]
    fn a_stateful_set_takes_away(#[case] spec: Value, #[case] expected: Option<u32>) {
        assert_eq!(rollout("StatefulSet", spec).max_unavailable, expected);
    }
}
