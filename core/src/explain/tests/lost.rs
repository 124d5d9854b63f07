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
    let expected = "Service web has no binding any more, and pods that it selects keep the open gate target-health.elbv2.k8s.aws/web, such as web-1: nothing registers them. Pods that it selects: 3; without that gate: 1.";
    assert_eq!(answer.notices[0].message, expected);
    let answer = namespace(&shop([binding("web")]), &pods[..2]);
    assert!(answer.notices.is_empty());
}

#[test]
fn it_is_told_where_the_event_is_told() {
    let mut elsewhere = open().gate("api");
    elsewhere.gates[1].1 = elsewhere.gates[0].1.clone();
    let told = |facts: &Facts, pod: Pod| {
        let of_pod = told(facts, pod.clone()).why.reason == Reason::BindingLost;
        let of_all = namespace(facts, &[seen(pod)]).notices;
        assert_eq!(of_pod, !of_all.is_empty());
        of_pod
    };
    // Another Service that selects the pod still has its binding.
    let mut facts = shop([of(|binding| {
        (binding.name, binding.service) = ("api".into(), "api".into());
    })]);
    facts
        .index
        .apply_service(&ObjectKey::new("shop", "api"), web_service());
    assert!(told(&facts, elsewhere));
    let opted_out = Pod {
        opted_out: true,
        ..open()
    };
    assert!(!told(&shop([]), opted_out));
    // The Service is gone as well.
    let mut facts = shop([]);
    facts.index.delete_service(&ObjectKey::new("shop", "web"));
    assert!(!told(&facts, open()));
    let mut facts = shop([]);
    facts
        .index
        .apply_namespace(&"shop".into(), Namespace::default());
    assert!(!told(&facts, open()), "the Namespace has not opted in");
}
