//! What a gate waits for, by ELB's answer or by its condition.

use super::*;

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
