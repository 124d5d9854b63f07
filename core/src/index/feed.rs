//! What watches and lists feed in: objects that were created, changed or deleted, or that a list lacks.

use std::mem;
use std::sync::Arc;

use jiff::Timestamp;

use crate::drain::DrainMode;
use crate::index::endings::Ending;
use crate::index::listing::Listing;
use crate::index::pods::PlainPod;
use crate::index::{BindingKey, Index, NamespaceView};
use crate::model::{Binding, Namespace, Pod, Service};
use crate::names::{BindingApi, ObjectKey};

/// Times of a pod that the index does not keep with it, by the API server's own clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PodTimes {
    /// `metadata.creationTimestamp`.
    pub created: Option<Timestamp>,
    /// When the API server took the request for its deletion in.
    pub deletion_requested: Option<Timestamp>,
}

impl Index {
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
