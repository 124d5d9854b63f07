//! The next step of a rollout, as a pure function of the Deployment and its pods.

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{Deployment, DeploymentCondition, DeploymentStatus};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::ResourceExt;

use crate::condition::is_true;

/// The label that distinguishes the pods of one template from those of another.
pub(crate) const HASH_LABEL: &str = "pod-template-hash";

/// The next step of a rollout.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Create this many pods of the current template.
    Create(usize),
    /// Delete the pod of this name and UID.
    Delete { name: String, uid: String },
    /// Wait for a pod to change.
    Wait,
}

/// Decides the next step. `pods` are all pods of the Deployment, those of former templates
/// included.
///
/// A pod that is being deleted does not count, as in Kubernetes: it is no longer available, and its
/// successor does not have to wait for its end.
pub(super) fn next(deployment: &Deployment, hash: &str, pods: &[Pod]) -> Step {
    let census = Census::of(hash, pods);
    let wanted = replicas(deployment);
    let limits = Limits::of(deployment, wanted);
    let total = census.new.len() + census.old.len();
    if census.new.len() < wanted && total < wanted + limits.surge {
        let room = wanted + limits.surge - total;
        return Step::Create(room.min(wanted - census.new.len()));
    }
    let surplus = if census.new.len() > wanted {
        &census.new
    } else {
        &census.old
    };
    let spare = census.ready > wanted.saturating_sub(limits.unavailable);
    let victim = surplus
        .iter()
        .find(|pod| !is_ready(pod))
        .or_else(|| surplus.first().filter(|_| spare));
    match victim {
        Some(pod) => Step::Delete {
            name: pod.name_any(),
            uid: pod.uid().unwrap_or_default(),
        },
        None => Step::Wait,
    }
}

/// The status, from which `kubectl rollout status` tells how far the rollout is.
pub(super) fn status(
    deployment: &Deployment,
    hash: &str,
    pods: &[Pod],
    now: Timestamp,
) -> DeploymentStatus {
    let census = Census::of(hash, pods);
    let wanted = replicas(deployment);
    let number = |count: usize| Some(i32::try_from(count).unwrap_or(i32::MAX));
    let total = census.new.len() + census.old.len();
    let complete = census.old.is_empty()
        && census.new.len() == wanted
        && census.new.iter().all(|pod| is_ready(pod));
    let limits = Limits::of(deployment, wanted);
    let available = census.ready + limits.unavailable >= wanted;
    let progressing = if complete {
        "NewReplicaSetAvailable"
    } else {
        "ReplicaSetUpdated"
    };
    let reason = if available {
        "MinimumReplicasAvailable"
    } else {
        "MinimumReplicasUnavailable"
    };
    DeploymentStatus {
        observed_generation: deployment.metadata.generation,
        replicas: number(total),
        updated_replicas: number(census.new.len()),
        ready_replicas: number(census.ready),
        available_replicas: number(census.ready),
        unavailable_replicas: number(wanted.max(total) - census.ready),
        conditions: Some(vec![
            condition(deployment, "Available", available, reason, now),
            condition(deployment, "Progressing", true, progressing, now),
        ]),
        ..DeploymentStatus::default()
    }
}

fn condition(
    deployment: &Deployment,
    type_: &str,
    status: bool,
    reason: &str,
    now: Timestamp,
) -> DeploymentCondition {
    let status = if status { "True" } else { "False" };
    let mut conditions = deployment
        .status
        .iter()
        .flat_map(|status| status.conditions.iter().flatten());
    let known = conditions.find(|known| known.type_ == type_ && known.status == status);
    let kept = known.and_then(|known| known.last_transition_time.clone());
    let updated = known
        .filter(|known| known.reason.as_deref() == Some(reason))
        .and_then(|known| known.last_update_time.clone());
    DeploymentCondition {
        type_: type_.to_owned(),
        status: status.to_owned(),
        reason: Some(reason.to_owned()),
        message: None,
        last_transition_time: Some(kept.unwrap_or(Time(now))),
        last_update_time: Some(updated.unwrap_or(Time(now))),
    }
}

/// The live pods of a Deployment by template, oldest first.
struct Census<'a> {
    new: Vec<&'a Pod>,
    old: Vec<&'a Pod>,
    ready: usize,
}

