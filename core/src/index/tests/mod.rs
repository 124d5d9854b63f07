//! The index, fed with objects and then queried.

use std::collections::BTreeSet;
use std::sync::Arc;

use rstest::rstest;

use super::*;
use crate::drain::{DrainLabel, DrainMode};
use crate::fixtures::{arn, binding, pod, service};
use crate::model::Namespace;
use crate::names::{ConditionPrefix, INJECT_ENABLED, INJECT_LABEL};

mod orders;

fn key(name: &str) -> ObjectKey {
    ObjectKey::new("shop", name)
}

fn binding_key(name: &str) -> BindingKey {
    BindingKey {
        object: key(name),
        api: BindingApi::Elbv2,
    }
}

fn gate(name: &str) -> GateName {
    ConditionPrefix::default().gate(name)
}

fn names(bindings: &[&Binding]) -> Vec<String> {
    bindings.iter().map(|b| b.name.to_string()).collect()
}

/// An index of namespace `shop` with these bindings.
fn bound(bindings: impl IntoIterator<Item = Binding>) -> Index {
    let mut index = Index::default();
    let shop: Arc<str> = "shop".into();
    bindings
        .into_iter()
        .for_each(|b| index.apply_binding(&shop, b));
    index
}

#[test]
fn bindings_come_in_the_order_of_their_names() {
    let index = bound(["web", "api", "mail"].map(binding));
    let listed: Vec<&Binding> = index.namespace("shop").unwrap().routes.bindings().collect();
    assert_eq!(names(&listed), ["api", "mail", "web"]);
}

#[test]
fn a_gate_stands_for_the_bindings_of_its_name_in_both_apis() {
    let index = bound([
        binding("web"),
        binding("web").of_api(BindingApi::Eks),
        binding("web2"),
    ]);
    let view = index.namespace("shop").unwrap();
    assert_eq!(names(&view.bindings_of(&gate("web"))), ["web", "web"]);
    assert!(view.bindings_of(&gate("we")).is_empty());
}

#[test]
fn a_shortened_gate_finds_its_binding_by_the_hash() {
    let (long, other) = ("a".repeat(100), "a".repeat(101));
    let index = bound([binding(&long), binding(&other)]);
    let view = index.namespace("shop").unwrap();
    assert_eq!(names(&view.bindings_of(&gate(&long))), [long]);
}

#[test]
fn a_group_knows_its_bindings_wherever_they_are() {
    let mut index = bound([binding("web"), binding("api")]);
    index.apply_binding(&"other".into(), binding("web"));
    let keys = |index: &Index| -> Vec<String> {
        let group = arn("web");
        let bindings = index.bindings_of_group(&group);
        bindings.map(|(key, _)| key.object.to_string()).collect()
    };
    assert_eq!(keys(&index), ["other/web", "shop/web"]);
    index.apply_binding(&"shop".into(), binding("web").of_group("moved"));
    assert_eq!(keys(&index), ["other/web"]);
    index.delete_binding(&BindingKey {
        object: ObjectKey::new("other", "web"),
        api: BindingApi::Elbv2,
    });
    assert!(keys(&index).is_empty());
}

#[test]
fn a_change_of_service_or_binding_concerns_the_gated_pods_of_its_namespace() {
    let mut index = Index::default();
    index.apply_pod(pod("web-1").gate("web"));
    index.apply_pod(pod("plain"));
    let concerned = BTreeSet::from([key("web-1")]);
    assert!(index.has_dirty());
    assert_eq!(index.take_dirty(), concerned);
    index.apply_service(&key("web"), service());
    assert_eq!(index.take_dirty(), concerned);
    index.apply_service(&key("web"), service());
    assert!(!index.has_dirty(), "nothing changed");
    index.apply_binding(&"shop".into(), binding("web"));
    assert_eq!(index.take_dirty(), concerned);
    index.apply_binding(&"shop".into(), binding("web"));
    assert!(!index.has_dirty(), "nothing changed");
    index.delete_service(&key("web"));
    assert_eq!(index.take_dirty(), concerned);
    index.delete_binding(&binding_key("web"));
    assert_eq!(index.take_dirty(), concerned);
    index.apply_binding(&"other".into(), binding("web"));
    assert!(!index.has_dirty(), "another namespace");
}

#[test]
fn a_pod_without_our_gates_is_not_kept() {
    let mut index = Index::default();
    index.apply_pod(pod("web-1"));
    assert!(index.pod(&key("web-1")).is_none() && !index.has_dirty());
    index.delete_pod(&key("web-1"));
    assert!(index.namespace("shop").is_none());
}

