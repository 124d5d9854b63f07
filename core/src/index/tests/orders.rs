//! Events in any order, because watches are not ordered among each other.

use proptest::prelude::*;

use super::*;

/// One event of a watch.
#[derive(Debug, Clone)]
enum Told {
    Pod(u8, Pod),
    NoPod(u8),
    Service(u8, &'static str),
    NoService(u8),
    Binding(u8, u8),
    NoBinding(u8),
    Namespace(bool),
}

fn told() -> impl Strategy<Value = Told> {
    prop_oneof![
        (0..4_u8, any_pod()).prop_map(|(n, pod)| Told::Pod(n, pod)),
        (0..4_u8).prop_map(Told::NoPod),
        (0..3_u8, any_app()).prop_map(|(n, app)| Told::Service(n, app)),
        (0..3_u8).prop_map(Told::NoService),
        (0..3_u8, 0..3_u8).prop_map(|(n, group)| Told::Binding(n, group)),
        (0..3_u8).prop_map(Told::NoBinding),
        any::<bool>().prop_map(Told::Namespace),
    ]
}

fn any_app() -> impl Strategy<Value = &'static str> {
    prop_oneof![Just("web"), Just("db")]
}

/// With a gate of binding 0 or none, and perhaps at its end or opted out.
fn any_pod() -> impl Strategy<Value = Pod> {
    let rarely = prop::bool::weighted(0.2);
    (any_app(), any::<bool>(), rarely, rarely).prop_map(|(app, gated, ended, opted_out)| {
        let pod = pod("any").label("app", app).ip("10.0.0.1");
        let mut pod = if gated { pod.gate("0") } else { pod };
        (pod.terminating, pod.opted_out) = (ended, opted_out);
        pod
    })
}

fn tell(index: &mut Index, told: &Told) {
    match told {
        Told::Pod(n, pod) => index.apply_pod(named(*n, pod)),
        Told::NoPod(n) => index.delete_pod(&key(&n.to_string())),
        Told::Service(n, app) => {
            index.apply_service(&key(&n.to_string()), service().selecting("app", app));
        }
        Told::NoService(n) => index.delete_service(&key(&n.to_string())),
        Told::Binding(n, to) => index.apply_binding(&"shop".into(), any_binding(*n, *to)),
        Told::NoBinding(n) => index.delete_binding(&binding_key(&n.to_string())),
        Told::Namespace(opted_in) => {
            let opted_in = *opted_in;
            index.apply_namespace(
                &"shop".into(),
                Namespace {
                    opted_in,
                    ..Namespace::default()
                },
            );
        }
    }
}

fn named(n: u8, pod: &Pod) -> Pod {
    Pod {
        key: key(&n.to_string()),
        uid: format!("uid-{n}").into(),
        ..pod.clone()
    }
}

/// A binding of Service and group `to`.
fn any_binding(n: u8, to: u8) -> Binding {
    Binding {
        service: to.to_string().into(),
        ..binding(&n.to_string()).of_group(&to.to_string())
    }
}

/// The number of pods that lack a gate after all these events, found without an index.
fn ungated_after(news: &[Told]) -> usize {
    let mut pods = BTreeMap::new();
    let (mut services, mut bindings) = (BTreeMap::new(), BTreeMap::new());
    let mut opted_in = false;
    for told in news {
        match told {
            Told::Pod(n, pod) => drop(pods.insert(*n, pod)),
            Told::NoPod(n) => drop(pods.remove(n)),
            Told::Service(n, app) => drop(services.insert(*n, *app)),
            Told::NoService(n) => drop(services.remove(n)),
            Told::Binding(n, to) => drop(bindings.insert(*n, *to)),
            Told::NoBinding(n) => drop(bindings.remove(n)),
            Told::Namespace(now) => opted_in = *now,
        }
    }
    let lacks = |pod: &&&Pod| {
        let app = pod.template.labels.get("app").map(|app| &**app);
        let due = |(n, to): (&u8, &u8)| {
            let has = *n == 0 && !pod.gates.is_empty();
            !has && services.contains_key(to) && services.get(to).copied() == app
        };
        !pod.terminating && !pod.opted_out && bindings.iter().any(due)
    };
    if opted_in {
        pods.values().filter(lacks).count()
    } else {
        0
    }
}

proptest! {
    /// Groups and bindings always agree, and what is empty is not kept.
    #[test]
    fn no_order_of_news_leaves_the_index_at_odds_with_itself(
        news in prop::collection::vec(told(), 0..60),
    ) {
        let mut index = Index::default();
        news.iter().for_each(|told| tell(&mut index, told));
        let bindings: Vec<&Binding> = index
            .namespace("shop")
            .map(|view| view.routes.bindings().collect())
            .unwrap_or_default();
        for group in 0..3_u8 {
            let of_group = arn(&group.to_string());
            let expected = bindings.iter().filter(|b| b.arn.as_ref() == Some(&of_group));
            prop_assert_eq!(index.bindings_of_group(&of_group).count(), expected.count());
        }
        index.delete_namespace(&"shop".into());
        let everything: Vec<ObjectKey> = (0..4_u8).map(|n| key(&n.to_string())).collect();
        for key in &everything {
            index.delete_pod(key);
            index.delete_service(key);
            index.delete_binding(&binding_key(&key.name));
        }
        prop_assert!(index.namespace("shop").is_none());
        prop_assert_eq!(index.count_ungated(&APIS), 0);
    }

    /// Counting in between, after only some of the events, does not change the result.
    #[test]
    fn ungated_pods_are_counted_whatever_the_order_of_news(
        news in prop::collection::vec((told(), any::<bool>()), 0..60),
    ) {
        let mut index = Index::default();
        let mut so_far = vec![];
        for (told, count) in news {
            tell(&mut index, &told);
            so_far.push(told);
            if count {
                prop_assert_eq!(index.count_ungated(&APIS), ungated_after(&so_far));
            }
        }
        prop_assert_eq!(index.count_ungated(&APIS), ungated_after(&so_far));
    }
}
