//! Each answer follows from what hook and health loop decide about the same objects.

use jiff::{SignedDuration, Timestamp};
use rstest::rstest;

use super::*;
use crate::drain::inject::{Annotations, NewPod, PreStop};
use crate::drain::{DrainAnnotations, DrainLabel, DrainMode, LoadBalancerKind, ServerVersion};
use crate::fixtures::{arn, binding, pod, service};
use crate::gates::requirements::Resolution;
use crate::index::Index;
use crate::lint;
use crate::model::{
    Binding, Namespace, Pod, PodRemarks, Policies, PortRef, Service, TargetHealth, TargetState,
};
use crate::names::{ConditionPrefix, GroupKey, NamedGroup, ObjectKey};
use crate::reason::Reason;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_000 + seconds).unwrap()
}

/// A namespace `shop` that has opted in, with Service `web` of `app=web`, looked at 600 s after [`at`] 0.
fn shop(bindings: impl IntoIterator<Item = Binding>) -> Facts {
    let mut index = Index::default();
    let namespace = Namespace {
        opted_in: true,
        ..Namespace::default()
    };
    index.apply_namespace(&"shop".into(), namespace);
    index.apply_service(&ObjectKey::new("shop", "web"), web_service());
    for mut binding in bindings {
        binding.registration.created = Some(at(0));
        index.apply_binding(&"shop".into(), binding);
    }
    Facts {
        namespace: "shop".into(),
        index,
        opted_in: None,
        not_served: [].into(),
        server: ServerVersion::of("1", "33"),
        settings: Settings {
            prefixes: vec![ConditionPrefix::default()],
            ..Settings::default()
        },
        elb: Elb::NotAsked("--no-aws".to_owned()),
        now: at(600),
    }
}

fn web_service() -> Service {
    service().selecting("app", "web").port("http", 80, None)
}

/// A pod of a Deployment `web`, created at [`at`] 10 with ready containers since [`at`] 60.
fn web() -> Pod {
    let pod = pod("web-1").label("app", "web").ip("10.0.0.1");
    let pod = pod.label("pod-template-hash", "5d4f8");
    Pod {
        containers_ready: Some(at(60)),
        ..pod.controlled_by("web-5d4f8")
    }
}

fn seen(pod: Pod) -> PodFacts {
    let gates = pod.gates.iter().map(|(gate, condition)| ReadinessGate {
        condition_type: gate.as_str().into(),
        status: condition.as_ref().map(|condition| condition.status),
        since: condition.as_ref().map(|_| at(70)),
    });
    PodFacts {
        gates: gates.collect(),
        pod,
        created: Some(at(10)),
        end: EndFacts {
            annotations: DrainAnnotations::default(),
            new: NewPod {
                containers: vec![PreStop::NoLifecycle],
                grace: Some(30),
                of_job: false,
                annotations: Annotations::Absent,
                drained: None,
            },
            template: lint::PodTemplate {
                containers: vec![lint::Container {
                    name: "main".to_owned(),
                    ..lint::Container::default()
                }],
                ..lint::PodTemplate::default()
            },
        },
    }
}

fn told(facts: &Facts, pod: Pod) -> PodAnswer {
    super::pod(facts, &seen(pod))
}

/// What ELB says of target 10.0.0.1:80 of group `web`.
fn elb(look: GroupLook) -> Elb {
    let key = GroupKey {
        arn: arn("web"),
        role: None,
    };
    Elb::Asked(Looks {
        groups: [(key, look)].into(),
        ..Looks::default()
    })
}

fn health(state: TargetState, reason: &str) -> GroupLook {
    GroupLook::Healths(vec![TargetHealth {
        target: ([10, 0, 0, 1].into(), 80),
        state,
        reason: reason.into(),
        description: "as ELB describes it".into(),
        zone: None,
    }])
}

fn waiting() -> Pod {
    let words = [
        "Elb.RegistrationInProgress",
        "Target registration is in progress",
    ];
    web().gate("web").condition(false, words[0], words[1])
}

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

