//! Services that have lost their last binding under living pods: nothing registers these pods, and new ones get no gate.
//!
//! The Event of this reason remembers a deletion that it has seen. Here the deletion shows in the open gates that
//! outlive it.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::explain::answer::Why;
use crate::explain::facts::{Facts, PodFacts};
use crate::index::services::ServiceIndex;
use crate::model::Service;
use crate::names::{GateName, ObjectKey};
use crate::reason::Reason;
use crate::selector::selects;
use crate::unbound::{SelectedPod, Unbound};

/// What there is to tell of bindings that living pods of the namespace have lost.
pub fn explain(facts: &Facts, pods: &[PodFacts]) -> Vec<Why> {
    facts.with_routes(|routes, _| of_namespace(facts, routes, pods))
}

/// Why nothing stands behind an open gate of a pod; `None` if something does.
pub(super) fn of_pod(facts: &Facts, routes: &ServiceIndex, pod: &PodFacts) -> Option<Why> {
    let gate = outliving(facts, pod).next()?;
    let mut services = unbound(facts, routes);
    let (service, _) = services.find(|(_, service)| is_of(service, pod))?;
    let message = format!(
        "The gate {} is open, and no binding of its name is there any more, nor another one of Service {service}: nothing registers the pods that the Service selects.",
        gate.as_str()
    );
    Some(Why::saying(Reason::BindingLost, message))
}

/// What there is to tell of Services, by the gates that outlive their bindings.
pub(super) fn of_namespace(facts: &Facts, routes: &ServiceIndex, pods: &[PodFacts]) -> Vec<Why> {
    // In most namespaces no gate does, and no Service need be looked at.
    let keeping: Vec<&PodFacts> = pods
        .iter()
        .filter(|pod| outliving(facts, pod).next().is_some())
        .collect();
    if keeping.is_empty() {
        return vec![];
    }
    let lost = unbound(facts, routes).flat_map(|(name, service)| {
        let keeping = keeping.iter().filter(|pod| is_of(service, pod));
        let gates = keeping.flat_map(|pod| outliving(facts, pod));
        let gates: BTreeSet<&GateName> = gates.collect();
        let told = gates.into_iter();
        told.filter_map(|gate| of_gate(name, service, gate, pods))
            .collect::<Vec<_>>()
    });
    lost.collect()
}

fn of_gate(name: &str, service: &Service, gate: &GateName, pods: &[PodFacts]) -> Option<Why> {
    let selected: Vec<&PodFacts> = pods.iter().filter(|pod| is_of(service, pod)).collect();
    let has_gate = |pod: &PodFacts| pod.pod.gates.iter().any(|(known, _)| known == gate);
    let example = selected.iter().find(|pod| has_gate(pod))?;
    let counted = selected.iter().map(|pod| SelectedPod {
        has_gate: has_gate(pod),
        created: pod.created,
    });
    let Unbound { pods, without_gate } = Unbound::of(counted, None)?;
    let message = format!(
        "Service {name} has no binding any more, and pods that it selects keep the open gate {}, such as {}: nothing registers them. Pods that it selects: {pods}; without that gate: {without_gate}.",
        gate.as_str(),
        example.pod.key.name
    );
    Some(Why::saying(Reason::BindingLost, message))
}

/// The Services that have no binding.
fn unbound<'a>(
    facts: &'a Facts,
    routes: &'a ServiceIndex,
) -> impl Iterator<Item = (&'a Arc<str>, &'a Service)> {
    let apis = &facts.settings.gates.apis;
    routes.services().filter(move |(name, _)| {
        let key = ObjectKey::new(facts.namespace.clone(), (*name).clone());
        facts.index.is_unbound(&key, apis)
    })
}

/// Whether a pod counts as one of the Service: it lives, does not opt out, and is selected.
fn is_of(service: &Service, pod: &PodFacts) -> bool {
    let pod = &pod.pod;
    pod.is_live() && !pod.opted_out && selects(&service.selector, &pod.template.labels)
}

/// The open gates of a pod that no binding stands behind.
fn outliving<'a>(facts: &'a Facts, pod: &'a PodFacts) -> impl Iterator<Item = &'a GateName> {
    let mut apis = facts.settings.gates.apis.iter();
    // A binding of an API group that is not served is unknown, not gone.
    let is_known = !apis.any(|api| facts.not_served.contains(api));
    let view = facts.view().filter(|_| is_known);
    let gates = pod.pod.gates.iter().filter(move |(gate, condition)| {
        let open = condition.as_ref().is_some_and(|condition| condition.status);
        open && view.is_some_and(|view| view.bindings_of(gate).is_empty())
    });
    gates.map(|(gate, _)| gate)
}
