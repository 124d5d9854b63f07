use std::sync::Arc;

use jiff::Timestamp;
use rstest::rstest;

use crate::drain::{DrainLabel, DrainMode, DrainPolicy, LoadBalancerKind, SleepSeconds};
use crate::fixtures::{binding, epoch, pod, service};
use crate::gate_rules::TooLarge;
use crate::index::Index;
use crate::model::{Namespace, OwnSleep, Pod, PodRemarks, UnreadableAnnotation};
use crate::names::{BindingApi, ObjectKey};
use crate::notices::{self, *};

const LEGACY: &str = "target-health.alb.ingress.k8s.aws/web_web_80";
const APIS: &[BindingApi] = &BindingApi::ALL;

/// What is found where drain is off.
fn found(index: &Index, apis: &[BindingApi]) -> AllFound {
    notices::found(index, apis, &DrainPolicy::default(), at(3600))
}

/// So many seconds after the pods' containers are ready.
fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(seconds).unwrap()
}

fn unreadable() -> UnreadableAnnotation {
    UnreadableAnnotation {
        kind: "annotation",
        name: "targetgate.dev/open-after",
        value: "soon".into(),
        expected: "a time",
    }
}

fn remarked(name: &str, remarks: PodRemarks) -> Pod {
    let pod = pod(name).label("app", "web").controlled_by("web-5d");
    let mut pod = pod.ready();
    Arc::make_mut(&mut pod.template).remarks = Some(Box::new(remarks));
    pod
}

fn legacy(name: &str) -> Pod {
    let remarks = PodRemarks {
        legacy_gate: Some(LEGACY.into()),
        ..PodRemarks::default()
    };
    remarked(name, remarks)
}

fn regarded(name: &str) -> Topic {
    let regarded = Regarded::Pod {
        namespace: "shop".into(),
        name: name.into(),
        uid: Some(name.into()),
    };
    Topic::new(regarded, Reason::LegacyGate)
}

fn all(names: std::ops::Range<usize>) -> AllFound {
    let each = |number: usize| {
        let name = format!("web-{number}");
        let found = Found::of_pod("it waits".into(), name.as_str().into());
        (regarded(&name), found)
    };
    names.map(each).collect()
}

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[test]
fn pods_of_one_controller_are_one_notice_with_their_number_and_an_example() {
    let mut index = Index::default();
    for name in ["web-2", "web-1", "web-3"] {
        index.apply_pod(legacy(name));
    }
    let all = found(&index, APIS);
    assert_eq!(all.len(), 1);
    let (topic, notice) = all.iter().next().unwrap();
    assert!(
        matches!(&topic.regarded, Regarded::Controller { controller, .. } if &*controller.uid == "uid-web-5d")
    );
    assert_eq!(topic.reason, Reason::LegacyGate);
    assert!(notice.note().starts_with("3 pods, such as web-1: "));
    assert!(notice.note().contains(LEGACY), "{}", notice.note());
    index.delete_pod(&pod("web-1").key);
    assert_eq!(found(&index, APIS).values().next().unwrap().pods, 2);
}

#[test]
fn a_legacy_gate_is_told_whatever_new_pods_get_with_what_mends_it() {
    let mut index = Index::default();
    let shop: Arc<str> = "shop".into();
    let opted_in = |opted_in| Namespace {
        opted_in,
        ..Namespace::default()
    };
    index.apply_namespace(&shop, opted_in(true));
    index.apply_binding(&shop, binding("web"));
    index.apply_pod(legacy("web-1"));
    let told = |index: &Index, apis| {
        let found = found(index, apis).into_iter();
        let mut notes = found.filter(|(topic, _)| topic.reason == Reason::LegacyGate);
        notes.next().unwrap().1.note()
    };
    let of_template = |note: &str| note.ends_with(Reason::LegacyGate.remedy());
    let anew = |note: &str| note.contains("Create the pod anew");
    assert!(
        of_template(&told(&index, APIS)),
        "the binding's Service is not there"
    );
    let (key, service) = (ObjectKey::new("shop", "web"), service());
    index.apply_service(&key, service.selecting("app", "web"));
    assert!(
        anew(&told(&index, APIS)),
        "the hook takes it from a new pod"
    );
    assert!(of_template(&told(&index, &[])), "its API is not gated");

    index.apply_namespace(&shop, opted_in(false));
    assert!(
        of_template(&told(&index, APIS)),
        "the hook is not called for the pod"
    );
    index.apply_namespace(&shop, opted_in(true));
    index.delete_pod(&pod("web-1").key);
    let mut out = legacy("web-2");
    let template = Arc::make_mut(&mut out.template);
    template.remarks.as_mut().unwrap().opted_out = true;
    index.apply_pod(out);
    assert!(
        of_template(&told(&index, APIS)),
        "an annotation opts the pod out"
    );
}

