//! All pods of a namespace, gated or not. There can be many, so that little is kept of each.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use crate::index::addresses::{Addresses, Holder, PodNumber};
use crate::index::ungated::PodClass;
use crate::model::{IpFamily, Pod, PodTemplate, Policies};
use crate::names::ObjectKey;
use crate::packed::{PackedTime, PackedUid};

/// The pods of a namespace, by name.
#[derive(Debug, Default)]
pub(crate) struct Pods(BTreeMap<Arc<str>, Known>);

#[derive(Debug)]
pub(crate) struct Known {
    pub(crate) holder: Holder,
    /// `None` of a pod that cannot lack a gate.
    pub(crate) class: Option<Arc<PodClass>>,
    /// What the registrar needs of a pod without our gates; `None` of all others.
    pub(crate) plain: Option<Box<PlainPod>>,
}

impl Pods {
    /// Takes in a pod, in place of its former version or of the pod that had its name, with the name as it is known
    /// already. Returns what is kept of it, and the families of which it has another address than before.
    pub(crate) fn apply(
        &mut self,
        pod: &mut Pod,
        of_first_list: bool,
        addresses: &mut Addresses,
    ) -> (&mut Known, Vec<IpFamily>) {
        let number = PodNumber::of(&pod.uid);
        let new = || Holder::new(number, of_first_list);
        let entry = self.0.entry(pod.key.name.clone());
        pod.key.name = entry.key().clone();
        let known = entry.or_insert_with(|| Known {
            holder: new(),
            class: None,
            plain: None,
        });
        known.plain = None;
        let holder = &mut known.holder;
        // A pod can be replaced under its name while the watch is interrupted. The previous pod then never had
        // a DELETE event, but its address counts as used.
        if !holder.is_of(number) {
            holder.leave(addresses);
            *holder = new();
        }
        let families = IpFamily::ALL.into_iter();
        let changed = families.filter(|family| holder.see(*family, pod, addresses));
        let changed = changed.collect();
        (known, changed)
    }

    /// The pod of this name, if it is kept.
    pub(crate) fn plain(&self, namespace: &Arc<str>, name: &str) -> Option<Pod> {
        let (name, known) = self.0.get_key_value(name)?;
        let plain = known.plain.as_ref()?;
        Some(plain.pod(ObjectKey::new(namespace.clone(), name.clone())))
    }

    /// The pods that are kept.
    pub(crate) fn all_plain(&self) -> impl Iterator<Item = (&Arc<str>, &PlainPod)> {
        let all = self.0.iter();
        all.filter_map(|(name, known)| Some((name, known.plain.as_deref()?)))
    }

    /// The pods that could lack a gate, with their classes.
    pub(crate) fn classes(&self) -> impl Iterator<Item = (&Arc<str>, &Arc<PodClass>)> {
        let all = self.0.iter();
        all.filter_map(|(name, known)| Some((name, known.class.as_ref()?)))
    }

    /// Removes a pod, whose addresses stay known for a while. Returns its class.
    pub(crate) fn delete(
        &mut self,
        name: &str,
        addresses: &mut Addresses,
    ) -> Option<Arc<PodClass>> {
        let known = self.0.remove(name)?;
        known.holder.leave(addresses);
        known.class
    }

    pub(crate) fn holder(&self, name: &str) -> Option<&Holder> {
        Some(&self.0.get(name)?.holder)
    }

