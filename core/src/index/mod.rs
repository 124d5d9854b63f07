//! What is known of the cluster, in memory: fed with objects, asked by rules. No I/O, no clock.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::mem;
use std::sync::Arc;

use crate::index::services::ServiceIndex;
use crate::model::{Binding, Namespace, Pod, Service};
use crate::names::{BindingApi, GateName, ObjectKey, TargetGroupArn};

mod addresses;
mod interning;
mod recently_deleted;
pub mod services;
#[cfg(test)]
mod tests;
mod ungated;

use crate::index::addresses::Addresses;
use crate::index::interning::Interner;
use crate::index::recently_deleted::RecentlyDeleted;
use crate::index::ungated::UngatedPods;

/// A binding's address: two API groups can serve the same namespace and name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BindingKey {
    /// Namespace and name.
    pub object: ObjectKey,
    /// The API group.
    pub api: BindingApi,
}

/// What is known of one namespace.
#[derive(Debug, Default)]
pub struct NamespaceView {
    /// The Namespace object's own say.
    pub namespace: Namespace,
    /// Its Services and bindings.
    pub routes: ServiceIndex,
    pods: BTreeMap<Arc<str>, Arc<Pod>>,
    ungated_pods: UngatedPods,
}

impl NamespaceView {
    /// The bindings that a gate stands for: of one name, in either API group.
    pub fn bindings_of(&self, gate: &GateName) -> Vec<&Binding> {
        if gate.may_be_shortened() {
            let bindings = self.routes.bindings();
            return bindings.filter(|b| gate.is_of(&b.name)).collect();
        }
        let name: Arc<str> = gate.name().into();
        let both = BindingApi::ALL.map(|api| self.routes.binding(&name, api));
        both.into_iter().flatten().collect()
    }

    fn count_ungated(&mut self, apis: &[BindingApi]) -> usize {
        if !self.namespace.opted_in {
            return 0;
        }
        let routes = &self.routes;
        self.ungated_pods
            .count(|kind| routes.lacks_gate(&kind.labels, &kind.gates, apis))
    }

    fn is_empty(&self) -> bool {
        self.namespace == Namespace::default()
            && self.routes.is_empty()
            && self.pods.is_empty()
            && self.ungated_pods.is_empty()
    }
}

/// What a list named, of the whole cluster or of one namespace. Namespaces' own keys have no namespace.
#[derive(Debug, Default)]
pub struct Listing {
    /// The one namespace that was listed; `None` where all were.
    pub namespace: Option<Arc<str>>,
    /// What the list named.
    pub keys: BTreeSet<ObjectKey>,
}

impl Listing {
    /// Whether the list would have named an object of this key, and did not.
    fn lacks(&self, key: &ObjectKey) -> bool {
        let of = match &*key.namespace {
            "" => &key.name,
            _ => &key.namespace,
        };
        let covered = self.namespace.as_ref().is_none_or(|listed| listed == of);
        covered && !self.keys.contains(key)
    }
}

/// What is known of the cluster.
///
/// Each change marks the pods that it may concern; [`Index::take_dirty`] hands them over. The marks
/// are a set, so they never outnumber the pods.
#[derive(Debug, Default)]
pub struct Index {
    namespaces: HashMap<Arc<str>, NamespaceView>,
    by_arn: HashMap<TargetGroupArn, BTreeSet<BindingKey>>,
    addresses: Addresses,
    recently_deleted: RecentlyDeleted,
    shared: Interner,
    dirty: BTreeSet<ObjectKey>,
    /// The namespaces that have pods without a gate that they should have, and how many.
    ungated: BTreeMap<Arc<str>, usize>,
    /// The namespaces of which that is to be counted anew.
    uncounted: BTreeSet<Arc<str>>,
}

impl Index {
    /// What is known of a namespace; `None` where nothing is.
    pub fn namespace(&self, name: &str) -> Option<&NamespaceView> {
        self.namespaces.get(name)
    }

    /// A Service.
    pub fn service(&self, namespace: &str, name: &str) -> Option<&Service> {
        self.namespace(namespace)?.routes.service(name)
    }

    /// A pod that carries a gate of ours.
    pub fn pod(&self, key: &ObjectKey) -> Option<&Arc<Pod>> {
        self.namespace(&key.namespace)?.pods.get(&key.name)
    }

