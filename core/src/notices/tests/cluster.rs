//! What the bindings, Services and Namespaces of a cluster give to tell.

use super::*;
use crate::gates::machine::Tracker;
use crate::gates::machine::action::Settings;
use crate::index::{BindingKey, PodTimes};
use crate::model::Binding;
use crate::notices::{AllFound, LostBindings, healthy, waits};

const SHOP: &str = "shop";

fn key(name: &str) -> ObjectKey {
    ObjectKey::new(SHOP, name)
}

/// A binding to Service `web` that was created at this second.
fn created(name: &str, second: i64) -> Binding {
    let mut binding = binding(name);
    binding.registration.created = Some(at(second));
    binding
}

/// Namespace `shop`, which has opted in, with Service `web` and these bindings.
fn shop(bindings: impl IntoIterator<Item = Binding>) -> Index {
    let mut index = Index::default();
    let namespace = Namespace {
        opted_in: true,
        labelled: Some(at(5)),
        ..Namespace::default()
    };
    index.apply_namespace(&SHOP.into(), namespace);
    index.apply_service(&key("web"), service().selecting("app", "web"));
    for binding in bindings {
        index.apply_binding(&SHOP.into(), binding);
    }
    index
}

fn apply(index: &mut Index, pod: Pod, second: i64) {
    let times = PodTimes {
        created: Some(at(second)),
        ..PodTimes::default()
    };
    index.apply_pod_at(pod, times);
    index.count_ungated(APIS);
}

fn web(name: &str) -> Pod {
    pod(name).label("app", "web").controlled_by("web-5d")
}

fn notes(found: &AllFound) -> Vec<(Reason, String)> {
    let notes = found.iter();
    let notes = notes.map(|(topic, found)| (topic.cause(), found.note()));
    notes.collect()
}

#[rstest]
#[case::before_the_binding(8, 10, Reason::PodOlderThanBinding)]
#[case::before_the_label(4, 3, Reason::PodOlderThanOptIn)]
#[case::while_nobody_answered_the_hook(20, 10, Reason::HookMissed)]
fn an_owner_is_told_why_its_pods_have_no_gate(
    #[case] pod: i64,
    #[case] bound: i64,
    #[case] cause: Reason,
) {
    let mut index = shop([created("web", bound)]);
    for name in ["web-1", "web-2"] {
        apply(&mut index, web(name), pod);
    }
    apply(&mut index, web("web-3").gate("web"), pod);
    apply(&mut index, super::pod("other"), pod);
    let found = found(&index, APIS);
    let [(told, note)] = &notes(&found)[..] else {
        panic!("one notice, not {found:?}");
    };
    let topic = found.keys().next().unwrap();
    assert_eq!((*told, topic.reason), (cause, Reason::Ungated));
    assert!(matches!(topic.regarded, Regarded::Controller { .. }));
    let begins = format!("2 pods, such as web-1: no gate of binding web ({cause}). ");
    assert!(note.starts_with(&begins), "{note}");
    let ends = cause.remedy();
    let command = " (kubectl --namespace shop delete pod web-1)";
    assert!(note.ends_with(&format!("{ends}{command}")), "{note}");
}

#[test]
fn a_pod_is_not_told_to_lack_a_gate_in_its_first_minute() {
    let mut index = shop([created("web", 10)]);
    apply(&mut index, web("web-1"), 100);
    let told = |now| {
        let drain = DrainPolicy::default();
        !notices::found(&index, APIS, &drain, at(now)).is_empty()
    };
    assert_eq!([159, 160].map(told), [false, true]);
}

#[test]
fn pods_of_one_owner_without_a_gate_for_two_causes_are_two_notices_about_different_objects() {
    let mut index = shop([created("web", 10)]);
    apply(&mut index, web("web-1"), 8);
    apply(&mut index, web("web-2"), 20);
    let found = found(&index, APIS);
    let related: Vec<bool> = found.values().map(|one| one.related.is_some()).collect();
    assert_eq!((found.len(), related), (2, vec![true, false]));
}

#[rstest]
#[case::deleted(|binding: &mut Binding| binding.terminating = true, Reason::BindingTerminating)]
#[case::without_a_group(|binding: &mut Binding| binding.arn = None, Reason::GroupUnknown)]
fn an_owner_is_told_why_a_binding_gives_its_pods_no_gate(
    #[case] change: fn(&mut Binding),
    #[case] reason: Reason,
) {
    let mut refusing = created("web", 10);
    change(&mut refusing);
    let mut index = shop([refusing]);
    apply(&mut index, web("web-1"), 20);
    let found = found(&index, APIS);
    let [(told, note)] = &notes(&found)[..] else {
        panic!("one notice, not {found:?}");
    };
    assert_eq!(*told, reason);
    assert!(
        note.starts_with("Pod web-1: no gate of binding web. "),
        "{note}"
    );
}

#[test]
fn a_binding_without_its_service_is_told_and_one_that_is_opted_out_is_not() {
    let mut index = shop([binding("web")]);
    assert_eq!(notes(&found(&index, APIS)), []);
    index.delete_service(&key("web"));
    let told = notes(&found(&index, APIS));
    assert_eq!(told[0].0, Reason::ServiceMissing);
    let mut out = binding("web");
    out.opted_out = true;
    index.apply_binding(&SHOP.into(), out);
    assert_eq!(notes(&found(&index, APIS)), []);
}

