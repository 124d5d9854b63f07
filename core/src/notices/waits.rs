//! Pods that wait for their targets, and those that have waited.

use std::sync::Arc;

use crate::gates::machine::long_waits::LongWait;
use crate::index::Index;
use crate::model::Pod;
use crate::names::{GateName, ObjectKey};
use crate::notices::{AllFound, Finding, Of, Regarded, Topic, add_pod};
use crate::reason::Reason;

/// What there is to tell of pods that have waited for long, for each owner and binding.
pub fn waits<'a>(waits: impl Iterator<Item = LongWait<'a>>, index: &Index) -> AllFound {
    let mut found = AllFound::new();
    for wait in waits {
        let (pod, gate) = (wait.pod, wait.gate);
        let topic = topic(Regarded::owner(pod), gate, Reason::WaitingForTarget);
        let waiting = add_pod(&mut found, topic, &pod.key.name, || {
            let of = gate.name();
            format!(
                "for more than a minute, the target of binding {of} keeps the gate closed: {}",
                wait.why()
            )
        });
        if waiting.pods == 1 {
            waiting.related = binding(&pod.key, gate, index);
        }
    }
    found
}

/// Adds a pod whose gate was opened because its target is healthy, and which had waited for long.
pub fn healthy(all: &mut AllFound, pod: &Pod, gate: &GateName, index: &Index) {
    let topic = topic(Regarded::owner(pod), gate, Reason::TargetHealthy);
    let found = add_pod(all, topic, &pod.key.name, || {
        let of = gate.name();
        format!("the target of binding {of} is healthy, and no pod waits for its own any more")
    });
    found.related = binding(&pod.key, gate, index);
    found.finding = Finding::Happened;
}

fn topic(regarded: Regarded, gate: &GateName, reason: Reason) -> Topic {
    Topic {
        regarded,
        reason,
        of: Of::Binding(Arc::from(gate.name())),
    }
}

/// The first binding that a gate stands for.
fn binding(pod: &ObjectKey, gate: &GateName, index: &Index) -> Option<Regarded> {
    let view = index.namespace(&pod.namespace)?;
    let bindings = view.bindings_of(gate);
    let first = bindings.first()?;
    Some(Regarded::binding(&pod.namespace, first))
}
