//! Namespaces and CustomResourceDefinitions: the objects that they hold, and when they are removed.

use super::{
    Inner,
    kinds::Served,
    store::{Key, Scan},
    target::Target,
};

/// Whether objects of this resource are removed only after the objects that they hold.
pub(super) fn holds_content(served: &Served) -> bool {
    served.is("", "namespaces") || served.is("apiextensions.k8s.io", "customresourcedefinitions")
}

impl Inner {
    /// All objects that are deleted together with a Namespace or a CustomResourceDefinition.
    pub(super) fn content(&self, holder: &Target) -> Vec<Target> {
        let resources: Vec<_> = self
            .store
            .catalog(|catalog| catalog.all().cloned().collect());
        let is_namespace = holder.served.is("", "namespaces");
        let is_crd = holder
            .served
            .is("apiextensions.k8s.io", "customresourcedefinitions");
        let mut found = Vec::new();
        for resource in &resources {
            let namespace = match (is_namespace, is_crd) {
                (true, _) if resource.namespaced && resource.group == resource.kept_in => {
                    Some(holder.name.as_str())
                }
                (_, true) if resource.crd.as_deref() == Some(&holder.name) => None,
                _ => continue,
            };
            let Some(served) = resource
                .versions
                .iter()
                .find(|version| version.stored)
                .and_then(|version| resource.in_version(&version.name))
            else {
                continue;
            };
            let page = self.store.list(&Scan::all(resource, namespace));
            found.extend(page.items.into_iter().map(|(key, _)| Target {
                served: served.clone(),
                namespace: key.namespace,
                name: key.name,
                subresource: String::new(),
            }));
        }
        found
    }

    /// Removes the Namespace or definition of an object that is gone, if it was the last one that
    /// they held.
    pub(super) fn reap(&self, gone: &Key) {
        if !gone.namespace.is_empty() {
            self.reap_holder(&Key::new(&self.namespaces(), "", &gone.namespace));
        }
        let definition = self.store.catalog(|catalog| {
            let mut all = catalog.all();
            let resource = all.find(|r| r.kept_in == gone.group && r.plural == gone.resource)?;
            resource.crd.clone()
        });
        if let Some(name) = definition
            && let Some(definitions) =
                self.served("apiextensions.k8s.io", "v1", "customresourcedefinitions")
        {
            self.reap_holder(&Key::new(&definitions.resource, "", &name));
        }
    }

    /// Removes a terminating Namespace or definition that no longer holds any object.
    pub(super) fn reap_holder(&self, key: &Key) {
        let Some(holder) = self.store.read(key) else {
            return;
        };
        let Some(served) = self
            .store
            .catalog(|catalog| catalog.find(&key.group, "v1", &key.resource))
        else {
            return;
        };
        let target = Target {
            served,
            namespace: String::new(),
            name: key.name.clone(),
            subresource: String::new(),
        };
        if holder.is_terminating() && !holder.has_finalizers() && self.content(&target).is_empty() {
            // If another writer got ahead, the next removal tries again.
            let _ = self.store.commit(key, Some(holder.version()), None);
        }
    }
}
