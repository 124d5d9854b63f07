//! Lints about zones that a rollout leaves without a pod.

use crate::lint::{Finding, Workload};
use crate::reason::Reason;

pub(super) fn lint(workload: &Workload) -> Vec<Finding> {
    let rollout = &workload.rollout;
    let (Some(replicas), Some(zones)) = (rollout.replicas, rollout.zones) else {
        return vec![];
    };
    let mut groups = workload.groups.iter();
    let crosses = !workload.groups.is_empty() && groups.all(|group| group.cross_zone == Some(true));
    if replicas == 0 || replicas > zones || crosses {
        return vec![];
    }
    let message = format!("{replicas} replicas are in {zones} zones");
    let mut findings = vec![];
    if let Some(most) = rollout.max_unavailable.filter(|most| *most > 0) {
        let message = format!("maxUnavailable is {most}, and {message}");
        findings.push(Finding::new(Reason::ZoneEmptied, message));
    }
    findings.push(Finding::new(Reason::OnePodPerZone, message));
    findings
}
