//! Why a pod lacks a gate that it would get were it created now, and the command that mends it.

use jiff::Timestamp;

use crate::explain::answer::{Lacking, Why};
use crate::explain::facts::{Facts, PodFacts};
use crate::gates::inject::Decision;
use crate::model::{Binding, Namespace};
use crate::names::{INJECT_ENABLED, INJECT_LABEL};
use crate::reason::Reason;

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
    let name = &binding.name;
    let bound = binding.registration.created;
    let mut why = match (bound, facts.opted_in) {
        (Some(bound), _) if bound > created => Why::saying(
            Reason::PodOlderThanBinding,
            format!(
                "The pod is of {created}, and binding {name} of {bound}: no gate can be added to a pod that exists."
            ),
        ),
        (_, Some(opted_in)) if opted_in > created => Why::saying(
            Reason::PodOlderThanOptIn,
            format!(
                "The pod is of {created}, and its Namespace was labelled at {opted_in} or shortly before: no gate can be added to a pod that exists."
            ),
        ),
        _ => Why::saying(
            Reason::HookMissed,
            format!(
                "The pod is of {created}, when binding {name} was there: the hook was out of reach, or labels, Service or selector were changed since."
            ),
        ),
    };
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
    let template = &pod.pod.template;
    let controller = template.controller.as_deref()?;
    let restart = |kind: &str, name: &str| format!("rollout restart {kind}/{name}");
    let delete = || format!("delete pod {}", pod.pod.key.name);
    let name = &*controller.name;
    let command = match &*controller.kind {
        "ReplicaSet" => {
            // A Deployment names its ReplicaSets by its own name and the hash of the template.
            let hash = template.labels.get("pod-template-hash");
            let deployment = hash.and_then(|hash| name.strip_suffix(&**hash)?.strip_suffix('-'));
            deployment.map_or_else(delete, |deployment| restart("deployment", deployment))
        }
        "StatefulSet" => restart("statefulset", name),
        "DaemonSet" => restart("daemonset", name),
        _ => delete(),
    };
    Some(format!("kubectl --namespace {} {command}", facts.namespace))
}