const APIS: [BindingApi; 1] = [BindingApi::Elbv2];

/// An index of namespace `shop`, which has opted in, with binding `web` to what is `app=web`.
fn opted_in() -> Index {
    let mut index = bound([binding("web")]);
    index.apply_namespace(
        &"shop".into(),
        Namespace {
            opted_in: true,
            ..Namespace::default()
        },
    );
    index.apply_service(&key("web"), service().selecting("app", "web"));
    index
}

fn web(name: &str) -> Pod {
    pod(name).label("app", "web")
}

#[test]
fn a_pod_that_would_be_gated_now_and_is_not_is_counted_until_it_goes() {
    let mut index = opted_in();
    for pod in [
        web("missed"),
        web("gated").gate("web"),
        pod("another").label("app", "db"),
    ] {
        index.apply_pod(pod);
    }
    assert!(index.has_uncounted());
    assert_eq!(index.count_ungated(&APIS), 1);
    assert_eq!((index.ungated(), index.has_uncounted()), (1, false));
    index.apply_pod(web("missed").version("2"));
    assert!(!index.has_uncounted(), "nothing that decides has changed");
    index.delete_pod(&key("missed"));
    assert_eq!(index.count_ungated(&APIS), 0);
}

#[test]
fn a_pod_at_its_end_or_opted_out_lacks_no_gate() {
    let mut index = opted_in();
    index.apply_pod(web("missed"));
    assert_eq!(index.count_ungated(&APIS), 1);
    let (mut terminating, mut finished, mut opted_out) = (web("a"), web("b"), web("c"));
    terminating.terminating = true;
    finished.finished = true;
    opted_out.opted_out = true;
    for pod in [terminating, finished, opted_out] {
        index.apply_pod(pod);
    }
    assert_eq!(index.count_ungated(&APIS), 1);
}

#[test]
fn pods_come_to_lack_a_gate_when_their_namespace_opts_in_and_when_a_binding_comes() {
    let mut index = Index::default();
    let shop: Arc<str> = "shop".into();
    let mut ungated = |change: &dyn Fn(&mut Index)| {
        change(&mut index);
        index.count_ungated(&APIS)
    };
    let opts = |opted_in| Namespace {
        opted_in,
        ..Namespace::default()
    };
    let selecting = |value| service().selecting("app", value);
    assert_eq!(ungated(&|index| index.apply_pod(web("web-1"))), 0);
    assert_eq!(
        ungated(&|i| i.apply_service(&key("web"), selecting("web"))),
        0
    );
    assert_eq!(ungated(&|i| i.apply_binding(&shop, binding("web"))), 0);
    assert_eq!(ungated(&|i| i.apply_namespace(&shop, opts(true))), 1);
    assert_eq!(
        ungated(&|i| i.apply_service(&key("web"), selecting("db"))),
        0
    );
    assert_eq!(
        ungated(&|i| i.apply_service(&key("web"), selecting("web"))),
        1
    );
    assert_eq!(
        ungated(&|index| index.delete_binding(&binding_key("web"))),
        0
    );
    assert_eq!(ungated(&|i| i.apply_binding(&shop, binding("web"))), 1);
    assert_eq!(ungated(&|index| index.delete_namespace(&shop)), 0);
}

/// The ungated pods of `shop` as the hook is registered: one pod that carries the label that opts in, and two that do
/// not, behind one binding.
fn ungated_of(opt_in: OptIn, excluded: &str, namespace: bool) -> usize {
    let mut index = opted_in();
    for name in ["web-1", "web-2"] {
        index.apply_pod(web(name));
    }
    index.apply_pod(web("web-3").label(INJECT_LABEL, INJECT_ENABLED));
    index.apply_pod(pod("db-1").label(INJECT_LABEL, INJECT_ENABLED));
    // The namespace opts out, or in, after the pods were counted once.
    index.set_scope(HookScope {
        opt_in,
        excluded: BTreeSet::from([excluded.into()]),
    });
    index.count_ungated(&APIS);
    let opted_in = Namespace {
        opted_in: namespace,
        ..Namespace::default()
    };
    index.apply_namespace(&"shop".into(), opted_in);
    index.count_ungated(&APIS)
}