    /// Every binding of a target group, in either API group and any namespace.
    pub fn bindings_of_group(
        &self,
        arn: &TargetGroupArn,
    ) -> impl Iterator<Item = (&BindingKey, &Binding)> {
        let keys = self.by_arn.get(arn).into_iter().flatten();
        keys.filter_map(|key| Some((key, self.binding(key)?)))
    }

    /// A binding.
    pub fn binding(&self, key: &BindingKey) -> Option<&Binding> {
        self.namespace(&key.object.namespace)?
            .routes
            .binding(&key.object.name, key.api)
    }

    /// Whether a binding that a gate may stand for was here, and went lately.
    pub fn saw_binding_go(&self, namespace: &str, gate: &GateName) -> bool {
        self.recently_deleted.had(namespace, gate)
    }

    /// Other pods, living or gone, that are known to have had one of this pod's addresses.
    pub fn former_occupants<'a>(&'a self, pod: &'a Pod) -> impl Iterator<Item = &'a Arc<Pod>> {
        self.addresses.others(pod)
    }

    /// The pods that a change since the last call may concern.
    pub fn take_dirty(&mut self) -> BTreeSet<ObjectKey> {
        mem::take(&mut self.dirty)
    }

    /// Whether [`Self::take_dirty`] would hand over anything.
    pub fn has_dirty(&self) -> bool {
        !self.dirty.is_empty()
    }

    /// The number of pods without a gate that they would be given were they created now, with gates for
    /// bindings of `apis`: live pods, not opted out, of namespaces that opted in. Only what changed since
    /// the last call is looked at.
    pub fn count_ungated(&mut self, apis: &[BindingApi]) -> usize {
        for name in mem::take(&mut self.uncounted) {
            let view = self.namespaces.get_mut(&name);
            match view.map_or(0, |view| view.count_ungated(apis)) {
                0 => self.ungated.remove(&name),
                pods => self.ungated.insert(name, pods),
            };
        }
        self.ungated()
    }

    /// What [`Self::count_ungated`] said last.
    pub fn ungated(&self) -> usize {
        self.ungated.values().sum()
    }

    /// Whether [`Self::count_ungated`] may say something else than before.
    pub fn has_uncounted(&self) -> bool {
        !self.uncounted.is_empty()
    }

    /// A Namespace was created or changed.
    pub fn apply_namespace(&mut self, name: &Arc<str>, namespace: Namespace) {
        if mem::replace(&mut self.entry(name).namespace, namespace) != namespace {
            self.uncounted.insert(name.clone());
        }
        self.forget_if_empty(name);
    }

    /// A Namespace is gone.
    pub fn delete_namespace(&mut self, name: &Arc<str>) {
        self.apply_namespace(name, Namespace::default());
    }

    /// A Service was created or changed.
    pub fn apply_service(&mut self, key: &ObjectKey, service: Service) {
        let routes = &mut self.entry(&key.namespace).routes;
        if routes.apply_service(&key.name, service) {
            self.mark_namespace(&key.namespace);
        }
    }

    /// A Service is gone.
    pub fn delete_service(&mut self, key: &ObjectKey) {
        if let Some(view) = self.namespaces.get_mut(&key.namespace)
            && view.routes.delete_service(&key.name)
        {
            self.mark_namespace(&key.namespace);
            self.forget_if_empty(&key.namespace);
        }
    }

    /// A binding was created or changed.
    pub fn apply_binding(&mut self, namespace: &Arc<str>, binding: Binding) {
        let key = BindingKey {
            object: ObjectKey::new(namespace.clone(), binding.name.clone()),
            api: binding.api,
        };
        if self.binding(&key) == Some(&binding) {
            return;
        }
        let arn = binding.arn.clone();
        let former = self.entry(namespace).routes.apply_binding(binding);
        self.unlink_group(&key, former);
        if let Some(arn) = arn {
            self.by_arn.entry(arn).or_default().insert(key);
        }
        self.mark_namespace(namespace);
    }

    /// A binding is gone.
    pub fn delete_binding(&mut self, key: &BindingKey) {
        let BindingKey { object, api } = key;
        let Some(view) = self.namespaces.get_mut(&object.namespace) else {
            return;
        };
        let former = view.routes.delete_binding(&object.name, *api);
        if former.is_some() {
            self.unlink_group(key, former);
            self.recently_deleted.depart(object);
            self.mark_namespace(&object.namespace);
            self.forget_if_empty(&object.namespace);
        }
    }

