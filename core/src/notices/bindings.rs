//! Bindings that give no pod a gate, Namespaces without any, and bindings that share a target group.

use std::sync::Arc;

use crate::index::{BindingKey, Index, NamespaceView};
use crate::model::Binding;
use crate::names::BindingApi;
use crate::notices::{AllFound, Found, Regarded, Topic};
use crate::reason::Reason;
use crate::text::counted;

/// Adds what is found of bindings and of Namespaces that have opted in.
pub(super) fn add(index: &Index, apis: &[BindingApi], found: &mut AllFound) {
    for (name, view) in index.opted_in() {
        for binding in view.routes.bindings() {
            idle(name, view, binding, apis, found);
        }
        unbound(name, view, found);
    }
    for group in index.shared_groups() {
        shared(group, found);
    }
}

/// A binding that gives no gate, whatever the labels of a pod, by no wish of its owner.
fn idle(
    namespace: &Arc<str>,
    view: &NamespaceView,
    binding: &Binding,
    apis: &[BindingApi],
    found: &mut AllFound,
) {
    let reason = view.routes.refusal(binding, apis);
    let told = reason.filter(|reason| {
        matches!(
            reason,
            Reason::ServiceExternalName
                | Reason::ServiceMissing
                | Reason::ServiceWithoutSelector
                | Reason::TargetTypeUnknown
        )
    });
    let Some(reason) = told.filter(|_| !binding.opted_out && !binding.terminating) else {
        return;
    };
    let (service, sentence, remedy) = (&binding.service, reason.sentence(), reason.remedy());
    let text =
        format!("no pod gets a gate of this binding to Service {service}. {sentence} {remedy}");
    let topic = Topic::new(Regarded::binding(namespace, binding), reason);
    found.insert(topic, Found::of_object(text, 0));
}

/// A Namespace that has opted in for gates that no binding gives.
fn unbound(name: &Arc<str>, view: &NamespaceView, found: &mut AllFound) {
    let pods = view.gateable_pods();
    if pods == 0 || view.routes.bindings().next().is_some() {
        return;
    }
    let (sentence, remedy) = (Reason::NoBinding.sentence(), Reason::NoBinding.remedy());
    let text = format!(
        "it has the label that opts in, and none of its {} gets a gate. {sentence} {remedy}",
        counted(pods, "pod")
    );
    let regarded = Regarded::Namespace {
        name: name.clone(),
        uid: view.namespace.uid.clone(),
    };
    let topic = Topic::new(regarded, Reason::NoBinding);
    found.insert(topic, Found::of_object(text, pods));
}

/// Bindings that name one group, against the rule. One that is being deleted is not told what to do.
fn shared(mut group: Vec<(&BindingKey, &Binding)>, found: &mut AllFound) {
    group.sort_by_key(|(key, binding)| (binding.age(), *key));
    let Some(((oldest, _), younger)) = group.split_first() else {
        return;
    };
    for (key, binding) in younger.iter().filter(|(_, binding)| !binding.terminating) {
        let arn = binding.arn.as_ref().map(ToString::to_string);
        let (sentence, remedy) = (
            Reason::OlderBinding.sentence(),
            Reason::OlderBinding.remedy(),
        );
        let text = format!(
            "binding {} names target group {} as well. {sentence} {remedy}",
            oldest.object,
            arn.unwrap_or_default()
        );
        let regarded = Regarded::binding(&key.object.namespace, binding);
        let topic = Topic::new(regarded, Reason::OlderBinding);
        found.insert(topic, Found::of_object(text, 0));
    }
}
