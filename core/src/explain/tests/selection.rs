//! Which gates a pod has, gets or lacks.

use super::*;

#[test]
fn a_namespace_without_bindings_is_told_so() {
    let answer = told(&shop([]), web());
    assert_eq!(
        (answer.verdict, answer.why.reason),
        (Verdict::No, Reason::NoBinding)
    );
    assert_eq!(
        answer.why.message,
        "Namespace shop has no TargetGroupBinding."
    );
}

#[test]
fn without_the_crd_there_is_no_binding() {
    let mut facts = shop([]);
    facts.not_served.insert(crate::names::BindingApi::Elbv2);
    let why = told(&facts, web()).why;
    assert_eq!(why.reason, Reason::NoBinding);
    assert!(why.message.contains("does not serve"), "{}", why.message);
}

#[rstest]
#[case(of(|b| b.service = "api".into()), Reason::ServiceMissing, "Service api of binding web does not exist.")]
#[case(binding("web").of_instances(), Reason::TargetTypeInstance, "its targetType is instance")]
#[case(of(|b| b.target_type = None), Reason::TargetTypeUnknown, "")]
#[case(of(|b| b.opted_out = true), Reason::OptedOut, "on the binding web opts")]
#[case(of(|b| b.terminating = true), Reason::BindingTerminating, "")]
#[case(of(|b| b.arn = None), Reason::GroupUnknown, "")]
fn why_a_binding_gives_no_gate_is_what_the_hook_decides(
    #[case] binding: Binding,
    #[case] reason: Reason,
    #[case] words: &str,
) {
    let answer = told(&shop([binding.clone()]), web());
    assert_eq!((answer.verdict, answer.why.reason), (Verdict::No, reason));
    assert!(answer.why.message.contains(words), "{}", answer.why.message);
    assert!(!answer.why.remedy.is_empty());
    assert!(answer.lacking.is_empty() && answer.gates.is_empty());
    let facts = shop([binding.clone()]);
    let of_binding = crate::explain::binding(&facts, &binding, &[]);
    assert_eq!(
        (of_binding.verdict, of_binding.why.reason),
        (Verdict::No, reason)
    );
}

#[test]
fn a_selector_that_does_not_match_is_compared_with_the_labels() {
    let facts = shop([binding("web")]);
    let answer = told(&facts, pod("api-1").label("app", "api"));
    let expected = "Service web selects app=web, where the pod has app=api.";
    assert_eq!(answer.why.reason, Reason::SelectorMismatch);
    assert_eq!(answer.why.message, expected);
    let answer = told(&facts, pod("api-1"));
    let expected = "Service web selects app=web, and the pod has no label app.";
    assert_eq!(answer.why.message, expected);
}

#[test]
fn an_annotation_of_the_pod_opts_it_out() {
    let opted_out = Pod {
        opted_out: true,
        ..web()
    };
    let answer = told(&shop([binding("web")]), opted_out);
    assert_eq!(answer.why.reason, Reason::OptedOut);
    assert!(answer.why.message.contains("on the Pod opts"));
}

#[test]
fn a_namespace_without_the_label_is_told_with_the_command() {
    let mut facts = shop([binding("web")]);
    facts
        .index
        .apply_namespace(&"shop".into(), Namespace::default());
    let answer = told(&facts, web());
    assert_eq!(
        (answer.verdict, answer.why.reason),
        (Verdict::No, Reason::NamespaceNotOptedIn)
    );
    let expected = "kubectl label namespace shop elbv2.k8s.aws/pod-readiness-gate-inject=enabled && \
                    kubectl --namespace shop rollout restart deployment/web";
    assert_eq!(answer.why.command.as_deref(), Some(expected));
}

#[rstest]
#[case::before_the_binding(0, None, Reason::PodOlderThanBinding)]
#[case::before_the_label(20, Some(50), Reason::PodOlderThanOptIn)]
#[case::while_we_were_away(20, Some(5), Reason::HookMissed)]
#[case::or_who_knows(20, None, Reason::HookMissed)]
fn a_pod_without_its_gate_slipped_through(
    #[case] binding_age: i64,
    #[case] opted_in: Option<i64>,
    #[case] reason: Reason,
) {
    let mut facts = shop([]);
    let mut young = binding("web");
    let bound = at(30 - binding_age);
    young.registration.created = Some(bound);
    facts.index.apply_binding(&"shop".into(), young);
    facts.opted_in = opted_in.map(at);
    let answer = told(&facts, web());
    assert_eq!((answer.verdict, answer.why.reason), (Verdict::No, reason));
    assert_eq!(answer.lacking[0].since, Some(bound.max(at(10))));
    let restart = "kubectl --namespace shop rollout restart deployment/web";
    assert_eq!(answer.why.command.as_deref(), Some(restart));
}

