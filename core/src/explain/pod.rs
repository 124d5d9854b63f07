//! One pod: its gates, those that it lacks, and the bindings of its namespace.

use crate::explain::answer::{
    ApiVersion, BindingOfPod, EndAnswer, Evidence, GateAnswer, Lacking, OtherGate, PodAnswer,
    PodKind, RateAnswer, Source, Verdict, Why,
};
use crate::explain::facts::{Elb, Facts, PodFacts};
use crate::explain::leader::ReplicaView;
use crate::explain::{end, gate, lost, mode, selection, ungated};
use crate::gates::inject::Decision;
use crate::index::services::ServiceIndex;
use crate::legacy_gate::{Keeper, Kept};
use crate::lint::Workload;
use crate::model::{Binding, Namespace, UnreadableAnnotation};
use crate::reason::Reason;
use crate::text::agreeing;

/// Explains a pod, which need not exist yet.
pub fn explain(facts: &Facts, pod: &PodFacts) -> PodAnswer {
    facts.with_routes(|routes, namespace| in_namespace(facts, routes, namespace, pod))
}

fn in_namespace(
    facts: &Facts,
    routes: &ServiceIndex,
    namespace: &Namespace,
    pod: &PodFacts,
) -> PodAnswer {
    let decision = selection::decided(facts, routes, pod);
    let gates = gate::gates(facts, pod);
    let lacking = ungated::lacking(facts, namespace, &decision, pod);
    let bindings = selection::bindings(routes, &decision, pod, |binding| {
        ungated::why(facts, namespace, binding, pod)
    });
    let legacy = legacy_gate(facts, namespace, &decision, pod);
    let lost = lost::of_pod(facts, routes, pod);
    let (verdict, why) = verdict(pod, &gates, &lacking, legacy.as_ref().or(lost.as_ref()))
        .unwrap_or_else(|| (Verdict::No, without_gates(facts, &decision, &bindings)));
    let other_gates = other_gates(pod, &gates);
    PodAnswer {
        api_version: ApiVersion::V1,
        kind: PodKind::PodExplanation,
        namespace: facts.namespace.to_string(),
        name: pod.pod.key.name.to_string(),
        as_of: facts.now,
        verdict,
        why,
        evidence: evidence(facts),
        settings: facts.settings.from.clone(),
        mode: mode::of_namespace(facts, routes),
        created: pod.created,
        end: end_of(facts, routes, namespace, &decision, pod),
        gates,
        lacking,
        other_gates,
        notices: notices(namespace, &decision, pod),
        bindings,
    }
}

/// The readiness gates that are not ours.
fn other_gates(pod: &PodFacts, ours: &[GateAnswer]) -> Vec<OtherGate> {
    let is_ours = |kind: &str| ours.iter().any(|gate| gate.condition_type == kind);
    let others = pod.gates.iter();
    let others = others.filter(|gate| !is_ours(&gate.condition_type));
    let answers = others.map(|gate| OtherGate {
        condition_type: gate.condition_type.to_string(),
        open: gate.status == Some(true),
    });
    answers.collect()
}

pub(super) fn evidence(facts: &Facts) -> Evidence {
    let (source, why) = match (&facts.leader, &facts.elb) {
        (Ok(view), _) => {
            let left_out = view.gates.left_out;
            let gates = agreeing(left_out, "gate was", "gates were");
            let why = format!("{left_out} more {gates} left out");
            (Source::Leader, (left_out > 0).then_some(why))
        }
        (Err(_), Elb::Asked(looks)) => {
            let left_out = looks.left_out;
            let groups = agreeing(left_out, "group was", "groups were");
            let why = format!("{left_out} more {groups} not asked about");
            (Source::Elb, (left_out > 0).then_some(why))
        }
        (Err(_), Elb::NotAsked(why)) => (Source::Condition, Some(why.clone())),
    };
    let leader = facts.leader.as_ref().ok();
    Evidence {
        source,
        why,
        leader: leader.map(|view| view.pod.clone().unwrap_or_default()),
        without_leader: facts.leader.as_ref().err().cloned(),
        rates: leader.map_or(vec![], rates),
    }
}

fn rates(view: &ReplicaView) -> Vec<RateAnswer> {
    let rates = view.gates.rates.iter();
    let rates = rates.map(|(quota, rate)| RateAnswer {
        quota: quota.clone(),
        calls_per_second: *rate,
    });
    rates.collect()
}

