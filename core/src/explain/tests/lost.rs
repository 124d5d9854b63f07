//! Bindings that were deleted under living pods.

use super::*;

fn open() -> Pod {
    web().gate("web").condition(true, "", "")
}

#[test]
fn a_pod_whose_binding_is_gone_is_told_that_nothing_registers_it() {
    let facts = shop([]);
    let answer = told(&facts, open());
    assert_eq!(
        (answer.verdict, answer.why.reason),
        (Verdict::No, Reason::BindingLost)
    );
    // A closed gate opens by itself.
    assert_ne!(told(&facts, waiting()).why.reason, Reason::BindingLost);
    // Another binding selects the pod: it lacks that one's gate.
    let facts = shop([of(|binding| binding.name = "other".into())]);
    assert_eq!(told(&facts, open()).why.reason, Reason::HookMissed);
    let mut facts = shop([]);
    facts.not_served = [crate::names::BindingApi::Elbv2].into();
    assert_eq!(
        told(&facts, open()).verdict,
        Verdict::Yes,
        "unknown is not gone"
    );
}

#[test]
fn a_namespace_names_the_service_and_the_pods_that_were_made_since() {
    let named = |name: &str, pod: Pod| {
        seen(Pod {
            key: ObjectKey::new("shop", name),
            ..pod
        })
    };
    let pods = [
        named("web-1", open()),
        named("web-2", open()),
        named("web-3", web()),
    ];
    let answer = namespace(&shop([]), &pods);
    assert_eq!(
        (answer.verdict, answer.why.reason),
        (Verdict::No, Reason::BindingLost)
    );
    let expected = "Living pods with the open gate target-health.elbv2.k8s.aws/web: 2, such as web-1; Service web has no binding of that name any more, nothing registers them, and of the pods that it selects 1 have no gate.";
    assert_eq!(answer.notices[0].message, expected);
    let answer = namespace(&shop([binding("web")]), &pods[..2]);
    assert!(answer.notices.is_empty());
}