    pub(crate) fn names(&self) -> impl Iterator<Item = &Arc<str>> {
        self.0.keys()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// A pod without our gates, as far as it can be a target. A pod has at most one address of each family (Kubernetes).
#[derive(Debug)]
pub(crate) struct PlainPod {
    uid: PackedUid,
    template: Arc<PodTemplate>,
    containers_ready: PackedTime,
    v4: Option<Ipv4Addr>,
    v6: Option<Box<Ipv6Addr>>,
    host_network: bool,
    terminating: bool,
    finished: bool,
}

impl PlainPod {
    /// What is kept of a pod, whose template `intern` interns.
    pub(crate) fn of(pod: &Pod, intern: impl FnOnce(Arc<PodTemplate>) -> Arc<PodTemplate>) -> Self {
        let ips = || pod.ips.iter();
        let v4 = |ip: &IpAddr| match ip {
            IpAddr::V4(ip) => Some(*ip),
            IpAddr::V6(_) => None,
        };
        let v6 = |ip: &IpAddr| match ip {
            IpAddr::V4(_) => None,
            IpAddr::V6(ip) => Some(Box::new(*ip)),
        };
        Self {
            uid: PackedUid::of(&pod.uid),
            template: intern(pod.template.clone()),
            containers_ready: PackedTime::of(pod.containers_ready),
            v4: ips().find_map(v4),
            v6: ips().find_map(v6),
            host_network: pod.host_network,
            terminating: pod.terminating,
            finished: pod.finished,
        }
    }

    pub(crate) fn template(&self) -> &PodTemplate {
        &self.template
    }

    /// The pod, without what only gates need.
    pub(crate) fn pod(&self, key: ObjectKey) -> Pod {
        let v4 = self.v4.map(IpAddr::V4);
        let v6 = self.v6.as_deref().copied().map(IpAddr::V6);
        let ips = v4.into_iter().chain(v6).collect();
        Pod {
            key,
            uid: self.uid.text(),
            resource_version: Arc::default(),
            template: self.template.clone(),
            opted_out: false,
            policies: Policies::default(),
            gates: vec![],
            host_network: self.host_network,
            ips,
            containers_ready: self.containers_ready.time(),
            started: None,
            terminating: self.terminating,
            finished: self.finished,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::pod;

    const SHARED: &str = "10.0.0.1";

    fn is_used(addresses: &Addresses, by: &str, at: &str) -> bool {
        addresses.was_of_another(at.parse().unwrap(), PodNumber::of(by))
    }

    #[test]
    fn what_makes_a_target_is_kept_of_a_pod_without_gates() {
        let mut whole = pod("web-1")
            .label("app", "web")
            .named_port("http", 8080)
            .controlled_by("web-5d")
            .ip("10.0.0.1")
            .ip("fd00::1")
            .ready();
        for (host_network, terminating, finished) in [
            (true, false, false),
            (false, true, false),
            (false, false, true),
        ] {
            (whole.host_network, whole.terminating) = (host_network, terminating);
            whole.finished = finished;
            let kept = PlainPod::of(&whole, |template| template).pod(whole.key.clone());
            let expected = Pod {
                resource_version: "".into(),
                started: None,
                ..whole.clone()
            };
            assert_eq!(kept, expected);
        }
    }

    #[test]
    fn a_pod_that_is_kept_is_small() {
        assert!(size_of::<PlainPod>() <= 56, "{}", size_of::<PlainPod>());
        assert!(size_of::<Known>() <= 40, "{}", size_of::<Known>());
    }

    #[test]
    fn an_address_that_a_pod_had_before_its_last_one_is_forgotten_as_well() {
        let (mut pods, mut addresses) = (Pods::default(), Addresses::default());
        let at = |at: &str| pod("web-1").ip(at);
        assert_eq!(pods.apply(&mut at(SHARED), false, &mut addresses).1, []);
        assert_eq!(pods.apply(&mut pod("web-1"), false, &mut addresses).1, []);
        let (_, changed) = pods.apply(&mut at("10.0.0.2"), false, &mut addresses);
        assert_eq!(changed, [IpFamily::V4]);
        pods.delete("web-1", &mut addresses);
        assert!(is_used(&addresses, "other", SHARED) && is_used(&addresses, "other", "10.0.0.2"));
        addresses.forget_all();
        assert!(!is_used(&addresses, "other", SHARED) && !is_used(&addresses, "other", "10.0.0.2"));
    }

    #[test]
    fn another_order_or_a_second_family_is_no_change() {
        let (mut pods, mut addresses) = (Pods::default(), Addresses::default());
        let (v4, v6) = (SHARED, "fd00::1");
        for mut pod in [
            pod("web-1").ip(v4),
            pod("web-1").ip(v4).ip(v6),
            pod("web-1").ip(v6).ip(v4),
        ] {
            assert_eq!(pods.apply(&mut pod, false, &mut addresses).1, []);
        }
        let (_, both) = pods.apply(
            &mut pod("web-1").ip("fd00::2").ip("10.0.0.2"),
            false,
            &mut addresses,
        );
        assert_eq!(both, [IpFamily::V4, IpFamily::V6]);
    }

    #[test]
    fn a_finished_pod_has_given_its_address_back() {
        let (mut pods, mut addresses) = (Pods::default(), Addresses::default());
        pods.apply(&mut pod("job").ip(SHARED), false, &mut addresses);
        let mut finished = Pod {
            finished: true,
            ..pod("job").ip(SHARED)
        };
        pods.apply(&mut finished, false, &mut addresses);
        assert!(is_used(&addresses, "web-1", SHARED));
        addresses.forget_all();
        assert!(!is_used(&addresses, "web-1", SHARED));
    }
}
