//! The status that a kubelet writes: pure rules that turn what it runs into a patch of
//! `pods/status`.

use std::net::IpAddr;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, PodCondition};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::{Value, json};

use super::UNREADY;

/// The state of a pod's containers, as the kubelet runs them.
#[derive(Clone, Debug)]
pub(super) struct Observed {
    pub(super) ip: IpAddr,
    pub(super) host: IpAddr,
    /// The time at which the kubelet accepted the pod.
    pub(super) accepted: Timestamp,
    /// The time at which the containers began to listen; `None` before.
    pub(super) running: Option<Timestamp>,
}

/// The strategic merge patch of `pods/status` that makes the status agree with `observed`; `None`
/// if it does already. The patch names the pod's UID and those of the kubelet's own conditions that
/// differ.
pub(super) fn patch(pod: &Pod, observed: &Observed, now: Timestamp) -> Option<Value> {
    let conditions: Vec<Value> = own_conditions(pod, observed)
        .into_iter()
        .filter_map(|wanted| moved(pod, wanted, now))
        .map(|condition| whole(&condition))
        .collect();
    let running = observed.running.is_some();
    let phase = if running { "Running" } else { "Pending" };
    let status = pod.status.as_ref();
    let ip = observed.ip.to_string();
    let same = conditions.is_empty()
        && status.and_then(|status| status.phase.as_deref()) == Some(phase)
        && status.and_then(|status| status.pod_ip.as_ref()) == Some(&ip);
    if same {
        return None;
    }
    let host = observed.host.to_string();
    Some(json!({
        "metadata": {"uid": pod.metadata.uid},
        "status": {
            "phase": phase,
            "startTime": Time(observed.accepted),
            "hostIP": host,
            "hostIPs": [{"ip": host}],
            "podIP": ip,
            "podIPs": [{"ip": ip}],
            "conditions": conditions,
            "containerStatuses": container_statuses(pod, observed),
        }
    }))
}

/// The condition as it has to be written; `None` if the pod has it already. `lastTransitionTime`
/// changes only with the status.
fn moved(pod: &Pod, wanted: PodCondition, now: Timestamp) -> Option<PodCondition> {
    let current = condition(pod, &wanted.type_);
    let Some(current) = current else {
        return Some(PodCondition {
            last_transition_time: Some(Time(now)),
            ..wanted
        });
    };
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    let same = current.status == wanted.status
        && text(&current.reason) == text(&wanted.reason)
        && text(&current.message) == text(&wanted.message);
    if same {
        return None;
    }
    let last_transition_time = if current.status == wanted.status {
        current.last_transition_time.clone()
    } else {
        Some(Time(now))
    };
    Some(PodCondition {
        last_transition_time,
        ..wanted
    })
}

/// A condition with all fields, absent ones as null, because a strategic merge keeps fields that
/// the patch does not name.
fn whole(condition: &PodCondition) -> Value {
    json!({
        "type": condition.type_,
        "status": condition.status,
        "reason": condition.reason,
        "message": condition.message,
        "lastTransitionTime": condition.last_transition_time,
    })
}

/// The conditions that a kubelet writes, and that of the scheduler, whose work this kubelet does as
/// well.
fn own_conditions(pod: &Pod, observed: &Observed) -> Vec<PodCondition> {
    let containers_ready = containers_ready(pod, observed);
    let ready = ready(pod, &containers_ready);
    vec![
        plain("PodScheduled", true),
        plain("Initialized", true),
        containers_ready,
        ready,
    ]
}

fn containers_ready(pod: &Pod, observed: &Observed) -> PodCondition {
    if is_ready(pod, observed) {
        return plain("ContainersReady", true);
    }
    PodCondition {
        reason: Some("ContainersNotReady".to_owned()),
        message: Some(format!(
            "containers with unready status: [{}]",
            container_names(pod).join(" ")
        )),
        ..plain("ContainersReady", false)
    }
}

