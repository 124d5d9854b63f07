//! What the API server itself does: policies and gate rules.

use rstest::rstest;

use super::*;
use crate::drain::ServerVersion;
use crate::explain::Why;
use crate::fixtures;
use crate::gate_rules::{GateRules, POLICY, TooLarge};
use crate::gates::inject::GatePolicy;
use crate::index::services::ServiceIndex;

fn rules(binding: &str) -> GateRules {
    let mut routes = ServiceIndex::default();
    let service = fixtures::service().selecting("app", "web");
    routes.apply_service(&"web".into(), service);
    routes.apply_binding(fixtures::binding(binding));
    GateRules::of(&routes, &GatePolicy::default()).unwrap()
}

fn of_shop(wanted: Result<GateRules, TooLarge>, stored: Option<GateRules>) -> NamespaceRules {
    NamespaceRules {
        namespace: "shop".to_owned(),
        wanted,
        stored: Ok(stored),
    }
}

fn policy(name: &str, bound: bool) -> Policy {
    Policy {
        name: name.to_owned(),
        bound,
    }
}

/// Of an installation without a fault.
pub(super) fn injection() -> Injection {
    Injection {
        server: ServerVersion::of("1", "36"),
        policies: Ok(Some(vec![policy(POLICY, true)])),
        rules: Ok(Some(vec![of_shop(Ok(rules("web")), Some(rules("web")))])),
    }
}

fn of(facts: &mut Facts) -> &mut Injection {
    facts.injection.as_mut().unwrap()
}

fn has(facts: &mut Facts, wanted: Result<GateRules, TooLarge>, stored: Option<GateRules>) {
    of(facts).rules = Ok(Some(vec![of_shop(wanted, stored)]));
}

/// Takes updates from the hook of bindings.
fn creations_only(facts: &mut Facts) {
    for hook in hooks(facts) {
        hook.updates = false;
    }
}

fn pods_alone(facts: &mut Facts) {
    hooks(facts).retain(|hook| hook.kind == HookKind::Pods);
}

fn lost() -> Lost {
    Lost {
        namespace: "shop".to_owned(),
        why: Why::saying(Reason::BindingLost, "Living pods: 2."),
    }
}

const TOO_LARGE: TooLarge = TooLarge::Rules { rules: 301 };

#[rstest]
#[case::no_policy(|f: &mut Facts| of(f).policies = Ok(Some(vec![])), State::Broken, Check::Policy, Reason::PolicyAbsent)]
#[case::switched_off(|f: &mut Facts| of(f).policies = Ok(Some(vec![policy(POLICY, false)])), State::Advice, Check::Policy, Reason::PolicyAbsent)]
#[case::one_of_two_switched_off(|f: &mut Facts| of(f).policies = Ok(Some(vec![policy(POLICY, true), policy("targetgate-gates-object", false)])), State::Advice, Check::Policy, Reason::PolicyAbsent)]
#[case::an_older_server(|f: &mut Facts| { of(f).policies = Ok(None); of(f).rules = Ok(None) }, State::Advice, Check::Policy, Reason::PolicyNotServed)]
#[case::policies_denied(|f: &mut Facts| of(f).policies = Err("denied".into()), State::Unknown, Check::Policy, Reason::NotKnown)]
#[case::no_crd(|f: &mut Facts| of(f).rules = Ok(None), State::Broken, Check::GateRules, Reason::PolicyAbsent)]
#[case::rules_denied(|f: &mut Facts| of(f).rules = Err("denied".into()), State::Unknown, Check::GateRules, Reason::NotKnown)]
#[case::no_rules(|f: &mut Facts| has(f, Ok(rules("web")), None), State::Broken, Check::GateRules, Reason::RulesBehind)]
#[case::old_rules(|f: &mut Facts| has(f, Ok(rules("web")), Some(rules("old"))), State::Broken, Check::GateRules, Reason::RulesBehind)]
#[case::rules_left_behind(|f: &mut Facts| has(f, Ok(GateRules::default()), Some(rules("old"))), State::Broken, Check::GateRules, Reason::RulesBehind)]
#[case::too_large(|f: &mut Facts| has(f, Err(TOO_LARGE), None), State::Advice, Check::GateRules, Reason::RulesTooLarge)]
#[case::nothing_holds_the_group(|f: &mut Facts| creations_only(f), State::Broken, Check::Immutability, Reason::GroupNotHeld)]
#[case::an_unbound_policy_holds_nothing(|f: &mut Facts| { creations_only(f); f.immutability = Ok(Some(policy(IMMUTABILITY, false))) }, State::Broken, Check::Immutability, Reason::GroupNotHeld)]
#[case::who_holds_it_is_denied(|f: &mut Facts| { creations_only(f); f.immutability = Err("denied".into()) }, State::Unknown, Check::Immutability, Reason::NotKnown)]
#[case::a_lost_binding(|f: &mut Facts| f.lost = vec![lost()], State::Broken, Check::Binding, Reason::BindingLost)]
fn each_fault_is_told_at_its_own_hop_and_at_no_other(
    #[case] make: Break,
    #[case] state: State,
    #[case] check: Check,
    #[case] reason: Reason,
) {
    let mut facts = sound();
    make(&mut facts);
    let answer = diagnose(&facts);
    let told = answer.findings.iter();
    let told: Vec<_> = told.filter(|hop| hop.state != State::Sound).collect();
    let [only] = told[..] else {
        panic!("{}", render(&answer));
    };
    assert_eq!(
        (only.state, only.check, only.why.reason),
        (state, check, reason)
    );
    assert!(!only.why.remedy.is_empty());
}

