//! The index: an in-memory cache of the cluster, which watches feed and rules query, without I/O or clock.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::mem;
use std::net::IpAddr;
use std::sync::Arc;

use crate::model::{Binding, IpFamily, Labels, Pod, Service};
use crate::names::{BindingApi, GateName, GroupKey, ObjectKey, TargetGroupArn};

mod addresses;
mod changes;
mod endings;
mod feed;
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
use crate::index::recently_deleted::RecentlyDeleted;

pub use crate::index::changes::Changes;
pub use crate::index::endings::Ending;
pub use crate::index::feed::PodTimes;
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

    /// Whether a pod is dirty.
    pub fn has_dirty(&self) -> bool {
        !self.dirty.is_empty()
    }

    /// Whether the label of a Namespace asks for drain.
    pub fn has_drained_namespace(&self) -> bool {
        self.drained_namespaces > 0
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
}