fn of(change: impl FnOnce(&mut Binding)) -> Binding {
    let mut binding = binding("web");
    change(&mut binding);
    binding
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
    let of_binding = super::binding(&facts, &binding, &[]);
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
    let answer = super::pod(&shop([binding("web")]), &new);
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

#[rstest]
#[case::absent(GroupLook::Healths(vec![]), Reason::NotRegistered, "Target group web does not have the target 10.0.0.1:80.")]
#[case::in_words(
    health(TargetState::Unused, "Target.NotRegistered"),
    Reason::NotRegistered,
    "does not have the target"
)]
#[case::leaving(
    health(TargetState::Draining, "Target.DeregistrationInProgress"),
    Reason::NotRegistered,
    "ELB deregisters 10.0.0.1:80"
)]
#[case::unhealthy(
    health(TargetState::Unhealthy, "Target.Timeout"),
    Reason::NotHealthy,
    "is unhealthy: Target.Timeout, as ELB describes it."
)]
#[case::unused(
    health(TargetState::Unused, "Target.NotInUse"),
    Reason::NotHealthy,
    "is unused: Target.NotInUse"
)]
#[case::gone(GroupLook::NotFound, Reason::TargetGroupNotFound, "does not exist.")]
#[case::healthy(health(TargetState::Healthy, ""), Reason::HealthyNotOpened, "")]
fn a_closed_gate_waits_for_what_elb_says_now(
    #[case] look: GroupLook,
    #[case] reason: Reason,
    #[case] words: &str,
) {
    let mut facts = shop([binding("web")]);
    facts.elb = elb(look);
    let answer = told(&facts, waiting());
    assert_eq!(
        (answer.verdict, answer.why.reason),
        (Verdict::NotYet, reason)
    );
    assert!(answer.why.message.contains(words), "{}", answer.why.message);
    assert!(!answer.why.remedy.is_empty());
    let gate = &answer.gates[0];
    assert_eq!((gate.source, gate.since), (Source::Elb, Some(at(60))));
    assert_eq!(gate.condition.as_ref().unwrap().since, Some(at(70)));
    assert!(gate.targets[0].elb.is_some());
}

#[rstest]
#[case("Target.Timeout", "health checks on this port")]
#[case("Target.NotInUse", "when-unused: open")]
#[case("Target.FailedHealthChecks", "listens on this port")]
#[case("Target.ResponseCodeMismatch", "matcher")]
#[case("Elb.InitialHealthChecking", "Wait")]
#[case("Target.BrandNew", "ELB's own")]
fn what_to_do_follows_from_elbs_code(#[case] code: &str, #[case] words: &str) {
    let facts = shop([binding("web")]);
    let by_condition = told(
        &facts,
        web().gate("web").condition(false, code, "so says ELB"),
    );
    assert_eq!(by_condition.gates[0].source, Source::Condition);
    assert!(by_condition.why.message.contains(code));
    assert!(
        by_condition.why.remedy.contains(words),
        "{}",
        by_condition.why.remedy
    );
}

#[test]
fn a_call_that_failed_leaves_what_the_condition_says() {
    let mut facts = shop([binding("web")]);
    facts.elb = elb(GroupLook::Failed("AccessDenied".to_owned()));
    let answer = told(&facts, waiting());
    let gate = &answer.gates[0];
    assert_eq!(answer.why.reason, Reason::NotRegistered);
    assert_eq!(gate.source, Source::Condition);
    assert_eq!(gate.targets[0].failure.as_deref(), Some("AccessDenied"));
}

#[test]
fn a_gate_without_a_condition_was_not_looked_at_yet() {
    let answer = told(&shop([binding("web")]), web().gate("web"));
    assert_eq!(answer.why.reason, Reason::NotPolled);
}

#[test]
fn a_pod_that_is_not_ready_otherwise_comes_first() {
    let starting = Pod {
        containers_ready: None,
        ..waiting()
    };
    let mut facts = shop([binding("web")]);
    facts.elb = elb(GroupLook::Healths(vec![]));
    let answer = told(&facts, starting);
    assert_eq!(answer.why.reason, Reason::PodNotDue);
    assert_eq!(answer.gates[0].since, None);
}

#[test]
fn what_keeps_a_gate_closed_whatever_elb_says_is_told_first() {
    let mut facts = shop([binding("web").service_port(PortRef::Number(8080))]);
    facts.elb = elb(health(TargetState::Healthy, ""));
    let answer = told(&facts, waiting());
    assert_eq!(answer.why.reason, Reason::ServicePortNotFound);
    assert!(answer.why.message.contains("it has no port 8080"));
    let named = service().selecting("app", "web");
    let named = named.port("http", 80, Some(PortRef::Name("grpc".into())));
    let mut facts = shop([binding("web")]);
    facts
        .index
        .apply_service(&ObjectKey::new("shop", "web"), named);
    let answer = told(&facts, waiting());
    assert_eq!(answer.why.reason, Reason::PortNotFound);
}

#[test]
fn a_gate_whose_binding_is_gone_is_about_to_open() {
    let answer = told(&shop([]), waiting());
    assert_eq!(
        (answer.verdict, answer.why.reason),
        (Verdict::NotYet, Reason::BindingGone)
    );
    assert!(answer.why.message.contains("30 s"));
}