/// The verdict by what the pod has and lacks; `None` if it has no gate, and lacks none.
fn verdict(
    pod: &PodFacts,
    gates: &[GateAnswer],
    lacking: &[Lacking],
    useless: Option<&Why>,
) -> Option<(Verdict, Why)> {
    if !pod.pod.is_live() {
        return Some((Verdict::No, Why::new(Reason::PodEnded)));
    }
    if let Some(waiting) = gates.iter().find(|gate| !gate.open) {
        let verdict = match pod.created {
            Some(_) => Verdict::NotYet,
            // A manifest that brings a gate along, as one that was copied from a pod does.
            None => Verdict::Yes,
        };
        return Some((verdict, waiting.why.clone()));
    }
    // It keeps a legacy gate, or nothing stands behind its gates.
    if let Some(useless) = useless {
        return Some((Verdict::No, useless.clone()));
    }
    // A pod that is not created yet lacks what it gets, unless the hook is not called for it.
    let missed = |lacking: &&Lacking| lacking.why.reason != Reason::Injected;
    if let Some(missed) = lacking.iter().find(missed) {
        return Some((Verdict::No, missed.why.clone()));
    }
    let due = lacking.first().map(|lacking| &lacking.why);
    let open = gates.first().map(|gate| &gate.why);
    Some((Verdict::Yes, due.or(open)?.clone()))
}

/// Why a pod has no gate, and lacks none: the strongest reason, as in the hook's answer.
fn without_gates(facts: &Facts, decision: &Decision<'_>, bindings: &[BindingOfPod]) -> Why {
    let mut strongest = bindings.iter();
    let strongest = strongest.find(|binding| binding.why.reason == decision.reason);
    if let Some(strongest) = strongest {
        return strongest.why.clone();
    }
    let mut apis = facts.settings.gates.apis.iter();
    match apis.all(|api| facts.not_served.contains(api)) {
        true => Why {
            remedy: "Install the CRD (`kubectl create -f deploy/crd`), and create the binding before its pods."
                .to_owned(),
            ..Why::saying(
                Reason::NoBinding,
                "The API server does not serve TargetGroupBindings, so the namespace has none.",
            )
        },
        false => Why::saying(
            decision.reason,
            format!("Namespace {} has no TargetGroupBinding.", facts.namespace),
        ),
    }
}

/// A legacy gate that keeps the pod from becoming Ready.
fn legacy_gate(
    facts: &Facts,
    namespace: &Namespace,
    decision: &Decision<'_>,
    pod: &PodFacts,
) -> Option<Why> {
    let remarks = pod.pod.template.remarks.as_ref()?;
    let gate = remarks.legacy_gate.as_ref()?;
    let (scope, labels) = (&facts.settings.scope, &pod.pod.template.labels);
    let is_called = scope.refusal(&facts.namespace, namespace, labels).is_none();
    let keeper = Keeper {
        exists: pod.created.is_some(),
        gate_due: is_called && decision.reason <= Reason::AlreadyInjected,
    };
    let Kept { clause, remedy } = keeper.told(gate)?;
    let why = Why::saying(Reason::LegacyGate, format!("The pod {clause}."));
    Some(why.with_remedy(Some(remedy)))
}

fn end_of(
    facts: &Facts,
    routes: &ServiceIndex,
    namespace: &Namespace,
    decision: &Decision<'_>,
    pod: &PodFacts,
) -> Option<EndAnswer> {
    let bindings = gated_by(decision, pod)?;
    Some(end::explain(facts, routes, namespace, &bindings, pod))
}

/// The bindings that give a pod its gates, if it lives and has some, or gets them.
fn gated_by<'a>(decision: &'a Decision<'_>, pod: &PodFacts) -> Option<Vec<&'a Binding>> {
    let bindings: Vec<&Binding> = decision.giving().collect();
    let gated = !pod.pod.gates.is_empty() || (pod.created.is_none() && !bindings.is_empty());
    (gated && pod.pod.is_live()).then_some(bindings)
}

/// A pod as the lints of its end see it, if it lives and has gates.
pub fn workload(facts: &Facts, pod: &PodFacts) -> Option<Workload> {
    facts.with_routes(|routes, namespace| {
        let decision = selection::decided(facts, routes, pod);
        let bindings = gated_by(&decision, pod)?;
        Some(end::workload(facts, routes, namespace, &bindings, pod))
    })
}

/// What cannot be read, of the pod, of the bindings that give it a gate, and of its Namespace.
fn notices(namespace: &Namespace, decision: &Decision<'_>, pod: &PodFacts) -> Vec<Why> {
    let remarks = pod.pod.template.remarks.iter();
    let of_pod = remarks.flat_map(|remarks| unreadable("pod", &remarks.unreadable));
    let of_bindings = decision.giving().flat_map(|binding| {
        let of = format!("binding {}", binding.name);
        unreadable(&of, &binding.unreadable)
    });
    let of_namespace = unreadable("Namespace", &namespace.unreadable);
    of_pod.chain(of_bindings).chain(of_namespace).collect()
}

pub(super) fn unreadable(of: &str, unreadable: &[UnreadableAnnotation]) -> Vec<Why> {
    let told = unreadable.iter().map(|unreadable| {
        let message = format!("Of the {of}, {unreadable}.");
        Why::saying(Reason::AnnotationUnreadable, message)
    });
    told.collect()
}
