//! How objects of each watched kind change the index.

use std::sync::Arc;

use serde::de::{DeserializeOwned, IgnoredAny};
use targetgate_core::binding::spec::TargetGroupBindingSpec;
use targetgate_core::index::{BindingKey, Index, Listing};
use targetgate_core::names::{BindingApi, ConditionPrefix, ObjectKey};

use crate::kubernetes::decode::{
    BindingObject, NamespaceObject, Object, PodObject, PodSpec, PodStatus, ServiceObject,
    ServiceSpec, Unreadable, binding, namespace, pod, service,
};

/// How objects of one kind change the index.
pub(super) trait Feed: Send + Sync + 'static {
    /// The fields that are read of the spec.
    type Spec: DeserializeOwned + Send;
    /// The fields that are read of the status.
    type Status: DeserializeOwned + Send;

    /// Applies an object that was listed, created or changed.
    fn apply(
        &self,
        index: &mut Index,
        object: Object<Self::Spec, Self::Status>,
    ) -> Result<(), Unreadable>;

    /// Removes a deleted object.
    fn delete(&self, index: &mut Index, key: &ObjectKey);

    /// Removes the objects that a complete list does not name.
    fn retain(&self, index: &mut Index, listing: &Listing);
}

pub(super) struct Namespaces;

impl Feed for Namespaces {
    type Spec = IgnoredAny;
    type Status = IgnoredAny;

    fn apply(&self, index: &mut Index, object: NamespaceObject) -> Result<(), Unreadable> {
        let (name, namespace) = namespace(object)?;
        index.apply_namespace(&name, namespace);
        Ok(())
    }

    fn delete(&self, index: &mut Index, key: &ObjectKey) {
        index.delete_namespace(&key.name);
    }

    fn retain(&self, index: &mut Index, listing: &Listing) {
        index.retain_namespaces(listing);
    }
}

pub(super) struct Services;

impl Feed for Services {
    type Spec = ServiceSpec;
    type Status = IgnoredAny;

    fn apply(&self, index: &mut Index, object: ServiceObject) -> Result<(), Unreadable> {
        let (key, service) = service(object)?;
        index.apply_service(&key, service);
        Ok(())
    }

    fn delete(&self, index: &mut Index, key: &ObjectKey) {
        index.delete_service(key);
    }

    fn retain(&self, index: &mut Index, listing: &Listing) {
        index.retain_services(listing);
    }
}

pub(super) struct Pods(pub(super) Arc<[ConditionPrefix]>);

impl Feed for Pods {
    type Spec = PodSpec;
    type Status = PodStatus;

    fn apply(&self, index: &mut Index, object: PodObject) -> Result<(), Unreadable> {
        let requested = object.deletion_requested();
        index.apply_pod_deleted_at(pod(object, &self.0)?, requested);
        Ok(())
    }

    fn delete(&self, index: &mut Index, key: &ObjectKey) {
        index.delete_pod(key);
    }

    fn retain(&self, index: &mut Index, listing: &Listing) {
        index.retain_pods(listing);
    }
}

pub(super) struct Bindings(pub(super) BindingApi);

impl Feed for Bindings {
    type Spec = TargetGroupBindingSpec;
    type Status = IgnoredAny;

    fn apply(&self, index: &mut Index, object: BindingObject) -> Result<(), Unreadable> {
        let (namespace, binding) = binding(object, self.0)?;
        index.apply_binding(&namespace, binding);
        Ok(())
    }

    fn delete(&self, index: &mut Index, key: &ObjectKey) {
        let object = key.clone();
        index.delete_binding(&BindingKey {
            object,
            api: self.0,
        });
    }

    fn retain(&self, index: &mut Index, listing: &Listing) {
        index.retain_bindings(self.0, listing);
    }
}
