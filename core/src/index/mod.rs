//! The index: an in-memory cache of the cluster, which watches feed and rules query, without I/O or clock.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::mem;
use std::net::IpAddr;
use std::sync::Arc;

use jiff::Timestamp;

use crate::drain::DrainMode;
use crate::model::{Binding, IpFamily, Labels, Namespace, Pod, Service};
use crate::names::{BindingApi, GateName, GroupKey, ObjectKey, TargetGroupArn};

mod addresses;
mod changes;
mod endings;
mod interning;
mod listing;
mod lost;
mod moved_gates;
mod namespace;
mod pods;
mod recently_deleted;
mod remarked;
mod scope;
pub mod services;
#[cfg(test)]
mod tests;
mod ungated;
mod without_gates;

use crate::index::addresses::{Addresses, PodNumber};
use crate::index::endings::Endings;
use crate::index::interning::Interner;
use crate::index::lost::NewlyLost;
use crate::index::pods::PlainPod;
use crate::index::recently_deleted::RecentlyDeleted;

pub use crate::index::changes::Changes;
pub use crate::index::endings::Ending;
pub use crate::index::listing::{Keys, Listing};
pub use crate::index::lost::LostBinding;
pub use crate::index::namespace::NamespaceView;
pub use crate::index::remarked::RemarkedPod;
pub use crate::index::scope::{HookScope, OptIn};
pub use crate::index::without_gates::{SelectedPod, UngatedPod};

/// The key of a binding. Two API groups can serve a binding of the same namespace and name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BindingKey {
    pub object: ObjectKey,
    pub api: BindingApi,
}

/// Times of a pod that the index does not keep with it, by the API server's own clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PodTimes {
    /// `metadata.creationTimestamp`.
    pub created: Option<Timestamp>,
    /// When the API server took the request for its deletion in.
    pub deletion_requested: Option<Timestamp>,
}

/// An in-memory cache of the cluster.
///
/// Each change marks the pods that it may concern as dirty, and [`Index::take_dirty`] returns them. The dirty
/// pods are a set, and therefore bounded by the number of pods.
#[derive(Debug, Default)]
pub struct Index {
    namespaces: HashMap<Arc<str>, NamespaceView>,
    by_arn: HashMap<TargetGroupArn, BTreeSet<BindingKey>>,
    addresses: Addresses,
    /// The namespaces whose pods were listed to the end; `None` stands for the whole cluster.
    listed: BTreeSet<Option<Arc<str>>>,
    recently_deleted: RecentlyDeleted,
    shared: Interner,
    dirty: BTreeSet<ObjectKey>,
    endings: Endings,
    newly_lost: NewlyLost,
    /// The number of ungated pods, for each namespace that has any.
    ungated: BTreeMap<Arc<str>, usize>,
    /// The namespaces whose ungated pods have to be counted anew.
    uncounted: BTreeSet<Arc<str>>,
    /// The number of Namespaces whose label asks for drain.
    drained_namespaces: usize,
    scope: HookScope,
    /// What the registrar has not looked at yet; `None` where there is none.
    changes: Option<Changes>,
    /// The namespaces whose gate rules have to be compared; `None` where nothing writes them.
    rule_changes: Option<BTreeSet<Arc<str>>>,
}

impl Index {
    /// Sets for which pods the hook is called: only these can be ungated.
    pub fn set_scope(&mut self, scope: HookScope) {
        self.scope = scope;
        self.uncounted.extend(self.namespaces.keys().cloned());
    }

    /// Keeps the pods without our gates as well, and notes what changes, for the registrar. To be called before
    /// anything is applied.
    pub fn keep_all_pods(&mut self) {
        self.changes.get_or_insert_default();
    }

    /// Whether [`Self::take_changes`] returns any.
    pub fn has_changes(&self) -> bool {
        let changes = self.changes.as_ref();
        changes.is_some_and(|changes| !changes.is_empty())
    }

