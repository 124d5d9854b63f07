//! Which pods have, or had, which address: an address may be used again while ELB still reports the health of
//! the previous pod (contract 5.4).
//!
//! Any pod counts, gated or not, of whatever namespace. There can be many, so the index keeps numbers of them.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::num::NonZeroU32;
use std::sync::Arc;

use jiff::Timestamp;

use crate::model::{IpFamily, Pod};

/// At most this many addresses are kept that pods have left, the latest. Chosen: ELB forgets a target after the
/// group's deregistration delay, an hour at most (AWS), and a cluster seldom ends more pods in that time.
pub(crate) const REMEMBERED: usize = 10_000;

/// A pod's UID as a number: part of its hash, because the text would be most of what is kept. That two pods of one
/// address have the same number is as likely as 1 to 4 billion.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PodNumber(NonZeroU32);

impl PodNumber {
    pub(crate) fn of(uid: &str) -> Self {
        let mut hasher = DefaultHasher::new();
        uid.hash(&mut hasher);
        let [_, _, _, _, low @ ..] = hasher.finish().to_be_bytes();
        Self(NonZeroU32::new(u32::from_be_bytes(low)).unwrap_or(NonZeroU32::MIN))
    }
}

/// The addresses of all pods, and of those that ended lately.
#[derive(Debug, Default)]
pub(crate) struct Addresses {
    by_ip: HashMap<IpAddr, Occupants>,
    /// Addresses that a pod has left, the latest last.
    left: VecDeque<(IpAddr, Occupant)>,
    departures: u32,
}

/// The last two pods that had an address. Two are enough, since one of them is another than the pod that asks.
#[derive(Debug)]
struct Occupants {
    latest: Occupant,
    former: Option<Occupant>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Occupant {
    pod: PodNumber,
    /// The number of its departure; `None` while it has the address.
    left: Option<NonZeroU32>,
}

impl Addresses {
    /// Takes in that a pod has an address.
    pub(crate) fn take(&mut self, ip: IpAddr, pod: PodNumber) {
        let occupant = Occupant { pod, left: None };
        let Some(here) = self.by_ip.get_mut(&ip) else {
            let alone = Occupants {
                latest: occupant,
                former: None,
            };
            self.by_ip.insert(ip, alone);
            return;
        };
        match here.of(pod) {
            Some(known) => known.left = None,
            None => here.former = Some(std::mem::replace(&mut here.latest, occupant)),
        }
    }

    /// Takes in that a pod has an address no longer. Beyond [`REMEMBERED`], the address that was left first is
    /// forgotten.
    pub(crate) fn leave(&mut self, ip: IpAddr, pod: PodNumber) {
        let known = self.by_ip.get_mut(&ip).and_then(|here| here.of(pod));
        let Some(known) = known.filter(|known| known.left.is_none()) else {
            return;
        };
        // A number is used again after 4 billion departures, long after it is forgotten.
        self.departures = self.departures.checked_add(1).unwrap_or(1);
        known.left = NonZeroU32::new(self.departures);
        self.left.push_back((ip, *known));
        if self.left.len() > REMEMBERED
            && let Some((ip, first)) = self.left.pop_front()
        {
            self.forget(ip, first);
        }
    }

    /// Whether another pod has, or had, this address.
    pub(crate) fn was_of_another(&self, ip: IpAddr, pod: PodNumber) -> bool {
        self.by_ip.get(&ip).is_some_and(|here| {
            let mut all = std::iter::once(&here.latest).chain(&here.former);
            all.any(|occupant| occupant.pod != pod)
        })
    }

    /// Whether one of the last two pods that had this address has it now.
    pub(crate) fn is_held(&self, ip: IpAddr) -> bool {
        self.by_ip.get(&ip).is_some_and(|here| {
            let mut all = std::iter::once(&here.latest).chain(&here.former);
            all.any(|occupant| occupant.left.is_none())
        })
    }

