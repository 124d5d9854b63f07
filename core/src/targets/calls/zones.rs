//! With which Availability Zone an address is registered: ELB's own texts teach it, so that ip targets need no call to
//! EC2 (contract 8).
//!
//! An address inside the group's VPC is registered without a zone, any other with the zone `all`. What is in the VPC
//! cannot be told from an address, so what ELB said of one is remembered for its block.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::targets::Target;

/// The zone of an address outside the VPC.
pub const ALL: &str = "all";
/// The marks of ELB's texts about an address outside the VPC, which differ by kind of load balancer and by year:
/// <https://github.com/kubernetes-sigs/aws-load-balancer-controller/issues/3714>, 3084, and
/// <https://github.com/aws/containers-roadmap/issues/1107>. The one by which a group without cross-zone balancing asks
/// for the pod's own zone has none of them (pull request 4496: "outside of the VPC").
const OUTSIDE: [&str; 3] = ["is not in the VPC", "is outside the VPC", "must be 'all'"];
/// The mark of the one about an address inside: <https://github.com/kubernetes-sigs/aws-load-balancer-controller/issues/561>.
const INSIDE: &str = "is within the VPC, and cannot have its Availability Zone overridden";
/// At most this many blocks of a group are remembered; then all are forgotten, and learned anew. Chosen.
const MOST_BLOCKS: usize = 1_024;

/// What is known of the blocks of one group: whether they are outside the VPC.
#[derive(Debug, Default)]
pub struct Zones {
    /// By /24 or /64, at least as fine as AWS's subnets commonly are.
    near: BTreeMap<IpAddr, bool>,
    /// By /16 or /48, as coarse as a block of a VPC can be: a guess for blocks of which ELB has said nothing.
    wide: BTreeMap<IpAddr, bool>,
}

impl Zones {
    /// The zone to register a target with.
    pub fn of(&self, (ip, _): Target) -> Option<&'static str> {
        let near = self.near.get(&block(ip, 24, 64));
        let outside = near.or_else(|| self.wide.get(&block(ip, 16, 48)));
        outside.is_some_and(|outside| *outside).then_some(ALL)
    }

    /// Takes in why ELB refused a target alone. Returns whether it would be named otherwise now.
    pub fn learn(&mut self, target: Target, message: &str) -> bool {
        let outside = match () {
            () if message.contains(INSIDE) => false,
            () if OUTSIDE.iter().any(|mark| message.contains(mark)) => true,
            () => return false,
        };
        let before = self.of(target);
        if self.near.len() >= MOST_BLOCKS {
            (self.near, self.wide) = Default::default();
        }
        self.near.insert(block(target.0, 24, 64), outside);
        self.wide.insert(block(target.0, 16, 48), outside);
        before != self.of(target)
    }
}

/// The first address of the block with these prefix lengths.
fn block(ip: IpAddr, v4: u32, v6: u32) -> IpAddr {
    match ip {
        IpAddr::V4(ip) => Ipv4Addr::from_bits(ip.to_bits() & (u32::MAX << (32 - v4))).into(),
        IpAddr::V6(ip) => Ipv6Addr::from_bits(ip.to_bits() & (u128::MAX << (128 - v6))).into(),
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    const NOT_IN_VPC: &str = "The Availability Zone is required for IP address '100.64.0.61' because it is not in the VPC";
    const IN_VPC: &str = "The IP address '10.0.0.61' is within the VPC, and cannot have its Availability Zone overridden to 'all' from 'us-east-1b'";

    fn target(ip: &str) -> Target {
        (ip.parse().unwrap(), 80)
    }

    #[test]
    fn elbs_texts_teach_the_zone_of_a_block() {
        // B4: a block of the VPC, a later one, and a peered VPC.
        let mut zones = Zones::default();
        let named = |zones: &Zones, ip: &str| zones.of(target(ip));
        assert_eq!(named(&zones, "192.168.9.61"), None);
        assert!(zones.learn(target("192.168.9.61"), NOT_IN_VPC));
        assert!(
            !zones.learn(target("192.168.9.61"), NOT_IN_VPC),
            "it was named so already"
        );
        assert_eq!(named(&zones, "192.168.9.99"), Some(ALL));
        assert_eq!(named(&zones, "192.168.77.1"), Some(ALL), "a guess");
        assert_eq!(named(&zones, "10.0.0.61"), None);
        // The guess was wrong, and the neighbour's knowledge stays.
        assert!(zones.learn(target("192.168.77.1"), IN_VPC));
        assert_eq!(named(&zones, "192.168.77.2"), None);
        assert_eq!(named(&zones, "192.168.9.61"), Some(ALL));
        assert!(!zones.learn(target("10.0.0.1"), "The targets are not valid"));
    }

    #[rstest]
    #[case::nlb(NOT_IN_VPC, true)]
    #[case::alb(
        "You must specify a valid Availability Zone or select 'all' for all enabled Availability zones, since the IP address '100.64.0.61' is outside the VPC",
        true
    )]
    #[case::alb_of_2020(
        "The Availability Zone for IP address '100.64.0.61' must be 'all' for Application Load Balancer target groups, when not within the VPC",
        true
    )]
    #[case::without_cross_zone(
        "When cross-zone load balancing is disabled on this target group, you must specify an Availability Zone for IP target '100.64.0.61' since it is outside of the VPC",
        false
    )]
    fn each_text_of_elb_is_understood(#[case] message: &str, #[case] outside: bool) {
        let mut zones = Zones::default();
        assert_eq!(zones.learn(target("100.64.0.61"), message), outside);
        assert_eq!(zones.of(target("100.64.0.61")), outside.then_some(ALL));
    }

    #[test]
    fn an_address_of_the_other_family_is_another_block() {
        let mut zones = Zones::default();
        zones.learn(target("2001:db8:0:1::1"), NOT_IN_VPC);
        assert_eq!(zones.of(target("2001:db8:0:1::2")), Some(ALL));
        assert_eq!(zones.of(target("2001:db8:1::1")), None);
    }

    #[test]
    fn memory_is_bounded() {
        let mut zones = Zones::default();
        for block in 0..5_000_u32 {
            zones.learn((Ipv4Addr::from_bits(block << 8).into(), 80), NOT_IN_VPC);
        }
        assert!(zones.near.len() <= MOST_BLOCKS && zones.wide.len() <= MOST_BLOCKS);
    }
}
