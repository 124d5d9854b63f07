//! Whether the API server itself injects gates.

use super::*;
use crate::gate_rules::GateRules;
use crate::index::services::ServiceIndex;

fn rules(bindings: &[&str]) -> GateRules {
    let mut routes = ServiceIndex::default();
    routes.apply_service(&"web".into(), web_service());
    for name in bindings {
        routes.apply_binding(binding(name));
    }
    GateRules::of(&routes, &Default::default()).unwrap()
}

#[rstest]
#[case::sound(Some(true), Some(true), Some(Some(rules(&["web"]))), Some(true), Reason::PolicyInjects)]
#[case::no_policy(Some(false), Some(true), Some(None), Some(false), Reason::PolicyAbsent)]
#[case::no_binding(Some(true), Some(false), Some(None), Some(false), Reason::PolicyAbsent)]
#[case::no_rules(Some(true), Some(true), Some(None), Some(false), Reason::RulesBehind)]
#[case::old_rules(Some(true), Some(true), Some(Some(rules(&["web", "old"]))), Some(false), Reason::RulesBehind)]
#[case::denied(None, Some(true), Some(None), None, Reason::NotKnown)]
fn a_pod_that_is_made_while_the_hook_is_away_gets_its_gates_or_not(
    #[case] policy: Option<bool>,
    #[case] bound: Option<bool>,
    #[case] rules: Option<Option<GateRules>>,
    #[case] injects: Option<bool>,
    #[case] reason: Reason,
) {
    let mut facts = shop([binding("web")]);
    assert_eq!(namespace(&facts, &[]).mode, None);
    facts.policy = Some(PolicyFacts {
        policy,
        binding: bound,
        rules,
        why: Some("forbidden".to_owned()),
    });
    let mode = namespace(&facts, &[]).mode.unwrap();
    assert_eq!((mode.injects, mode.why.reason), (injects, reason));
    assert_eq!(told(&facts, waiting()).mode, Some(mode));
}
