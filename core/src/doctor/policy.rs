//! What the API server does by itself: it injects gates with `--admission both`, and holds the fields of bindings
//! (contract 11).

use crate::doctor::answer::{Check, Finding};
use crate::doctor::facts::{Facts, HookKind, Injection, NamespaceRules, Policy};
use crate::explain::{Why, mode};
use crate::gate_rules::POLICY;
use crate::reason::Reason;
use crate::text::{agreeing, counted};

/// The policy that holds the fields of bindings, as it is shipped.
pub const IMMUTABILITY: &str = "targetgate-bindings";

/// The policy that injects is there, and bound.
pub(super) fn injection(facts: &Facts) -> Vec<Finding> {
    const ABOUT: &str = "MutatingAdmissionPolicies";
    let Some(injection) = &facts.injection else {
        return vec![];
    };
    match &injection.policies {
        Err(why) => vec![Finding::unknown(Check::Policy, ABOUT, why)],
        Ok(None) => vec![not_served(ABOUT, injection)],
        Ok(Some(policies)) if policies.is_empty() => {
            let about = format!("MutatingAdmissionPolicy {POLICY}");
            vec![broken(Check::Policy, &about, mode::policy_absent(POLICY))]
        }
        Ok(Some(policies)) => policies.iter().map(bound).collect(),
    }
}

/// The process goes on as with `webhook`, so nothing is broken.
fn not_served(about: &str, injection: &Injection) -> Finding {
    let server = injection.server.map_or_else(
        || "The API server".to_owned(),
        |version| format!("The API server, of version {version},"),
    );
    let message = format!(
        "{server} does not serve {about} of admissionregistration.k8s.io/v1, so that the webhook alone injects gates."
    );
    Finding::advice(Check::Policy, about, Reason::PolicyNotServed, message)
}

/// Deleting the binding is how the policy is switched off, so nothing is broken.
fn bound(policy: &Policy) -> Finding {
    let Policy { name, bound } = policy;
    let about = format!("MutatingAdmissionPolicy {name}");
    match bound {
        true => Finding::sound(Check::Policy, &about, "It is there, and bound."),
        false => advice(Check::Policy, &about, mode::binding_absent(name)),
    }
}

/// The gate rules of each namespace are those that its bindings give.
pub(super) fn gate_rules(facts: &Facts) -> Vec<Finding> {
    const ABOUT: &str = "gate rules";
    let Some(injection) = &facts.injection else {
        return vec![];
    };
    let all = match &injection.rules {
        // Where the policy is not served, nothing reads them.
        _ if matches!(injection.policies, Ok(None)) => return vec![],
        Err(why) => return vec![Finding::unknown(Check::GateRules, ABOUT, why)],
        Ok(None) => return vec![broken(Check::GateRules, ABOUT, mode::crd_absent())],
        Ok(Some(all)) => all,
    };
    let differing: Vec<Finding> = all.iter().filter_map(of_namespace).collect();
    match differing.is_empty() {
        true => {
            let (namespaces, number) = (counted(all.len(), "namespace"), all.len());
            let their = agreeing(number, "its", "their");
            let message = format!("Those of {namespaces} are what {their} bindings give.");
            vec![Finding::sound(Check::GateRules, ABOUT, message)]
        }
        false => differing,
    }
}

/// What is wrong with the rules of a namespace.
fn of_namespace(rules: &NamespaceRules) -> Option<Finding> {
    let NamespaceRules {
        namespace,
        wanted,
        stored,
    } = rules;
    let about = format!("namespace {namespace}");
    let stored = match stored {
        Err(why) => return Some(Finding::unknown(Check::GateRules, &about, why)),
        Ok(stored) => stored.as_ref(),
    };
    match (mode::of_rules(namespace, wanted, stored), wanted) {
        ((true, _), _) => None,
        ((false, why), Ok(_)) => Some(broken(Check::GateRules, &about, why)),
        // The webhook does the work, as documented.
        ((false, why), Err(_)) => Some(advice(Check::GateRules, &about, why)),
    }
}

/// An update of a binding that changes its group is denied, by a hook or by a policy.
pub(super) fn immutability(facts: &Facts) -> Vec<Finding> {
    const ABOUT: &str = "spec.targetGroupARN";
    let hooks = facts.hooks.iter().flatten();
    let of_rules: Vec<_> = hooks
        .filter(|hook| hook.kind == HookKind::BindingRules)
        .collect();
    let by_hook = of_rules.iter().find(|hook| hook.updates);
    vec![match (by_hook, &facts.immutability) {
        // Of a hook that is not registered another check tells, and of configurations that cannot be read.
        _ if of_rules.is_empty() => return vec![],
        (Some(hook), _) => {
            let message = format!("{} is asked about updates of bindings.", hook.name);
            Finding::sound(Check::Immutability, ABOUT, message)
        }
        (None, Err(why)) => Finding::unknown(Check::Immutability, ABOUT, why),
        (None, Ok(Some(Policy { name, bound: true }))) => {
            let message = format!("ValidatingAdmissionPolicy {name} is there, and bound.");
            Finding::sound(Check::Immutability, ABOUT, message)
        }
        (None, Ok(policy)) => {
            let what = match policy {
                Some(Policy { name, .. }) => format!("ValidatingAdmissionPolicyBinding {name}"),
                None => format!("ValidatingAdmissionPolicy {IMMUTABILITY}"),
            };
            let message = format!(
                "{} is asked about creations only, and {what} is not there.",
                HookKind::BindingRules.webhook()
            );
            Finding::broken(Check::Immutability, ABOUT, Reason::GroupNotHeld, message)
        }
    }]
}

fn broken(check: Check, about: &str, why: Why) -> Finding {
    Finding::broken(check, about, why.reason, why.message)
}

fn advice(check: Check, about: &str, why: Why) -> Finding {
    Finding::advice(check, about, why.reason, why.message)
}
