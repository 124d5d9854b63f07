//! What becomes of a pod's end: drain, and what loses requests all the same.

use crate::drain::inject::inject;
use crate::drain::{DrainSeconds, SleepSeconds, asked};
use crate::explain::answer::{EndAnswer, Why};
use crate::explain::facts::{Facts, PodFacts};
use crate::index::services::ServiceIndex;
use crate::lint;
use crate::lint::{Finding, Group, Workload};
use crate::model::{Binding, Namespace};
use crate::reason::Reason;

/// Why a pod has, gets or lacks a sleep, and the one that it gets if it is not created yet.
fn decided(
    facts: &Facts,
    namespace: &Namespace,
    bindings: &[&Binding],
    pod: &PodFacts,
) -> (Reason, Option<SleepSeconds>) {
    let (own, policy) = (pod.end.annotations, &facts.settings.drain);
    let kinds = bindings.iter().map(|binding| binding.load_balancer);
    let asked = asked(own, Some(namespace.drain), kinds, policy, facts.server);
    let decided = asked.map(|sleep| (sleep, inject(&pod.end.new, sleep).reason));
    let reason = decided.map_or_else(|reason| reason, |(_, reason)| reason);
    let gets_sleep = decided
        .ok()
        .filter(|(_, reason)| *reason == Reason::Injected);
    let injected = gets_sleep.map(|(sleep, _)| sleep);
    (reason, injected.filter(|_| pod.created.is_none()))
}

/// A pod with gates of these bindings, as the lints see it.
pub(super) fn workload(
    facts: &Facts,
    routes: &ServiceIndex,
    namespace: &Namespace,
    bindings: &[&Binding],
    pod: &PodFacts,
) -> Workload {
    let (_, injected) = decided(facts, namespace, bindings, pod);
    let default = facts.settings.drain.seconds;
    let seconds = pod.end.annotations.seconds;
    let seconds = seconds.map_or(default, |seconds| DrainSeconds {
        alb: seconds,
        nlb: seconds,
    });
    Workload {
        pod: pod.end.template.clone(),
        groups: bindings.iter().map(|b| group(routes, b)).collect(),
        settings: lint::Settings { seconds, injected },
        ..Workload::default()
    }
}

/// Explains the end of a pod with gates of these bindings.
pub(super) fn explain(
    facts: &Facts,
    routes: &ServiceIndex,
    namespace: &Namespace,
    bindings: &[&Binding],
    pod: &PodFacts,
) -> EndAnswer {
    let (reason, injected) = decided(facts, namespace, bindings, pod);
    let workload = workload(facts, routes, namespace, bindings, pod);
    let has_sleep = pod
        .end
        .new
        .drained
        .filter(|_| reason == Reason::AlreadyInjected);
    EndAnswer {
        why: why(reason, pod),
        sleep_seconds: injected
            .or(has_sleep.map(|drained| drained.sleep))
            .map(|s| s.get()),
        grace_seconds: workload.pod.grace,
        lints: lint::lint(&workload).into_iter().map(of_finding).collect(),
    }
}

fn why(reason: Reason, pod: &PodFacts) -> Why {
    match (reason, pod.created) {
        (Reason::Injected, None) => {
            Why::saying(reason, "Its containers get a sleep before their end.")
        }
        (Reason::Injected, Some(_)) => Why {
            remedy: "Create the pod anew.".to_owned(),
            ..Why::saying(
                reason,
                "The pod has no sleep, or another one than it would get now: it was created before drain was asked for.",
            )
        },
        (Reason::AlreadyInjected, _) => {
            Why::saying(reason, "Its containers have the sleep before their end.")
        }
        _ => Why::new(reason),
    }
}

fn group(routes: &ServiceIndex, binding: &Binding) -> Group {
    let service = routes.service(&binding.service);
    Group {
        binding: binding.name.to_string(),
        kind: binding.load_balancer,
        publishes_not_ready: service.map(|service| service.publish_not_ready),
        ..Group::default()
    }
}

fn of_finding(finding: Finding) -> Why {
    Why::saying(finding.reason, format!("{}.", finding.message))
}