    /// Forgets an occupant, unless it has come back since.
    fn forget(&mut self, ip: IpAddr, gone: Occupant) {
        let Some(here) = self.by_ip.get_mut(&ip) else {
            return;
        };
        if here.former == Some(gone) {
            here.former = None;
        } else if here.latest == gone {
            match here.former.take() {
                Some(former) => here.latest = former,
                None => _ = self.by_ip.remove(&ip),
            }
        }
    }
}

impl Occupants {
    fn of(&mut self, pod: PodNumber) -> Option<&mut Occupant> {
        let mut all = std::iter::once(&mut self.latest).chain(&mut self.former);
        all.find(|occupant| occupant.pod == pod)
    }
}

/// The pods of a namespace, with the addresses by which they are known.
#[derive(Debug, Default)]
pub(crate) struct Holders(BTreeMap<Arc<str>, Holder>);

/// A pod, as far as its addresses are concerned. A pod has at most one of each family (Kubernetes).
#[derive(Debug, Clone, Copy)]
pub(crate) struct Holder {
    pod: PodNumber,
    /// The last address of each family, which is kept when the pod has none for a while.
    last_v4: Option<Ipv4Addr>,
    last_v6: Option<Ipv6Addr>,
    /// `metadata.creationTimestamp` in Unix seconds, which Kubernetes rounds to; 0 if it is unknown. A `Timestamp`
    /// would take four times as much of each pod.
    created: u32,
    /// Whether a list told of the pod before this process knew any.
    pub(crate) of_first_list: bool,
}

impl Holder {
    fn new(pod: PodNumber, of_first_list: bool) -> Self {
        Self {
            pod,
            last_v4: None,
            last_v6: None,
            created: 0,
            of_first_list,
        }
    }

    /// When the pod was created; `None` if it is unknown.
    pub(crate) fn created(&self) -> Option<Timestamp> {
        let created = (self.created > 0).then_some(self.created)?;
        Timestamp::from_second(created.into()).ok()
    }

    fn leave(&self, addresses: &mut Addresses) {
        for family in IpFamily::ALL {
            if let Some(ip) = self.last(family) {
                addresses.leave(ip, self.pod);
            }
        }
    }

    fn last(&self, family: IpFamily) -> Option<IpAddr> {
        match family {
            IpFamily::V4 => self.last_v4.map(IpAddr::V4),
            IpFamily::V6 => self.last_v6.map(IpAddr::V6),
        }
    }

    /// Takes in the address of one family. Returns whether it is another than before.
    fn see(&mut self, family: IpFamily, pod: &Pod, addresses: &mut Addresses) -> bool {
        let last = self.last(family);
        // A finished pod's status keeps the address, which it has given back.
        let mut its = pod.ips.iter().filter(|_| !pod.finished);
        let now = its.find(|ip| family.has(**ip)).copied();
        let changed = last.is_some() && now.is_some() && last != now;
        if let Some(before) = last.filter(|before| Some(*before) != now) {
            addresses.leave(before, self.pod);
        }
        if let Some(now) = now {
            addresses.take(now, self.pod);
            match now {
                IpAddr::V4(ip) => self.last_v4 = Some(ip),
                IpAddr::V6(ip) => self.last_v6 = Some(ip),
            }
        }
        // The pods that had the new address before are known since the list.
        self.of_first_list &= !changed;
        changed
    }
}

impl Holders {
    /// Takes in a pod, in place of its former version or of the pod that had its name. Returns the families of
    /// which it has another address than before.
    pub(crate) fn apply(
        &mut self,
        pod: &Pod,
        of_first_list: bool,
        addresses: &mut Addresses,
    ) -> Vec<IpFamily> {
        let number = PodNumber::of(&pod.uid);
        let new = || Holder::new(number, of_first_list);
        let holder = self.0.entry(pod.key.name.clone()).or_insert_with(new);
        // A pod can be replaced under its name while the watch is interrupted. The previous pod then never had
        // a DELETE event, but its address counts as used.
        if holder.pod != number {
            holder.leave(addresses);
            *holder = new();
        }
        let families = IpFamily::ALL.into_iter();
        let changed = families.filter(|family| holder.see(*family, pod, addresses));
        changed.collect()
    }

    /// Removes a pod, whose addresses stay known for a while.
    pub(crate) fn delete(&mut self, name: &str, addresses: &mut Addresses) {
        if let Some(holder) = self.0.remove(name) {
            holder.leave(addresses);
        }
    }

    /// Takes in when a pod was created.
    pub(crate) fn date(&mut self, name: &str, created: Timestamp) {
        if let Some(holder) = self.0.get_mut(name) {
            holder.created = u32::try_from(created.as_second()).unwrap_or_default();
        }
    }

    pub(crate) fn get(&self, name: &str) -> Option<&Holder> {
        self.0.get(name)
    }