    /// Removes and returns what changed since the last call, if all pods are kept.
    pub fn take_changes(&mut self) -> Changes {
        self.changes
            .as_mut()
            .map_or_else(Changes::default, mem::take)
    }

    /// Notes whose bindings or Services change, for the gate rules.
    pub fn note_rule_changes(&mut self) {
        self.rule_changes.get_or_insert_default();
    }

    /// Whether [`Self::take_rule_changes`] returns any.
    pub fn has_rule_changes(&self) -> bool {
        let changes = self.rule_changes.as_ref();
        changes.is_some_and(|changes| !changes.is_empty())
    }

    /// Removes and returns the namespaces whose bindings or Services may have changed since the last call, if that is
    /// noted.
    pub fn take_rule_changes(&mut self) -> BTreeSet<Arc<str>> {
        self.rule_changes
            .as_mut()
            .map_or_else(BTreeSet::default, mem::take)
    }

    /// A namespace; `None` if the index holds nothing of it.
    pub fn namespace(&self, name: &str) -> Option<&NamespaceView> {
        self.namespaces.get(name)
    }

    /// The Service of this namespace and name.
    pub fn service(&self, namespace: &str, name: &str) -> Option<&Service> {
        self.namespace(namespace)?.routes.service(name)
    }

    /// The pod of this key, if it carries one of our gates.
    pub fn pod(&self, key: &ObjectKey) -> Option<&Arc<Pod>> {
        self.namespace(&key.namespace)?.pods.get(&key.name)
    }

