//! How many pods a rollout of a workload may take away before their replacements are ready.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::{DaemonSet, Deployment, StatefulSet};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::api::Api;
use kube::{Client, ResourceExt};
use targetgate_core::doctor::{Known, Unread};
use targetgate_core::lint::Rollout;

use crate::commands::doctor::read;

/// The replicas of a workload that gives none. Kubernetes.
const DEFAULT_REPLICAS: i32 = 1;
/// What a Deployment may take away by default. Kubernetes.
const DEFAULT_UNAVAILABLE: &str = "25%";
/// What a DaemonSet may take away by default. Kubernetes.
const DEFAULT_OF_DAEMONS: i32 = 1;

/// The workloads of the cluster that are listed for their rollouts alone.
pub(super) struct Sets {
    stateful: Known<Vec<StatefulSet>>,
    daemon: Known<Vec<DaemonSet>>,
}

/// Lists them.
pub(super) async fn sets(client: &Client) -> Sets {
    let (stateful, daemon) = (Api::all(client.clone()), Api::all(client.clone()));
    let (stateful, daemon) = tokio::join!(
        read::list(&stateful, "statefulsets", ""),
        read::list(&daemon, "daemonsets", ""),
    );
    Sets {
        stateful: stateful.map(Option::unwrap_or_default),
        daemon: daemon.map(Option::unwrap_or_default),
    }
}

impl Sets {
    /// The rollouts of these, and of the Deployments, by kind, namespace and name.
    pub(super) fn rollouts(&self, deployments: &[Deployment]) -> BTreeMap<String, Rollout> {
        let deployments = deployments.iter();
        let deployments = deployments.map(|one| (workload("Deployment", one), of_deployment(one)));
        let stateful = self.stateful.iter().flatten();
        let stateful = stateful.map(|one| (workload("StatefulSet", one), of_stateful_set(one)));
        let daemon = self.daemon.iter().flatten();
        let daemon = daemon.map(|one| (workload("DaemonSet", one), of_daemon_set(one)));
        deployments.chain(stateful).chain(daemon).collect()
    }

    /// The lists that failed.
    pub(super) fn unread(&self) -> impl Iterator<Item = Unread> {
        let failed = [
            ("statefulsets", self.stateful.as_ref().err()),
            ("daemonsets", self.daemon.as_ref().err()),
        ];
        failed.into_iter().filter_map(|(what, why)| {
            Some(Unread {
                what: what.to_owned(),
                why: why?.clone(),
            })
        })
    }
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

/// A DaemonSet has a pod on each node that suits it. With a surge the new pod comes first, and the API server then lets it
/// take none away.
fn of_daemon_set(set: &DaemonSet) -> Rollout {
    let scheduled = set.status.as_ref();
    let scheduled = scheduled.map(|status| status.desired_number_scheduled);
    let replicas = scheduled.and_then(|number| u32::try_from(number).ok());
    let strategy = set.spec.as_ref();
    let strategy = strategy.and_then(|spec| spec.update_strategy.as_ref());
    let by_hand = strategy.is_some_and(|all| all.type_.as_deref() == Some("OnDelete"));
    let rolling = strategy.and_then(|strategy| strategy.rolling_update.as_ref());
    let default = IntOrString::Int(DEFAULT_OF_DAEMONS);
    let most = rolling.and_then(|rolling| rolling.max_unavailable.as_ref());
    // Its controller rounds up, as that of Deployments does not.
    let most = replicas.and_then(|replicas| scaled(most.unwrap_or(&default), replicas, true));
    Rollout {
        replicas,
        max_unavailable: most.filter(|_| !by_hand),
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

    fn none() -> Sets {
        Sets {
            stateful: Ok(vec![]),
            daemon: Ok(vec![]),
        }
    }

    fn rollout(kind: &str, spec: Value) -> Rollout {
        let metadata = json!({ "namespace": "shop", "name": "web" });
        let mut object = json!({ "metadata": metadata, "spec": { "selector": {}, "serviceName": "web",
            "template": {} }, "status": { "desiredNumberScheduled": 3, "currentNumberScheduled": 3,
            "numberMisscheduled": 0, "numberReady": 3 } });
        json_patch::merge(&mut object, &json!({ "spec": spec }));
        let (mut sets, mut deployments) = (none(), vec![]);
        match kind {
            "Deployment" => deployments.push(serde_json::from_value(object).unwrap()),
            "StatefulSet" => sets.stateful = Ok(vec![serde_json::from_value(object).unwrap()]),
            _ => sets.daemon = Ok(vec![serde_json::from_value(object).unwrap()]),
        }
        sets.rollouts(&deployments)[&format!("{kind} shop/web")]
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

    #[rstest]
    #[case::by_default(json!({}), Some(1))]
    #[case::a_part(json!({ "updateStrategy": rolling(json!({ "maxUnavailable": "34%" })) }), Some(2))]
    #[case::with_a_surge(json!({ "updateStrategy": rolling(json!({ "maxSurge": 1, "maxUnavailable": 0 })) }), Some(0))]
    #[case::by_hand(json!({ "updateStrategy": { "type": "OnDelete" } }), None)]
    fn a_daemon_set_of_three_nodes_takes_away(#[case] spec: Value, #[case] expected: Option<u32>) {
        let found = rollout("DaemonSet", spec);
        assert_eq!((found.replicas, found.max_unavailable), (Some(3), expected));
    }

    #[test]
    fn a_list_that_fails_is_told_and_the_rollouts_of_the_others_are_known() {
        let sets = Sets {
            daemon: Err("Cannot list daemonsets: forbidden.".to_owned()),
            ..none()
        };
        let told: Vec<String> = sets.unread().map(|unread| unread.what).collect();
        assert_eq!(told, ["daemonsets"]);
        let web = json!({ "metadata": { "namespace": "shop", "name": "web" },
            "spec": { "selector": {}, "template": {} } });
        let deployment = serde_json::from_value(web).unwrap();
        assert_eq!(sets.rollouts(&[deployment]).len(), 1);
    }
}