    /// A pod was created or changed. Without a gate of ours it is only counted.
    pub fn apply_pod(&mut self, pod: Pod) {
        if self.entry(&pod.key.namespace).ungated_pods.apply(&pod) {
            self.uncounted.insert(pod.key.namespace.clone());
        }
        if pod.gates.is_empty() {
            return self.drop_gated(&pod.key);
        }
        let pod = Arc::new(self.shared.pod(pod));
        self.addresses.apply(&pod);
        let pods = &mut self.entry(&pod.key.namespace).pods;
        let before = pods.insert(pod.key.name.clone(), pod.clone());
        // Replaced under its name while no watch of ours was looking: the former is another pod.
        if let Some(former) = before.filter(|former| former.uid != pod.uid) {
            self.addresses.depart(&former);
        }
        self.dirty.insert(pod.key.clone());
    }

    /// A pod is gone.
    pub fn delete_pod(&mut self, key: &ObjectKey) {
        let Some(view) = self.namespaces.get_mut(&key.namespace) else {
            return;
        };
        if view.ungated_pods.delete(&key.name) {
            self.uncounted.insert(key.namespace.clone());
        }
        self.drop_gated(key);
    }

    /// A pod has no gate of ours, or no more.
    fn drop_gated(&mut self, key: &ObjectKey) {
        let gated = self.namespaces.get_mut(&key.namespace);
        if let Some(pod) = gated.and_then(|view| view.pods.remove(&key.name)) {
            self.addresses.depart(&pod);
            self.dirty.insert(key.clone());
        }
        self.forget_if_empty(&key.namespace);
    }

    /// Namespaces were listed: those that the list does not name are gone.
    pub fn retain_namespaces(&mut self, listing: &Listing) {
        let gone = |name: &&Arc<str>| listing.lacks(&ObjectKey::new("", (*name).clone()));
        let gone: Vec<Arc<str>> = self.namespaces.keys().filter(gone).cloned().collect();
        gone.iter().for_each(|name| self.delete_namespace(name));
    }

    /// Services were listed: those that the list does not name are gone.
    pub fn retain_services(&mut self, listing: &Listing) {
        for key in self.unlisted(listing, |view| {
            view.routes.services().map(|(name, _)| name).collect()
        }) {
            self.delete_service(&key);
        }
    }

    /// The bindings of one API group were listed: those that the list does not name are gone.
    pub fn retain_bindings(&mut self, api: BindingApi, listing: &Listing) {
        for object in self.unlisted(listing, |view| {
            let of_api = view.routes.bindings().filter(|b| b.api == api);
            of_api.map(|binding| &binding.name).collect()
        }) {
            self.delete_binding(&BindingKey { object, api });
        }
    }

    /// Pods were listed: those that the list does not name are gone.
    pub fn retain_pods(&mut self, listing: &Listing) {
        for key in self.unlisted(listing, |view| {
            view.pods.keys().chain(view.ungated_pods.names()).collect()
        }) {
            self.delete_pod(&key);
        }
    }

    fn unlisted(
        &self,
        listing: &Listing,
        names: impl Fn(&NamespaceView) -> Vec<&Arc<str>>,
    ) -> Vec<ObjectKey> {
        let known = self.namespaces.iter().flat_map(|(namespace, view)| {
            let names = names(view).into_iter();
            names.map(|name| ObjectKey::new(namespace.clone(), name.clone()))
        });
        known.filter(|key| listing.lacks(key)).collect()
    }

    fn entry(&mut self, namespace: &Arc<str>) -> &mut NamespaceView {
        self.namespaces.entry(namespace.clone()).or_default()
    }

    fn forget_if_empty(&mut self, namespace: &Arc<str>) {
        if self
            .namespaces
            .get(namespace)
            .is_some_and(NamespaceView::is_empty)
        {
            self.namespaces.remove(namespace);
        }
    }

    /// A binding is no more what it was.
    fn unlink_group(&mut self, key: &BindingKey, former: Option<Binding>) {
        let Some(arn) = former.and_then(|binding| binding.arn) else {
            return;
        };
        if let Some(keys) = self.by_arn.get_mut(&arn) {
            keys.remove(key);
            if keys.is_empty() {
                self.by_arn.remove(&arn);
            }
        }
    }

    /// A Service or binding changed: any pod of its namespace may be concerned.
    fn mark_namespace(&mut self, namespace: &Arc<str>) {
        if let Some(view) = self.namespaces.get_mut(namespace) {
            let waiting = view.pods.values().map(|pod| pod.key.clone());
            self.dirty.extend(waiting);
            view.ungated_pods.reopen();
            self.uncounted.insert(namespace.clone());
        }
    }
}
