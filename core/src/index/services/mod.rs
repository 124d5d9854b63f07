//! Inverted index of a namespace's Services and bindings, which leads from a pod's labels to the bindings
//! that select it: an admission visits those alone, however many the namespace has.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use crate::model::{Binding, Service, TargetType};
use crate::names::{BindingApi, GateName};
use crate::reason::Reason;
use crate::selector::{LabelSet, selects};

/// The key of a binding within its namespace. Two API groups can serve the same name.
type BindingName = (Arc<str>, BindingApi);

/// Names of Services, by the value of one label.
type ByValue = HashMap<Arc<str>, BTreeSet<Arc<str>>>;

/// A namespace's Services and bindings.
#[derive(Debug, Default)]
pub struct ServiceIndex {
    services: BTreeMap<Arc<str>, Service>,
    bindings: BTreeMap<BindingName, IndexedBinding>,
    /// The bindings that name each Service, whether that Service exists or not.
    by_service: HashMap<Arc<str>, BTreeSet<BindingName>>,
    /// The Services with bindings, each under one pair of its selector.
    by_label: BTreeMap<Arc<str>, ByValue>,
    /// The pair under which each Service is indexed.
    indexed: HashMap<Arc<str>, (Arc<str>, Arc<str>)>,
    /// Bindings counted by (API group, default reason), so that an admission finds the strongest reason
    /// without visiting each.
    default_reasons: BTreeMap<(BindingApi, Reason), usize>,
}

/// A binding with its default reason, which it gives for pods that its Service does not select.
#[derive(Debug)]
pub(crate) struct IndexedBinding {
    pub(crate) binding: Binding,
    pub(crate) default_reason: Reason,
}

impl IndexedBinding {
    /// Why the binding does not give a gate to a pod that its Service selects; `None` if it gives one.
    pub(crate) fn refusal(
        &self,
        pod_opted_out: bool,
        service: &Service,
        apis: &[BindingApi],
    ) -> Option<Reason> {
        let opted_out = pod_opted_out || service.opted_out || self.binding.opted_out;
        of_api(self.binding.api, apis).or(match self.default_reason {
            Reason::SelectorMismatch if opted_out => Some(Reason::OptedOut),
            Reason::SelectorMismatch => not_registering(&self.binding),
            default_reason => Some(default_reason),
        })
    }
}

impl ServiceIndex {
    /// Whether an existing pod that is not opted out lacks a gate that it would get were it created now.
    ///
    /// `present` holds its gates under all prefixes that are served, because a gate under a former prefix
    /// still protects the pod.
    pub fn lacks_gate<L: LabelSet>(
        &self,
        labels: &L,
        present: &[GateName],
        apis: &[BindingApi],
    ) -> bool {
        self.first_lacking(labels, present, apis).is_some()
    }

    /// The first binding, by name, whose gate such a pod lacks.
    pub(crate) fn first_lacking<L: LabelSet>(
        &self,
        labels: &L,
        present: &[GateName],
        apis: &[BindingApi],
    ) -> Option<&Binding> {
        self.first_without_gate(labels, present, apis, |refusal| refusal.is_none())
            .map(|(binding, _)| binding)
    }

    /// The first binding, by name, whose Service selects such a pod, and which gives it no gate for one of these
    /// reasons.
    pub(crate) fn first_refusing<L: LabelSet>(
        &self,
        labels: &L,
        present: &[GateName],
        apis: &[BindingApi],
        reasons: &[Reason],
    ) -> Option<(&Binding, Option<Reason>)> {
        let is_told = |refusal: Option<Reason>| refusal.is_some_and(|it| reasons.contains(&it));
        self.first_without_gate(labels, present, apis, is_told)
    }

    fn first_without_gate<L: LabelSet>(
        &self,
        labels: &L,
        present: &[GateName],
        apis: &[BindingApi],
        is_wanted: impl Fn(Option<Reason>) -> bool,
    ) -> Option<(&Binding, Option<Reason>)> {
        let selecting = self.selecting(labels).into_iter();
        let mut without = selecting.filter_map(|(route, service)| {
            let refusal = route.refusal(false, service, apis);
            let binding = &route.binding;
            let has = || present.iter().any(|gate| gate.is_of(&binding.name));
            (is_wanted(refusal) && !has()).then_some((binding, refusal))
        });
        without.next()
    }

    /// Why a binding gives no gate, not even to a pod that its Service selects; `None` if it gives one.
    pub fn refusal(&self, binding: &Binding, apis: &[BindingApi]) -> Option<Reason> {
        let route = self.bindings.get(&(binding.name.clone(), binding.api))?;
        match self.services.get(&binding.service) {
            Some(service) => route.refusal(false, service, apis),
            None => of_api(binding.api, apis).or(Some(route.default_reason)),
        }
    }