#[test]
fn each_object_is_told_of_its_own_annotations_that_cannot_be_read() {
    let mut index = Index::default();
    let shop: Arc<str> = "shop".into();
    let namespace = Namespace {
        unreadable: vec![unreadable()],
        uid: Some("uid-shop".into()),
        ..Namespace::default()
    };
    index.apply_namespace(&shop, namespace);
    let mut web = binding("web");
    web.unreadable = vec![unreadable()];
    index.apply_binding(&shop, web);
    index.apply_binding(&shop, binding("fine"));
    let remarks = PodRemarks {
        unreadable: vec![unreadable()],
        ..PodRemarks::default()
    };
    index.apply_pod(remarked("web-1", remarks));
    let notes: Vec<_> = found(&index, APIS).values().map(Found::note).collect();
    let written = "annotation targetgate.dev/open-after is ignored, because \"soon\" is not a time";
    let expected = [
        (
            "Pod web-1: ",
            "the binding, the Namespace and the flags say",
        ),
        ("", "the Namespace and the flags say"),
        ("", "the flags say"),
    ];
    let expected =
        expected.map(|(of, instead)| format!("{of}{written}: what {instead} counts instead"));
    assert_eq!(notes, expected);
}

/// A pod with the gate of binding `web` that sleeps so long by itself.
fn sleeping(seconds: u64) -> Pod {
    let remarks = PodRemarks {
        own_sleep: Some(OwnSleep {
            container: "main".into(),
            seconds,
            drain: None,
            needs: None,
        }),
        ..PodRemarks::default()
    };
    remarked("web-1", remarks).gate("web")
}

/// A Namespace `shop` with this label, and the bindings of the pod's gates.
fn behind(label: DrainLabel, kinds: &[Option<LoadBalancerKind>]) -> Index {
    let mut index = Index::default();
    let shop: Arc<str> = "shop".into();
    let namespace = Namespace {
        drain: label,
        ..Namespace::default()
    };
    index.apply_namespace(&shop, namespace);
    for (api, kind) in BindingApi::ALL.into_iter().zip(kinds) {
        let mut web = binding("web");
        (web.api, web.load_balancer) = (api, *kind);
        index.apply_binding(&shop, web);
    }
    index
}

const ALB: Option<LoadBalancerKind> = Some(LoadBalancerKind::Alb);
const NLB: Option<LoadBalancerKind> = Some(LoadBalancerKind::Nlb);
const ON: DrainLabel = DrainLabel::Mode(DrainMode::Sleep);

#[rstest]
#[case::shorter(ON, &[ALB], 19, Some("Container main sleeps 19 s before SIGTERM, and its ALB needs 20 s"))]
#[case::long_enough(ON, &[ALB], 20, None)]
#[case::the_slowest_counts(ON, &[ALB, NLB], 99, Some("Container main sleeps 99 s before SIGTERM, and its NLB needs 100 s"))]
#[case::of_an_unknown_kind_nothing_is_known(ON, &[None], 1, None)]
#[case::without_bindings_nothing_is_known(ON, &[], 1, None)]
#[case::drain_is_off(DrainLabel::Absent, &[ALB], 1, None)]
fn a_sleep_of_its_own_that_is_too_short_is_told_where_drain_is_on(
    #[case] label: DrainLabel,
    #[case] kinds: &[Option<LoadBalancerKind>],
    #[case] seconds: u64,
    #[case] expected: Option<&str>,
) {
    let mut index = behind(label, kinds);
    index.apply_pod(sleeping(seconds));
    let found = found(&index, APIS);
    let note = found.iter().next().map(|(topic, found)| {
        assert_eq!(topic.reason, Reason::PreStopTooShort);
        found.note()
    });
    let expected = expected.map(|message| {
        let remedy = Reason::PreStopTooShort.remedy();
        format!("Pod web-1: {message}. {remedy}")
    });
    assert_eq!(note, expected);
}

