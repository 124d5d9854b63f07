//! The inverted index agrees with plain lists after any sequence of events.

use proptest::prelude::*;
use proptest::sample::select;

use super::*;
use crate::fixtures::{binding, service};
use crate::model::Labels;

const APIS: [BindingApi; 1] = [BindingApi::Elbv2];

/// One event.
#[derive(Debug, Clone)]
enum News {
    Service(&'static str, Service),
    NoService(&'static str),
    Binding(Binding),
    NoBinding(&'static str, BindingApi),
}

fn name() -> impl Strategy<Value = &'static str> {
    select(vec!["a", "b", "c"])
}

fn api() -> impl Strategy<Value = BindingApi> {
    select(BindingApi::ALL.to_vec())
}

fn labels() -> impl Strategy<Value = Labels> {
    let (key, value) = (select(vec!["app", "tier"]), select(vec!["x", "y"]));
    prop::collection::btree_map(key.prop_map(Arc::from), value.prop_map(Arc::from), 0..3)
}

fn any_service() -> impl Strategy<Value = Service> {
    (labels(), prop::bool::weighted(0.2)).prop_map(|(selector, external_name)| Service {
        selector,
        external_name,
        ..service()
    })
}

fn any_binding() -> impl Strategy<Value = Binding> {
    let types = vec![Some(TargetType::Ip), Some(TargetType::Instance), None];
    let parts = (name(), api(), select(types), name());
    parts.prop_map(|(name, api, target_type, service)| Binding {
        api,
        target_type,
        service: service.into(),
        ..binding(name)
    })
}

fn news() -> impl Strategy<Value = News> {
    prop_oneof![
        (name(), any_service()).prop_map(|(name, service)| News::Service(name, service)),
        name().prop_map(News::NoService),
        any_binding().prop_map(News::Binding),
        (name(), api()).prop_map(|(name, api)| News::NoBinding(name, api)),
    ]
}

/// The same as plain lists.
#[derive(Default)]
struct Plain {
    services: BTreeMap<Arc<str>, Service>,
    bindings: BTreeMap<BindingName, Binding>,
}

fn tell(routes: &mut ServiceIndex, plain: &mut Plain, news: News) {
    match news {
        News::Service(name, service) => {
            routes.apply_service(&name.into(), service.clone());
            plain.services.insert(name.into(), service);
        }
        News::NoService(name) => {
            routes.delete_service(&name.into());
            plain.services.remove(name);
        }
        News::Binding(binding) => {
            routes.apply_binding(binding.clone());
            plain
                .bindings
                .insert((binding.name.clone(), binding.api), binding);
        }
        News::NoBinding(name, api) => {
            routes.delete_binding(&name.into(), api);
            plain.bindings.remove(&(name.into(), api));
        }
    }
}

impl Plain {
    fn service(&self, binding: &Binding) -> Option<&Service> {
        self.services.get(&binding.service)
    }

    fn selects(&self, binding: &Binding, labels: &Labels) -> bool {
        self.service(binding)
            .is_some_and(|service| !service.external_name && selects(&service.selector, labels))
    }
}

proptest! {
    /// Whatever happened before, and in whatever order.
    #[test]
    fn the_arrangement_changes_nothing(
        told in prop::collection::vec(news(), 0..40),
        labels in labels(),
    ) {
        let (mut routes, mut plain) = (ServiceIndex::default(), Plain::default());
        told.into_iter().for_each(|news| tell(&mut routes, &mut plain, news));

        let selecting = routes.selecting(&labels);
        let found: Vec<&Binding> = selecting.iter().map(|(route, _)| &route.binding).collect();
        let expected: Vec<&Binding> =
            plain.bindings.values().filter(|b| plain.selects(b, &labels)).collect();
        prop_assert_eq!(found, expected);

        let reason = |binding: &Binding| {
            let default_reason = default_reason(binding, plain.service(binding));
            of_api(binding.api, &APIS).unwrap_or(default_reason)
        };
        let reasons: Vec<_> = plain.bindings.values().map(|b| (b, reason(b))).collect();
        prop_assert_eq!(routes.default_reasons(&APIS).collect::<Vec<_>>(), reasons.clone());
        let others = reasons.iter().filter(|(b, _)| !plain.selects(b, &labels));
        let strongest = others.map(|(_, reason)| *reason).min();
        prop_assert_eq!(routes.strongest_of_others(&selecting, &APIS), strongest);
    }

    /// What is gone leaves nothing behind.
    #[test]
    fn what_is_gone_is_forgotten(told in prop::collection::vec(news(), 0..40)) {
        let (mut routes, mut plain) = (ServiceIndex::default(), Plain::default());
        told.into_iter().for_each(|news| tell(&mut routes, &mut plain, news));
        for name in ["a", "b", "c"] {
            routes.delete_service(&name.into());
            for api in BindingApi::ALL {
                routes.delete_binding(&name.into(), api);
            }
        }
        prop_assert!(routes.is_empty());
        prop_assert!(routes.by_service.is_empty() && routes.default_reasons.is_empty());
        prop_assert!(routes.by_label.is_empty() && routes.indexed.is_empty());
    }
}

#[test]
fn a_label_that_all_services_select_by_leads_to_one_at_most() {
    let mut routes = ServiceIndex::default();
    for number in 0..100 {
        let name = format!("web-{number}");
        let selecting = service().selecting("app", &name).selecting("all", "x");
        routes.apply_service(&name.as_str().into(), selecting);
        let service = name.as_str().into();
        routes.apply_binding(Binding {
            service,
            ..binding(&name)
        });
    }
    let of_key = routes.by_label.values().flat_map(HashMap::values);
    assert_eq!(of_key.map(BTreeSet::len).max(), Some(1));
}