impl<'a> Census<'a> {
    fn of(hash: &str, pods: &'a [Pod]) -> Self {
        let mut live: Vec<&Pod> = pods.iter().filter(|pod| is_live(pod)).collect();
        live.sort_by_key(|pod| (pod.creation_timestamp(), pod.name_any()));
        let ready = live.iter().filter(|pod| is_ready(pod)).count();
        let (new, old) = live.into_iter().partition(|pod| {
            pod.labels()
                .get(HASH_LABEL)
                .is_some_and(|label| label == hash)
        });
        Self { new, old, ready }
    }
}

/// How far the number of pods may exceed and fall below the wanted number during a rollout.
struct Limits {
    surge: usize,
    unavailable: usize,
}

impl Limits {
    /// Reads `spec.strategy.rollingUpdate`. The defaults here are a surge of one and none
    /// unavailable. (A real API server fills in 25 % and 25 %.)
    fn of(deployment: &Deployment, wanted: usize) -> Self {
        let strategy = deployment
            .spec
            .as_ref()
            .and_then(|spec| spec.strategy.as_ref()?.rolling_update.as_ref());
        let surge = strategy.and_then(|strategy| strategy.max_surge.as_ref());
        let unavailable = strategy.and_then(|strategy| strategy.max_unavailable.as_ref());
        let surge = surge.map_or(1, |surge| resolve(surge, wanted, usize::div_ceil));
        let unavailable =
            unavailable.map_or(0, |unavailable| resolve(unavailable, wanted, |a, b| a / b));
        Self {
            // With neither surge nor unavailable pods a rollout could not proceed; Kubernetes then
            // takes one down.
            unavailable: if surge == 0 {
                unavailable.max(1)
            } else {
                unavailable
            },
            surge,
        }
    }
}

/// Resolves a number, or a percentage of the wanted pods, which `divide` rounds.
fn resolve(limit: &IntOrString, wanted: usize, divide: fn(usize, usize) -> usize) -> usize {
    match limit {
        IntOrString::Int(number) => usize::try_from(*number).unwrap_or(0),
        IntOrString::String(text) => {
            let percent: usize = text
                .strip_suffix('%')
                .and_then(|percent| percent.parse().ok())
                .unwrap_or(0);
            divide(wanted.saturating_mul(percent), 100)
        }
    }
}

fn replicas(deployment: &Deployment) -> usize {
    let replicas = deployment.spec.as_ref().and_then(|spec| spec.replicas);
    replicas.unwrap_or(1).try_into().unwrap_or(0)
}

/// Whether a pod is not being deleted and has not ended.
fn is_live(pod: &Pod) -> bool {
    let phase = pod
        .status
        .as_ref()
        .and_then(|status| status.phase.as_deref());
    pod.metadata.deletion_timestamp.is_none() && !matches!(phase, Some("Succeeded" | "Failed"))
}

