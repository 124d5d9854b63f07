//! What the leader knows, as it tells it and as it is read.

use std::time::{Duration, Instant};

use super::*;
use crate::explain::leader::{
    AnswerView, FailingView, GateView, GatesView, LeftOutView, Moment, RefusedView, RegistrarView,
    RegistrationView, ReplicaView, TargetView,
};
use crate::fixtures::epoch;
use crate::gates::machine::known::GateKnown;

/// The answer of a leader that knows this of the pod's gate.
fn told(facts: &mut Facts, uid: &str, reason: Reason, answer: Option<AnswerView>) {
    let target = TargetView {
        binding: "web".to_owned(),
        target_group_arn: arn("web").to_string(),
        address: [10, 0, 0, 1].into(),
        port: 80,
        answer,
        next_look: Some(at(603)),
        place: Some((2, 7)),
        in_flight: false,
        failing: None,
    };
    let gate = GateView {
        pod: "web-0".to_owned(),
        uid: uid.to_owned(),
        condition_type: "target-health.elbv2.k8s.aws/web".to_owned(),
        open: false,
        reason: reason.as_str().to_owned(),
        due_since: Some(at(500)),
        targets: vec![target],
    };
    let gates = GatesView {
        leads: true,
        gates: vec![gate],
        left_out: 0,
        rates: [("123456789012/eu-west-1".to_owned(), 10.0)].into(),
    };
    let pod = Some("targetgate-7".to_owned());
    facts.leader = Ok(ReplicaView::new(pod, "shop", at(600), gates, None));
}

fn said(reason: Reason, code: &str) -> AnswerView {
    AnswerView {
        asked: at(596),
        healthy: reason == Reason::Healthy,
        reason: reason.as_str().to_owned(),
        code: code.to_owned(),
        message: String::new(),
    }
}

#[test]
fn the_leaders_word_is_told_with_its_age_and_its_next_look() {
    let mut facts = shop([binding("web")]);
    let pod = seen(waiting());
    let uid = pod.pod.uid.to_string();
    let answer = said(Reason::NotHealthy, "Target.Timeout");
    told(&mut facts, &uid, Reason::NotHealthy, Some(answer));
    let answer = crate::explain::pod(&facts, &pod);
    assert_eq!(answer.verdict, Verdict::NotYet);
    assert_eq!(answer.why.reason, Reason::NotHealthy);
    assert!(
        answer.why.message.starts_with("4s ago ELB said"),
        "{}",
        answer.why.message
    );
    assert!(
        answer.why.remedy.contains("security groups"),
        "{}",
        answer.why.remedy
    );
    assert_eq!(answer.evidence.source, Source::Leader);
    let gate = &answer.gates[0];
    assert_eq!(
        (gate.source, gate.due_since),
        (Source::Leader, Some(at(500)))
    );
    let target = &gate.targets[0];
    assert_eq!((target.place, target.queue), (Some(2), Some(7)));
    assert_eq!(
        (target.asked, target.next_look),
        (Some(at(596)), Some(at(603)))
    );
    let text = crate::explain::render(&crate::explain::Answer::Pod(Box::new(answer)));
    for part in [
        "ELB said 4s ago: not healthy: Target.Timeout; next look in 3 s, place 2 of 7",
        "The leader was asked just now, pod targetgate-7.",
        "Budget of 123456789012/eu-west-1: 10.0 calls of ELB a second.",
    ] {
        assert!(text.contains(part), "{part}\n{text}");
    }
}

