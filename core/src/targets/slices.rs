//! EndpointSlices of Services without a selector, whose endpoints are written by hand or by another controller.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use crate::model::{IpFamily, Pod, Protocol, ServicePort};
use crate::names::ObjectKey;

/// An EndpointSlice, as far as it decides which targets are wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slice {
    /// The label `kubernetes.io/service-name`.
    pub service: Arc<str>,
    /// `addressType`; one of FQDN has none and is not kept.
    pub family: IpFamily,
    pub ports: Vec<SlicePort>,
    pub endpoints: Vec<Endpoint>,
}

/// One entry of a slice's `ports`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SlicePort {
    /// The name of the Service's port; empty where that has none.
    pub name: Arc<str>,
    pub protocol: Protocol,
    pub number: u16,
}

/// One entry of a slice's `endpoints`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// The first of `addresses`, which all lead to the same endpoint (Kubernetes).
    pub address: IpAddr,
    /// The pod that `targetRef` names, by name and UID, if it is one of the slice's own namespace.
    pub pod: Option<(Arc<str>, Option<Arc<str>>)>,
    /// The condition `ready`, which is true where it is absent (Kubernetes). It does not count where the endpoint leads
    /// to a pod: one with a gate is not Ready before it is registered, so that each would wait for the other.
    pub ready: bool,
}

/// Which endpoints of EndpointSlices are taken (`--slice-addresses`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum SliceAddresses {
    /// Those that lead to a living pod of their namespace.
    #[default]
    Pods,
    /// Those that name no pod as well.
    Any,
}

impl Endpoint {
    /// Whether the endpoint names this pod of its namespace, with an address that the pod has.
    pub fn leads_to(&self, pod: &Pod) -> bool {
        let named = self.pod.as_ref().is_some_and(|(name, uid)| {
            *name == pod.key.name && uid.as_ref().is_none_or(|uid| *uid == pod.uid)
        });
        named && pod.ips.contains(&self.address)
    }
}

impl Slice {
    /// The number of the port that stands for a port of the Service. It is the slice's own, as kube-proxy takes it.
    pub fn port(&self, of: &ServicePort) -> Option<u16> {
        let name = of.name.as_deref().unwrap_or_default();
        let mut ports = self.ports.iter();
        let found = ports.find(|port| (&*port.name, port.protocol) == (name, of.protocol));
        found.map(|port| port.number)
    }
}

/// All slices, by namespace and Service, and by their own name.
#[derive(Debug, Default)]
pub struct Slices {
    by_service: BTreeMap<ObjectKey, BTreeMap<Arc<str>, Slice>>,
    /// The Service of each slice.
    services: BTreeMap<ObjectKey, ObjectKey>,
}

impl Slices {
    /// Takes in a slice that was created or changed. Returns the Services whose endpoints changed.
    pub fn apply(&mut self, key: &ObjectKey, slice: Slice) -> Vec<ObjectKey> {
        let service = ObjectKey::new(key.namespace.clone(), slice.service.clone());
        let of_service = self.by_service.get(&service);
        if of_service.and_then(|slices| slices.get(&key.name)) == Some(&slice) {
            return vec![];
        }
        let mut changed = self.delete(key);
        changed.retain(|former| *former != service);
        let slices = self.by_service.entry(service.clone()).or_default();
        slices.insert(key.name.clone(), slice);
        self.services.insert(key.clone(), service.clone());
        changed.push(service);
        changed
    }

    /// Removes a slice. Returns its Service, if the slice is known.
    pub fn delete(&mut self, key: &ObjectKey) -> Vec<ObjectKey> {
        let Some(service) = self.services.remove(key) else {
            return vec![];
        };
        if let Some(slices) = self.by_service.get_mut(&service) {
            slices.remove(&key.name);
            if slices.is_empty() {
                self.by_service.remove(&service);
            }
        }
        vec![service]
    }

    /// Removes the slices that a list of all did not return. Returns the Services whose endpoints changed.
    pub fn retain(&mut self, listed: impl Fn(&ObjectKey) -> bool) -> Vec<ObjectKey> {
        let known = self.services.keys();
        let gone: Vec<ObjectKey> = known.filter(|key| !listed(key)).cloned().collect();
        gone.iter().flat_map(|key| self.delete(key)).collect()
    }

    /// The slices of a Service.
    pub fn of(&self, service: &ObjectKey) -> impl Iterator<Item = &Slice> {
        let slices = self.by_service.get(service);
        slices.into_iter().flat_map(BTreeMap::values)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str) -> ObjectKey {
        ObjectKey::new("shop", name)
    }

    fn slice(service: &str, address: [u8; 4]) -> Slice {
        let endpoint = Endpoint {
            address: address.into(),
            pod: None,
            ready: true,
        };
        Slice {
            service: service.into(),
            family: IpFamily::V4,
            ports: vec![],
            endpoints: vec![endpoint],
        }
    }

    #[test]
    fn a_slice_is_known_by_the_service_that_it_names_now() {
        let mut slices = Slices::default();
        assert_eq!(
            slices.apply(&key("s-1"), slice("web", [10, 0, 0, 1])),
            [key("web")]
        );
        assert_eq!(slices.apply(&key("s-1"), slice("web", [10, 0, 0, 1])), []);
        let moved = slices.apply(&key("s-1"), slice("api", [10, 0, 0, 1]));
        assert_eq!(moved, [key("web"), key("api")]);
        assert_eq!(
            (
                slices.of(&key("web")).count(),
                slices.of(&key("api")).count()
            ),
            (0, 1)
        );
        assert_eq!(slices.retain(|_| false), [key("api")]);
        assert_eq!(slices.retain(|_| false), []);
        assert!(slices.by_service.is_empty());
    }

    #[test]
    fn the_port_is_the_slices_own_of_that_name_and_protocol() {
        let port = |name: &str, protocol, number| SlicePort {
            name: name.into(),
            protocol,
            number,
        };
        let slice = Slice {
            ports: vec![
                port("dns", Protocol::Udp, 5353),
                port("dns", Protocol::Tcp, 5354),
                port("", Protocol::Tcp, 8080),
            ],
            ..slice("web", [10, 0, 0, 1])
        };
        let of = |name: Option<&str>, protocol| ServicePort {
            name: name.map(Into::into),
            port: 53,
            protocol,
            target_port: None,
        };
        assert_eq!(slice.port(&of(Some("dns"), Protocol::Tcp)), Some(5354));
        assert_eq!(slice.port(&of(None, Protocol::Tcp)), Some(8080));
        assert_eq!(slice.port(&of(None, Protocol::Udp)), None);
    }
}
