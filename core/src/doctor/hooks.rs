//! The hooks: registered, trusted, reachable, and reached.

use crate::doctor::answer::{Check, Finding, State};
use crate::doctor::facts::{
    BindingTrial, Bundle, Facts, Hook, HookKind, HookService, Namespace, PodTrial,
};
use crate::reason::Reason;

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
    let missing = missing.map(|kind| {
        let name = kind.webhook();
        let message = format!("No webhook configuration of the installation has {name}.");
        Finding::broken(Check::Hook, name, Reason::HookNotRegistered, message)
    });
    hooks.iter().map(policy).chain(missing).collect()
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

/// The bundle of each hook verifies the certificate that is served.
pub(super) fn trusted(facts: &Facts) -> Vec<Finding> {
    let hooks = facts.hooks.iter().flatten();
    hooks.map(|hook| trust(facts, hook)).collect()
}

fn trust(facts: &Facts, hook: &Hook) -> Finding {
    let broken = |reason: Reason, message: String| {
        Finding::broken(Check::Trust, &hook.name, reason, message)
    };
    let place = &hook.configuration;
    match &hook.bundle {
        Bundle::Empty => broken(
            Reason::BundleEmpty,
            format!("The caBundle in {place} is empty."),
        ),
        Bundle::Unsound => broken(
            Reason::BundleUnsound,
            format!("The caBundle in {place} holds something that is no certificate."),
        ),
        Bundle::Cas { expires, .. } if *expires <= facts.now => broken(
            Reason::CertificateExpired,
            format!("The last CA of the caBundle in {place} expired at {expires}."),
        ),
        Bundle::Cas {
            verifies: Ok(false),
            ..
        } => broken(
            Reason::CertificateUntrusted,
            format!("The caBundle in {place} does not verify the certificate of the Secret."),
        ),
        Bundle::Cas {
            verifies: Ok(true),
            expires,
        } => {
            let message =
                format!("It verifies the certificate of the Secret, and expires at {expires}.");
            Finding::sound(Check::Trust, &hook.name, message)
        }
        Bundle::Cas {
            verifies: Err(why),
            expires,
        } => uncompared(facts, hook, &format!("It expires at {expires}"), why),
    }
}

/// Without the certificate, a review that came through proves that the API server trusts it.
fn uncompared(facts: &Facts, hook: &Hook, expiry: &str, why: &str) -> Finding {
    let reached = match hook.kind {
        HookKind::Pods => matches!(facts.pod_trial, Ok(PodTrial::Gated { .. })),
        // The review of the rules comes after that of the defaults, unless that one failed unnoticed.
        HookKind::BindingDefaults | HookKind::BindingRules => {
            hook.fails && facts.binding_trial == Ok(BindingTrial::Denied)
        }
    };
    match reached {
        true => {
            let message = format!("{expiry}, and the API server reached the hook.");
            Finding::sound(Check::Trust, &hook.name, message)
        }
        false => {
            let message = format!("{expiry}, but the certificate is not known: {why}");
            Finding::unknown(Check::Trust, &hook.name, message)
        }
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
            let message = format!("It has {ready} endpoints that are ready.");
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