#[rstest]
#[case::by_namespace(OptIn::Namespace, 3, 0)]
#[case::by_their_own_label(OptIn::Object, 1, 1)]
#[case::by_either(OptIn::Either, 3, 1)]
fn pods_are_counted_as_the_hook_is_registered(
    #[case] opt_in: OptIn,
    #[case] labelled: usize,
    #[case] unlabelled: usize,
) {
    assert_eq!(ungated_of(opt_in, "kube-system", true), labelled);
    assert_eq!(ungated_of(opt_in, "kube-system", false), unlabelled);
    assert_eq!(ungated_of(opt_in, "shop", true), 0, "left out");
}

#[test]
fn ungated_pods_that_a_new_list_leaves_out_are_gone() {
    let mut index = opted_in();
    index.apply_pod(web("web-1"));
    index.apply_pod(web("web-2"));
    index.retain_pods(&listing(&[key("web-2")]));
    assert_eq!(index.count_ungated(&APIS), 1);
}

#[test]
fn what_a_new_list_leaves_out_is_gone() {
    let mut index = bound(["web", "api", "old"].map(binding));
    for name in ["web", "auto"] {
        index.apply_binding(&"shop".into(), binding(name).of_api(BindingApi::Eks));
    }
    index.apply_service(&key("web"), service());
    index.apply_service(&key("api"), service());
    index.apply_pod(pod("web-1").gate("web"));
    index.apply_pod(pod("web-2").gate("web"));
    index.take_dirty();

    index.retain_bindings(BindingApi::Elbv2, &listing(&[key("api")]));
    index.retain_services(&listing(&[key("api")]));
    index.retain_pods(&listing(&[key("web-2")]));

    let view = index.namespace("shop").unwrap();
    let left: Vec<&Binding> = view.routes.bindings().collect();
    assert_eq!(
        names(&left),
        ["api", "auto", "web"],
        "those of the other API stay"
    );
    assert!(index.service("shop", "web").is_none() && index.service("shop", "api").is_some());
    assert!(index.pod(&key("web-1")).is_none() && index.pod(&key("web-2")).is_some());
    assert_eq!(index.take_dirty(), [key("web-1"), key("web-2")].into());
}

#[test]
fn a_namespace_that_is_not_listed_loses_its_opt_in_but_not_its_content() {
    let mut index = bound([binding("web")]);
    let shop: Arc<str> = "shop".into();
    let opted_in = Namespace {
        opted_in: true,
        ..Namespace::default()
    };
    index.apply_namespace(&shop, opted_in.clone());
    index.retain_namespaces(&listing(&[ObjectKey::new("", "shop")]));
    assert_eq!(index.namespace("shop").unwrap().namespace, opted_in);
    index.retain_namespaces(&listing(&[]));
    let view = index.namespace("shop").unwrap();
    assert_eq!(
        (view.namespace.opted_in, view.routes.bindings().count()),
        (false, 1)
    );
}

/// A list of the whole cluster.
fn listing(keys: &[ObjectKey]) -> Listing {
    Listing {
        namespace: None,
        keys: keys.iter().cloned().collect(),
    }
}

#[test]
fn a_list_of_one_namespace_says_nothing_of_others() {
    let mut index = Index::default();
    index.apply_service(&key("web"), service());
    index.apply_service(&ObjectKey::new("other", "web"), service());
    index.retain_services(&Listing {
        namespace: Some("shop".into()),
        keys: Keys::default(),
    });
    assert!(index.service("shop", "web").is_none());
    assert!(index.service("other", "web").is_some());
}

#[test]
fn a_list_of_one_namespaces_own_object_says_nothing_of_others() {
    let mut index = Index::default();
    let opted_in = Namespace {
        opted_in: true,
        ..Namespace::default()
    };
    for name in ["shop", "other"] {
        index.apply_namespace(&name.into(), opted_in.clone());
    }
    index.retain_namespaces(&Listing {
        namespace: Some("shop".into()),
        keys: Keys::default(),
    });
    assert!(index.namespace("shop").is_none());
    assert!(index.namespace("other").is_some());
}

#[test]
fn pods_with_a_gate_share_what_they_have_alike() {
    let mut index = Index::default();
    let [one, other] = ["web-1", "web-2"].map(|name| {
        index.apply_pod(pod(name).label("app", "web").gate("web"));
        index.pod(&key(name)).unwrap().clone()
    });
    assert!(Arc::ptr_eq(&one.template, &other.template));
}

fn is_used(index: &Index, pod: &Pod) -> bool {
    index.was_of_another(pod.ips[0], pod)
}

#[test]
fn a_living_pod_keeps_its_address_however_often_it_is_seen() {
    let mut index = Index::default();
    for _ in 0..addresses::REMEMBERED + 2 {
        index.apply_pod(pod("web-1").gate("web").ip("10.0.0.1"));
    }
    assert!(is_used(&index, &pod("web-2").ip("10.0.0.1")));
    assert!(!is_used(&index, &pod("web-1").ip("10.0.0.1")));
}