    /// Why bindings give no gate to pods that their Service selects, one of each that gives none.
    pub(crate) fn refusals<'a>(
        &'a self,
        apis: &'a [BindingApi],
    ) -> impl Iterator<Item = Reason> + 'a {
        let refusal = |route: &IndexedBinding| {
            let service = self.services.get(&route.binding.service)?;
            route.refusal(false, service, apis)
        };
        self.bindings.values().filter_map(refusal)
    }

    /// The Services, by name.
    pub fn services(&self) -> impl Iterator<Item = (&Arc<str>, &Service)> {
        self.services.iter()
    }

    /// The Service of this name.
    pub fn service(&self, name: &str) -> Option<&Service> {
        self.services.get(name)
    }

    /// The bindings, in the order of their names.
    pub fn bindings(&self) -> impl Iterator<Item = &Binding> {
        self.bindings.values().map(|route| &route.binding)
    }

    /// The binding of this name and API group.
    pub fn binding(&self, name: &Arc<str>, api: BindingApi) -> Option<&Binding> {
        let route = self.bindings.get(&(name.clone(), api))?;
        Some(&route.binding)
    }

    /// Whether the index holds neither Services nor bindings.
    pub fn is_empty(&self) -> bool {
        self.services.is_empty() && self.bindings.is_empty()
    }

    /// Takes in a Service. Returns whether it changed.
    pub fn apply_service(&mut self, name: &Arc<str>, service: Service) -> bool {
        if self.services.get(name) == Some(&service) {
            return false;
        }
        self.services.insert(name.clone(), service);
        self.reindex(name);
        true
    }

    /// Removes a Service. Returns whether it existed.
    pub fn delete_service(&mut self, name: &Arc<str>) -> bool {
        let known = self.services.remove(name).is_some();
        self.reindex(name);
        known
    }

    /// Takes in a binding. Returns its former version.
    pub fn apply_binding(&mut self, binding: Binding) -> Option<Binding> {
        let former = self.delete_binding(&binding.name, binding.api);
        let key = (binding.name.clone(), binding.api);
        let service = binding.service.clone();
        let default_reason = default_reason(&binding, self.services.get(&service));
        *self
            .default_reasons
            .entry((binding.api, default_reason))
            .or_default() += 1;
        self.bindings.insert(
            key.clone(),
            IndexedBinding {
                binding,
                default_reason,
            },
        );
        self.by_service
            .entry(service.clone())
            .or_default()
            .insert(key);
        self.reindex(&service);
        former
    }

    /// Removes a binding, and returns it.
    pub fn delete_binding(&mut self, name: &Arc<str>, api: BindingApi) -> Option<Binding> {
        let key = (name.clone(), api);
        let IndexedBinding {
            binding,
            default_reason,
        } = self.bindings.remove(&key)?;
        uncount(&mut self.default_reasons, (api, default_reason));
        if let Some(of_service) = self.by_service.get_mut(&binding.service) {
            of_service.remove(&key);
            if of_service.is_empty() {
                self.by_service.remove(&binding.service);
            }
        }
        self.reindex(&binding.service);
        Some(binding)
    }

    /// The bindings that give a gate to each pod that their Service selects, unless it is opted out, with that
    /// Service, in the order of their names.
    pub fn giving<'a>(
        &'a self,
        apis: &'a [BindingApi],
    ) -> impl Iterator<Item = (&'a Binding, &'a Service)> {
        let giving = |route: &'a IndexedBinding| {
            let service = self.services.get(&route.binding.service)?;
            let refusal = route.refusal(false, service, apis);
            refusal.is_none().then_some((&route.binding, service))
        };
        self.bindings.values().filter_map(giving)
    }

    /// The bindings whose Service selects a pod with these labels, in the order of their names.
    pub(crate) fn selecting(&self, labels: &impl LabelSet) -> Vec<(&IndexedBinding, &Service)> {
        let by_label = self.by_label.iter();
        let services = by_label.filter_map(|(key, values)| values.get(labels.value(key)?));
        let services = services.flatten();
        let services = services.filter_map(|name| Some((name, self.services.get(name)?)));
        let selecting = services.filter(|(_, service)| selects(&service.selector, labels));
        let mut found: Vec<(&IndexedBinding, &Service)> = selecting
            .flat_map(|(name, service)| {
                let keys = self.by_service.get(name).into_iter().flatten();
                let routes = keys.filter_map(|key| self.bindings.get(key));
                routes.map(move |route| (route, service))
            })
            .collect();
        found.sort_unstable_by_key(|(route, _)| (&route.binding.name, route.binding.api));
        found
    }

    /// The strongest reason of the bindings whose Service does not select a pod.
    pub(crate) fn strongest_of_others(
        &self,
        selecting: &[(&IndexedBinding, &Service)],
        apis: &[BindingApi],
    ) -> Option<Reason> {
        let others = self.default_reasons.iter().filter(|(class, count)| {
            let of_class = |(route, _): &&(&IndexedBinding, &Service)| {
                (route.binding.api, route.default_reason) == **class
            };
            **count > selecting.iter().filter(of_class).count()
        });
        others
            .map(|(&(api, default_reason), _)| of_api(api, apis).unwrap_or(default_reason))
            .min()
    }

    /// All bindings with their default reason, in the order of their names.
    pub(crate) fn default_reasons<'a>(
        &'a self,
        apis: &'a [BindingApi],
    ) -> impl Iterator<Item = (&'a Binding, Reason)> {
        self.bindings.values().map(|route| {
            let reason = of_api(route.binding.api, apis).unwrap_or(route.default_reason);
            (&route.binding, reason)
        })
    }

    /// Re-indexes a Service after it or its bindings changed.
    fn reindex(&mut self, name: &Arc<str>) {
        self.unindex(name);
        let Some(keys) = self.by_service.get(name) else {
            return;
        };
        let service = self.services.get(name);
        for key in keys {
            let Some(route) = self.bindings.get_mut(key) else {
                continue;
            };
            let now = default_reason(&route.binding, service);
            if now != route.default_reason {
                uncount(&mut self.default_reasons, (key.1, route.default_reason));
                *self.default_reasons.entry((key.1, now)).or_default() += 1;
                route.default_reason = now;
            }
        }
        let selector = service.filter(|s| !s.external_name).map(|s| &s.selector);
        // One pair of the selector is enough, since a pod must match all of them. The pair with the fewest
        // Services is the most selective: often all Services of a namespace share a pair, such as
        // `app.kubernetes.io/part-of`.
        let fewest = selector.into_iter().flatten().min_by_key(|(key, value)| {
            let of_key = self.by_label.get(*key);
            of_key
                .and_then(|values| values.get(*value))
                .map_or(0, BTreeSet::len)
        });
        if let Some((key, value)) = fewest {
            let values = self.by_label.entry(key.clone()).or_default();
            values
                .entry(value.clone())
                .or_default()
                .insert(name.clone());
            self.indexed
                .insert(name.clone(), (key.clone(), value.clone()));
        }
    }

    fn unindex(&mut self, name: &Arc<str>) {
        let Some((key, value)) = self.indexed.remove(name) else {
            return;
        };
        let Some(values) = self.by_label.get_mut(&key) else {
            return;
        };
        if let Some(names) = values.get_mut(&value) {
            names.remove(name);
            if names.is_empty() {
                values.remove(&value);
            }
        }
        if values.is_empty() {
            self.by_label.remove(&key);
        }
    }
}