#[test]
fn annotations_of_the_pod_come_before_label_and_flag() {
    let told = |label, mode, drain, needs: Option<u16>| {
        let mut index = behind(label, &[ALB]);
        let mut pod = sleeping(30);
        let template = Arc::make_mut(&mut pod.template);
        let sleep = &mut template.remarks.as_mut().unwrap().own_sleep;
        let sleep = sleep.as_mut().unwrap();
        (sleep.drain, sleep.needs) = (drain, needs.and_then(SleepSeconds::new));
        index.apply_pod(pod);
        let policy = DrainPolicy {
            mode,
            ..DrainPolicy::default()
        };
        !notices::found(&index, APIS, &policy, at(0)).is_empty()
    };
    let (off, sleep) = (DrainMode::Off, DrainMode::Sleep);
    assert!(!told(DrainLabel::Absent, sleep, None, None), "30 s suffice");
    assert!(told(DrainLabel::Absent, sleep, None, Some(31)));
    assert!(!told(DrainLabel::Absent, off, None, Some(31)));
    assert!(told(DrainLabel::Absent, off, Some(sleep), Some(31)));
    assert!(!told(DrainLabel::Mode(off), sleep, None, Some(31)));
    assert!(!told(ON, sleep, Some(off), Some(31)));
}

#[test]
fn a_pod_that_is_mended_or_ends_is_not_told_any_more() {
    let mut index = Index::default();
    index.apply_pod(legacy("web-1"));
    assert_eq!(found(&index, APIS).len(), 1);
    index.apply_pod(pod("web-1"));
    assert!(found(&index, APIS).is_empty());
}

#[test]
fn a_legacy_gate_may_be_closed_for_a_minute_after_the_containers_are_ready() {
    let mut index = Index::default();
    index.apply_pod(legacy("web-1"));
    let told = |index: &Index, now| {
        !notices::found(index, APIS, &DrainPolicy::default(), at(now)).is_empty()
    };
    assert_eq!([59, 60].map(|now| told(&index, now)), [false, true]);
    let mut starting = legacy("web-1");
    starting.containers_ready = None;
    index.apply_pod(starting);
    assert!(!told(&index, 3600));
}

#[test]
fn the_same_is_told_once_an_hour() {
    let now = epoch();
    let mut notices = Notices::new(now);
    let told = |notices: &mut Notices, at| notices.due(all(0..1), now + secs(at)).told.len();
    let times = [0, 10, 3599, 3600, 3610];
    assert_eq!(times.map(|at| told(&mut notices, at)), [1, 0, 0, 1, 0]);
}

#[test]
fn twenty_five_are_told_at_once_and_then_one_a_second() {
    let now = epoch();
    let mut notices = Notices::new(now);
    let count = |due: Due| (due.told.len(), due.dropped.len());
    assert_eq!(count(notices.due(all(0..40), now)), (25, 15));
    assert_eq!(count(notices.due(all(0..40), now)), (0, 0));
    let later = now + Duration::from_millis(3900);
    assert_eq!(count(notices.due(all(0..40), later)), (3, 0));
    let later = now + secs(4);
    assert_eq!(
        count(notices.due(all(0..41), later)),
        (1, 1),
        "no part is lost, and a dropped one is counted once"
    );
    let told = notices.due(all(0..0), now + secs(5)).told.len();
    let later = now + secs(6);
    assert_eq!((told, count(notices.due(all(0..41), later))), (0, (2, 10)));
}

#[test]
fn what_concerns_most_pods_is_told_first() {
    let now = epoch();
    let mut notices = Notices::new(now);
    let mut found = all(0..40);
    found.get_mut(&regarded("web-9")).unwrap().pods = 7;
    let due = notices.due(found, now);
    assert_eq!(due.told[0].0, regarded("web-9"));
}

#[test]
fn what_was_told_is_remembered_for_an_hour_and_in_bounded_memory() {
    let now = epoch();
    let mut notices = Notices::new(now);
    for second in 0..7200 {
        let next = 25 * usize::try_from(second).unwrap();
        notices.due(all(next..next + 25), now + secs(second));
        assert!(notices.told.len() <= MOST);
    }
    notices.due(AllFound::new(), now + secs(20_000));
    assert!(notices.told.is_empty());
}

#[test]
fn the_index_is_asked_every_ten_seconds() {
    let now = epoch();
    let mut notices = Notices::new(now);
    let asks = [0, 9, 10, 19, 20].map(|at| notices.looks(now + secs(at)));
    assert_eq!(asks, [true, false, true, false, true]);
}

/// A topic of which it is told that it waits for its target, or that this is healthy.
fn of_target(reason: Reason) -> Topic {
    Topic {
        of: Of::Binding("web".into()),
        ..Topic {
            reason,
            ..regarded("web-1")
        }
    }
}

fn one(topic: Topic) -> AllFound {
    let finding = match topic.reason {
        Reason::TargetHealthy => Finding::Happened,
        _ => Finding::Lasting,
    };
    let found = Found {
        finding,
        ..Found::of_pod("it is so".into(), "web-1".into())
    };
    AllFound::from([(topic, found)])
}

