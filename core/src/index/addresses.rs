//! Which pods have, or had, which address: an address may be used again while ELB still reports the health of
//! the previous pod (contract 5.4).

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;

use crate::model::Pod;

/// At most this many deleted pods are kept, the latest. Chosen: ELB forgets a target after the group's
/// deregistration delay, an hour at most (AWS), and a cluster seldom ends more gated pods in that time.
pub(crate) const REMEMBERED: usize = 10_000;

/// Living and recently deleted pods, by their addresses.
#[derive(Debug, Default)]
pub(crate) struct Addresses {
    by_ip: HashMap<IpAddr, Vec<Arc<Pod>>>,
    gone: VecDeque<Arc<Pod>>,
}

impl Addresses {
    /// Takes in a pod, in place of its former version.
    pub(crate) fn apply(&mut self, pod: &Arc<Pod>) {
        for ip in &pod.ips {
            let here = self.by_ip.entry(*ip).or_default();
            here.retain(|known| known.uid != pod.uid);
            here.push(pod.clone());
        }
    }

    /// Takes in that a pod is gone. Beyond [`REMEMBERED`], the pod that has been gone for longest is evicted.
    pub(crate) fn retire(&mut self, pod: &Arc<Pod>) {
        self.gone.push_back(pod.clone());
        if self.gone.len() > REMEMBERED
            && let Some(oldest) = self.gone.pop_front()
        {
            self.forget(&oldest);
        }
    }

    /// The pods other than `pod` that have, or had, one of its addresses.
    pub(crate) fn others<'a>(&'a self, pod: &'a Pod) -> impl Iterator<Item = &'a Arc<Pod>> {
        let here = pod.ips.iter().filter_map(|ip| self.by_ip.get(ip));
        here.flatten().filter(|known| known.uid != pod.uid)
    }

    fn forget(&mut self, pod: &Pod) {
        for ip in &pod.ips {
            if let Some(here) = self.by_ip.get_mut(ip) {
                here.retain(|known| known.uid != pod.uid);
                if here.is_empty() {
                    self.by_ip.remove(ip);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::pod;

    fn seen(addresses: &mut Addresses, name: &str, ip: [u8; 4]) -> Arc<Pod> {
        let pod = Arc::new(pod(name).ip(&IpAddr::from(ip).to_string()));
        addresses.apply(&pod);
        pod
    }

    #[test]
    fn the_longest_gone_is_forgotten_once_too_many_are_gone() {
        let mut addresses = Addresses::default();
        let first = seen(&mut addresses, "first", [10, 0, 0, 1]);
        seen(&mut addresses, "living", [10, 0, 0, 1]);
        addresses.retire(&first);
        let others = |addresses: &Addresses| {
            let newcomer = pod("newcomer").ip("10.0.0.1");
            let others = addresses.others(&newcomer);
            others
                .map(|pod| pod.key.name.to_string())
                .collect::<Vec<_>>()
        };
        for number in 1..REMEMBERED {
            let [_, _, high, low] = u32::try_from(number).unwrap().to_be_bytes();
            let name = format!("pod-{number}");
            let gone = seen(&mut addresses, &name, [10, 1, high, low]);
            addresses.retire(&gone);
        }
        assert_eq!(others(&addresses), ["first", "living"]);
        let last = seen(&mut addresses, "last", [10, 0, 0, 2]);
        addresses.retire(&last);
        assert_eq!(others(&addresses), ["living"]);
        assert_eq!(addresses.gone.len(), REMEMBERED);
        assert_eq!(addresses.by_ip.len(), REMEMBERED + 1);
    }

    #[test]
    fn an_address_without_recent_pods_takes_no_memory() {
        let mut addresses = Addresses::default();
        let pod = seen(&mut addresses, "web-1", [10, 0, 0, 1]);
        addresses.forget(&pod);
        assert!(addresses.by_ip.is_empty());
    }
}
