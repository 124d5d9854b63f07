//! Gates whose binding was deleted under living pods: nothing registers these pods, and new ones get no gate.

use std::collections::BTreeMap;

use crate::explain::answer::{GateAnswer, Why};
use crate::explain::facts::{Facts, PodFacts};
use crate::gates::inject::Decision;
use crate::index::services::ServiceIndex;
use crate::model::Condition;
use crate::names::GateName;
use crate::reason::Reason;
use crate::selector::selects;

/// Why nothing stands behind the open gates of a pod; `None` if something does.
pub(super) fn of_pod(facts: &Facts, gates: &[GateAnswer], decision: &Decision<'_>) -> Option<Why> {
    let unbound = |gate: &GateAnswer| gate.open && gate.bindings.is_empty();
    let lost = !gates.is_empty() && gates.iter().all(unbound) && is_known(facts);
    let gate = gates
        .first()
        .filter(|_| lost && decision.giving().next().is_none())?;
    let message = format!(
        "The gate {} is open, and no binding of its name is there any more: nothing registers the pod.",
        gate.condition_type
    );
    Some(Why::saying(Reason::BindingLost, message))
}

/// A binding of an API group that is not served is unknown, not gone.
fn is_known(facts: &Facts) -> bool {
    let mut apis = facts.settings.gates.apis.iter();
    !apis.any(|api| facts.not_served.contains(api))
}

/// Pods that keep a gate.
#[derive(Default)]
struct Keeping<'a> {
    pods: usize,
    example: &'a str,
    /// The Services that select one of them.
    services: Vec<&'a str>,
}

/// What there is to tell of bindings that living pods of the namespace have lost.
pub fn explain(facts: &Facts, pods: &[PodFacts]) -> Vec<Why> {
    facts.with_routes(|routes, _| of_namespace(facts, routes, pods))
}

/// The same, by the name of their gate.
pub(super) fn of_namespace(facts: &Facts, routes: &ServiceIndex, pods: &[PodFacts]) -> Vec<Why> {
    if !is_known(facts) {
        return vec![];
    }
    let mut lost: BTreeMap<&GateName, Keeping<'_>> = BTreeMap::new();
    let live = || pods.iter().filter(|pod| pod.pod.is_live());
    for pod in live().filter(|pod| has_lost_all(facts, routes, pod)) {
        for (gate, _) in &pod.pod.gates {
            let keeping = lost.entry(gate).or_default();
            if keeping.pods == 0 {
                keeping.example = &pod.pod.key.name;
                keeping.services = selecting(routes, pod);
            }
            keeping.pods += 1;
        }
    }
    if lost.is_empty() {
        return vec![];
    }
    let bare = live().filter(|pod| pod.pod.gates.is_empty());
    let bare: Vec<Vec<&str>> = bare.map(|pod| selecting(routes, pod)).collect();
    let told = lost.into_iter().map(|(gate, keeping)| {
        let its = |services: &&Vec<&str>| services.iter().any(|s| keeping.services.contains(s));
        why(gate, &keeping, bare.iter().filter(its).count())
    });
    told.collect()
}

fn has_lost_all(facts: &Facts, routes: &ServiceIndex, pod: &PodFacts) -> bool {
    let gates = &pod.pod.gates;
    let open = |(gate, condition): &(GateName, Option<Condition>)| {
        let unbound = facts
            .view()
            .is_none_or(|view| view.bindings_of(gate).is_empty());
        unbound && condition.as_ref().is_some_and(|condition| condition.status)
    };
    let present: Vec<_> = gates.iter().map(|(gate, _)| gate.clone()).collect();
    let apis = &facts.settings.gates.apis;
    !gates.is_empty()
        && gates.iter().all(open)
        && !routes.lacks_gate(&pod.pod.template.labels, &present, apis)
}

fn selecting<'a>(routes: &'a ServiceIndex, pod: &PodFacts) -> Vec<&'a str> {
    let labels = &pod.pod.template.labels;
    let services = routes.services();
    let selecting = services.filter(|(_, service)| selects(&service.selector, labels));
    selecting.map(|(name, _)| &**name).collect()
}

fn why(gate: &GateName, keeping: &Keeping<'_>, since: usize) -> Why {
    let Keeping {
        pods,
        example,
        services,
    } = keeping;
    let of = match services.first() {
        Some(service) => format!("Service {service} has no binding of that name any more"),
        None => "no binding of that name is there any more".to_owned(),
    };
    let message = format!(
        "Living pods with the open gate {}: {pods}, such as {example}; {of}, nothing registers them, and of the pods that it selects {since} have no gate.",
        gate.as_str()
    );
    Why::saying(Reason::BindingLost, message)
}