#[test]
fn targets_are_told_to_be_healthy_once_none_is_waited_for_of_those_that_were_told() {
    let (waits, healthy) = (Reason::WaitingForTarget, Reason::TargetHealthy);
    let (now, mut notices) = (epoch(), Notices::new(epoch()));
    let mut told = |found: AllFound, at| {
        let due = notices.due(found, now + secs(at));
        due.told
            .into_iter()
            .map(|(topic, found)| (topic.reason, found.pods))
            .collect::<Vec<_>>()
    };
    assert_eq!(told(one(of_target(healthy)), 0), [], "nobody was told");
    assert_eq!(told(one(of_target(waits)), 10), [(waits, 1)]);
    let mut both = one(of_target(waits));
    both.extend(one(of_target(healthy)));
    assert_eq!(told(both, 20), [], "one waits still");
    assert_eq!(told(one(of_target(healthy)), 30), [(healthy, 2)]);
    assert_eq!(told(AllFound::new(), 40), []);
    assert_eq!(told(one(of_target(healthy)), 50), [], "once an hour");
}

#[test]
fn what_happened_and_exceeded_the_rate_is_told_later() {
    let (now, mut notices) = (epoch(), Notices::new(epoch()));
    let topic = |number: u8, reason| Topic {
        reason,
        ..regarded(&format!("web-{number}"))
    };
    let of = |reason, finding| {
        let all = (0..30).map(|number| {
            let found = Found {
                finding,
                ..Found::of_object("it is so".into(), 1)
            };
            (topic(number, reason), found)
        });
        all.collect::<AllFound>()
    };
    // What may be over soon need not last if it happened.
    let happened = notices.due(of(Reason::OlderBinding, Finding::Happened), now);
    assert_eq!((happened.told.len(), happened.dropped.len()), (25, 5));
    notices.look_away();
    let later = notices.due(AllFound::new(), now + secs(10));
    assert_eq!((later.told.len(), later.dropped.len()), (5, 0));
    // What is still so is found again by each look.
    let so = notices.due(of(Reason::Ungated, Finding::Lasting), now + secs(60));
    assert_eq!(so.told.len(), 25);
    let later = notices.due(AllFound::new(), now + secs(120));
    assert_eq!(later.told.len(), 0);
}

#[test]
fn what_begins_to_fail_anew_is_told_anew_within_the_hour() {
    let (now, mut notices) = (epoch(), Notices::new(epoch()));
    let topic = || Topic {
        reason: Reason::TargetGroupNotFound,
        ..regarded("web-1")
    };
    let mut told = |at| {
        let news = AllFound::from([(topic(), Found::news("it is gone".into()))]);
        notices.due(news, now + secs(at)).told.len()
    };
    assert_eq!([0, 10].map(&mut told), [1, 1]);
    assert_eq!(notices.due(AllFound::new(), now + secs(20)).told.len(), 0);
}

#[test]
fn what_may_be_over_soon_is_told_once_it_has_lasted_for_a_minute() {
    let (now, mut notices) = (epoch(), Notices::new(epoch()));
    let topic = Topic {
        reason: Reason::OlderBinding,
        ..regarded("web-1")
    };
    let mut told = |found: AllFound, at| notices.due(found, now + secs(at)).told.len();
    let lasting = || one(topic.clone());
    assert_eq!([0, 30].map(|at| told(lasting(), at)), [0, 0]);
    assert_eq!(told(AllFound::new(), 40), 0);
    assert_eq!([50, 100, 110].map(|at| told(lasting(), at)), [0, 0, 1]);
    notices.rest();
    let again = now + secs(7200);
    assert_eq!(notices.due(lasting(), again).told.len(), 0);
}

#[test]
fn a_namespace_is_told_that_the_webhook_alone_injects_its_gates() {
    let mut index = Index::default();
    let namespace = Namespace {
        uid: Some("uid-shop".into()),
        ..Namespace::default()
    };
    index.apply_namespace(&"shop".into(), namespace);
    let too_large = [("shop".into(), TooLarge::Rules { rules: 301 })];
    let found = notices::rules_too_large(&index, &too_large.into());
    let [(topic, found)] = found.into_iter().collect::<Vec<_>>().try_into().unwrap();
    let shop = Regarded::Namespace {
        name: "shop".into(),
        uid: Some("uid-shop".into()),
    };
    assert_eq!(topic, Topic::new(shop, Reason::RulesTooLarge));
    let words = "the webhook alone injects gates, because the gate rules are too large: a pod may meet 301 of them";
    assert!(found.note().starts_with(words), "{}", found.note());
}

mod cluster;
