//! Lints about what the cluster makes of a pod's end.

use crate::lint::{Finding, Level, PreStop, Registrar, Version, Workload};
use crate::reason::Reason;

/// The first kubelet that runs `preStop.sleep` without a feature gate. Kubernetes.
const SLEEPS_SINCE: Version = (1, 30);
/// The first version of the Pod Security Standards in which `baseline` forbids a `host`. Kubernetes
/// (`check_hostProbesAndhostLifecycle.go`).
const HOST_REFUSED_SINCE: Version = (1, 34);

pub(super) fn lint(workload: &Workload) -> Vec<Finding> {
    let rules = [kubelet_too_old, host_refused, publishes_not_ready];
    rules.iter().filter_map(|rule| rule(workload)).collect()
}

/// Kubelets that do not know the sleep on which the pod's end depends.
fn kubelet_too_old(workload: &Workload) -> Option<Finding> {
    let (major, minor) = workload.cluster.oldest_kubelet?;
    let own = |pre_stop| matches!(pre_stop, PreStop::Sleep(_));
    let mut containers = workload.pod.containers.iter();
    let sleeps =
        workload.settings.injected.is_some() || containers.any(|container| own(container.pre_stop));
    (sleeps && (major, minor) < SLEEPS_SINCE).then(|| {
        let message = format!("A kubelet is of {major}.{minor}, which does not know preStop.sleep");
        Finding::new(Reason::KubeletTooOld, message)
    })
}

/// A `host` of the workload's own, for which Pod Security refuses its pods.
fn host_refused(workload: &Workload) -> Option<Finding> {
    let enforced = workload.cluster.pod_security?;
    let field = workload.pod.hosts.first()?;
    let (major, minor) = enforced.version;
    (enforced.level > Level::Privileged && enforced.version >= HOST_REFUSED_SINCE).then(|| {
        let message = format!(
            "{field} is set, which Pod Security refuses in this namespace by its standards of {major}.{minor}"
        );
        Finding::new(Reason::HostRefused, message)
    })
}

/// A Service that keeps pods that end among its addresses, from which the incumbent registers targets.
fn publishes_not_ready(workload: &Workload) -> Option<Finding> {
    let incumbent = workload.cluster.registrar == Some(Registrar::Incumbent);
    let mut groups = workload.groups.iter();
    let group = groups.find(|group| group.publishes_not_ready == Some(true));
    let group = group.filter(|_| incumbent)?;
    let message = format!(
        "The Service of binding {} sets publishNotReadyAddresses, so AWS Load Balancer Controller deregisters a pod \
         only once it is gone",
        group.binding
    );
    Some(Finding::new(Reason::NotReadyPublished, message))
}