fn is_ready(pod: &Pod) -> bool {
    is_true(pod, "Ready")
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::{Value, json};

    use super::*;

    fn deployment(strategy: Value) -> Deployment {
        serde_json::from_value(json!({
            "metadata": {"name": "web", "generation": 7},
            "spec": {
                "replicas": 4,
                "selector": {},
                "template": {},
                "strategy": {"rollingUpdate": strategy},
            },
        }))
        .unwrap()
    }

    /// Pods from one letter each, oldest first: `o`ld or `n`ew, capital if ready, `x` if being
    /// deleted.
    fn pods(letters: &str) -> Vec<Pod> {
        let pod = |(index, letter): (usize, char)| {
            let new = letter.eq_ignore_ascii_case(&'n');
            let ready = if letter.is_uppercase() {
                "True"
            } else {
                "False"
            };
            let mut pod: Pod = serde_json::from_value(json!({
                "metadata": {
                    "name": format!("{letter}{index}"),
                    "uid": format!("uid-{index}"),
                    "creationTimestamp": format!("2026-01-01T00:00:{index:02}Z"),
                    "labels": {HASH_LABEL: if new { "new" } else { "old" }},
                },
                "status": {"conditions": [{"type": "Ready", "status": ready}]},
            }))
            .unwrap();
            if letter.eq_ignore_ascii_case(&'x') {
                pod.metadata.deletion_timestamp = pod.metadata.creation_timestamp.clone();
            }
            pod
        };
        letters.chars().enumerate().map(pod).collect()
    }

    fn said(step: Step) -> String {
        match step {
            Step::Create(count) => format!("create {count}"),
            Step::Delete { name, .. } => format!("delete {name}"),
            Step::Wait => "wait".to_owned(),
        }
    }

    #[rstest]
    #[case::from_nothing("", "create 4")]
    #[case::more_than_the_surge_while_there_are_few("NN", "create 2")]
    #[case::done("NNNN", "wait")]
    #[case::a_new_one_first("OOOO", "create 1")]
    #[case::the_new_one_is_not_ready("OOOOn", "wait")]
    #[case::then_the_oldest_goes("OOOON", "delete O0")]
    #[case::a_terminating_pod_counts_for_nothing("XOOON", "create 1")]
    #[case::an_old_one_that_is_not_ready_can_go("OoOOn", "delete o1")]
    #[case::the_last_old_one("ONNNN", "delete O0")]
    #[case::a_pod_was_lost("NNN", "create 1")]
    #[case::scaled_down("NNNNN", "delete N0")]
    #[case::scaled_down_with_one_unready("NNNNn", "delete n4")]
    fn a_rollout_goes_one_up_and_none_down(#[case] letters: &str, #[case] expected: &str) {
        let step = next(&deployment(json!(null)), "new", &pods(letters));
        assert_eq!(said(step), expected);
    }

    #[rstest]
    #[case::percent_of_four(json!({"maxSurge": "25%", "maxUnavailable": "25%"}), "OOOO", "create 1")]
    #[case::one_down_is_allowed(json!({"maxSurge": "25%", "maxUnavailable": "25%"}), "OOOOn", "delete O0")]
    #[case::surge_rounds_up(json!({"maxSurge": "26%", "maxUnavailable": 0}), "OOOO", "create 2")]
    #[case::unavailable_rounds_down(json!({"maxSurge": 1, "maxUnavailable": "24%"}), "OOOOn", "wait")]
    #[case::neither(json!({"maxSurge": 0, "maxUnavailable": 0}), "OOOO", "delete O0")]
    fn the_strategy_sets_the_limits(
        #[case] strategy: Value,
        #[case] letters: &str,
        #[case] expected: &str,
    ) {
        let step = next(&deployment(strategy), "new", &pods(letters));
        assert_eq!(said(step), expected);
    }

    #[test]
    fn every_rollout_ends_with_the_new_pods_and_never_falls_below() {
        let deployment = deployment(json!(null));
        let mut pods = pods("OOOO");
        for round in 0..100 {
            let ready = pods
                .iter()
                .filter(|pod| is_live(pod) && is_ready(pod))
                .count();
            assert!(
                ready >= 4 && pods.len() <= 5,
                "round {round}: {ready} of {}",
                pods.len()
            );
            match next(&deployment, "new", &pods) {
                Step::Create(_) => {
                    let mut pod = self::pods("n").remove(0);
                    pod.metadata.name = Some(format!("new-{round}"));
                    pods.push(pod);
                }
                Step::Delete { name, .. } => pods.retain(|pod| pod.name_any() != name),
                Step::Wait => match pods.iter_mut().find(|pod| !is_ready(pod)) {
                    Some(pod) => pod.status = self::pods("N").remove(0).status,
                    None => break,
                },
            }
        }
        let hashes: Vec<_> = pods
            .iter()
            .map(|pod| pod.labels()[HASH_LABEL].as_str())
            .collect();
        assert_eq!(hashes, ["new"; 4]);
    }

    #[rstest]
    #[case::under_way("OOON", "ReplicaSetUpdated", 1, 4)]
    #[case::not_ready_yet("NNNn", "ReplicaSetUpdated", 4, 3)]
    #[case::complete("NNNNX", "NewReplicaSetAvailable", 4, 4)]
    fn the_status_tells_kubectl_when_the_rollout_is_complete(
        #[case] letters: &str,
        #[case] reason: &str,
        #[case] updated: i32,
        #[case] available: i32,
    ) {
        let status = status(
            &deployment(json!(null)),
            "new",
            &pods(letters),
            Timestamp::UNIX_EPOCH,
        );
        assert_eq!(status.observed_generation, Some(7));
        assert_eq!(status.updated_replicas, Some(updated));
        assert_eq!(status.available_replicas, Some(available));
        let progressing = &status.conditions.unwrap()[1];
        assert_eq!(progressing.reason.as_deref(), Some(reason));
    }
}