#[test]
fn calls_that_fail_are_told_with_their_code_and_since_when() {
    let mut facts = shop([binding("web")]);
    let pod = seen(waiting());
    told(&mut facts, &pod.pod.uid, Reason::NotPolled, None);
    if let Ok(view) = &mut facts.leader {
        let target = &mut view.gates.gates[0].targets[0];
        (target.next_look, target.in_flight) = (None, true);
        target.failing = Some(FailingView {
            code: "AccessDenied".to_owned(),
            since: at(480),
            calls: 9,
        });
    }
    let answer = crate::explain::pod(&facts, &pod);
    assert_eq!(answer.why.reason, Reason::NotPolled);
    let words = " DescribeTargetHealth has failed for 2m, 9 times in a row: AccessDenied.";
    assert!(
        answer.why.message.ends_with(words),
        "{}",
        answer.why.message
    );
    assert!(answer.why.remedy.contains("log of the leader"));
    let frame = crate::explain::frame(&facts, &[seen(waiting())]).render();
    assert!(frame.contains("AccessDenied"), "{frame}");
    let text = crate::explain::render(&crate::explain::Answer::Pod(Box::new(answer)));
    let line = "; the leader's calls have failed for 2m, 9 in a row: AccessDenied; ELB is being asked now\n";
    assert!(text.contains(line), "{text}");
}

#[test]
fn what_is_not_decided_yet_names_the_next_look() {
    let mut facts = shop([binding("web")]);
    let pod = seen(waiting());
    let uid = pod.pod.uid.to_string();
    for (known, told_as) in [
        (Reason::AnswerDoubtful, Reason::AnswerDoubtful),
        (Reason::NotPolled, Reason::NotPolled),
        (Reason::Healthy, Reason::HealthyNotOpened),
        (Reason::PodNotDue, Reason::NotPolled),
    ] {
        told(&mut facts, &uid, known, None);
        let why = crate::explain::pod(&facts, &pod).why;
        assert_eq!(why.reason, told_as);
        let next = why.message.ends_with("ELB is asked next in 3 s.");
        assert_eq!(next, known == told_as, "{}", why.message);
    }
}

#[test]
fn a_leader_that_knows_another_pod_of_the_name_or_a_reason_of_tomorrow_is_passed_over() {
    let mut facts = shop([binding("web")]);
    let pod = seen(waiting());
    told(&mut facts, "uid-of-another", Reason::NotHealthy, None);
    let answer = crate::explain::pod(&facts, &pod);
    assert_eq!(answer.gates[0].source, Source::Condition);
    assert_eq!(answer.why.reason, Reason::NotRegistered);
    let uid = pod.pod.uid.to_string();
    told(&mut facts, &uid, Reason::NotHealthy, None);
    if let Ok(view) = &mut facts.leader {
        view.gates.gates[0].reason = "ReasonOfTomorrow".to_owned();
    }
    assert_eq!(
        crate::explain::pod(&facts, &pod).why.reason,
        Reason::NotRegistered
    );
}

/// What a registrar knows of binding `web`, of which all is well.
fn registered() -> RegistrationView {
    RegistrationView {
        binding: "web".to_owned(),
        api: "elbv2.k8s.aws".to_owned(),
        active: true,
        ready: true,
        reason: Reason::Registered.as_str().to_owned(),
        message: String::new(),
        wanted: 3,
        registered: 3,
        held_by_floor: 0,
        foreign: 0,
        unregistered: [].into(),
        refused: vec![],
        endpoints_left_out: 0,
        left_out: vec![],
    }
}

fn registrar_tells(facts: &mut Facts, registration: RegistrationView) {
    if let Ok(view) = &mut facts.leader {
        view.registrar = Some(RegistrarView {
            leads: true,
            bindings: vec![registration],
            left_out: 0,
        });
    }
}

#[test]
fn endpoints_that_are_left_out_are_named_with_what_to_do_and_nothing_waits_for_that() {
    let mut facts = super::registration::registering(shop([binding("web")]));
    told(&mut facts, "uid", Reason::NotHealthy, None);
    let endpoint = |last: u8, pod: Option<&str>| LeftOutView {
        address: [10, 0, 0, last].into(),
        port: 8080,
        pod: pod.map(str::to_owned),
    };
    let registration = RegistrationView {
        reason: Reason::EndpointsLeftOut.as_str().to_owned(),
        endpoints_left_out: 5,
        left_out: vec![endpoint(3, None), endpoint(4, Some("db-0"))],
        ..registered()
    };
    registrar_tells(&mut facts, registration);
    let all = crate::explain::namespace(&facts, &[]);
    assert_eq!((all.verdict, all.unregistered.len()), (Verdict::Yes, 1));
    let text = crate::explain::render(&crate::explain::Answer::Namespace(Box::new(all)));
    for part in [
        "Endpoints of EndpointSlices that are left out: 5",
        "10.0.0.3 port 8080 names no pod.",
        "10.0.0.4 port 8080 names pod db-0, which does not live",
        "and 3 more",
        "What to do: Give them a `targetRef`",
        "What to do: Mend its `targetRef`",
    ] {
        assert_eq!(text.matches(part).count(), 1, "{part}\n{text}");
    }
}

