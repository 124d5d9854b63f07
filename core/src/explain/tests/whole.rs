//! The end of a pod, whole namespaces and bindings, and the text of answers.

use super::*;

#[test]
fn the_end_of_a_pod_is_explained_by_the_rules_of_drain() {
    let mut facts = shop([of(|b| b.load_balancer = Some(LoadBalancerKind::Alb))]);
    let end = told(&facts, waiting()).end.unwrap();
    assert_eq!((end.why.reason, end.sleep_seconds), (Reason::Off, None));
    let lints: Vec<Reason> = end.lints.iter().map(|lint| lint.reason).collect();
    assert_eq!(lints, [Reason::PreStopMissing]);

    let namespace = Namespace {
        opted_in: true,
        drain: DrainLabel::Mode(DrainMode::Sleep),
        ..Namespace::default()
    };
    facts.index.apply_namespace(&"shop".into(), namespace);
    let end = told(&facts, waiting()).end.unwrap();
    assert_eq!(end.why.reason, Reason::Injected);
    assert!(
        end.why
            .message
            .contains("created before drain was asked for")
    );
    let mut new = seen(web());
    new.created = None;
    let end = crate::explain::pod(&facts, &new).end.unwrap();
    assert_eq!(
        (end.why.reason, end.sleep_seconds),
        (Reason::Injected, Some(20))
    );
    assert!(end.lints.is_empty());

    let mut short = seen(waiting());
    short.end.new.containers = vec![PreStop::Sleep(5)];
    short.end.template.containers[0].pre_stop = lint::PreStop::Sleep(5);
    let end = crate::explain::pod(&facts, &short).end.unwrap();
    assert_eq!(end.why.reason, Reason::HasPreStop);
    assert_eq!(end.lints[0].reason, Reason::PreStopTooShort);
    let expected = "Container main sleeps 5 s before SIGTERM, and its ALB needs 20 s.";
    assert_eq!(end.lints[0].message, expected);
}

#[test]
fn a_namespace_is_told_by_controller_binding_and_reason() {
    let facts = shop([binding("web"), binding("api").of_instances()]);
    let answer = namespace(&facts, &crowd());
    assert_eq!(
        (answer.verdict, answer.why.reason),
        (Verdict::NotYet, Reason::NotRegistered)
    );
    let counts = PodCounts {
        all: 4,
        gated: 2,
        waiting: 1,
        ungated: 2,
    };
    assert_eq!((answer.pods, answer.bindings), (counts, 2));
    let [waits] = &answer.waiting[..] else {
        panic!("{:?}", answer.waiting);
    };
    assert_eq!(waits.controller.as_deref(), Some("ReplicaSet/web-5d4f8"));
    assert_eq!(
        (waits.pods, &*waits.example, waits.since),
        (1, "web-1", Some(at(60)))
    );
    let [lacks] = &answer.ungated[..] else {
        panic!("{:?}", answer.ungated);
    };
    assert_eq!((lacks.pods, lacks.why.reason), (2, Reason::HookMissed));
    let idle = &answer.idle_bindings;
    assert_eq!(
        (idle.len(), idle[0].why.reason),
        (1, Reason::TargetTypeInstance)
    );
    let nothing = namespace(&facts, &[]);
    assert_eq!(nothing.verdict, Verdict::Yes);
}

#[test]
fn a_binding_is_told_with_its_own_pods() {
    let facts = shop([binding("web"), binding("canary")]);
    let web = binding("web");
    let answer = crate::explain::binding(&facts, &web, &crowd());
    assert_eq!(
        (answer.verdict, answer.why.reason),
        (Verdict::NotYet, Reason::NotRegistered)
    );
    assert!(
        answer
            .waiting
            .iter()
            .chain(&answer.ungated)
            .all(|row| row.binding == "web")
    );
    let none = crate::explain::binding(&facts, &web, &[]);
    assert_eq!(
        (none.verdict, none.why.reason),
        (Verdict::Yes, Reason::Healthy)
    );
    let mut gone = shop([binding("web")]);
    gone.elb = elb(GroupLook::NotFound);
    let answer = crate::explain::binding(&gone, &web, &[]);
    assert_eq!(
        (answer.verdict, answer.why.reason),
        (Verdict::No, Reason::TargetGroupNotFound)
    );
}

#[test]
fn a_terminal_gets_no_control_characters() {
    let nasty = web()
        .gate("web")
        .condition(false, "Target.Bad", "\u{1b}[2J\nroot#");
    let answer = Answer::Pod(Box::new(told(&shop([binding("web")]), nasty)));
    let text = render(&answer);
    assert!(text.lines().all(|line| !line.contains(char::is_control)));
    assert!(text.contains("[2J root#"), "{text}");
}

#[test]
fn the_text_says_since_when_what_is_waited_for_and_where_that_comes_from() {
    let mut facts = shop([binding("web")]);
    facts.elb = elb(GroupLook::Healths(vec![]));
    let answer = told(&facts, waiting());
    let age = SignedDuration::from_secs(540);
    let text = render(&Answer::Pod(Box::new(answer)));
    let expected = [
        "pod shop/web-1: not yet, NotRegistered\n",
        "Target group web does not have the target 10.0.0.1:80.",
        "What to do: Look at the controller that registers the binding's targets.",
        &format!("target-health.elbv2.k8s.aws/web: closed for {age:#}, NotRegistered"),
        "Condition: False for 8m 50s: Elb.RegistrationInProgress, Target registration is in progress",
        "web: AlreadyInjected. The pod has its gate.",
        "drain: Off.",
        "ELB was asked just now.",
    ];
    for words in expected {
        assert!(text.contains(words), "{words:?} is not in\n{text}");
    }
}