/// Why bindings of this API group do not give gates; `None` if they do.
fn of_api(api: BindingApi, apis: &[BindingApi]) -> Option<Reason> {
    (!apis.contains(&api)).then_some(Reason::ApiNotGated)
}

/// Why no controller registers a pod for this binding; `None` if its group may be found.
fn not_registering(binding: &Binding) -> Option<Reason> {
    let unknown = binding.arn.is_none() && binding.group_name.is_none();
    match binding.terminating {
        true => Some(Reason::BindingTerminating),
        false => unknown.then_some(Reason::GroupUnknown),
    }
}

/// Why a binding does not give a gate to pods that its Service does not select.
fn default_reason(binding: &Binding, service: Option<&Service>) -> Reason {
    match (binding.target_type, service) {
        (None, _) => Reason::TargetTypeUnknown,
        (Some(TargetType::Instance), _) => Reason::TargetTypeInstance,
        (_, None) => Reason::ServiceMissing,
        (_, Some(service)) if service.external_name => Reason::ServiceExternalName,
        (_, Some(service)) if service.selector.is_empty() => Reason::ServiceWithoutSelector,
        _ => Reason::SelectorMismatch,
    }
}

fn uncount(
    default_reasons: &mut BTreeMap<(BindingApi, Reason), usize>,
    class: (BindingApi, Reason),
) {
    if let Some(count) = default_reasons.get_mut(&class) {
        *count -= 1;
        if *count == 0 {
            default_reasons.remove(&class);
        }
    }
}

#[cfg(test)]
mod tests;
