//! Whether a pod that is made while no process of ours runs gets its gates, with `--admission both` (contract 11).

use crate::explain::answer::{ModeAnswer, Why};
use crate::explain::facts::Facts;
use crate::gate_rules::GateRules;
use crate::index::services::ServiceIndex;
use crate::reason::Reason;

/// What is known of the policy by which the API server injects.
#[derive(Debug, Default)]
pub struct PolicyFacts {
    /// Whether the MutatingAdmissionPolicy is there; `None` where that cannot be read.
    pub policy: Option<bool>,
    /// Whether a binding of the policy is there.
    pub binding: Option<bool>,
    /// The `spec` of the namespace's GateRules; the inner `None` if it has none.
    pub rules: Option<Option<GateRules>>,
    /// Why something cannot be read.
    pub why: Option<String>,
}

/// The mode, as far as it is `both`.
pub(super) fn of_namespace(facts: &Facts, routes: &ServiceIndex) -> Option<ModeAnswer> {
    let known = facts.policy.as_ref()?;
    let (injects, why) = match (known.policy, known.binding, &known.rules) {
        (Some(false), _, _) => (
            Some(false),
            absent("MutatingAdmissionPolicy targetgate-gates"),
        ),
        (_, Some(false), _) => (
            Some(false),
            absent("MutatingAdmissionPolicyBinding targetgate-gates"),
        ),
        (Some(true), Some(true), Some(rules)) => of_rules(facts, routes, rules.as_ref()),
        _ => (None, unknown(known)),
    };
    Some(ModeAnswer { injects, why })
}

fn absent(what: &str) -> Why {
    let message = format!(
        "{what} is not there, so that the webhook alone injects gates: a pod that is made while it is away gets none."
    );
    Why::saying(Reason::PolicyAbsent, message)
}

fn unknown(known: &PolicyFacts) -> Why {
    let why = known.why.as_deref().unwrap_or("it was not read");
    Why::saying(Reason::NotKnown, format!("Of the policy: {why}."))
}

fn of_rules(
    facts: &Facts,
    routes: &ServiceIndex,
    rules: Option<&GateRules>,
) -> (Option<bool>, Why) {
    let namespace = &facts.namespace;
    match (GateRules::of(routes, &facts.settings.gates), rules) {
        (Err(too_large), _) => {
            let message =
                format!("The gate rules of namespace {namespace} are not written: {too_large}.");
            (Some(false), Why::saying(Reason::RulesTooLarge, message))
        }
        (Ok(wanted), rules) if wanted == rules.cloned().unwrap_or_default() => {
            let message = format!(
                "The policy is there, and the {} gate rules of namespace {namespace} are those that its bindings give.",
                wanted.len()
            );
            (Some(true), Why::saying(Reason::PolicyInjects, message))
        }
        (Ok(wanted), None) => {
            let message = format!(
                "Namespace {namespace} has no GateRules, where its bindings give {}.",
                wanted.len()
            );
            (Some(false), Why::saying(Reason::RulesBehind, message))
        }
        (Ok(wanted), Some(rules)) => {
            let message = format!(
                "The GateRules of namespace {namespace} hold {} rules that are not the {} that its bindings give.",
                rules.len(),
                wanted.len()
            );
            (Some(false), Why::saying(Reason::RulesBehind, message))
        }
    }
}
