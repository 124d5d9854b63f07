//! One gate of a pod: whether it is open, and if not, what it waits for.

use std::net::SocketAddr;

use crate::explain::answer::{ConditionAnswer, GateAnswer, Source, TargetAnswer, Why};
use crate::explain::facts::{Facts, GroupLook, PodFacts};
use crate::explain::leader::GateView;
use crate::explain::{by_leader, elb_codes, registration};
use crate::gates::condition;
use crate::gates::condition::{Decision, reason_of};
use crate::gates::requirements;
use crate::gates::requirements::{GateRequirements, TargetQuery};
use crate::model::{Binding, Condition, Pod, Policies, TargetHealth, TargetState, WhenUnused};
use crate::names::GateName;
use crate::reason::Reason;

/// Explains each gate of ours of a pod.
pub(super) fn gates(facts: &Facts, pod: &PodFacts) -> Vec<GateAnswer> {
    let gates = pod.pod.gates.iter();
    gates
        .map(|(gate, condition)| explain(facts, pod, gate, condition.as_ref()))
        .collect()
}

/// What a gate requires, as the health loop has it.
pub(super) fn requirements(facts: &Facts, pod: &Pod, gate: &GateName) -> GateRequirements {
    let view = facts.view();
    let bindings = view.map_or(vec![], |view| view.bindings_of(gate));
    let service = |name: &str| view?.routes.service(name);
    let apis = &facts.settings.gates.apis;
    let resolve = |name: &_| facts.resolve(name);
    requirements::of_gate(pod, &bindings, service, resolve, apis)
}

fn explain(
    facts: &Facts,
    pod: &PodFacts,
    gate: &GateName,
    condition: Option<&Condition>,
) -> GateAnswer {
    let view = facts.view();
    let bindings = view.map_or(vec![], |view| view.bindings_of(gate));
    let requirements = requirements(facts, &pod.pod, gate);
    let targets = requirements.queries.iter();
    let known = facts.gate_of_leader(&pod.pod, gate);
    let targets: Vec<TargetAnswer> = targets.map(|query| target(facts, query, known)).collect();
    let open = condition.is_some_and(|condition| condition.status);
    let policies = policies(facts, &pod.pod, &bindings);
    let asked = requirements.queries.iter();
    let asked = asked.filter_map(|query| facts.look(&query.group));
    let asked = asked.filter(|look| !matches!(look, GroupLook::Failed(_)));
    let source = match (known, asked.count()) {
        (Some(_), _) => Source::Leader,
        (None, 0) => Source::Condition,
        (None, _) => Source::Elb,
    };
    let why = match condition {
        Some(condition) if open => why_open(condition),
        _ => {
            let by_leader =
                known.and_then(|known| by_leader::why(facts, &pod.pod, &requirements, known));
            let why = by_leader
                .unwrap_or_else(|| why_closed(facts, &pod.pod, &requirements, condition, policies));
            not_registered(facts, &requirements, why)
        }
    };
    let due = pod.pod.containers_ready.filter(|_| pod.pod.is_due());
    let changed = pod.since(gate);
    GateAnswer {
        condition_type: gate.as_str().to_owned(),
        bindings: bindings.iter().map(|b| b.name.to_string()).collect(),
        open,
        why,
        since: if open { changed } else { due },
        due_since: known.and_then(|known| known.due_since),
        opens: due
            .filter(|_| !open)
            .and_then(|due| due.checked_add(policies.open_after()?).ok()),
        condition: condition.map(|condition| ConditionAnswer {
            status: condition.status,
            reason: condition.reason.to_string(),
            message: condition.message.to_string(),
            since: changed,
        }),
        source,
        targets,
    }
}

/// Why its registrar has not registered a target, where that is targetgate.
fn not_registered(facts: &Facts, requirements: &GateRequirements, why: Why) -> Why {
    let concerns = matches!(
        why.reason,
        Reason::NotRegistered | Reason::TargetRefused | Reason::GroupFull | Reason::CallRefused
    );
    if !concerns {
        return why;
    }
    let queries = requirements.queries.iter();
    let mut reasons = queries.filter_map(|query| {
        let (ip, port) = query.target;
        registration::why_not_registered(facts, &query.binding.0, SocketAddr::new(ip, port))
    });
    reasons.next().unwrap_or(why)
}

/// The pod's own annotations come before the binding's, and these before the Namespace's.
fn policies(facts: &Facts, pod: &Pod, bindings: &[&Binding]) -> Policies {
    let of_bindings = bindings.iter().map(|binding| binding.policies);
    let of_namespace = facts.view().map(|view| view.namespace.policies);
    of_bindings
        .chain(of_namespace)
        .fold(pod.policies, Policies::or)
}

fn why_open(condition: &Condition) -> Why {
    let reason = reason_of(condition);
    let message = match reason {
        Reason::Healthy => "The gate is open: ELB called the target healthy.".to_owned(),
        reason => format!("The gate is open. {}", reason.sentence()),
    };
    Why::saying(reason, message)
}

