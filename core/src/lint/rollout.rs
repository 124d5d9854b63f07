//! Lints about zones that a rollout leaves without a pod.

use crate::lint::{Finding, Group, Workload};
use crate::reason::Reason;
use crate::text::{agreeing, counted};

pub(super) fn lint(workload: &Workload) -> Vec<Finding> {
    let rollout = &workload.rollout;
    let (Some(replicas), Some((group, zones))) = (rollout.replicas, most_zones(workload)) else {
        return vec![];
    };
    if replicas == 0 || replicas > zones {
        return vec![];
    }
    let are = agreeing(replicas, "replica is", "replicas are");
    let message = format!(
        "{replicas} {are} in the {} of the load balancer of binding {}, which sends within a zone only",
        counted(zones, "zone"),
        group.binding
    );
    let mut findings = vec![];
    if let Some(most) = rollout.max_unavailable.filter(|most| *most > 0) {
        let message = format!("maxUnavailable is {most}, and {message}");
        findings.push(Finding::new(Reason::ZoneEmptied, message));
    }
    findings.push(Finding::new(Reason::OnePodPerZone, message));
    findings
}

/// The group with the most zones, among those whose load balancers send within a zone only.
fn most_zones(workload: &Workload) -> Option<(&Group, u32)> {
    let within = workload.groups.iter();
    let within = within.filter(|group| group.cross_zone == Some(false));
    let zones = within.filter_map(|group| Some((group, group.zones?)));
    zones.max_by_key(|(_, zones)| *zones)
}