#[test]
fn a_deleted_binding_of_the_policy_is_told_to_be_its_switch() {
    let mut facts = sound();
    of(&mut facts).policies = Ok(Some(vec![policy(POLICY, false)]));
    let text = render(&diagnose(&facts));
    assert!(
        text.contains("switches the policy off for the whole cluster"),
        "{text}"
    );
}

#[test]
fn an_older_server_is_told_with_its_version() {
    let mut facts = sound();
    of(&mut facts).server = ServerVersion::of("1", "35");
    of(&mut facts).policies = Ok(None);
    let text = render(&diagnose(&facts));
    assert!(text.contains("of version 1.35, does not serve"), "{text}");
}

#[test]
fn with_the_webhook_alone_no_policy_is_looked_for() {
    let mut facts = sound();
    facts.injection = None;
    let answer = diagnose(&facts);
    let mut findings = answer.findings.iter();
    assert!(!findings.any(|hop| matches!(hop.check, Check::Policy | Check::GateRules)));
    assert_eq!(answer.state, State::Sound);
}

#[test]
fn a_policy_that_is_bound_holds_the_group_where_the_hook_does_not() {
    let mut facts = sound();
    creations_only(&mut facts);
    facts.immutability = Ok(Some(policy(IMMUTABILITY, true)));
    facts.binding_trial = Ok(BindingTrial::DeniedByPolicy);
    let answer = diagnose(&facts);
    assert_eq!(answer.state, State::Sound, "{}", render(&answer));
}

#[test]
fn an_installation_without_hooks_of_bindings_is_advised_about_them() {
    let mut facts = sound();
    pods_alone(&mut facts);
    facts.binding_trial = Ok(BindingTrial::Admitted);
    let answer = diagnose(&facts);
    let told = answer.findings.iter();
    let told = told.filter(|hop| hop.state != State::Sound);
    let told: Vec<_> = told
        .map(|hop| (hop.check, hop.state, hop.why.reason))
        .collect();
    let advice = |check| (check, State::Advice, Reason::HookNotRegistered);
    let checks = [Check::Hook, Check::Hook, Check::BindingTrial];
    assert_eq!(told, checks.map(advice));
    // Without the hook for pods a configuration is gone, which no value of the chart means.
    hooks(&mut facts).clear();
    assert_eq!(diagnose(&facts).state, State::Broken);
}
