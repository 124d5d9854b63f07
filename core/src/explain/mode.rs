//! Whether a pod that is made while no process of ours runs gets its gates, with `--admission both` (contract 11).

use crate::explain::answer::{ModeAnswer, Why};
use crate::explain::facts::{Facts, PolicyFacts};
use crate::gate_rules::{GateRules, POLICY, TooLarge};
use crate::index::services::ServiceIndex;
use crate::reason::Reason;
use crate::text::{agreeing, counted};

/// The mode, as far as it is `both`.
pub(super) fn of_namespace(facts: &Facts, routes: &ServiceIndex) -> Option<ModeAnswer> {
    let known = facts.policy.as_ref()?;
    let (injects, why) = match (known.policy, known.binding, &known.rules) {
        (Some(false), _, _) => (Some(false), policy_absent(POLICY)),
        (_, Some(false), _) => (Some(false), binding_absent(POLICY)),
        (Some(true), Some(true), Some(rules)) => {
            let wanted = GateRules::of(routes, &facts.settings.gates);
            let (injects, why) = of_rules(&facts.namespace, &wanted, rules.as_ref());
            (Some(injects), why)
        }
        _ => (None, unknown(known)),
    };
    Some(ModeAnswer { injects, why })
}

/// What follows from a policy that is not there.
pub(crate) fn policy_absent(name: &str) -> Why {
    absent(&format!("MutatingAdmissionPolicy {name} is not there"))
}

/// What follows from a policy without a binding.
pub(crate) fn binding_absent(name: &str) -> Why {
    absent(&format!(
        "MutatingAdmissionPolicyBinding {name} is not there, which switches the policy off for the whole cluster"
    ))
}

/// What follows from a CRD that is not there.
pub(crate) fn crd_absent() -> Why {
    absent("CustomResourceDefinition gaterules.targetgate.dev is not there")
}

fn absent(what: &str) -> Why {
    let message = format!(
        "{what}, so that the webhook alone injects gates: a pod that is made while it is away gets none."
    );
    Why::saying(Reason::PolicyAbsent, message)
}

fn unknown(known: &PolicyFacts) -> Why {
    let why = known.why.as_deref().unwrap_or("it was not read");
    Why::saying(Reason::NotKnown, format!("Of the policy: {why}."))
}

/// Whether the rules that a namespace has are those that its bindings give.
pub(crate) fn of_rules(
    namespace: &str,
    wanted: &Result<GateRules, TooLarge>,
    stored: Option<&GateRules>,
) -> (bool, Why) {
    let wanted = match wanted {
        Ok(wanted) => wanted,
        Err(too_large) => {
            let message =
                format!("The gate rules of namespace {namespace} are not written: {too_large}.");
            return (false, Why::saying(Reason::RulesTooLarge, message));
        }
    };
    let number = wanted.len();
    let (injects, reason, message) = match stored {
        _ if *wanted == stored.cloned().unwrap_or_default() => (
            true,
            Reason::PolicyInjects,
            format!(
                "The policy is there, and namespace {namespace} has the {} that its bindings give.",
                counted(number, "gate rule")
            ),
        ),
        None => (
            false,
            Reason::RulesBehind,
            format!("Namespace {namespace} has no GateRules, where its bindings give {number}."),
        ),
        Some(stored) => (
            false,
            Reason::RulesBehind,
            format!(
                "The GateRules of namespace {namespace} hold {} {} not the {number} that its bindings give.",
                stored.len(),
                agreeing(stored.len(), "rule, which is", "rules, which are")
            ),
        ),
    };
    (injects, Why::saying(reason, message))
}