#[test]
fn a_namespace_that_opted_in_is_told_that_no_binding_gives_gates() {
    let mut index = shop([]);
    assert_eq!(notes(&found(&index, APIS)), [], "it has no pods");
    apply(&mut index, web("web-1"), 20);
    let found_all = found(&index, APIS);
    let (topic, notice) = found_all.iter().next().unwrap();
    assert_eq!((topic.reason, notice.pods), (Reason::NoBinding, 1));
    assert!(matches!(topic.regarded, Regarded::Namespace { .. }));
    index.apply_namespace(&SHOP.into(), Namespace::default());
    assert_eq!(notes(&found(&index, APIS)), []);
}

fn sharing(multi_cluster: [bool; 2], younger_terminates: bool) -> Vec<String> {
    let names = ["young", "old"].into_iter().zip([20, 10]);
    let bindings = names.zip(multi_cluster).map(|((name, second), multi)| {
        let mut binding = created(name, second);
        binding.arn = Some(crate::fixtures::arn("one"));
        binding.multi_cluster = multi;
        binding.terminating = younger_terminates && name == "young";
        binding
    });
    let found = found(&shop(bindings), APIS);
    let told = found.iter().map(|(topic, found)| match &topic.regarded {
        Regarded::Binding { name, .. } => format!("{} {name}: {}", topic.reason, found.note()),
        other => panic!("{other:?}"),
    });
    told.collect()
}

#[test]
fn the_younger_of_two_bindings_of_a_group_is_told_unless_both_are_multi_cluster() {
    let told = sharing([false, true], false);
    let begins = "OlderBinding young: binding shop/old names target group arn:";
    assert!(told.len() == 1 && told[0].starts_with(begins), "{told:?}");
    assert_eq!(sharing([true, true], false), [""; 0]);
    assert_eq!(sharing([false, false], true), [""; 0]);
}

#[test]
fn a_service_is_told_that_it_lost_its_binding_while_its_pods_live() {
    let mut index = shop([created("web", 10)]);
    apply(&mut index, web("web-1").gate("web"), 20);
    index.delete_binding(&BindingKey {
        object: key("web"),
        api: BindingApi::Elbv2,
    });
    let mut lost = LostBindings::default();
    lost.note(index.take_lost(), at(100));
    apply(&mut index, web("web-2"), 200);
    let mut told = |index: &Index, now: i64| {
        let mut found = AllFound::new();
        lost.add(index, APIS, at(now), &mut found);
        found
    };
    let found = told(&index, 300);
    let (topic, notice) = found.iter().next().unwrap();
    assert_eq!((topic.reason, notice.pods), (Reason::BindingLost, 2));
    let begins = "it had binding web of ip targets until 1970-01-01T00:01:40Z. \
                  Pods that it selects: 2; created since without a gate: 1. ";
    assert!(notice.note().starts_with(begins), "{}", notice.note());
    index.apply_binding(&SHOP.into(), created("again", 400));
    assert!(told(&index, 500).is_empty());
    index.delete_binding(&BindingKey {
        object: key("again"),
        api: BindingApi::Elbv2,
    });
    assert!(told(&index, 600).is_empty(), "the first loss is over");
}

#[test]
fn what_was_lost_is_forgotten_with_its_service_and_after_a_day() {
    for (now, service) in [
        (100 + 24 * 3600, true),
        (100 + 24 * 3600 + 1, false),
        (101, false),
    ] {
        let mut index = shop([created("web", 10)]);
        apply(&mut index, web("web-1").gate("web"), 20);
        index.delete_binding(&BindingKey {
            object: key("web"),
            api: BindingApi::Elbv2,
        });
        let mut lost = LostBindings::default();
        lost.note(index.take_lost(), at(100));
        if now == 101 {
            index.delete_service(&key("web"));
        }
        let mut found = AllFound::new();
        lost.add(&index, APIS, at(now), &mut found);
        assert_eq!(!found.is_empty(), service, "{now}");
    }
}

#[test]
fn pods_that_wait_for_a_target_for_long_are_one_notice_of_their_owner_and_binding() {
    let (mut index, now) = (shop([binding("web")]), epoch());
    let mut tracker = Tracker::new(Settings {
        apis: APIS.to_vec(),
        orphan_after: secs(300),
        seed: 1,
    });
    for (name, ip) in [("web-1", "10.0.0.1"), ("web-2", "10.0.0.2")] {
        let pod = web(name).gate("web").ip(ip).ready();
        index.apply_pod(pod);
        tracker.observe(&key(name), &index, now, at(0));
    }
    let told = |seconds: u64| {
        let waiting = tracker.waiting_since(now + secs(seconds) - LASTING);
        waits(waiting, &index)
    };
    assert!(told(59).is_empty());
    let found = told(60);
    let [(reason, note)] = &notes(&found)[..] else {
        panic!("one notice, not {found:?}");
    };
    assert_eq!(*reason, Reason::WaitingForTarget);
    let begins = "2 pods, such as web-1: for more than a minute, the target of binding web keeps the gate closed: ";
    assert!(note.starts_with(begins), "{note}");
    let related = &found.values().next().unwrap().related;
    assert!(matches!(related, Some(Regarded::Binding { name, .. }) if &**name == "web"));

    let mut all = AllFound::new();
    let pod = index.pod(&key("web-1")).unwrap();
    healthy(&mut all, pod, &pod.gates[0].0, &index);
    let (of_health, of_wait) = (all.keys().next().unwrap(), found.keys().next().unwrap());
    assert_eq!(of_health.of_waiting(), *of_wait);
}
