//! Endpoints of a Service without a selector: which lead to a pod, which are taken without one, and which are left out.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::index::{Changes, Index};
use crate::model::{Binding, Pod, ServicePort};
use crate::names::ObjectKey;
use crate::reason::Reason;
use crate::targets::Target;
use crate::targets::slices::{Endpoint, Slice, SliceAddresses, Slices};
use crate::targets::wanted::member::{Member, Placed};
use crate::targets::wanted::{Members, Touched, Wanted, route};

/// The endpoints of a binding that are left out, as targets, each with the pod that it names, if it names one. One that
/// names a pod is left out for a moment whenever that pod ends.
pub type LeftOut = BTreeMap<Target, Option<Arc<str>>>;

impl Wanted {
    /// Works out anew which endpoints are left out where pods have changed that they may lead to.
    pub(super) fn leave_out(
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
                && members.leave_out(binding, index, slices)
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

    /// The targets of a pod that slices name, with that very address: one for each port that they give it.
    pub(super) fn endpoints(
        &self,
        binding: &Binding,
        pod: &Pod,
        port: &ServicePort,
        slices: &Slices,
    ) -> BTreeSet<Target> {
        let all = self.slices(binding, slices).filter_map(|slice| {
            let number = slice.port(port)?;
            let endpoints = slice.endpoints.iter();
            let found = endpoints.filter(|endpoint| endpoint.leads_to(pod));
            Some(found.map(move |endpoint| (endpoint.address, number)))
        });
        all.flatten().collect()
    }

    pub(super) fn take(&mut self, pod: &ObjectKey) -> Option<Placed> {
        let further = self.further.remove(pod).unwrap_or_default();
        Some((self.pods.remove(pod)?, further))
    }

    pub(super) fn put(&mut self, pod: &ObjectKey, (member, further): Placed) {
        self.pods.insert(pod.clone(), member);
        if !further.is_empty() {
            self.further.insert(pod.clone(), further);
        }
    }

    /// Each target of each pod.
    pub(super) fn targets(
        &self,
    ) -> impl Iterator<Item = (&ObjectKey, Result<Target, Reason>, &Member)> {
        self.pods.iter().flat_map(|(pod, member)| {
            let further = self.further.get(pod).into_iter().flatten();
            let further = further.map(|target| Ok(*target));
            let all = [member.target].into_iter().chain(further);
            all.map(move |target| (pod, target, member))
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

    /// Works out which endpoints are left out. Returns whether they are others than before.
    ///
    /// What several slices have counts once, and not at all if one of them leads to it.
    pub(super) fn leave_out(&mut self, binding: &Binding, index: &Index, slices: &Slices) -> bool {
        let service = index.service(&self.service.namespace, &self.service.name);
        let port = route(binding, service).ok().map(|(_, port)| port);
        let (mut taken, mut left_out) = (BTreeSet::new(), LeftOut::new());
        for slice in self.slices(binding, slices) {
            let Some(number) = port.and_then(|port| slice.port(port)) else {
                continue;
            };
            for endpoint in &slice.endpoints {
                let target = (endpoint.address, number);
                if self.takes(endpoint, index) {
                    taken.insert(target);
                    continue;
                }
                let pod = endpoint.pod.as_ref().map(|(name, _)| name.clone());
                let known = left_out.entry(target).or_insert_with(|| pod.clone());
                *known = known.take().and(pod);
            }
        }
        left_out.retain(|target, _| !taken.contains(target));
        let changed = self.left_out != left_out;
        self.left_out = left_out;
        changed
    }

    fn takes(&self, endpoint: &Endpoint, index: &Index) -> bool {
        let Some((name, _)) = &endpoint.pod else {
            return self.takes_podless();
        };
        let key = ObjectKey::new(self.service.namespace.clone(), name.clone());
        let pod = index.any_pod(&key).filter(|pod| pod.is_live());
        pod.is_some_and(|pod| endpoint.leads_to(&pod))
    }
}
