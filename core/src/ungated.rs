//! Why a pod that exists lacks the gate of a binding that selects it, and the command that mends it.

use std::sync::Arc;

use jiff::Timestamp;

use crate::model::{Binding, ControllerRef, TEMPLATE_HASH};
use crate::reason::Reason;
use crate::selector::LabelSet;

/// Why a pod that was created then lacks the gate of a binding, with a sentence. `opted_in` is when its Namespace got
/// the label that opts in, at the latest; `None` if it is unknown.
pub fn why(created: Timestamp, binding: &Binding, opted_in: Option<Timestamp>) -> (Reason, String) {
    let name = &binding.name;
    match (binding.registration.created, opted_in) {
        (Some(bound), _) if bound > created => (
            Reason::PodOlderThanBinding,
            format!(
                "The pod is of {created}, and binding {name} of {bound}: no gate can be added to a pod that exists."
            ),
        ),
        (_, Some(opted_in)) if opted_in > created => (
            Reason::PodOlderThanOptIn,
            format!(
                "The pod is of {created}, and its Namespace was labelled at {opted_in} or shortly before: no gate can be added to a pod that exists."
            ),
        ),
        _ => (
            Reason::HookMissed,
            format!(
                "The pod is of {created}, when binding {name} was there: the hook was out of reach, or labels, Service or selector were changed since."
            ),
        ),
    }
}

/// The command by which its controller creates a pod of this name and these labels anew; `None` of a pod that was
/// created by hand.
pub fn create_anew(
    namespace: &str,
    pod: &str,
    labels: &impl LabelSet,
    controller: Option<&Arc<ControllerRef>>,
) -> Option<String> {
    let controller = controller?;
    let restart = |kind: &str, name: &str| format!("rollout restart {kind}/{name}");
    let delete = || format!("delete pod {pod}");
    let name = &*controller.name;
    let command = match &*controller.kind {
        "ReplicaSet" => {
            let deployment = controller.deployment(labels.value(TEMPLATE_HASH));
            deployment.map_or_else(delete, |deployment| restart("deployment", deployment))
        }
        "StatefulSet" => restart("statefulset", name),
        "DaemonSet" => restart("daemonset", name),
        _ => delete(),
    };
    Some(format!("kubectl --namespace {namespace} {command}"))
}