#[test]
fn an_address_remembers_its_previous_pods_gated_or_not_of_any_namespace() {
    let mut index = Index::default();
    let plain = Pod {
        key: ObjectKey::new("other", "plain"),
        ..pod("plain").ip("10.0.0.1")
    };
    index.apply_pod(plain.clone());
    index.delete_pod(&plain.key);
    index.apply_pod(pod("web-2").gate("web").ip("10.0.0.1"));
    assert!(is_used(&index, &pod("web-2").ip("10.0.0.1")));
    assert!(!is_used(&index, &pod("web-3").ip("10.0.0.2")));
}

#[test]
fn a_pod_replaced_under_its_name_leaves_its_address_behind() {
    let mut index = Index::default();
    index.apply_pod(pod("web-0").uid("first").gate("web").ip("10.0.0.1"));
    let second = pod("web-0").uid("second").gate("web").ip("10.0.0.1");
    index.apply_pod(second.clone());
    assert!(is_used(&index, &second));
}

#[test]
fn pods_of_the_first_list_are_told_from_those_that_come_later() {
    let mut index = Index::default();
    index.apply_pod(pod("web-1").gate("web"));
    let listing = Listing {
        namespace: Some("shop".into()),
        keys: [key("web-1")].into(),
    };
    index.retain_pods(&listing);
    index.apply_pod(pod("web-2").gate("web"));
    index.apply_pod(pod("web-1").gate("web").version("2"));
    let of_first_list = ["web-1", "web-2"].map(|name| index.is_of_first_list(&key(name)));
    assert_eq!(of_first_list, [true, false]);
}

#[test]
fn a_list_removes_pods_that_are_known_by_their_address_alone() {
    let mut index = Index::default();
    let finished = Pod {
        finished: true,
        ..pod("job").ip("10.0.0.1")
    };
    index.apply_pod(finished);
    index.retain_pods(&Listing::default());
    assert!(index.namespace("shop").is_none());
}

#[test]
fn groups_are_named_by_bindings_of_the_wanted_apis_until_these_go() {
    let mut index = Index::default();
    let mut nameless = binding("nameless");
    nameless.arn = None;
    for binding in [
        binding("web"),
        binding("auto").of_api(BindingApi::Eks),
        nameless,
    ] {
        index.apply_binding(&"shop".into(), binding);
    }
    let names = |index: &Index, apis: &[BindingApi]| {
        let groups = index.named_groups(apis).into_iter();
        groups
            .map(|group| group.arn.name().to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(names(&index, &[BindingApi::Elbv2]), ["web"]);
    assert_eq!(names(&index, &BindingApi::ALL), ["auto", "web"]);
    index.delete_binding(&BindingKey {
        object: ObjectKey::new("shop", "web"),
        api: BindingApi::Elbv2,
    });
    assert_eq!(names(&index, &BindingApi::ALL), ["auto"]);
}

#[test]
fn drain_is_asked_for_as_long_as_one_namespace_has_its_label() {
    let mut index = Index::default();
    let label = |mode| Namespace {
        drain: DrainLabel::Mode(mode),
        ..Namespace::default()
    };
    let (shop, bank) = ("shop".into(), "bank".into());
    index.apply_namespace(&shop, label(DrainMode::Off));
    assert!(!index.has_drained_namespace());
    for namespace in [&shop, &bank, &shop] {
        index.apply_namespace(namespace, label(DrainMode::Sleep));
    }
    index.delete_namespace(&bank);
    assert!(index.has_drained_namespace());
    index.retain_namespaces(&Listing::default());
    assert!(!index.has_drained_namespace());
}

#[test]
fn the_namespaces_whose_bindings_or_services_change_are_noted_for_the_gate_rules_where_asked() {
    let mut index = bound([binding("web")]);
    assert!(!index.has_rule_changes());
    index.note_rule_changes();
    index.apply_pod(pod("web-1"));
    assert!(!index.has_rule_changes());
    index.apply_service(&key("web"), service());
    assert_eq!(index.take_rule_changes(), ["shop".into()].into());
    index.delete_service(&key("web"));
    assert_eq!(index.take_rule_changes(), ["shop".into()].into());
    index.delete_binding(&binding_key("web"));
    assert_eq!(index.take_rule_changes(), ["shop".into()].into());
    assert!(!index.has_rule_changes());
}
