//! Lints about the attributes of target groups, where these are readable.

use crate::lint::{Finding, Group, Workload};
use crate::reason::Reason;

pub(super) fn lint(workload: &Workload) -> Vec<Finding> {
    let of_group = |group| {
        let rules = [delay_too_long, connections_terminated, tcp_health_check];
        rules
            .into_iter()
            .filter_map(move |rule| rule(workload, group))
    };
    workload.groups.iter().flat_map(of_group).collect()
}

/// A group that lets requests in flight go on for longer than the pod lives.
fn delay_too_long(workload: &Workload, group: &Group) -> Option<Finding> {
    let (delay, grace) = (group.deregistration_delay?, workload.grace());
    let longest = workload.pod.longest_request;
    let fits = longest.is_some_and(|longest| longest.as_secs() <= workload.pod.grace);
    (delay > grace && !fits).then(|| {
        let message = format!(
            "The group of binding {} lets requests in flight go on for {delay} s, and the pod's grace period is \
             {grace} s",
            group.binding
        );
        Finding::new(Reason::DeregistrationDelayTooLong, message)
    })
}

/// A group whose load balancer cuts connections that the pod has time to serve.
fn connections_terminated(workload: &Workload, group: &Group) -> Option<Finding> {
    let (delay, grace) = (group.deregistration_delay?, workload.grace());
    (group.connection_termination? && delay < grace).then(|| {
        let message = format!(
            "The group of binding {} cuts connections {delay} s after the target's deregistration, and the pod's \
             grace period is {grace} s",
            group.binding
        );
        Finding::new(Reason::ConnectionsTerminated, message)
    })
}

/// A health check that an open port passes, where the application ends while the load balancer still sends: only a
/// deregistration takes such a pod out.
fn tcp_health_check(workload: &Workload, group: &Group) -> Option<Finding> {
    let needs = u64::from(workload.settings.seconds.of(Some(group.kind?)).get());
    let containers = workload.pod.containers.iter();
    let shortest = containers
        .filter_map(|container| workload.wait(container))
        .min()?;
    (group.tcp_health_check? && shortest < needs).then(|| {
        let message = format!(
            "The group of binding {} is checked by TCP, so that it stays healthy while the application ends, {shortest} \
             s after the pod's deletion began; its load balancer needs {needs} s",
            group.binding
        );
        Finding::new(Reason::TcpHealthCheck, message)
    })
}
