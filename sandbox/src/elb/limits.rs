//! What RegisterTargets checks beyond the form of a call: quotas, and the subnets of VPCs.

use std::net::IpAddr;

use ipnet::IpNet;

/// The limits on targets; see [`super::Elb::set_quotas`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quotas {
    /// Registered targets of one group, draining ones not counted. AWS's default quota is 1,000.
    pub targets_per_group: usize,
    /// Registered targets of all groups of one load balancer. AWS's default quota depends on its kind
    /// and on cross-zone balancing.
    pub targets_per_load_balancer: usize,
    /// Registrations of one address, on any port, in all groups of one load balancer.
    pub registrations_per_target_id: usize,
    /// Targets of one RegisterTargets or DeregisterTargets. AWS documents no limit, but refuses large
    /// calls now and then (<https://github.com/kubernetes/kubernetes/pull/101592>).
    pub targets_per_call: usize,
}

impl Default for Quotas {
    /// AWS's defaults for an account that has asked for no others: 1,000 targets of a group, and 100
    /// registrations of a target. The targets of a load balancer are not limited (<https://github.com/kubernetes-sigs/aws-load-balancer-controller/issues/1068>).
    fn default() -> Self {
        Self {
            targets_per_group: 1_000,
            targets_per_load_balancer: usize::MAX,
            registrations_per_target_id: 100,
            targets_per_call: 1_000,
        }
    }
}

/// A subnet of a VPC, in one zone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subnet {
    block: IpNet,
    pub(super) zone: String,
}

impl Subnet {
    /// # Errors
    ///
    /// When `block` is not in CIDR notation.
    pub fn new(block: &str, zone: &str) -> Result<Self, ipnet::AddrParseError> {
        Ok(Self {
            block: block.parse()?,
            zone: zone.to_owned(),
        })
    }

    pub(super) fn contains(&self, ip: IpAddr) -> bool {
        self.block.contains(&ip)
    }
}
