//! What becomes of the targets of a binding, where targetgate registers targets (contract 8).
//!
//! The leader says so where it was asked. Else it follows from the flags, from the binding and its condition `Ready`,
//! and from the incumbent's Lease.

use std::net::SocketAddr;

use crate::explain::answer::{
    LeftOutAnswer, RefusedAnswer, RegistrationAnswer, Source, UnregisteredAnswer, Why,
};
use crate::explain::facts::{Facts, Registration, Told};
use crate::explain::leader::{LeftOutView, RegistrationView};
use crate::index::BindingKey;
use crate::index::services::ServiceIndex;
use crate::model::Binding;
use crate::names::{BindingApi, ObjectKey};
use crate::reason::Reason;
use crate::targets::record::Record;
use crate::targets::standing::{Mode, Policy, Standing};

/// What becomes of the targets of each binding of the namespace.
pub(super) fn all(facts: &Facts, routes: &ServiceIndex) -> Vec<RegistrationAnswer> {
    let all = routes.bindings();
    all.filter_map(|binding| of_binding(facts, binding))
        .collect()
}

/// Whether there is something to tell people of it: one that is left to another controller is as its owner wants it.
pub(super) fn is_news(answer: &RegistrationAnswer) -> bool {
    let left = matches!(
        answer.why.reason,
        Reason::RegistrationOff | Reason::TargetTypeInstance | Reason::BindingGone
    );
    let odd = matches!(
        answer.why.reason,
        Reason::AddressOfAnotherPod | Reason::EndpointsLeftOut
    );
    odd || !answer.left_out.is_empty() || (!answer.ready && !left)
}

/// What becomes of the targets of a binding; `None` where nothing is registered by us.
pub(super) fn of_binding(facts: &Facts, binding: &Binding) -> Option<RegistrationAnswer> {
    let registration = facts.registration.as_ref()?;
    if binding.api != BindingApi::Elbv2 {
        return None;
    }
    let uid = binding.uid.as_ref();
    let record = uid.and_then(|uid| registration.records.get(uid));
    let recorded = record.map(|record| record.targets.len());
    let mut answer = match facts.registered_by_leader(binding) {
        Some(view) => of_view(facts, binding, view),
        None => of_condition(facts, registration, binding, record),
    };
    answer.recorded = recorded;
    Some(answer)
}

fn of_view(facts: &Facts, binding: &Binding, view: &RegistrationView) -> RegistrationAnswer {
    let reason = Reason::of_word(&view.reason).unwrap_or(Reason::Registering);
    let refused = view.refused.iter().map(|refused| {
        let reason = Reason::of_word(&refused.reason).unwrap_or(Reason::TargetRefused);
        RefusedAnswer {
            address: refused.address.to_string(),
            port: refused.port,
            why: Why::saying(reason, sentence(&refused.message, reason)),
        }
    });
    let unregistered = view.unregistered.iter().filter_map(|(word, targets)| {
        Some(UnregisteredAnswer {
            reason: Reason::of_word(word)?,
            targets: *targets,
        })
    });
    RegistrationAnswer {
        binding: binding.name.to_string(),
        source: Source::Leader,
        ready: view.ready,
        why: why(facts, binding, reason, &view.message),
        recorded: None,
        wanted: Some(view.wanted),
        registered: Some(view.registered),
        held_by_floor: Some(view.held_by_floor),
        foreign: Some(view.foreign),
        unregistered: unregistered.collect(),
        refused: refused.collect(),
        endpoints_left_out: Some(view.endpoints_left_out),
        left_out: view.left_out.iter().map(left_out).collect(),
    }
}

fn left_out(endpoint: &LeftOutView) -> LeftOutAnswer {
    let LeftOutView { address, port, pod } = endpoint;
    let reason = Reason::EndpointsLeftOut;
    let why = match pod {
        None => Why::saying(reason, format!("{address} port {port} names no pod.")),
        Some(pod) => Why::saying(
            reason,
            format!("{address} port {port} names pod {pod}, which does not live, or has another address."),
        )
        .with_remedy(Some("Mend its `targetRef`, or see why the pod is not there.")),
    };
    LeftOutAnswer {
        address: address.to_string(),
        port: *port,
        why,
    }
}

