//! One binding: whether it gives gates, and which of its pods wait or lack one.

use crate::explain::answer::{ApiVersion, BindingAnswer, BindingKind, Verdict, Why};
use crate::explain::facts::{Facts, GroupLook, PodFacts};
use crate::explain::namespace::{Tally, amiss, verdict};
use crate::explain::{pod, registration, selection};
use crate::gates::condition;
use crate::gates::requirements::Resolution;
use crate::gates::target::service_port;
use crate::index::services::ServiceIndex;
use crate::model::{Binding, Namespace};
use crate::names::GroupKey;
use crate::reason::Reason;
use crate::selector::selects;
use crate::text::counted;

/// Explains a binding, with the pods of its namespace.
pub fn explain(facts: &Facts, binding: &Binding, pods: &[PodFacts]) -> BindingAnswer {
    facts.with_routes(|routes, namespace| in_namespace(facts, routes, namespace, binding, pods))
}

fn in_namespace(
    facts: &Facts,
    routes: &ServiceIndex,
    namespace: &Namespace,
    binding: &Binding,
    pods: &[PodFacts],
) -> BindingAnswer {
    let service = routes.service(&binding.service);
    let is_its_pod = |pod: &&PodFacts| {
        let labels = &pod.pod.template.labels;
        let selected = service.is_some_and(|service| selects(&service.selector, labels));
        selected || pod.has_gate_of(&binding.name)
    };
    let its_pods: Vec<&PodFacts> = pods.iter().filter(is_its_pod).collect();
    let is_about = |name: &str| name == &*binding.name;
    let tally = Tally::of(facts, routes, namespace, its_pods, is_about);
    let counts = tally.counts;
    let (waiting, ungated) = tally.rows();
    let registration = registration::of_binding(facts, binding);
    let (verdict, why) = refused(facts, routes, binding)
        .map(|why| (Verdict::No, why))
        .or_else(|| verdict(&waiting, &ungated))
        .or_else(|| registration.as_ref().and_then(amiss))
        .unwrap_or_else(|| (Verdict::Yes, nothing_waits(binding, counts.all)));
    BindingAnswer {
        api_version: ApiVersion::V1,
        kind: BindingKind::BindingExplanation,
        namespace: facts.namespace.to_string(),
        name: binding.name.to_string(),
        api: binding.api.to_string(),
        as_of: facts.now,
        verdict,
        why,
        evidence: pod::evidence(facts),
        settings: facts.settings.from.clone(),
        service: binding.service.to_string(),
        target_group: binding
            .arn
            .as_ref()
            .map(ToString::to_string)
            .or_else(|| binding.group_name.as_ref().map(ToString::to_string)),
        pods: counts,
        waiting,
        ungated,
        registration,
        notices: pod::unreadable("binding", &binding.unreadable),
    }
}

fn nothing_waits(binding: &Binding, pods: usize) -> Why {
    let name = &binding.name;
    let message = match pods {
        0 => format!("Binding {name} gives gates; there is no pod that its Service selects."),
        pods => {
            let pods = counted(pods, "pod");
            format!("Binding {name} gives gates; of its {pods}, none waits or lacks one.")
        }
    };
    Why::saying(Reason::Healthy, message)
}

/// Why the binding gives no gate, or one that cannot open; `None` if it does.
fn refused(facts: &Facts, routes: &ServiceIndex, binding: &Binding) -> Option<Why> {
    if let Some(reason) = routes.refusal(binding, &facts.settings.gates.apis) {
        let mut why = selection::of_binding(reason, binding);
        if reason == Reason::OptedOut {
            why.message =
                "`targetgate.dev/gate: \"false\"` on the binding or its Service opts its pods out."
                    .to_owned();
        }
        return Some(why);
    }
    let service = routes.service(&binding.service)?;
    if service_port(binding, service).is_none() {
        let decision = condition::of_missing_port(binding, service);
        let message = format!("{}.", decision.condition.message);
        return Some(Why::saying(decision.reason, message));
    }
    let arn = match (&binding.arn, binding.named_group()) {
        (Some(arn), _) => arn.clone(),
        (None, Some(name)) => match facts.resolve(&name) {
            Resolution::Found(arn) => arn,
            Resolution::Unresolved => return None,
            Resolution::NotFound => {
                let decision = condition::of_unknown_group(Some(&name.name));
                let message = format!("{}.", decision.condition.message);
                return Some(Why::saying(decision.reason, message));
            }
        },
        (None, None) => return None,
    };
    let role = binding.role.clone();
    let missing = condition::of_missing_group(&arn);
    match facts.look(&GroupKey { arn, role }) {
        Some(GroupLook::NotFound) => {
            let message = format!("{}.", missing.condition.message);
            Some(Why::saying(missing.reason, message))
        }
        _ => None,
    }
}
