//! Who has had which address: an address may be used again while ELB still speaks of the pod that
//! had it before (contract 5.4).

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;

use crate::model::Pod;

/// How many pods are remembered after they are gone. ELB forgets a target after the group's
/// deregistration delay (an hour at most); a cluster seldom ends more gated pods in that time.
pub(super) const REMEMBERED: usize = 10_000;

/// The pods, living and lately gone, by their addresses.
#[derive(Debug, Default)]
pub(super) struct Addresses {
    by_ip: HashMap<IpAddr, Vec<Arc<Pod>>>,
    gone: VecDeque<Arc<Pod>>,
}

impl Addresses {
    /// A pod was seen; what was known of it before is replaced.
    pub(super) fn apply(&mut self, pod: &Arc<Pod>) {
        for ip in &pod.ips {
            let here = self.by_ip.entry(*ip).or_default();
            here.retain(|known| known.uid != pod.uid);
            here.push(pod.clone());
        }
    }

    /// A pod is gone. It is remembered for a while; the longest gone is forgotten first.
    pub(super) fn depart(&mut self, pod: &Arc<Pod>) {
        self.gone.push_back(pod.clone());
        if self.gone.len() > REMEMBERED
            && let Some(oldest) = self.gone.pop_front()
        {
            self.forget(&oldest);
        }
    }

    /// The pods other than `pod` that have, or had, one of its addresses.
    pub(super) fn others<'a>(&'a self, pod: &'a Pod) -> impl Iterator<Item = &'a Arc<Pod>> {
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