#[test]
fn a_refused_target_is_told_to_the_pod_of_its_address_alone() {
    let mut facts = super::registration::registering(shop([binding("web")]));
    let pod = seen(waiting());
    let uid = pod.pod.uid.to_string();
    let answer = said(Reason::NotRegistered, "Elb.RegistrationInProgress");
    told(&mut facts, &uid, Reason::NotRegistered, Some(answer));
    let refuse = |facts: &mut Facts, address: [u8; 4]| {
        let registration = RegistrationView {
            ready: false,
            reason: Reason::TargetRefused.as_str().to_owned(),
            message: format!(
                "RegisterTargets of {}.{}.{}.{} port 80 failed: InvalidTarget: no",
                address[0], address[1], address[2], address[3]
            ),
            registered: 2,
            foreign: 1,
            unregistered: [("TargetRefused".to_owned(), 1)].into(),
            refused: vec![RefusedView {
                address: address.into(),
                port: 80,
                reason: Reason::TargetRefused.as_str().to_owned(),
                message: "RegisterTargets failed: InvalidTarget: no".to_owned(),
            }],
            ..registered()
        };
        registrar_tells(facts, registration);
    };
    refuse(&mut facts, [10, 0, 0, 1]);
    let why = crate::explain::pod(&facts, &pod).why;
    assert_eq!(why.reason, Reason::TargetRefused);
    assert!(why.message.contains("InvalidTarget"), "{}", why.message);
    refuse(&mut facts, [10, 0, 0, 99]);
    assert_eq!(
        crate::explain::pod(&facts, &pod).why.reason,
        Reason::NotRegistered
    );
    let all = crate::explain::namespace(&facts, &[pod]);
    let told = &all.unregistered[0];
    assert_eq!(
        (told.wanted, told.registered, told.foreign),
        (Some(3), Some(2), Some(1))
    );
}

#[test]
fn what_is_told_is_read_again_and_what_a_later_version_adds_is_passed_over() {
    let mut facts = shop([binding("web")]);
    told(
        &mut facts,
        "uid",
        Reason::NotHealthy,
        Some(said(Reason::NotHealthy, "x")),
    );
    let Ok(view) = facts.leader else {
        unreachable!()
    };
    let mut json = serde_json::to_value(&view).unwrap();
    assert_eq!(json["apiVersion"], "targetgate.dev/v1");
    json["gates"]["gates"][0]["ofTomorrow"] = 1.into();
    let read: ReplicaView = serde_json::from_value(json).unwrap();
    assert_eq!(read, view);
}

#[test]
fn moments_of_the_monotonic_clock_are_told_by_the_wall_clock() {
    let now: Instant = epoch() + Duration::from_secs(100);
    let moment = Moment { now, wall: at(600) };
    let due = |due: Option<Instant>| {
        let known = GateKnown {
            pod: ObjectKey::new("shop", "web-0"),
            uid: "uid".into(),
            gate: ConditionPrefix::default().gate("web"),
            open: false,
            reason: Reason::NotPolled,
            due,
            targets: vec![],
        };
        GateView::new(&known, |_| None, moment).due_since
    };
    let expected: Timestamp = at(590);
    assert_eq!(due(Some(now - Duration::from_secs(10))), Some(expected));
    assert_eq!(due(Some(now + Duration::from_secs(5))), Some(at(605)));
    assert_eq!(due(None), None);
}
