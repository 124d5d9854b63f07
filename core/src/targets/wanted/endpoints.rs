//! Endpoints of a Service without a selector: which lead to a pod, which are taken without one, and which are left out.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::index::{Changes, Index};
use crate::model::{Binding, Pod, ServicePort};
use crate::names::ObjectKey;
use crate::targets::Target;
use crate::targets::slices::{Endpoint, Slice, SliceAddresses, Slices};
use crate::targets::wanted::{GroupWants, Members, Touched, Wanted};

/// The endpoints of a binding that are left out.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct LeftOut {
    /// All of them.
    number: usize,
    /// Whether some name no pod at all. One that names a pod is left out for a moment whenever that pod ends.
    podless: bool,
}

impl LeftOut {
    pub(super) fn add_to(self, wants: &mut GroupWants) {
        wants.left_out += self.number;
        wants.has_podless_left_out |= self.podless;
    }
}

impl Wanted {
    /// Counts anew which endpoints are left out where pods have changed that they may lead to.
    pub(super) fn recount(
        &mut self,
        changes: &Changes,
        index: &Index,
        slices: &Slices,
        touched: &mut Touched,
    ) {
        let pods = changes.pods.iter();
        let namespaces: BTreeSet<&Arc<str>> = pods.map(|pod| &pod.namespace).collect();
        let by_slices = self.bindings.iter_mut().filter(|(key, members)| {
            members.by_slices && namespaces.contains(&key.object.namespace)
        });
        for (key, members) in by_slices {
            if let Some(binding) = index.binding(key)
                && members.count_left_out(binding, index, slices)
            {
                touched.groups.insert(members.group.clone());
            }
        }
    }
}

impl Members {
    /// The slices of the binding's family, where the Service has no selector.
    fn slices<'a>(
        &'a self,
        binding: &Binding,
        slices: &'a Slices,
    ) -> impl Iterator<Item = &'a Slice> + use<'a> {
        let (by_slices, family) = (self.by_slices, binding.family);
        let of_service = slices.of(&self.service);
        of_service.filter(move |slice| by_slices && slice.family == family)
    }

    pub(super) fn takes_podless(&self) -> bool {
        self.by_slices && self.slice_addresses == SliceAddresses::Any
    }

    /// The target of a pod that a slice names, with that very address.
    pub(super) fn endpoint(
        &self,
        binding: &Binding,
        pod: &Pod,
        port: &ServicePort,
        slices: &Slices,
    ) -> Option<Target> {
        self.slices(binding, slices).find_map(|slice| {
            let number = slice.port(port)?;
            let mut endpoints = slice.endpoints.iter();
            let found = endpoints.find(|endpoint| endpoint.leads_to(pod))?;
            Some((found.address, number))
        })
    }

    /// Brings the targets that no pod has up to date: endpoints that name no pod, where these are taken.
    pub(super) fn take_podless(&mut self, binding: &Binding, port: &ServicePort, slices: &Slices) {
        let mut podless = BTreeMap::new();
        let slices = self
            .slices(binding, slices)
            .filter(|_| self.takes_podless());
        for slice in slices {
            let number = slice.port(port).into_iter();
            let endpoints = slice.endpoints.iter();
            let endpoints = endpoints.filter(|endpoint| endpoint.pod.is_none());
            let targets = number.flat_map(|number| {
                let target =
                    move |endpoint: &Endpoint| ((endpoint.address, number), endpoint.ready);
                endpoints.clone().map(target)
            });
            // An endpoint that two slices have is ready if it is in one of them.
            for (target, ready) in targets {
                *podless.entry(target).or_default() |= ready;
            }
        }
        self.podless = podless;
    }

    /// Counts the endpoints that are left out. Returns whether they are others than before.
    pub(super) fn count_left_out(
        &mut self,
        binding: &Binding,
        index: &Index,
        slices: &Slices,
    ) -> bool {
        let mut left_out = LeftOut::default();
        let endpoints = self.slices(binding, slices);
        for endpoint in endpoints.flat_map(|slice| &slice.endpoints) {
            let is_taken = match &endpoint.pod {
                Some((name, _)) => {
                    let key = ObjectKey::new(self.service.namespace.clone(), name.clone());
                    let pod = index.any_pod(&key).filter(|pod| pod.is_live());
                    pod.is_some_and(|pod| endpoint.leads_to(pod))
                }
                None => self.takes_podless(),
            };
            if !is_taken {
                left_out.number += 1;
                left_out.podless |= endpoint.pod.is_none();
            }
        }
        std::mem::replace(&mut self.left_out, left_out) != left_out
    }
}
