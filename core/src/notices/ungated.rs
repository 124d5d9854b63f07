//! Pods without a gate that a binding gives to pods that are created now, or would give.

use jiff::Timestamp;

use crate::index::{Index, UngatedPod};
use crate::names::BindingApi;
use crate::notices::{AllFound, Of, Regarded, Topic, add_pod, has_lasted};
use crate::reason::Reason;
use crate::ungated::{create_anew, why};

/// Adds the pods that lack a gate for longer than a minute: the watches of a pod and of what decides about its gates
/// have no order.
pub(super) fn add(index: &Index, apis: &[BindingApi], now: Timestamp, found: &mut AllFound) {
    for pod in index.ungated_pods(apis) {
        let Some(created) = pod.created.filter(|at| has_lasted(Some(*at), now)) else {
            continue;
        };
        match pod.refusal {
            None => lacking(&pod, created, found),
            Some(refusal) => refused(&pod, refusal, found),
        }
    }
}

fn owner(pod: &UngatedPod<'_>) -> Regarded {
    Regarded::owner_of(pod.namespace, pod.name, None, pod.controller)
}

fn lacking(pod: &UngatedPod<'_>, created: Timestamp, found: &mut AllFound) {
    let (cause, sentence) = why(created, pod.binding, pod.opted_in.labelled);
    let topic = Topic {
        regarded: owner(pod),
        reason: Reason::Ungated,
        of: Of::Cause(cause),
    };
    let ungated = add_pod(found, topic, pod.name, || {
        let (binding, remedy) = (&pod.binding.name, cause.remedy());
        let command = create_anew(pod.namespace, pod.name, pod.labels, pod.controller);
        let command = command.map_or_else(String::new, |command| format!(" ({command})"));
        format!("no gate of binding {binding} ({cause}). {sentence} {remedy}{command}")
    });
    // Events of one owner that differ in their cause are not repetitions of one another.
    if ungated.pods == 1 {
        ungated.related = match cause {
            Reason::PodOlderThanBinding => Some(Regarded::binding(pod.namespace, pod.binding)),
            Reason::PodOlderThanOptIn => Some(Regarded::Namespace {
                name: pod.namespace.clone(),
                uid: pod.opted_in.uid.clone(),
            }),
            _ => None,
        };
    }
}

/// A pod that a Service selects whose binding gives no gate for now.
fn refused(pod: &UngatedPod<'_>, refusal: Reason, found: &mut AllFound) {
    let topic = Topic::new(owner(pod), refusal);
    let refused = add_pod(found, topic, pod.name, || {
        let (binding, remedy) = (&pod.binding.name, refusal.remedy());
        let sentence = refusal.sentence();
        format!("no gate of binding {binding}. {sentence} {remedy}")
    });
    if refused.pods == 1 {
        refused.related = Some(Regarded::binding(pod.namespace, pod.binding));
    }
}