/// Whether the readiness probe passes.
fn is_ready(pod: &Pod, observed: &Observed) -> bool {
    let annotations = pod.metadata.annotations.as_ref();
    let fails = annotations.is_some_and(|annotations| annotations.contains_key(UNREADY));
    observed.running.is_some() && !fails
}

/// `Ready`, as a kubelet computes it: the containers are ready, and the condition of every
/// readiness gate is `True`
/// (<https://kubernetes.io/docs/concepts/workloads/pods/pod-lifecycle/#pod-readiness-status>).
fn ready(pod: &Pod, containers_ready: &PodCondition) -> PodCondition {
    if containers_ready.status != "True" {
        return PodCondition {
            type_: "Ready".to_owned(),
            ..containers_ready.clone()
        };
    }
    let shut: Vec<String> = gates(pod)
        .filter_map(|gate| match condition(pod, gate) {
            None => Some(format!(
                "corresponding condition of pod readiness gate \"{gate}\" does not exist."
            )),
            Some(condition) if condition.status != "True" => Some(format!(
                "the status of pod readiness gate \"{gate}\" is not \"True\", but {}",
                condition.status
            )),
            Some(_) => None,
        })
        .collect();
    if shut.is_empty() {
        return plain("Ready", true);
    }
    PodCondition {
        reason: Some("ReadinessGatesNotReady".to_owned()),
        message: Some(shut.join(", ")),
        ..plain("Ready", false)
    }
}

fn gates(pod: &Pod) -> impl Iterator<Item = &str> {
    pod.spec
        .iter()
        .flat_map(|spec| spec.readiness_gates.iter().flatten())
        .map(|gate| gate.condition_type.as_str())
}

fn condition<'a>(pod: &'a Pod, type_: &str) -> Option<&'a PodCondition> {
    let conditions = pod.status.as_ref()?.conditions.as_ref()?;
    conditions.iter().find(|condition| condition.type_ == type_)
}

fn plain(type_: &str, status: bool) -> PodCondition {
    PodCondition {
        type_: type_.to_owned(),
        status: if status { "True" } else { "False" }.to_owned(),
        ..PodCondition::default()
    }
}

fn container_statuses(pod: &Pod, observed: &Observed) -> Vec<Value> {
    let state = match observed.running {
        Some(since) => json!({"running": {"startedAt": Time(since)}}),
        None => json!({"waiting": {"reason": "ContainerCreating"}}),
    };
    let containers = pod.spec.iter().flat_map(|spec| &spec.containers);
    containers
        .map(|container| {
            json!({
                "name": container.name,
                "image": container.image.clone().unwrap_or_default(),
                "imageID": "",
                "ready": is_ready(pod, observed),
                "started": observed.running.is_some(),
                "restartCount": 0,
                "state": state,
            })
        })
        .collect()
}

