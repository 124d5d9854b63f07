//! What the index shows that owners have to be told. A new kind of notice is one more function here.

use crate::index::{Index, RemarkedPod};
use crate::model::UnreadableAnnotation;
use crate::names::BindingApi;
use crate::notices::{AllFound, Found, Regarded, add_pod};
use crate::reason::Reason;

/// What there is to tell, for each object and reason.
pub fn found(index: &Index, apis: &[BindingApi]) -> AllFound {
    let mut found = AllFound::new();
    for pod in index.remarked_pods() {
        legacy_gate(&pod, index, apis, &mut found);
        unreadable_of_pod(&pod, &mut found);
    }
    unreadable_of_others(index, apis, &mut found);
    found
}

/// A legacy gate that a pod keeps, because no gate of ours takes its place.
fn legacy_gate(pod: &RemarkedPod<'_>, index: &Index, apis: &[BindingApi], found: &mut AllFound) {
    let Some(gate) = &pod.remarks.legacy_gate else {
        return;
    };
    let due = !pod.remarks.opted_out && index.is_gate_due(pod.namespace, pod.labels, apis);
    if !due {
        add(found, pod, Reason::LegacyGate, || {
            let reason = Reason::LegacyGate;
            format!(
                "it keeps the readiness gate {gate:?}, whose condition no controller writes, so that it does not become Ready. {}",
                reason.remedy()
            )
        });
    }
}

fn unreadable_of_pod(pod: &RemarkedPod<'_>, found: &mut AllFound) {
    let unreadable = &pod.remarks.unreadable;
    if !unreadable.is_empty() {
        let instead = "the binding, the Namespace and the flags say";
        add(found, pod, Reason::AnnotationUnreadable, || {
            text_of(unreadable, instead)
        });
    }
}

fn unreadable_of_others(index: &Index, apis: &[BindingApi], found: &mut AllFound) {
    let mut tell = |regarded, unreadable: &[UnreadableAnnotation], instead| {
        if unreadable.is_empty() {
            return;
        }
        let told = Found {
            text: text_of(unreadable, instead),
            example: None,
            pods: 0,
        };
        found.insert((regarded, Reason::AnnotationUnreadable), told);
    };
    for (name, view) in index.namespaces() {
        let regarded = Regarded::Namespace {
            name: name.clone(),
            uid: view.namespace.uid.clone(),
        };
        tell(regarded, &view.namespace.unreadable, "the flags say");
        let bindings = view.routes.bindings();
        for binding in bindings.filter(|binding| apis.contains(&binding.api)) {
            let regarded = Regarded::Binding {
                namespace: name.clone(),
                name: binding.name.clone(),
                api: binding.api,
                uid: binding.uid.clone(),
            };
            let instead = "the Namespace and the flags say";
            tell(regarded, &binding.unreadable, instead);
        }
    }
}

/// What is written, what counts instead, and what to write.
fn text_of(unreadable: &[UnreadableAnnotation], instead: &str) -> String {
    let each: Vec<_> = unreadable.iter().map(ToString::to_string).collect();
    format!("{}: what {instead} counts instead", each.join("; "))
}

fn add(found: &mut AllFound, pod: &RemarkedPod<'_>, reason: Reason, text: impl FnOnce() -> String) {
    let owner = Regarded::owner_of(pod.namespace, pod.name, pod.uid, pod.controller);
    add_pod(found, (owner, reason), pod.name, text);
}
