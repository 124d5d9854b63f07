//! Which bindings of a namespace select a pod, and why the others do not.

use crate::explain::answer::{BindingOfPod, Why};
use crate::explain::facts::{Facts, PodFacts};
use crate::gates::inject::{Decision, NewPod, decide};
use crate::index::services::ServiceIndex;
use crate::model::{Binding, Labels, Service};
use crate::reason::Reason;
use crate::selector::selects;

/// At most this many pairs of labels are listed. Chosen.
const LABELS_LISTED: usize = 6;

/// Decides about a pod as the hook does, with what is there now.
pub(super) fn decided<'a>(
    facts: &'a Facts,
    routes: &'a ServiceIndex,
    pod: &PodFacts,
) -> Decision<'a> {
    let gates = pod.gate_types();
    let new = NewPod {
        labels: &pod.pod.template.labels,
        gates: &gates,
        opted_out: pod.pod.opted_out,
    };
    decide(&new, routes, &facts.settings.gates)
}

/// All bindings, first those whose Service selects the pod, then by name. A gate under a former prefix is a gate, too.
pub(super) fn bindings(
    routes: &ServiceIndex,
    decision: &Decision<'_>,
    pod: &PodFacts,
    injected: impl Fn(&Binding) -> Why,
) -> Vec<BindingOfPod> {
    let all = decision.bindings().map(|(binding, reason)| {
        let service = routes.service(&binding.service);
        let why = match reason {
            Reason::Injected if !pod.has_gate_of(&binding.name) => injected(binding),
            Reason::Injected => Why::saying(Reason::AlreadyInjected, "The pod has its gate."),
            reason => why(reason, binding, service, pod),
        };
        let labels = &pod.pod.template.labels;
        let selects = service.is_some_and(|s| !s.external_name && selects(&s.selector, labels));
        of_pod(binding, selects, why)
    });
    let mut all: Vec<BindingOfPod> = all.collect();
    // The sort is stable, and the bindings come by name.
    all.sort_by_key(|binding| !binding.selects);
    all
}

pub(super) fn of_pod(binding: &Binding, selects: bool, why: Why) -> BindingOfPod {
    BindingOfPod {
        name: binding.name.to_string(),
        api: binding.api.to_string(),
        service: binding.service.to_string(),
        selects,
        why,
    }
}

/// Why a binding gives a pod no gate.
pub(super) fn why(
    reason: Reason,
    binding: &Binding,
    service: Option<&Service>,
    pod: &PodFacts,
) -> Why {
    let message = match (reason, service) {
        (Reason::AlreadyInjected, _) => "The pod has its gate.".to_owned(),
        (Reason::SelectorMismatch, Some(service)) => {
            mismatch(&binding.service, service, &pod.pod.template.labels)
        }
        (Reason::OptedOut, _) => {
            let by = opted_out_by(binding, service, pod);
            format!("`targetgate.dev/gate: \"false\"` on the {by} opts the pod out.")
        }
        _ => return of_binding(reason, binding),
    };
    Why::saying(reason, message)
}

/// Why a binding gives no pod a gate.
pub(super) fn of_binding(reason: Reason, binding: &Binding) -> Why {
    let (name, service) = (&binding.name, &binding.service);
    let message = match reason {
        Reason::ServiceMissing => format!("Service {service} of binding {name} does not exist."),
        Reason::ServiceExternalName => {
            format!("Service {service} is an `ExternalName`, which reaches no pod.")
        }
        Reason::ServiceWithoutSelector => format!("Service {service} has no selector."),
        Reason::TargetTypeInstance => {
            format!("Binding {name} registers nodes, not pods: its targetType is instance.")
        }
        _ => return Why::new(reason),
    };
    Why::saying(reason, message)
}

fn opted_out_by(binding: &Binding, service: Option<&Service>, pod: &PodFacts) -> String {
    let by_service = service.is_some_and(|service| service.opted_out);
    let by = [
        (pod.pod.opted_out, "Pod".to_owned()),
        (by_service, format!("Service {}", binding.service)),
        (binding.opted_out, format!("binding {}", binding.name)),
    ];
    let by = by.into_iter().filter(|(opts_out, _)| *opts_out);
    let by: Vec<String> = by.map(|(_, object)| object).collect();
    by.join(", ")
}

/// The pairs of the selector that the pod lacks, with what it has instead.
fn mismatch(name: &str, service: &Service, labels: &Labels) -> String {
    let lacking = service
        .selector
        .iter()
        .filter(|(key, value)| labels.get(*key) != Some(value));
    let lacking = lacking.map(|(key, value)| match labels.get(key) {
        Some(other) => format!("{key}={value}, where the pod has {key}={other}"),
        None => format!("{key}={value}, and the pod has no label {key}"),
    });
    let mut lacking: Vec<String> = lacking.collect();
    let all = lacking.len();
    lacking.truncate(LABELS_LISTED);
    let more = match all - lacking.len() {
        0 => String::new(),
        more => format!("; and {more} more"),
    };
    format!("Service {name} selects {}{more}.", lacking.join("; "))
}
