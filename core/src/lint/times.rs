//! Lints about the times of a pod's end: its sleep, its grace period, and what the application has left.

use std::time::Duration;

use crate::lint::{Container, Finding, PreStop, Settle, Workload};
use crate::reason::Reason;

/// The seconds that the kubelet leaves a container between `SIGTERM` and `SIGKILL` at least, however long its
/// `preStop` took. Kubernetes (`minimumGracePeriodInSeconds`).
const LEAST_SHUTDOWN: u64 = 2;

pub(super) fn lint(workload: &Workload) -> Vec<Finding> {
    let settle = workload.settle();
    let of_container = |container| {
        let before = settle.and_then(|settle| waits_too_short(workload, container, settle));
        let after = shutdown_too_short(workload, container);
        let probes = probe_graces(workload, container);
        before.into_iter().chain(after).chain(probes)
    };
    let mut findings: Vec<Finding> = settle
        .and_then(|settle| grace_too_short(workload, settle))
        .into_iter()
        .collect();
    findings.extend(workload.pod.containers.iter().flat_map(of_container));
    findings
}

/// A container that gets `SIGTERM` while its load balancer still sends. A handler whose time is not known may take
/// long enough.
fn waits_too_short(workload: &Workload, container: &Container, settle: Settle) -> Option<Finding> {
    match container.pre_stop {
        PreStop::Sleep(sleep) => pre_stop_too_short(&container.name, sleep, settle),
        PreStop::Absent if workload.settings.injected.is_none() => {
            let message = format!(
                "Container {} has no preStop, and its {settle}",
                container.name
            );
            Some(Finding::new(Reason::PreStopMissing, message))
        }
        PreStop::Absent | PreStop::Unknown => None,
    }
}

/// A `preStop.sleep` of the container's own that is shorter than its load balancer needs.
pub fn pre_stop_too_short(container: &str, sleep: u64, settle: Settle) -> Option<Finding> {
    (sleep < u64::from(settle.needs.get())).then(|| {
        let message =
            format!("Container {container} sleeps {sleep} s before SIGTERM, and its {settle}");
        Finding::new(Reason::PreStopTooShort, message)
    })
}

/// A pod that is killed while its load balancer still sends, whatever its `preStop` does.
fn grace_too_short(workload: &Workload, settle: Settle) -> Option<Finding> {
    let grace = workload.grace();
    (grace < u64::from(settle.needs.get())).then(|| {
        let message = format!("The grace period is {grace} s, and the pod's {settle}");
        Finding::new(Reason::GraceTooShort, message)
    })
}

/// A pod that ended so long after its deletion began, although its load balancer needs longer.
///
/// ```
/// use std::time::Duration;
/// use targetgate_core::drain::{DrainSeconds, LoadBalancerKind};
/// use targetgate_core::lint::{Settle, ended_early};
///
/// let kind = LoadBalancerKind::Alb;
/// let settle = Settle { kind, needs: DrainSeconds::default().of(Some(kind)) };
/// assert!(ended_early(Duration::from_secs(19), settle).is_some());
/// assert_eq!(ended_early(Duration::from_secs(20), settle), None);
/// ```
pub fn ended_early(lived: Duration, settle: Settle) -> Option<Finding> {
    (lived < Duration::from_secs(settle.needs.get().into())).then(|| {
        let lived = lived.as_secs();
        let message = format!("The pod ended {lived} s after its deletion began, and its {settle}");
        Finding::new(Reason::EndedEarly, message)
    })
}

/// A container whose `preStop` leaves the application too little of the grace period.
fn shutdown_too_short(workload: &Workload, container: &Container) -> Option<Finding> {
    let (wait, grace) = (workload.wait(container)?, workload.grace());
    let left = grace.saturating_sub(wait);
    let longest = workload
        .pod
        .longest_request
        .map(|longest| longest.as_secs());
    let kubelets_least = left < LEAST_SHUTDOWN;
    let left = left.max(LEAST_SHUTDOWN);
    let cut = longest.filter(|longest| *longest > left);
    if !kubelets_least && cut.is_none() {
        return None;
    }
    let requests = cut.map_or(String::new(), |longest| {
        format!(", and its longest request takes {longest} s")
    });
    let message = format!(
        "Container {} has {left} s to end after SIGTERM, of a grace period of {grace} s of which {wait} s pass \
         before{requests}",
        container.name
    );
    Some(Finding::new(Reason::ShutdownTooShort, message))
}

/// Probes of a container whose own grace period cuts its sleep.
fn probe_graces(workload: &Workload, container: &Container) -> Vec<Finding> {
    let Some(wait) = workload.wait(container) else {
        return vec![];
    };
    let cuts = container.probes.iter().filter(|probe| probe.grace < wait);
    let found = cuts.map(|probe| {
        let message = format!(
            "A container {} that its {} ends has a grace period of {} s, and its preStop sleeps {wait} s",
            container.name, probe.field, probe.grace
        );
        Finding::new(Reason::ProbeGrace, message)
    });
    found.collect()
}