    /// The pod of this key, with or without our gates, if all pods are kept; without its gates, as far as it can be a
    /// target.
    pub fn any_pod(&self, key: &ObjectKey) -> Option<Cow<'_, Pod>> {
        let view = self.namespace(&key.namespace)?;
        let gated = view.pods.get(&key.name).map(|pod| Cow::Borrowed(&**pod));
        gated.or_else(|| Some(Cow::Owned(view.all.plain(&view.name, &key.name)?)))
    }

    /// Whether a pod, of whatever namespace, has this address now. Of several that share a node's address, the last
    /// two count.
    pub fn is_held(&self, ip: IpAddr) -> bool {
        self.addresses.is_held(ip)
    }

    /// All bindings of a target group, in either API group and any namespace.
    pub fn bindings_of_group(
        &self,
        arn: &TargetGroupArn,
    ) -> impl Iterator<Item = (&BindingKey, &Binding)> {
        let keys = self.by_arn.get(arn).into_iter().flatten();
        keys.filter_map(|key| Some((key, self.binding(key)?)))
    }

    /// The target groups that bindings of these API groups name by their ARN.
    pub fn named_groups(&self, apis: &[BindingApi]) -> BTreeSet<GroupKey> {
        let keys = self.by_arn.values().flatten();
        let keys = keys.filter(|key| apis.contains(&key.api));
        let group = |binding: &Binding| {
            Some(GroupKey {
                arn: binding.arn.clone()?,
                role: binding.role.clone(),
            })
        };
        keys.filter_map(|key| group(self.binding(key)?)).collect()
    }

    /// The binding of this key.
    pub fn binding(&self, key: &BindingKey) -> Option<&Binding> {
        self.namespace(&key.object.namespace)?
            .routes
            .binding(&key.object.name, key.api)
    }

    /// Whether a binding that a gate may stand for was recently deleted.
    pub fn saw_binding_go(&self, namespace: &str, gate: &GateName) -> bool {
        self.recently_deleted.contains(namespace, gate)
    }

    /// Whether another pod, living or gone, gated or not, had this address of a pod, as far as is known.
    pub fn was_of_another(&self, ip: IpAddr, pod: &Pod) -> bool {
        self.addresses.was_of_another(ip, PodNumber::of(&pod.uid))
    }

    /// Whether this pod was found by the first list, so that pods which ended before are not known.
    pub fn is_of_first_list(&self, pod: &ObjectKey) -> bool {
        let view = self.namespace(&pod.namespace);
        let holder = view.and_then(|view| view.all.holder(&pod.name));
        holder.is_some_and(|holder| holder.of_first_list)
    }

    /// The address families of which a pod has another address since this gate of it was opened, as far as
    /// both were seen.
    pub fn moved(&self, pod: &ObjectKey, gate: &GateName) -> Vec<IpFamily> {
        let view = self.namespace(&pod.namespace);
        view.map_or(vec![], |view| view.moved_gates.families(&pod.name, gate))
    }

    /// The namespaces, in no order.
    pub fn namespaces(&self) -> impl Iterator<Item = (&Arc<str>, &NamespaceView)> {
        self.namespaces.iter()
    }

    /// The live pods of which there is something to tell, gated or not.
    pub fn remarked_pods(&self) -> impl Iterator<Item = RemarkedPod<'_>> {
        let namespaces = self.namespaces.iter();
        namespaces.flat_map(|(name, view)| view.remarked.iter(name))
    }

    /// Whether a pod with these labels gets a gate if it is created now, and not opted out.
    pub fn is_gate_due(&self, namespace: &str, labels: &Labels, apis: &[BindingApi]) -> bool {
        let Some(view) = self.namespaces.get(namespace) else {
            return false;
        };
        let scope = self.scope.of(namespace, &view.namespace);
        let covered = scope.is_some_and(|scope| scope.covers(labels));
        covered && view.routes.lacks_gate(labels, &[], apis)
    }

    /// Removes and returns the dirty pods.
    pub fn take_dirty(&mut self) -> BTreeSet<ObjectKey> {
        mem::take(&mut self.dirty)
    }

    /// Removes and returns what was seen of the ends of pods with open gates. The pods are dirty as well.
    pub fn take_endings(&mut self) -> Vec<Ending> {
        self.endings.take()
    }

    /// Removes and returns the bindings of ip targets that are gone since the last call.
    pub fn take_lost(&mut self) -> Vec<LostBinding> {
        self.newly_lost.take()
    }

    /// Whether [`Self::take_lost`] returns any.
    pub fn has_lost(&self) -> bool {
        !self.newly_lost.is_empty()
    }

    /// Whether a pod is dirty.
    pub fn has_dirty(&self) -> bool {
        !self.dirty.is_empty()
    }

    /// Counts the ungated pods: live pods for which the hook is called, that are not opted out, and that lack a gate
    /// which they would get were they created now, with gates for bindings of `apis`. The count is incremental, and
    /// costs O(changes since the last call).
    pub fn count_ungated(&mut self, apis: &[BindingApi]) -> usize {
        for name in mem::take(&mut self.uncounted) {
            let view = self.namespaces.get_mut(&name);
            let count = |view: &mut NamespaceView| view.count_ungated(apis, &self.scope);
            match view.map_or(0, count) {
                0 => self.ungated.remove(&name),
                pods => self.ungated.insert(name, pods),
            };
        }
        self.ungated()
    }

    /// The result of the last [`Self::count_ungated`].
    pub fn ungated(&self) -> usize {
        self.ungated.values().sum()
    }

    /// Whether the result of [`Self::count_ungated`] may have changed.
    pub fn has_uncounted(&self) -> bool {
        !self.uncounted.is_empty()
    }

    /// Whether the label of a Namespace asks for drain.
    pub fn has_drained_namespace(&self) -> bool {
        self.drained_namespaces > 0
    }

    /// Takes in a Namespace that was created or changed.
    pub fn apply_namespace(&mut self, name: &Arc<str>, namespace: Namespace) {
        let asks = |namespace: &Namespace| namespace.drain.mode() == Some(DrainMode::Sleep);
        self.drained_namespaces += usize::from(asks(&namespace));
        let known = &mut self.entry(name).namespace;
        let former = mem::replace(known, namespace);
        let (other, other_policies) = (former != *known, former.policies != known.policies);
        // The former version was counted when it was taken in.
        self.drained_namespaces -= usize::from(asks(&former));
        if other_policies {
            self.mark_namespace(name);
        } else if other {
            self.uncounted.insert(name.clone());
        }
        self.forget_if_empty(name);
    }

    /// Removes a Namespace.
    pub fn delete_namespace(&mut self, name: &Arc<str>) {
        self.apply_namespace(name, Namespace::default());
    }

    /// Takes in a Service that was created or changed.
    pub fn apply_service(&mut self, key: &ObjectKey, service: Service) {
        let routes = &mut self.entry(&key.namespace).routes;
        if routes.apply_service(&key.name, service) {
            self.note(|changes| _ = changes.services.insert(key.clone()));
            self.mark_namespace(&key.namespace);
        }
    }

    /// Removes a Service.
    pub fn delete_service(&mut self, key: &ObjectKey) {
        if let Some(view) = self.namespaces.get_mut(&key.namespace)
            && view.routes.delete_service(&key.name)
        {
            self.note(|changes| _ = changes.services.insert(key.clone()));
            self.mark_namespace(&key.namespace);
            self.forget_if_empty(&key.namespace);
        }
    }

    /// Takes in a binding that was created or changed.
    pub fn apply_binding(&mut self, namespace: &Arc<str>, binding: Binding) {
        let key = BindingKey {
            object: ObjectKey::new(namespace.clone(), binding.name.clone()),
            api: binding.api,
        };
        if self.binding(&key) == Some(&binding) {
            return;
        }
        self.note(|changes| _ = changes.bindings.insert(key.clone()));
        let arn = binding.arn.clone();
        let former = self.entry(namespace).routes.apply_binding(binding);
        self.unlink_group(&key, former);
        if let Some(arn) = arn {
            self.by_arn.entry(arn).or_default().insert(key);
        }
        self.mark_namespace(namespace);
    }

    /// Removes a binding.
    pub fn delete_binding(&mut self, key: &BindingKey) {
        let BindingKey { object, api } = key;
        let Some(view) = self.namespaces.get_mut(&object.namespace) else {
            return;
        };
        let former = view.routes.delete_binding(&object.name, *api);
        if let Some(lost) = &former {
            self.newly_lost.push(&object.namespace, lost);
            self.note(|changes| _ = changes.bindings.insert(key.clone()));
            self.unlink_group(key, former);
            self.recently_deleted.insert(object);
            self.mark_namespace(&object.namespace);
            self.forget_if_empty(&object.namespace);
        }
    }

    /// Takes in a pod that was created or changed. A pod without our gates is only counted, and its addresses
    /// are noted, unless all pods are kept.
    pub fn apply_pod(&mut self, pod: Pod) {
        self.apply_pod_at(pod, PodTimes::default());
    }

    /// As [`Self::apply_pod`], with what is known of when it began and ends.
    pub fn apply_pod_at(&mut self, mut pod: Pod, times: PodTimes) {
        let of_first_list = self.is_unlisted(&pod.key.namespace);
        let view = NamespaceView::entry(&mut self.namespaces, &pod.key.namespace);
        pod.key.namespace = view.name.clone();
        let addresses = &mut self.addresses;
        let (known, changed) = view.all.apply(&mut pod, of_first_list, addresses);
        if let Some(created) = times.created {
            known.holder.date(created);
        }
        let shared = &mut self.shared;
        let intern = |controller| shared.controller(controller);
        if view.classes.apply(&pod, &mut known.class, intern) {
            self.uncounted.insert(pod.key.namespace.clone());
        }
        let mut intern = |template| shared.template(template);
        view.remarked.apply(&pod, &mut intern);
        if let Some(changes) = &mut self.changes {
            changes.pods.insert(pod.key.clone());
            let plain = pod.gates.is_empty();
            known.plain = plain.then(|| Box::new(PlainPod::of(&pod, intern)));
        }
        if pod.gates.is_empty() {
            return self.drop_gated(&pod.key, Ending::Missed);
        }
        view.moved_gates.apply(&pod, &changed);
        let pod = Arc::new(self.shared.pod(pod));
        let former = view.pods.insert(pod.key.name.clone(), pod.clone());
        self.endings.replace(former, &pod, times.deletion_requested);
        self.dirty.insert(pod.key.clone());
    }

    /// Whether the first list of a namespace's pods is not complete.
    fn is_unlisted(&self, namespace: &Arc<str>) -> bool {
        !self.listed.contains(&None) && !self.listed.contains(&Some(namespace.clone()))
    }

    /// Removes a pod that is gone, or has finished, as a watch shows.
    pub fn delete_pod(&mut self, key: &ObjectKey) {
        if let Some(uid) = self.any_pod(key).map(|pod| pod.uid.clone()) {
            self.note(|changes| _ = changes.deleted.insert((key.clone(), uid)));
        }
        self.remove_pod(key, Ending::Ended);
    }

    fn remove_pod(&mut self, key: &ObjectKey, ending: fn(Arc<Pod>) -> Ending) {
        self.note(|changes| _ = changes.pods.insert(key.clone()));
        let Some(view) = self.namespaces.get_mut(&key.namespace) else {
            return;
        };
        let class = view.all.delete(&key.name, &mut self.addresses);
        view.remarked.delete(&key.name);
        if view.classes.delete(class) {
            self.uncounted.insert(key.namespace.clone());
        }
        self.drop_gated(key, ending);
    }

    /// Removes a pod from the gated ones.
    fn drop_gated(&mut self, key: &ObjectKey, ending: fn(Arc<Pod>) -> Ending) {
        if let Some(view) = self.namespaces.get_mut(&key.namespace)
            && let Some(pod) = view.pods.remove(&key.name)
        {
            self.endings.push(ending(pod));
            view.moved_gates.delete(&key.name);
            self.dirty.insert(key.clone());
        }
        self.forget_if_empty(&key.namespace);
    }

    /// Removes the Namespaces that a list did not return.
    pub fn retain_namespaces(&mut self, listing: &Listing) {
        let gone = |name: &&Arc<str>| listing.lacks(&ObjectKey::new("", (*name).clone()));
        let gone: Vec<Arc<str>> = self.namespaces.keys().filter(gone).cloned().collect();
        gone.iter().for_each(|name| self.delete_namespace(name));
    }

    /// Removes the Services that a list did not return.
    pub fn retain_services(&mut self, listing: &Listing) {
        for key in self.unlisted(listing, |view| {
            view.routes.services().map(|(name, _)| name).collect()
        }) {
            self.delete_service(&key);
        }
    }

    /// Removes the bindings of one API group that a list did not return.
    pub fn retain_bindings(&mut self, api: BindingApi, listing: &Listing) {
        for object in self.unlisted(listing, |view| {
            let of_api = view.routes.bindings().filter(|b| b.api == api);
            of_api.map(|binding| &binding.name).collect()
        }) {
            self.delete_binding(&BindingKey { object, api });
        }
    }

    /// Removes the pods that a list did not return.
    pub fn retain_pods(&mut self, listing: &Listing) {
        for key in self.unlisted(listing, |view| view.all.names().collect()) {
            self.remove_pod(&key, Ending::Missed);
        }
        self.listed.insert(listing.namespace.clone());
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

    /// Notes a change for the registrar, where there is one.
    fn note(&mut self, change: impl FnOnce(&mut Changes)) {
        if let Some(changes) = &mut self.changes {
            change(changes);
        }
    }

    fn entry(&mut self, namespace: &Arc<str>) -> &mut NamespaceView {
        NamespaceView::entry(&mut self.namespaces, namespace)
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

    /// Removes a former binding from the index by target group.
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

    /// Marks all pods of a namespace as dirty, because a change to a Service or binding may concern any.
    fn mark_namespace(&mut self, namespace: &Arc<str>) {
        if let Some(changes) = &mut self.rule_changes {
            changes.insert(namespace.clone());
        }
        if let Some(view) = self.namespaces.get_mut(namespace) {
            let waiting = view.pods.values().map(|pod| pod.key.clone());
            self.dirty.extend(waiting);
            view.classes.reopen();
            self.uncounted.insert(namespace.clone());
        }
    }
}
