//! The addresses of pods: each pod listens on its own, so that the load balancer, the hooks and
//! the pods meet over real sockets.

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, Ipv4Addr, TcpListener};
use std::sync::Arc;

use parking_lot::Mutex;

/// Held on the first address of a subnet by the kubelet that uses it.
const CLAIM_PORT: u16 = 10_250;
/// Host parts that pods get; `.1` is the claim.
const HOSTS: std::ops::RangeInclusive<u8> = 2..=254;

/// How pods are told apart on this machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Network {
    /// Each live pod has its own address of 127.0.0.0/8, as on Linux.
    AddressPerPod(Reuse),
    /// All pods share 127.0.0.1, where the system has no other loopback address (macOS). Each pod
    /// then needs a container port of its own behind a named `targetPort`.
    OneAddress,
}

/// When the address of a pod that is gone may come back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reuse {
    /// Only after all others of the subnet had their turn.
    Late,
    /// With the next pod, as a StatefulSet's pod can meet it.
    AtOnce,
}

impl Network {
    /// What this machine can do: an address for each pod if it may listen on 127.0.0.2.
    pub fn detect() -> Self {
        match TcpListener::bind((Ipv4Addr::new(127, 0, 0, 2), 0)) {
            Ok(_) => Self::AddressPerPod(Reuse::Late),
            Err(_) => Self::OneAddress,
        }
    }
}

/// Hands out addresses. Clones share what is in use.
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
    /// Claims a /24 that no other kubelet of this machine uses; `seed` says where to begin the
    /// search.
    pub(super) fn claim(network: Network, seed: u64) -> io::Result<Self> {
        let source = match network {
            Network::OneAddress => Source::One,
            Network::AddressPerPod(reuse) => claim_subnet(reuse, seed)?,
        };
        Ok(Self {
            source: Arc::new(source),
        })
    }

    /// An address for one pod, until the lease is dropped. None while all are in use.
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

    /// The node's own address.
    pub(super) fn host(&self) -> IpAddr {
        Ipv4Addr::LOCALHOST.into()
    }
}

fn claim_subnet(reuse: Reuse, seed: u64) -> io::Result<Source> {
    // 127.0.x.y is left alone: what else runs on this machine is there.
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

/// A pod's address, free again when this is dropped.
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

/// Which host parts of the subnet are in use.
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