#[test]
fn open_gates_are_a_yes() {
    let open = web().gate("web").condition(true, "", "");
    let answer = told(&shop([binding("web")]), open);
    assert_eq!(
        (answer.verdict, answer.why.reason),
        (Verdict::Yes, Reason::Healthy)
    );
    assert_eq!(answer.bindings[0].why.reason, Reason::AlreadyInjected);
    let timed_out = web()
        .gate("web")
        .condition(true, "GateTimeout", "Not open after 1s");
    let answer = told(&shop([binding("web")]), timed_out);
    assert_eq!(
        (answer.verdict, answer.why.reason),
        (Verdict::Yes, Reason::GateTimeout)
    );
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
    let answer = super::pod(&shop([]), &kept);
    assert_eq!(
        (answer.verdict, answer.why.reason),
        (Verdict::No, Reason::LegacyGate)
    );
    assert!(!answer.other_gates[0].open);
    // A new pod that gets a gate of ours loses it.
    kept.created = None;
    let answer = super::pod(&shop([binding("web")]), &kept);
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

#[test]
fn open_after_says_when_a_gate_opens_at_the_latest() {
    let policies = Policies {
        open_after: std::num::NonZeroU32::new(900),
        ..Policies::default()
    };
    let answer = told(&shop([of(|b| b.policies = policies)]), waiting());
    assert_eq!(answer.gates[0].opens, Some(at(960)));
}

#[test]
fn a_group_by_its_name_is_resolved_first() {
    let by_name = of(|b| {
        b.arn = None;
        b.group_name = Some("web".into());
    });
    let mut facts = shop([by_name]);
    facts.elb = Elb::Asked(Looks::default());
    let pods = [seen(waiting())];
    let asked = questions(&facts, &pods, false);
    let name = NamedGroup {
        name: "web".into(),
        role: None,
    };
    assert_eq!(
        (asked.names, asked.groups.len()),
        ([name.clone()].into(), 0)
    );
    assert_eq!(told(&facts, waiting()).why.reason, Reason::GroupNotResolved);
    facts.elb = Elb::Asked(Looks {
        names: [(name.clone(), Resolution::Found(arn("web")))].into(),
        ..Looks::default()
    });
    let asked = questions(&facts, &pods, false);
    assert_eq!((asked.names.len(), asked.groups.len()), (0, 1));
    facts.elb = Elb::Asked(Looks {
        names: [(name, Resolution::NotFound)].into(),
        ..Looks::default()
    });
    assert_eq!(
        told(&facts, waiting()).why.reason,
        Reason::TargetGroupUnknown
    );
}

#[test]
fn open_gates_are_asked_about_only_where_that_is_wanted() {
    let facts = shop([binding("web")]);
    let pods = [seen(web().gate("web").condition(true, "", ""))];
    assert_eq!(questions(&facts, &pods, false), Questions::default());
    let asked = questions(&facts, &pods, true).groups;
    let targets = asked.into_values().next().unwrap();
    assert_eq!(targets, [([10, 0, 0, 1].into(), 80)].into());
}

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
    let end = super::pod(&facts, &new).end.unwrap();
    assert_eq!(
        (end.why.reason, end.sleep_seconds),
        (Reason::Injected, Some(20))
    );
    assert!(end.lints.is_empty());

    let mut short = seen(waiting());
    short.end.new.containers = vec![PreStop::Sleep(5)];
    short.end.template.containers[0].pre_stop = lint::PreStop::Sleep(5);
    let end = super::pod(&facts, &short).end.unwrap();
    assert_eq!(end.why.reason, Reason::HasPreStop);
    assert_eq!(end.lints[0].reason, Reason::PreStopTooShort);
    let expected = "Container main sleeps 5 s before SIGTERM, and its ALB needs 20 s.";
    assert_eq!(end.lints[0].message, expected);
}

/// Pods of Deployment `web`: one that waits, two that slipped through, an open one, and one that ends.
fn crowd() -> Vec<PodFacts> {
    let named = |name: &str, pod: Pod| Pod {
        key: ObjectKey::new("shop", name),
        ..pod
    };
    let open = web().gate("web").condition(true, "", "");
    let ending = Pod {
        terminating: true,
        ..waiting()
    };
    let pods = [
        named("web-1", waiting()),
        named("web-2", web()),
        named("web-3", web()),
        named("web-4", open),
        named("web-5", ending),
    ];
    pods.into_iter().map(seen).collect()
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
    let answer = super::binding(&facts, &web, &crowd());
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
    let none = super::binding(&facts, &web, &[]);
    assert_eq!(
        (none.verdict, none.why.reason),
        (Verdict::Yes, Reason::Healthy)
    );
    let mut gone = shop([binding("web")]);
    gone.elb = elb(GroupLook::NotFound);
    let answer = super::binding(&gone, &web, &[]);
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
