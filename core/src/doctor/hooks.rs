//! The hooks: registered, reachable, and reached.

use crate::doctor::answer::{Check, Finding, State};
use crate::doctor::certificate::trusted;
use crate::doctor::facts::{BindingTrial, Facts, Hook, HookKind, HookService, Namespace, PodTrial};
use crate::doctor::policy::IMMUTABILITY;
use crate::reason::Reason;
use crate::text::agreeing;

/// A hook of each kind is registered, and none of those for pods refuses pods.
pub(super) fn registered(facts: &Facts) -> Vec<Finding> {
    let hooks = match &facts.hooks {
        Ok(hooks) => hooks,
        Err(why) => return vec![Finding::unknown(Check::Hook, "webhook configurations", why)],
    };
    let missing = HookKind::ALL.into_iter().filter(|kind| {
        let mut of_kind = hooks.iter();
        !of_kind.any(|hook| hook.kind == *kind)
    });
    let missing = missing.map(|kind| match has_pods_alone(facts) {
        true => left_out(kind),
        false => absent(kind),
    });
    hooks.iter().map(policy).chain(missing).collect()
}

fn absent(kind: HookKind) -> Finding {
    let name = kind.webhook();
    let message = format!("No webhook configuration of the installation has {name}.");
    Finding::broken(Check::Hook, name, Reason::HookNotRegistered, message)
}

/// Whether only pods have a hook. That is what the chart renders with `hooks.bindings.enabled: false`, which nothing else
/// of the installation tells.
fn has_pods_alone(facts: &Facts) -> bool {
    let mut kinds = facts
        .hooks
        .iter()
        .flatten()
        .map(|hook| hook.kind)
        .peekable();
    kinds.peek().is_some() && kinds.all(|kind| kind == HookKind::Pods)
}

fn left_out(kind: HookKind) -> Finding {
    let name = kind.webhook();
    let message = format!(
        "No webhook configuration of the installation has {name}, nor the other hook of bindings, as with \
         `hooks.bindings.enabled: false` of the chart. If that is meant, nothing is to be done."
    );
    Finding::advice(Check::Hook, name, Reason::HookNotRegistered, message)
}

fn policy(hook: &Hook) -> Finding {
    let policy = if hook.fails { "Fail" } else { "Ignore" };
    let (place, seconds) = (&hook.configuration, hook.seconds);
    let message =
        format!("{place} registers it with failurePolicy {policy}, timeoutSeconds {seconds}.");
    match hook.fails && hook.kind == HookKind::Pods {
        true => Finding::broken(Check::Hook, &hook.name, Reason::HookRefusesPods, message),
        false => Finding::sound(Check::Hook, &hook.name, message),
    }
}

/// Each Service that a hook names has an endpoint that is ready.
pub(super) fn services(facts: &Facts) -> Vec<Finding> {
    facts.services.iter().map(service).collect()
}

fn service(service: &HookService) -> Finding {
    let about = service.key.to_string();
    match &service.ready {
        Err(why) => Finding::unknown(Check::Service, &about, why),
        Ok(None) => Finding::broken(
            Check::Service,
            &about,
            Reason::HookServiceMissing,
            Reason::HookServiceMissing.sentence(),
        ),
        Ok(Some(0)) => Finding::broken(
            Check::Service,
            &about,
            Reason::HookServiceEmpty,
            Reason::HookServiceEmpty.sentence(),
        ),
        Ok(Some(ready)) => {
            let endpoints = agreeing(*ready, "endpoint that is ready", "endpoints that are ready");
            let message = format!("It has {ready} {endpoints}.");
            Finding::sound(Check::Service, &about, message)
        }
    }
}

/// A pod that is due a gate gets it.
pub(super) fn pod_trial(facts: &Facts) -> Vec<Finding> {
    let about = HookKind::Pods.webhook();
    vec![match &facts.pod_trial {
        Err(why) => Finding::unknown(Check::PodTrial, about, why),
        Ok(PodTrial::Gated { namespace, gate }) => {
            let message = format!("A dry-run pod in namespace {namespace} gets {gate}.");
            Finding::sound(Check::PodTrial, about, message)
        }
        Ok(PodTrial::Ungated { namespace, binding }) => {
            let hop = hop(facts, HookKind::Pods);
            let message = format!(
                "A dry-run pod in namespace {namespace} gets no gate of binding {binding}{hop}."
            );
            Finding::broken(Check::PodTrial, about, ungated(facts, namespace), message)
        }
    }]
}

/// Why a pod that is due a gate has none.
fn ungated(facts: &Facts, namespace: &str) -> Reason {
    let opted_in = facts.namespaces.as_ref();
    let known = |names: &Vec<Namespace>| names.iter().any(|known| known.name == namespace);
    match opted_in.map(known) {
        Ok(false) => Reason::NamespaceNotOptedIn,
        Ok(true) | Err(_) => Reason::HookNotReached,
    }
}

/// A binding that breaks a rule is denied.
pub(super) fn binding_trial(facts: &Facts) -> Vec<Finding> {
    let about = HookKind::BindingRules.webhook();
    let broken =
        |message| Finding::broken(Check::BindingTrial, about, Reason::HookNotReached, message);
    vec![match &facts.binding_trial {
        Err(why) => Finding::unknown(Check::BindingTrial, about, why),
        Ok(BindingTrial::Denied) => {
            let message = "A dry-run binding that breaks a rule is denied.";
            Finding::sound(Check::BindingTrial, about, message)
        }
        Ok(BindingTrial::DeniedByPolicy) => {
            let message = format!(
                "A dry-run binding that breaks a rule is denied by ValidatingAdmissionPolicy {IMMUTABILITY}, before the \
                 hook is asked."
            );
            Finding::sound(Check::BindingTrial, about, message)
        }
        Ok(BindingTrial::Admitted) if has_pods_alone(facts) => {
            let message = "A dry-run binding that breaks a rule is admitted: no hook of bindings is registered.";
            Finding::advice(
                Check::BindingTrial,
                about,
                Reason::HookNotRegistered,
                message,
            )
        }
        Ok(BindingTrial::Admitted) => {
            let hop = hop(facts, HookKind::BindingRules);
            broken(format!(
                "A dry-run binding that breaks a rule is admitted{hop}."
            ))
        }
        Ok(BindingTrial::NotReached(words)) => broken(format!("The API server says: {words}")),
    }]
}

/// The first hop before the hook that is not sound.
fn hop(facts: &Facts, kind: HookKind) -> String {
    let hooks = facts.hooks.iter().flatten();
    let names: Vec<&str> = hooks
        .filter(|hook| hook.kind == kind)
        .map(|hook| &*hook.name)
        .chain([kind.webhook()])
        .collect();
    let hops = [registered(facts), trusted(facts), services(facts)].concat();
    let mut hops = hops.into_iter().filter(|hop| {
        hop.state == State::Broken
            && (hop.check == Check::Service || names.contains(&hop.about.as_str()))
    });
    hops.next().map_or(String::new(), |hop| {
        format!(": {} of {}", hop.why.reason, hop.about)
    })
}