/// Why a gate is closed, in the order in which the health loop decides.
fn why_closed(
    facts: &Facts,
    pod: &Pod,
    requirements: &GateRequirements,
    condition: Option<&Condition>,
    policies: Policies,
) -> Why {
    if !pod.is_live() {
        return Why::new(Reason::PodEnded);
    }
    if !pod.is_due() {
        return not_due(pod);
    }
    if let Some(closed) = &requirements.closed {
        return of_decision(&closed.decision);
    }
    let answered = requirements.queries.iter();
    let answered: Vec<(&TargetQuery, Decision)> = answered
        .filter_map(|query| Some((query, of_look(facts.look(&query.group)?, query)?)))
        .collect();
    let not_healthy = answered
        .iter()
        .find(|(_, decision)| !decision.condition.status);
    if let Some((query, decision)) = not_healthy {
        let unused = condition::is_unused(decision);
        if unused && policies.when_unused == Some(WhenUnused::Open) {
            return Why::new(Reason::TargetGroupUnused);
        }
        return of_answer(facts, query, decision);
    }
    if requirements.unresolved {
        return Why::new(Reason::GroupNotResolved);
    }
    if let Some(absence) = requirements
        .absence
        .as_ref()
        .filter(|_| answered.is_empty())
    {
        let decision = condition::of_absence(absence);
        let message = format!(
            "{} The gate opens once the API server has confirmed that for 30 s.",
            decision.reason.sentence()
        );
        return Why::saying(decision.reason, message);
    }
    if !answered.is_empty() && answered.len() == requirements.queries.len() {
        return Why::new(Reason::HealthyNotOpened);
    }
    of_condition(condition)
}

pub(super) fn not_due(pod: &Pod) -> Why {
    let message = match (pod.containers_ready, pod.ips.is_empty()) {
        (None, _) => "Not all containers of the pod are ready.",
        (Some(_), true) => "The pod has no address yet.",
        (Some(_), false) => Reason::PodNotDue.sentence(),
    };
    Why::saying(Reason::PodNotDue, message)
}

/// What follows from ELB's answer; `None` where the call failed.
fn of_look(look: &GroupLook, query: &TargetQuery) -> Option<Decision> {
    match look {
        GroupLook::NotFound => Some(condition::of_missing_group(&query.group.arn)),
        GroupLook::Healths(healths) => Some(condition::of_health(health(healths, query))),
        GroupLook::Failed(_) => None,
    }
}

fn health<'a>(healths: &'a [TargetHealth], query: &TargetQuery) -> Option<&'a TargetHealth> {
    healths.iter().find(|health| health.target == query.target)
}

fn of_decision(decision: &Decision) -> Why {
    let message = match &*decision.condition.message {
        "" => decision.reason.sentence().to_owned(),
        said => format!("{said}."),
    };
    Why::saying(decision.reason, message)
}

/// The words for what ELB answered now.
fn of_answer(facts: &Facts, query: &TargetQuery, decision: &Decision) -> Why {
    let (ip, port) = query.target;
    let group = query.group.arn.name();
    let health = match facts.look(&query.group) {
        Some(GroupLook::Healths(healths)) => health(healths, query),
        _ => return of_decision(decision),
    };
    let target = SocketAddr::new(ip, port);
    let Some(health) = health.filter(|health| condition::is_in_group(health)) else {
        return Why::saying(
            Reason::NotRegistered,
            format!("Target group {group} does not have the target {target}."),
        );
    };
    let said = elb_codes::words(&health.reason, &health.description);
    let message = match decision.reason {
        Reason::NotRegistered => {
            format!("ELB deregisters {target} from target group {group}{said}.")
        }
        _ => {
            let state = state(health.state);
            format!("ELB says that {target} of target group {group} is {state}{said}.")
        }
    };
    let remedy = elb_codes::remedy(&health.reason);
    Why::saying(decision.reason, message).with_remedy(remedy)
}

/// The words for what the condition says, which is all that is known where ELB was not asked.
fn of_condition(condition: Option<&Condition>) -> Why {
    let Some(condition) = condition else {
        return Why::new(Reason::NotPolled);
    };
    let reason = reason_of(condition);
    if reason == Reason::NotRegistered {
        // ELB has the same words for a target that it has begun to register.
        let message = "The condition says that the target group does not have the target, or has only just been given it.";
        return Why::saying(reason, message);
    }
    let said = elb_codes::words(&condition.reason, &condition.message);
    let message = format!("The condition is not True{said}.");
    Why::saying(reason, message).with_remedy(elb_codes::remedy(&condition.reason))
}

fn state(state: TargetState) -> &'static str {
    match state {
        TargetState::Initial => "initial",
        TargetState::Healthy => "healthy",
        TargetState::Unhealthy => "unhealthy",
        TargetState::UnhealthyDraining => "unhealthy.draining",
        TargetState::Unused => "unused",
        TargetState::Draining => "draining",
        TargetState::Unavailable => "unavailable",
        TargetState::Unknown => "in a state that is not known",
    }
}

fn target(facts: &Facts, query: &TargetQuery, known: Option<&GateView>) -> TargetAnswer {
    let (ip, port) = query.target;
    let known = known.and_then(|known| by_leader::target(known, query));
    let answer = known.and_then(|known| known.answer.as_ref());
    let (elb, failure) = match facts.look(&query.group) {
        None => (answer.map(by_leader::said), None),
        Some(GroupLook::Failed(why)) => (None, Some(why.clone())),
        Some(GroupLook::NotFound) => (Some("the group does not exist".to_owned()), None),
        Some(GroupLook::Healths(healths)) => (Some(said_of(health(healths, query))), None),
    };
    TargetAnswer {
        binding: query.binding.0.to_string(),
        target_group_arn: query.group.arn.to_string(),
        address: ip.to_string(),
        port,
        elb,
        failure,
        asked: answer.map(|answer| answer.asked),
        next_look: known.and_then(|known| known.next_look),
        place: known.and_then(|known| Some(known.place?.0)),
        queue: known.and_then(|known| Some(known.place?.1)),
        in_flight: known.is_some_and(|known| known.in_flight),
        failing: known.and_then(|known| known.failing.as_ref().map(by_leader::failing)),
    }
}

fn said_of(health: Option<&TargetHealth>) -> String {
    match health.filter(|health| condition::is_in_group(health)) {
        None => "not registered".to_owned(),
        Some(health) => {
            let said = elb_codes::words(&health.reason, &health.description);
            format!("{}{said}", state(health.state))
        }
    }
}