fn of_condition(
    facts: &Facts,
    registration: &Registration,
    binding: &Binding,
    record: Option<&Record>,
) -> RegistrationAnswer {
    let (ready, why) = match standing(facts, registration, binding, record) {
        Standing::NotOurs(reason) | Standing::Suspended(reason) => {
            (false, why(facts, binding, reason, ""))
        }
        Standing::Ours => of_ours(facts, binding, registration.told.get(&binding.name)),
    };
    RegistrationAnswer {
        binding: binding.name.to_string(),
        source: Source::Condition,
        ready,
        why,
        recorded: None,
        wanted: None,
        registered: None,
        held_by_floor: None,
        foreign: None,
        unregistered: vec![],
        refused: vec![],
        endpoints_left_out: None,
        left_out: vec![],
    }
}

fn standing(
    facts: &Facts,
    registration: &Registration,
    binding: &Binding,
    record: Option<&Record>,
) -> Standing {
    // The allow-list is known to the leader alone, and tells itself by the condition.
    let policy = Policy {
        mode: registration.mode,
        allow_list: None,
        incumbent_namespaces: registration.incumbent_namespaces.clone(),
        deployment: None,
    };
    let key = BindingKey {
        object: ObjectKey::new(facts.namespace.clone(), binding.name.clone()),
        api: binding.api,
    };
    policy.standing(&key, &facts.index, record, registration.incumbent, false)
}

fn of_ours(facts: &Facts, binding: &Binding, told: Option<&Told>) -> (bool, Why) {
    if !binding.registration.our_finalizer {
        let message = format!(
            "targetgate has not taken binding {} yet: it lacks the finalizer targetgate.dev/targets.",
            binding.name
        );
        return (false, Why::saying(Reason::Registering, message));
    }
    let known = told.and_then(|told| Some((told, Reason::of_word(&told.reason)?)));
    match known {
        Some((told, reason)) => (told.ready, why(facts, binding, reason, &told.message)),
        None => (false, Why::new(Reason::Registering)),
    }
}

/// The words for a reason, about a binding.
fn why(facts: &Facts, binding: &Binding, reason: Reason, said: &str) -> Why {
    let name = &binding.name;
    let (namespace, mode) = (
        &facts.namespace,
        facts.registration.as_ref().map(|r| r.mode),
    );
    let message = match (reason, binding.registration.asked, mode) {
        (Reason::RegistrationOff, Some(false), _) => format!(
            "targetgate does not register the targets of binding {name}, because of its annotation targetgate.dev/register: \"false\"."
        ),
        (Reason::RegistrationOff, None, Some(Mode::Annotated)) => format!(
            "targetgate does not register the targets of binding {name}, because --register is annotated, and the binding lacks the annotation targetgate.dev/register."
        ),
        _ => sentence(said, reason),
    };
    let command = match reason {
        Reason::RegistrationOff => Some(format!(
            "kubectl --namespace {namespace} annotate targetgroupbinding/{name} --overwrite targetgate.dev/register=true"
        )),
        Reason::Released => Some(format!("targetgate release --undo {namespace}/{name}")),
        _ => None,
    };
    Why {
        command,
        ..Why::saying(reason, message)
    }
}

/// What was said, as a sentence; that of the reason if nothing was.
fn sentence(said: &str, reason: Reason) -> String {
    match said.trim_end_matches('.') {
        "" => reason.sentence().to_owned(),
        said if *said == *reason.sentence().trim_end_matches('.') => format!("{said}."),
        said => format!("{} {}.", reason.sentence(), upper(said)),
    }
}

fn upper(said: &str) -> String {
    let mut letters = said.chars();
    let first = letters.next().map(|first| first.to_ascii_uppercase());
    first.into_iter().chain(letters).collect()
}

/// Why a target is not in its group, where targetgate is to register it; `None` where it is not, or all is well.
pub(super) fn why_not_registered(facts: &Facts, binding: &str, target: SocketAddr) -> Option<Why> {
    let view = facts.view()?;
    let binding = view.routes.binding(&binding.into(), BindingApi::Elbv2)?;
    let answer = of_binding(facts, binding)?;
    let (address, port) = (target.ip().to_string(), target.port());
    let mut refused = answer.refused.into_iter();
    if let Some(refused) = refused.find(|r| r.address == address && r.port == port) {
        return Some(refused.why);
    }
    // What else is told of the group does not keep this target out.
    let about_others = match answer.why.reason {
        Reason::TargetRefused => !answer.why.message.contains(&address),
        Reason::HeldByFloor | Reason::AddressOfAnotherPod | Reason::TargetTypeInstance => true,
        _ => false,
    };
    (!answer.ready && !about_others).then_some(answer.why)
}
