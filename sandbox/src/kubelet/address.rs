//! The addresses of pods. Each pod listens on its own address, so that the load balancer, the hooks
//! and the pods connect over real sockets.

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, Ipv4Addr, TcpListener};
use std::sync::Arc;

use parking_lot::Mutex;

/// A kubelet holds this port on the first address of its subnet. A kubelet's own port.
const CLAIM_PORT: u16 = 10_250;
/// The host parts that pods get; `.1` holds the claim.
const HOSTS: std::ops::RangeInclusive<u8> = 2..=254;

/// How pods are told apart on this machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Network {
    /// Each live pod has its own address of 127.0.0.0/8, as on Linux.
    AddressPerPod(Reuse),
    /// All pods share 127.0.0.1, because the system has no other loopback address (macOS). Each pod
    /// then needs a container port of its own, behind a named `targetPort`.
    OneAddress,
}

/// When the address of a deleted pod may be used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reuse {
    /// The address is used again only after all others of the subnet have been used.
    Late,
    /// The next pod may get the address, as a StatefulSet's pod can.
    AtOnce,
}

impl Network {
    /// The network that this machine supports: an address per pod if a program may listen on
    /// 127.0.0.2.
    pub fn detect() -> Self {
        match TcpListener::bind((Ipv4Addr::new(127, 0, 0, 2), 0)) {
            Ok(_) => Self::AddressPerPod(Reuse::Late),
            Err(_) => Self::OneAddress,
        }
    }
}

/// Leases addresses to pods. Clones share the addresses in use.
#[derive(Clone)]
pub(super) struct Addresses {
    source: Arc<Source>,
}

enum Source {
    One,
    Subnet {
        second: u8,
        third: u8,
        hosts: Mutex<Hosts>,
        /// Keeps other kubelets of this machine off the subnet.
        _claim: TcpListener,
    },
}

impl Addresses {
    /// Claims a /24 that no other kubelet of this machine uses. The search begins at a place that
    /// `seed` determines.
    pub(super) fn claim(network: Network, seed: u64) -> io::Result<Self> {
        let source = match network {
            Network::OneAddress => Source::One,
            Network::AddressPerPod(reuse) => claim_subnet(reuse, seed)?,
        };
        Ok(Self {
            source: Arc::new(source),
        })
    }

    /// Leases an address to a pod until the lease is dropped; `None` while all addresses are in
    /// use.
    pub(super) fn lease(&self) -> Option<Lease> {
        let ip = match &*self.source {
            Source::One => Ipv4Addr::LOCALHOST,
            Source::Subnet {
                second,
                third,
                hosts,
                ..
            } => Ipv4Addr::new(127, *second, *third, hosts.lock().take()?),
        };
        Some(Lease {
            ip,
            source: Arc::clone(&self.source),
        })
    }

    pub(super) fn host(&self) -> IpAddr {
        Ipv4Addr::LOCALHOST.into()
    }
}

fn claim_subnet(reuse: Reuse, seed: u64) -> io::Result<Source> {
    // 127.0.x.y is left out, because other programs of this machine listen there.
    const SUBNETS: u64 = 255 * 256;
    let mut refused = None;
    for offset in 0..SUBNETS {
        let [third, second, ..] = ((seed % SUBNETS + offset) % SUBNETS).to_le_bytes();
        let second = second + 1;
        match TcpListener::bind((Ipv4Addr::new(127, second, third, 1), CLAIM_PORT)) {
            Ok(claim) => {
                return Ok(Source::Subnet {
                    second,
                    third,
                    hosts: Mutex::new(Hosts::new(reuse)),
                    _claim: claim,
                });
            }
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => refused = Some(error),
            Err(error) => return Err(error),
        }
    }
    Err(refused.unwrap_or_else(|| io::ErrorKind::AddrInUse.into()))
}

/// A pod's address, which is free again when this is dropped.
pub(super) struct Lease {
    ip: Ipv4Addr,
    source: Arc<Source>,
}

impl Lease {
    pub(super) fn ip(&self) -> IpAddr {
        self.ip.into()
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Source::Subnet { hosts, .. } = &*self.source {
            hosts.lock().release(self.ip.octets()[3]);
        }
    }
}

/// The host parts of the subnet that are in use.
#[derive(Debug)]
struct Hosts {
    reuse: Reuse,
    used: BTreeSet<u8>,
    last: u8,
}

impl Hosts {
    fn new(reuse: Reuse) -> Self {
        Self {
            reuse,
            used: BTreeSet::new(),
            last: *HOSTS.end(),
        }
    }

    fn take(&mut self) -> Option<u8> {
        let first = match self.reuse {
            Reuse::AtOnce => *HOSTS.start(),
            Reuse::Late if self.last == *HOSTS.end() => *HOSTS.start(),
            Reuse::Late => self.last + 1,
        };
        let host = (first..=*HOSTS.end())
            .chain(*HOSTS.start()..first)
            .find(|host| !self.used.contains(host))?;
        self.used.insert(host);
        self.last = host;
        Some(host)
    }

    fn release(&mut self, host: u8) {
        self.used.remove(&host);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_comes_back_late_unless_it_is_asked_for_at_once() {
        let mut late = Hosts::new(Reuse::Late);
        let first = late.take().unwrap();
        late.release(first);
        assert_ne!(late.take(), Some(first));

        let mut at_once = Hosts::new(Reuse::AtOnce);
        let first = at_once.take().unwrap();
        at_once.release(first);
        assert_eq!(at_once.take(), Some(first));
    }

    #[test]
    fn live_pods_never_share_an_address_and_the_last_one_is_followed_by_none() {
        for reuse in [Reuse::Late, Reuse::AtOnce] {
            let mut hosts = Hosts::new(reuse);
            let taken: BTreeSet<u8> = std::iter::from_fn(|| hosts.take()).collect();
            assert_eq!(taken.len(), HOSTS.count());
            hosts.release(100);
            assert_eq!(hosts.take(), Some(100));
            assert_eq!(hosts.take(), None);
        }
    }

    #[test]
    fn two_kubelets_of_one_machine_use_two_subnets() {
        let network = Network::AddressPerPod(Reuse::Late);
        let (Ok(one), Ok(two)) = (Addresses::claim(network, 77), Addresses::claim(network, 77))
        else {
            assert_eq!(Network::detect(), Network::OneAddress);
            return;
        };
        assert_ne!(one.lease().unwrap().ip(), two.lease().unwrap().ip());
    }
}