fn container_names(pod: &Pod) -> Vec<&str> {
    let containers = pod.spec.iter().flat_map(|spec| &spec.containers);
    containers
        .map(|container| container.name.as_str())
        .collect()
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    const GATE: &str = "target-health.elbv2.k8s.aws/web";

    fn pod(gates: &[&str], conditions: &[(&str, &str)]) -> Pod {
        let gates: Vec<Value> = gates
            .iter()
            .map(|gate| json!({"conditionType": gate}))
            .collect();
        let conditions: Vec<Value> = conditions
            .iter()
            .map(|(type_, status)| json!({"type": type_, "status": status}))
            .collect();
        serde_json::from_value(json!({
            "metadata": {"name": "web-1", "uid": "u1"},
            "spec": {"containers": [{"name": "web"}], "readinessGates": gates},
            "status": {"conditions": conditions},
        }))
        .unwrap()
    }

    fn observed(running: bool) -> Observed {
        Observed {
            ip: [127, 1, 0, 2].into(),
            host: [127, 0, 0, 1].into(),
            accepted: at(0),
            running: running.then(|| at(1)),
        }
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[rstest]
    #[case::starting(&[], &[], false, "False", Some("ContainersNotReady"))]
    #[case::running(&[], &[], true, "True", None)]
    #[case::gate_without_condition(&[GATE], &[], true, "False", Some("ReadinessGatesNotReady"))]
    #[case::gate_shut(&[GATE], &[(GATE, "False")], true, "False", Some("ReadinessGatesNotReady"))]
    #[case::gate_unknown(&[GATE], &[(GATE, "Unknown")], true, "False", Some("ReadinessGatesNotReady"))]
    #[case::gate_open(&[GATE], &[(GATE, "True")], true, "True", None)]
    #[case::gate_open_early(&[GATE], &[(GATE, "True")], false, "False", Some("ContainersNotReady"))]
    #[case::one_of_two(&[GATE, "b"], &[(GATE, "True")], true, "False", Some("ReadinessGatesNotReady"))]
    fn ready_needs_the_containers_and_every_gate(
        #[case] gates: &[&str],
        #[case] conditions: &[(&str, &str)],
        #[case] running: bool,
        #[case] status: &str,
        #[case] reason: Option<&str>,
    ) {
        let pod = pod(gates, conditions);
        let ready = ready(&pod, &containers_ready(&pod, &observed(running)));
        assert_eq!(
            (ready.status.as_str(), ready.reason.as_deref()),
            (status, reason)
        );
    }

    #[test]
    fn a_pod_whose_probe_fails_runs_and_is_not_ready() {
        let mut pod = pod(&[], &[]);
        pod.metadata.annotations = Some([(UNREADY.to_owned(), String::new())].into());
        let written = patch(&pod, &observed(true), at(5)).unwrap();
        let statuses = &written["status"]["containerStatuses"][0];
        assert_eq!(
            (&written["status"]["phase"], &statuses["ready"]),
            (&json!("Running"), &json!(false))
        );
        pod.status = Some(serde_json::from_value(written["status"].clone()).unwrap());
        for type_ in ["ContainersReady", "Ready"] {
            let written = condition(&pod, type_).unwrap();
            assert_eq!(written.reason.as_deref(), Some("ContainersNotReady"));
        }
    }

    #[test]
    fn what_is_written_needs_no_second_write() {
        let mut pod = pod(&[GATE], &[]);
        let written = patch(&pod, &observed(true), at(5)).unwrap();
        pod.status = Some(serde_json::from_value(written["status"].clone()).unwrap());
        assert_eq!(patch(&pod, &observed(true), at(9)), None);
    }

    #[test]
    fn a_gate_that_opens_changes_ready_alone() {
        let mut pod = pod(&[GATE], &[]);
        let written = patch(&pod, &observed(true), at(5)).unwrap();
        let mut status = written["status"].clone();
        let conditions = status["conditions"].as_array_mut().unwrap();
        conditions.push(json!({"type": GATE, "status": "True"}));
        pod.status = Some(serde_json::from_value(status).unwrap());

        let patch = patch(&pod, &observed(true), at(9)).unwrap();
        assert_eq!(patch["metadata"], json!({"uid": "u1"}));
        assert_eq!(
            patch["status"]["conditions"],
            json!([{
                "type": "Ready",
                "status": "True",
                "reason": null,
                "message": null,
                "lastTransitionTime": "1970-01-01T00:00:09Z",
            }])
        );
    }

    #[test]
    fn the_transition_time_stays_while_only_the_reason_changes() {
        let mut pod = pod(&[GATE], &[]);
        let status = patch(&pod, &observed(false), at(5)).unwrap()["status"].clone();
        pod.status = Some(serde_json::from_value(status).unwrap());
        let patch = patch(&pod, &observed(true), at(9)).unwrap();
        let conditions: Vec<PodCondition> =
            serde_json::from_value(patch["status"]["conditions"].clone()).unwrap();
        let times: Vec<_> = conditions
            .iter()
            .map(|condition| {
                let at = condition.last_transition_time.as_ref().unwrap().0;
                (condition.type_.as_str(), at.as_second())
            })
            .collect();
        assert_eq!(times, [("ContainersReady", 9), ("Ready", 5)]);
    }
}
