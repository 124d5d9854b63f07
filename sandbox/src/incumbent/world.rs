//! What the double of the incumbent knows of the cluster.

use k8s_openapi::api::core::v1::{Pod, Service};
use kube::runtime::reflector::Store;

use crate::binding::TargetGroupBinding;
use crate::watched::is_listed;

pub(super) struct World {
    pub(super) bindings: Store<TargetGroupBinding>,
    pub(super) services: Store<Service>,
    pub(super) pods: Store<Pod>,
}

impl World {
    /// Whether all of it has been listed.
    pub(super) fn is_listed(&self) -> bool {
        is_listed(&self.bindings) && is_listed(&self.services) && is_listed(&self.pods)
    }
}
