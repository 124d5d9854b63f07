//! Which pods have, or had, which address: an address may be used again while ELB still reports the health of
//! the previous pod (contract 5.4).
//!
//! Any pod counts, gated or not, of whatever namespace. There can be many, so the index keeps numbers of them.

use std::collections::{HashMap, VecDeque};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::num::NonZeroU32;

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
    by_ip: ByIp,
    /// Addresses that a pod has left, the latest last.
    left: VecDeque<(IpAddr, Occupant)>,
    departures: u32,
}

/// Occupants by address, of each family apart: most addresses are of IPv4, and an `IpAddr` takes four times as much.
#[derive(Debug, Default)]
struct ByIp {
    v4: HashMap<Ipv4Addr, Occupants>,
    v6: HashMap<Ipv6Addr, Occupants>,
}

impl ByIp {
    fn get(&self, ip: IpAddr) -> Option<&Occupants> {
        match ip {
            IpAddr::V4(ip) => self.v4.get(&ip),
            IpAddr::V6(ip) => self.v6.get(&ip),
        }
    }

    fn get_mut(&mut self, ip: IpAddr) -> Option<&mut Occupants> {
        match ip {
            IpAddr::V4(ip) => self.v4.get_mut(&ip),
            IpAddr::V6(ip) => self.v6.get_mut(&ip),
        }
    }

    fn insert(&mut self, ip: IpAddr, occupants: Occupants) {
        match ip {
            IpAddr::V4(ip) => _ = self.v4.insert(ip, occupants),
            IpAddr::V6(ip) => _ = self.v6.insert(ip, occupants),
        }
    }

    fn remove(&mut self, ip: IpAddr) {
        match ip {
            IpAddr::V4(ip) => _ = self.v4.remove(&ip),
            IpAddr::V6(ip) => _ = self.v6.remove(&ip),
        }
    }
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
        let Some(here) = self.by_ip.get_mut(ip) else {
            let alone = Occupants {
                latest: occupant,
                former: None,
            };
            return self.by_ip.insert(ip, alone);
        };
        match here.of(pod) {
            Some(known) => known.left = None,
            None => here.former = Some(std::mem::replace(&mut here.latest, occupant)),
        }
    }

    /// Takes in that a pod has an address no longer. Beyond [`REMEMBERED`], the address that was left first is
    /// forgotten.
    pub(crate) fn leave(&mut self, ip: IpAddr, pod: PodNumber) {
        let known = self.by_ip.get_mut(ip).and_then(|here| here.of(pod));
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
        self.by_ip.get(ip).is_some_and(|here| {
            let mut all = std::iter::once(&here.latest).chain(&here.former);
            all.any(|occupant| occupant.pod != pod)
        })
    }

    /// Whether one of the last two pods that had this address has it now.
    pub(crate) fn is_held(&self, ip: IpAddr) -> bool {
        self.by_ip.get(ip).is_some_and(|here| {
            let mut all = std::iter::once(&here.latest).chain(&here.former);
            all.any(|occupant| occupant.left.is_none())
        })
    }

    /// Forgets an occupant, unless it has come back since.
    fn forget(&mut self, ip: IpAddr, gone: Occupant) {
        let Some(here) = self.by_ip.get_mut(ip) else {
            return;
        };
        if here.former == Some(gone) {
            here.former = None;
        } else if here.latest == gone {
            match here.former.take() {
                Some(former) => here.latest = former,
                None => self.by_ip.remove(ip),
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

/// A pod, as far as its addresses are concerned. A pod has at most one of each family (Kubernetes).
#[derive(Debug)]
pub(crate) struct Holder {
    pod: PodNumber,
    /// The last address of each family, which is kept when the pod has none for a while.
    last_v4: Option<Ipv4Addr>,
    /// Boxed, because most pods have none.
    last_v6: Option<Box<Ipv6Addr>>,
    /// `metadata.creationTimestamp` in Unix seconds, which Kubernetes rounds to; 0 if it is unknown. A `Timestamp`
    /// would take four times as much of each pod.
    created: u32,
    /// Whether a list told of the pod before this process knew any.
    pub(crate) of_first_list: bool,
}

impl Holder {
    pub(crate) fn new(pod: PodNumber, of_first_list: bool) -> Self {
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

    pub(crate) fn is_of(&self, pod: PodNumber) -> bool {
        self.pod == pod
    }

    /// Takes in when the pod was created.
    pub(crate) fn date(&mut self, created: Timestamp) {
        self.created = u32::try_from(created.as_second()).unwrap_or_default();
    }

    /// Takes in that the pod has ended. Its addresses stay known for a while.
    pub(crate) fn leave(&self, addresses: &mut Addresses) {
        for family in IpFamily::ALL {
            if let Some(ip) = self.last(family) {
                addresses.leave(ip, self.pod);
            }
        }
    }

    fn last(&self, family: IpFamily) -> Option<IpAddr> {
        match family {
            IpFamily::V4 => self.last_v4.map(IpAddr::V4),
            IpFamily::V6 => self.last_v6.as_deref().copied().map(IpAddr::V6),
        }
    }

    /// Takes in the address of one family. Returns whether it is another than before.
    pub(crate) fn see(&mut self, family: IpFamily, pod: &Pod, addresses: &mut Addresses) -> bool {
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
        }
        if let Some(now) = now.filter(|now| last != Some(*now)) {
            match now {
                IpAddr::V4(ip) => self.last_v4 = Some(ip),
                IpAddr::V6(ip) => self.last_v6 = Some(Box::new(ip)),
            }
        }
        // The pods that had the new address before are known since the list.
        self.of_first_list &= !changed;
        changed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHARED: &str = "10.0.0.1";

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn is_used(addresses: &Addresses, by: &str, at: &str) -> bool {
        addresses.was_of_another(ip(at), PodNumber::of(by))
    }

    impl Addresses {
        /// Lets so many other pods end that each earlier departure is forgotten.
        pub(crate) fn forget_all(&mut self) {
            for number in 0..REMEMBERED {
                let [_, _, high, low] = u32::try_from(number).unwrap().to_be_bytes();
                let (other, at) = (
                    PodNumber::of(&number.to_string()),
                    [10, 1, high, low].into(),
                );
                self.take(at, other);
                self.leave(at, other);
            }
            assert_eq!(self.left.len(), REMEMBERED);
        }
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
        addresses.forget_all();
        assert!(!is_used(&addresses, "second", SHARED) && is_used(&addresses, "third", SHARED));
    }

    #[test]
    fn a_pod_that_has_its_address_again_is_not_forgotten() {
        let mut addresses = Addresses::default();
        let first = PodNumber::of("first");
        addresses.take(ip(SHARED), first);
        addresses.leave(ip(SHARED), first);
        addresses.take(ip(SHARED), first);
        addresses.forget_all();
        assert!(is_used(&addresses, "second", SHARED));
        assert_eq!(addresses.by_ip.v4.len(), REMEMBERED + 1);
    }

    #[test]
    fn an_address_without_recent_pods_takes_no_memory() {
        let mut addresses = Addresses::default();
        let first = PodNumber::of("first");
        addresses.take(ip(SHARED), first);
        addresses.leave(ip(SHARED), first);
        addresses.leave(ip(SHARED), first);
        addresses.forget_all();
        assert!(addresses.by_ip.get(ip(SHARED)).is_none());
        assert_eq!(addresses.by_ip.v4.len(), REMEMBERED);
    }
}
