//! What changed since the registrar last looked: it works out anew which targets are wanted, for these objects alone.

use std::collections::BTreeSet;
use std::mem;
use std::sync::Arc;

use crate::index::{BindingKey, Index};
use crate::names::ObjectKey;

/// The objects that changed, or that there are no more. Sets, and therefore bounded by the number of objects.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Changes {
    pub pods: BTreeSet<ObjectKey>,
    /// The pods, by key and UID, of which a watch said that they were deleted. A pod that a list did not return is
    /// not among them.
    pub deleted: BTreeSet<(ObjectKey, Arc<str>)>,
    pub services: BTreeSet<ObjectKey>,
    pub bindings: BTreeSet<BindingKey>,
}

impl Changes {
    /// Whether nothing changed.
    pub fn is_empty(&self) -> bool {
        self == &Self::default()
    }
}

impl Index {
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

    /// Notes a change for the registrar, where there is one.
    pub(super) fn note(&mut self, change: impl FnOnce(&mut Changes)) {
        if let Some(changes) = &mut self.changes {
            change(changes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::{binding, pod, service};
    use crate::index::Listing;
    use crate::names::BindingApi;

    fn key(name: &str) -> ObjectKey {
        ObjectKey::new("shop", name)
    }

    fn keeping() -> Index {
        let mut index = Index::default();
        index.keep_all_pods();
        index
    }

    #[test]
    fn pods_are_kept_with_gates_and_without_only_where_that_is_asked_for() {
        let apply = |mut index: Index| {
            index.apply_pod(pod("gated").gate("web").ip("10.0.0.1"));
            index.apply_pod(pod("plain").ip("10.0.0.2"));
            index
        };
        let index = apply(keeping());
        let view = index.namespace("shop").unwrap();
        let names = view.all_pods().map(|pod| pod.key.name.clone());
        assert!(names.eq(["gated", "plain"].map(Into::into)));
        assert!(index.any_pod(&key("plain")).is_some() && index.pod(&key("plain")).is_none());
        let index = apply(Index::default());
        assert!(index.any_pod(&key("plain")).is_none() && !index.has_changes());
    }

    #[test]
    fn each_change_is_noted_once() {
        let mut index = keeping();
        index.apply_pod(pod("web-1"));
        index.apply_service(&key("web"), service());
        index.apply_service(&key("web"), service());
        index.apply_binding(&"shop".into(), binding("web"));
        let changes = index.take_changes();
        assert_eq!(changes.pods, [key("web-1")].into());
        assert_eq!(changes.services, [key("web")].into());
        let binding = BindingKey {
            object: key("web"),
            api: BindingApi::Elbv2,
        };
        assert_eq!(changes.bindings, [binding].into());
        assert!(!index.has_changes() && index.take_changes().is_empty());
    }

    #[test]
    fn a_pod_that_was_deleted_is_told_from_one_that_a_list_lacks() {
        let mut index = keeping();
        index.apply_pod(pod("web-1").ip("10.0.0.1"));
        index.apply_pod(pod("web-2").ip("10.0.0.2"));
        index.take_changes();
        index.delete_pod(&key("web-1"));
        index.retain_pods(&Listing::default());
        let changes = index.take_changes();
        assert_eq!(changes.pods, [key("web-1"), key("web-2")].into());
        assert_eq!(changes.deleted, [(key("web-1"), "uid-web-1".into())].into());
        assert!(index.any_pod(&key("web-2")).is_none());
    }

    #[test]
    fn an_address_is_held_while_any_pod_has_it() {
        let mut index = keeping();
        let ip = "10.0.0.1".parse().unwrap();
        index.apply_pod(pod("web-1").ip("10.0.0.1"));
        assert!(index.is_held(ip));
        index.delete_pod(&key("web-1"));
        assert!(!index.is_held(ip));
    }
}