#[rstest]
#[case(
    "StatefulSet",
    "db",
    Some("kubectl --namespace shop rollout restart statefulset/db")
)]
#[case(
    "DaemonSet",
    "agent",
    Some("kubectl --namespace shop rollout restart daemonset/agent")
)]
#[case(
    "ReplicaSet",
    "by-hand",
    Some("kubectl --namespace shop delete pod web-1")
)]
#[case("CloneSet", "web", Some("kubectl --namespace shop delete pod web-1"))]
#[case("", "", None)]
fn the_controller_creates_the_pod_anew(
    #[case] kind: &str,
    #[case] name: &str,
    #[case] command: Option<&str>,
) {
    let mut seen = seen(pod("web-1").controlled_by(name));
    let template = std::sync::Arc::make_mut(&mut seen.pod.template);
    let controller = std::sync::Arc::make_mut(template.controller.as_mut().unwrap());
    controller.kind = kind.into();
    if kind.is_empty() {
        template.controller = None;
    }
    let found = ungated::create_anew(&shop([]), &seen);
    assert_eq!(found.as_deref(), command);
}

#[test]
fn a_pod_that_is_not_created_yet_gets_its_gate() {
    let mut new = seen(web());
    new.created = None;
    let answer = crate::explain::pod(&shop([binding("web")]), &new);
    assert_eq!(
        (answer.verdict, answer.why.reason),
        (Verdict::Yes, Reason::Injected)
    );
    assert!(
        answer
            .why
            .message
            .contains("target-health.elbv2.k8s.aws/web")
    );
    assert_eq!(answer.bindings[0].why.reason, Reason::Injected);
}

#[test]
fn a_second_binding_makes_the_pod_lack_a_gate() {
    let open = web().gate("web").condition(true, "", "");
    let answer = told(&shop([binding("web"), binding("canary")]), open);
    assert_eq!(
        (answer.verdict, answer.why.reason),
        (Verdict::No, Reason::HookMissed)
    );
    assert_eq!(answer.lacking[0].binding, "canary");
}

#[test]
fn a_legacy_gate_keeps_the_pod_from_becoming_ready() {
    let mut kept = seen(web());
    let legacy = "target-health.alb.ingress.k8s.aws/web_web_80";
    let template = std::sync::Arc::make_mut(&mut kept.pod.template);
    template.remarks = Some(Box::new(PodRemarks {
        legacy_gate: Some(legacy.into()),
        ..PodRemarks::default()
    }));
    kept.gates.push(ReadinessGate {
        condition_type: legacy.into(),
        status: None,
        since: None,
    });
    let answer = crate::explain::pod(&shop([]), &kept);
    assert_eq!(
        (answer.verdict, answer.why.reason),
        (Verdict::No, Reason::LegacyGate)
    );
    assert!(!answer.other_gates[0].open);
    assert_eq!(answer.why.remedy, Reason::LegacyGate.remedy());
    // It keeps it where new pods lose it, and it is told what new pods get.
    let answer = crate::explain::pod(&shop([binding("web")]), &kept);
    assert_eq!(answer.why.reason, Reason::LegacyGate);
    assert!(answer.why.remedy.starts_with("Create the pod anew"));
    // A new pod that gets a gate of ours loses it.
    kept.created = None;
    let answer = crate::explain::pod(&shop([binding("web")]), &kept);
    assert_eq!(answer.why.reason, Reason::Injected);
}

#[test]
fn a_pod_that_ends_waits_for_nothing() {
    let ending = Pod {
        terminating: true,
        ..waiting()
    };
    let answer = told(&shop([binding("web")]), ending);
    assert_eq!(
        (answer.verdict, answer.why.reason),
        (Verdict::No, Reason::PodEnded)
    );
}
