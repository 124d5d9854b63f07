//! What the index shows that owners have to be told. A new kind of notice is one more function here.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;

use crate::drain::{DrainMode, DrainPolicy};
use crate::gate_rules::TooLarge;
use crate::index::{Index, RemarkedPod};
use crate::legacy_gate::{Keeper, Kept};
use crate::lint::{Settle, pre_stop_too_short};
use crate::model::{OwnSleep, UnreadableAnnotation};
use crate::names::{BindingApi, ObjectKey};
use crate::notices::{AllFound, Found, Regarded, Topic, add_pod, bindings, has_lasted, ungated};
use crate::reason::Reason;

/// What there is to tell at the time `now`, for each object and reason.
pub fn found(index: &Index, apis: &[BindingApi], drain: &DrainPolicy, now: Timestamp) -> AllFound {
    let mut found = AllFound::new();
    for pod in index.remarked_pods() {
        legacy_gate(&pod, index, apis, now, &mut found);
        unreadable_of_pod(&pod, &mut found);
        short_sleep(&pod, index, drain, &mut found);
    }
    unreadable_of_others(index, apis, &mut found);
    ungated::add(index, apis, now, &mut found);
    bindings::add(index, apis, &mut found);
    found
}

/// A legacy gate that a pod keeps. It is closed for a while in any case: an old controller that still writes its condition
/// waits for the pod's containers, and for ELB.
fn legacy_gate(
    pod: &RemarkedPod<'_>,
    index: &Index,
    apis: &[BindingApi],
    now: Timestamp,
    found: &mut AllFound,
) {
    let gate = pod.remarks.legacy_gate.as_ref();
    let Some(gate) = gate.filter(|_| has_lasted(pod.containers_ready, now)) else {
        return;
    };
    let opted_out = pod.remarks.opted_out;
    let keeper = Keeper {
        exists: true,
        gate_due: !opted_out && index.is_gate_due(pod.namespace, pod.labels, apis),
    };
    if let Some(Kept { clause, remedy }) = keeper.told(gate) {
        add(found, pod, Reason::LegacyGate, || {
            format!("it {clause}. {remedy}")
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

/// A sleep of the owner's that ends before the load balancer stops sending, where drain is on: the hook leaves such a
/// container as it is.
fn short_sleep(pod: &RemarkedPod<'_>, index: &Index, drain: &DrainPolicy, found: &mut AllFound) {
    let Some(sleep) = &pod.remarks.own_sleep else {
        return;
    };
    let namespace = index.namespace(pod.namespace);
    let label = namespace.map_or_else(Default::default, |view| view.namespace.drain);
    if drain.mode(sleep.drain, label) == DrainMode::Off {
        return;
    }
    let settle = settle(pod, index, sleep, drain);
    let short = settle.and_then(|s| pre_stop_too_short(&sleep.container, sleep.seconds, s));
    if let Some(short) = short {
        add(found, pod, short.reason, || {
            format!("{}. {}", short.message, short.reason.remedy())
        });
    }
}

/// What the slowest load balancer of its gates needs; nothing is known of a load balancer of unknown kind.
fn settle(
    pod: &RemarkedPod<'_>,
    index: &Index,
    sleep: &OwnSleep,
    drain: &DrainPolicy,
) -> Option<Settle> {
    let key = ObjectKey::new(pod.namespace.clone(), pod.name.clone());
    let (pod, view) = (index.pod(&key)?, index.namespace(pod.namespace)?);
    let bindings = pod
        .gates
        .iter()
        .flat_map(|(gate, _)| view.bindings_of(gate));
    let kinds = bindings.filter_map(|binding| binding.load_balancer);
    let each = kinds.map(|kind| Settle {
        kind,
        needs: sleep.needs.unwrap_or_else(|| drain.seconds.of(Some(kind))),
    });
    each.max_by_key(|settle| settle.needs)
}

fn unreadable_of_others(index: &Index, apis: &[BindingApi], found: &mut AllFound) {
    let mut tell = |regarded, unreadable: &[UnreadableAnnotation], instead| {
        if unreadable.is_empty() {
            return;
        }
        let told = Found::of_object(text_of(unreadable, instead), 0);
        let topic = Topic::new(regarded, Reason::AnnotationUnreadable);
        found.insert(topic, told);
    };
    for (name, view) in index.namespaces() {
        let regarded = Regarded::Namespace {
            name: name.clone(),
            uid: view.namespace.uid.clone(),
        };
        tell(regarded, &view.namespace.unreadable, "the flags say");
        let bindings = view.routes.bindings();
        for binding in bindings.filter(|binding| apis.contains(&binding.api)) {
            let regarded = Regarded::binding(name, binding);
            let instead = "the Namespace and the flags say";
            tell(regarded, &binding.unreadable, instead);
        }
    }
}

/// The Namespaces that hold no rules for the API server, because they are too large, as their keeper found.
pub fn rules_too_large(index: &Index, too_large: &BTreeMap<Arc<str>, TooLarge>) -> AllFound {
    let reason = Reason::RulesTooLarge;
    let topic = |(name, why): (&Arc<str>, &TooLarge)| {
        let view = index.namespace(name);
        let regarded = Regarded::Namespace {
            name: name.clone(),
            uid: view.and_then(|view| view.namespace.uid.clone()),
        };
        let text = format!(
            "the webhook alone injects gates, because the gate rules are too large: {why}. {}",
            reason.remedy()
        );
        (Topic::new(regarded, reason), Found::of_object(text, 0))
    };
    too_large.iter().map(topic).collect()
}

/// What is written, what counts instead, and what to write.
fn text_of(unreadable: &[UnreadableAnnotation], instead: &str) -> String {
    let each: Vec<_> = unreadable.iter().map(ToString::to_string).collect();
    format!("{}: what {instead} counts instead", each.join("; "))
}

fn add(found: &mut AllFound, pod: &RemarkedPod<'_>, reason: Reason, text: impl FnOnce() -> String) {
    let owner = Regarded::owner_of(pod.namespace, pod.name, Some(pod.uid), pod.controller);
    add_pod(found, Topic::new(owner, reason), pod.name, text);
}