    pub(crate) fn names(&self) -> impl Iterator<Item = &Arc<str>> {
        self.0.keys()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::pod;

    const SHARED: &str = "10.0.0.1";

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn is_used(addresses: &Addresses, by: &str, at: &str) -> bool {
        addresses.was_of_another(ip(at), PodNumber::of(by))
    }

    /// Lets so many other pods end that each earlier departure is forgotten.
    fn forget_all(addresses: &mut Addresses) {
        for number in 0..REMEMBERED {
            let [_, _, high, low] = u32::try_from(number).unwrap().to_be_bytes();
            let (other, at) = (
                PodNumber::of(&number.to_string()),
                [10, 1, high, low].into(),
            );
            addresses.take(at, other);
            addresses.leave(at, other);
        }
        assert_eq!(addresses.left.len(), REMEMBERED);
    }

    #[test]
    fn an_address_is_used_while_another_pod_has_it_and_after_that() {
        let mut addresses = Addresses::default();
        let (first, second) = (PodNumber::of("first"), PodNumber::of("second"));
        addresses.take(ip(SHARED), first);
        assert!(is_used(&addresses, "second", SHARED) && !is_used(&addresses, "first", SHARED));
        addresses.leave(ip(SHARED), first);
        addresses.take(ip(SHARED), second);
        assert!(is_used(&addresses, "second", SHARED));
        forget_all(&mut addresses);
        assert!(!is_used(&addresses, "second", SHARED) && is_used(&addresses, "third", SHARED));
    }

    #[test]
    fn a_pod_that_has_its_address_again_is_not_forgotten() {
        let mut addresses = Addresses::default();
        let first = PodNumber::of("first");
        addresses.take(ip(SHARED), first);
        addresses.leave(ip(SHARED), first);
        addresses.take(ip(SHARED), first);
        forget_all(&mut addresses);
        assert!(is_used(&addresses, "second", SHARED));
        assert_eq!(addresses.by_ip.len(), REMEMBERED + 1);
    }

    #[test]
    fn an_address_without_recent_pods_takes_no_memory() {
        let mut addresses = Addresses::default();
        let first = PodNumber::of("first");
        addresses.take(ip(SHARED), first);
        addresses.leave(ip(SHARED), first);
        addresses.leave(ip(SHARED), first);
        forget_all(&mut addresses);
        assert!(!addresses.by_ip.contains_key(&ip(SHARED)));
        assert_eq!(addresses.by_ip.len(), REMEMBERED);
    }

    #[test]
    fn an_address_that_a_pod_had_before_its_last_one_is_forgotten_as_well() {
        let (mut holders, mut addresses) = (Holders::default(), Addresses::default());
        let at = |at: &str| pod("web-1").ip(at);
        assert_eq!(holders.apply(&at(SHARED), false, &mut addresses), []);
        assert_eq!(holders.apply(&pod("web-1"), false, &mut addresses), []);
        let changed = holders.apply(&at("10.0.0.2"), false, &mut addresses);
        assert_eq!(changed, [IpFamily::V4]);
        holders.delete("web-1", &mut addresses);
        assert!(is_used(&addresses, "other", SHARED) && is_used(&addresses, "other", "10.0.0.2"));
        forget_all(&mut addresses);
        assert!(!is_used(&addresses, "other", SHARED) && !is_used(&addresses, "other", "10.0.0.2"));
    }

    #[test]
    fn another_order_or_a_second_family_is_no_change() {
        let (mut holders, mut addresses) = (Holders::default(), Addresses::default());
        let (v4, v6) = (SHARED, "fd00::1");
        for pod in [
            pod("web-1").ip(v4),
            pod("web-1").ip(v4).ip(v6),
            pod("web-1").ip(v6).ip(v4),
        ] {
            assert_eq!(holders.apply(&pod, false, &mut addresses), []);
        }
        let both = holders.apply(
            &pod("web-1").ip("fd00::2").ip("10.0.0.2"),
            false,
            &mut addresses,
        );
        assert_eq!(both, [IpFamily::V4, IpFamily::V6]);
    }

    #[test]
    fn a_finished_pod_has_given_its_address_back() {
        let (mut holders, mut addresses) = (Holders::default(), Addresses::default());
        holders.apply(&pod("job").ip(SHARED), false, &mut addresses);
        let finished = Pod {
            finished: true,
            ..pod("job").ip(SHARED)
        };
        holders.apply(&finished, false, &mut addresses);
        assert!(is_used(&addresses, "web-1", SHARED));
        forget_all(&mut addresses);
        assert!(!is_used(&addresses, "web-1", SHARED));
    }
}
