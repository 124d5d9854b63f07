//! Why a pod lacks a gate that it would get were it created now, and the command that mends it.

use jiff::Timestamp;

use crate::explain::answer::{Lacking, Why};
use crate::explain::facts::{Facts, PodFacts};
use crate::gates::inject::Decision;
use crate::model::{Binding, Namespace};
use crate::names::{INJECT_ENABLED, INJECT_LABEL};
use crate::reason::Reason;
use crate::ungated;

/// The gates that a pod lacks, in the order of the bindings' names.
pub(super) fn lacking(
    facts: &Facts,
    namespace: &Namespace,
    decision: &Decision<'_>,
    pod: &PodFacts,
) -> Vec<Lacking> {
    let due = decision.giving();
    let due = due.filter(|binding| !pod.has_gate_of(&binding.name));
    due.map(|binding| Lacking {
        binding: binding.name.to_string(),
        why: why(facts, namespace, binding, pod),
        since: since(binding, pod),
    })
    .collect()
}

/// Why a pod lacks the gate of a binding that selects it, or that it gets it once it is created.
pub(super) fn why(facts: &Facts, namespace: &Namespace, binding: &Binding, pod: &PodFacts) -> Why {
    let labels = &pod.pod.template.labels;
    let refusal = facts
        .settings
        .scope
        .refusal(&facts.namespace, namespace, labels);
    if let Some(reason) = refusal {
        return refused(facts, reason, pod);
    }
    let Some(created) = pod.created else {
        let gate = facts.settings.gates.prefix.gate(&binding.name);
        return Why {
            remedy: String::new(),
            ..Why::saying(
                Reason::Injected,
                format!("It gets the gate {}.", gate.as_str()),
            )
        };
    };
    let (reason, message) = ungated::why(created, binding, facts.opted_in);
    let mut why = Why::saying(reason, message);
    why.command = create_anew(facts, pod);
    why
}

/// Since when the pod serves without the gate: the binding may be younger than the pod.
fn since(binding: &Binding, pod: &PodFacts) -> Option<Timestamp> {
    let created = pod.created?;
    Some(
        binding
            .registration
            .created
            .map_or(created, |bound| bound.max(created)),
    )
}

fn refused(facts: &Facts, reason: Reason, pod: &PodFacts) -> Why {
    let namespace = &facts.namespace;
    let label = format!("{INJECT_LABEL}={INJECT_ENABLED}");
    let (message, command) = match reason {
        Reason::NamespaceNotOptedIn => {
            let labelled = format!("kubectl label namespace {namespace} {label}");
            let anew = pod.created.and_then(|_| create_anew(facts, pod));
            let commands: Vec<String> = [labelled].into_iter().chain(anew).collect();
            let message = format!(
                "Namespace {namespace} lacks the label {label}, so the hook is not called for its pods."
            );
            (message, Some(commands.join(" && ")))
        }
        Reason::PodNotOptedIn => {
            let message =
                format!("The pod lacks the label {label}, so the hook is not called for it.");
            (message, None)
        }
        _ => return Why::new(reason),
    };
    Why {
        command,
        ..Why::saying(reason, message)
    }
}

/// The command by which the pod's controller creates it anew; `None` of a pod that was created by hand.
pub(super) fn create_anew(facts: &Facts, pod: &PodFacts) -> Option<String> {
    let (name, template) = (&pod.pod.key.name, &pod.pod.template);
    let controller = template.controller.as_ref();
    ungated::create_anew(&facts.namespace, name, &template.labels, controller)
}
