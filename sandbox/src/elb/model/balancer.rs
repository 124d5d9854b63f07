//! Load balancers and their listeners: which groups they forward to, and in which zones.

use std::collections::BTreeSet;

use crate::elb::group::LoadBalancerKind;

/// A load balancer with at most one listener.
#[derive(Debug)]
pub(in crate::elb) struct LoadBalancer {
    pub(in crate::elb) kind: LoadBalancerKind,
    /// The enabled zones; empty means every zone.
    pub(in crate::elb) zones: BTreeSet<String>,
    /// The ARN and weight of each group that the listener forwards to.
    pub(super) listener: Option<Vec<(String, u32)>>,
}

impl LoadBalancer {
    pub(super) fn forwards_to(&self, arn: &str) -> bool {
        let mut forward = self.listener.iter().flatten();
        forward.any(|(group, _)| group == arn)
    }

    /// The group that a random number selects by weight; `None` if no group has a weight.
    pub(super) fn group_for(&self, random: u64) -> Option<&str> {
        let forward = self.listener.as_ref()?;
        let total: u64 = forward.iter().map(|(_, weight)| u64::from(*weight)).sum();
        let mut ticket = random.checked_rem(total)?;
        for (arn, weight) in forward {
            match ticket.checked_sub(u64::from(*weight)) {
                Some(rest) => ticket = rest,
                None => return Some(arn),
            }
        }
        None
    }
}

/// The zones that the group's load balancers have enabled.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum Attachment {
    #[default]
    None,
    AllZones,
    Zones(BTreeSet<String>),
}

impl Attachment {
    /// The zones that all load balancers together enable for a group.
    pub(super) fn of<'a>(arn: &str, balancers: impl Iterator<Item = &'a LoadBalancer>) -> Self {
        let mut attachment = Self::None;
        for balancer in balancers.filter(|balancer| balancer.forwards_to(arn)) {
            attachment = match attachment {
                _ if balancer.zones.is_empty() => return Self::AllZones,
                Self::Zones(zones) => Self::Zones(&zones | &balancer.zones),
                _ => Self::Zones(balancer.zones.clone()),
            };
        }
        attachment
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn balancer(zones: &[&str], forward: &[(&str, u32)]) -> LoadBalancer {
        LoadBalancer {
            kind: LoadBalancerKind::Application,
            zones: zones.iter().map(|&zone| zone.to_owned()).collect(),
            listener: Some(
                forward
                    .iter()
                    .map(|&(arn, w)| (arn.to_owned(), w))
                    .collect(),
            ),
        }
    }

    #[rstest]
    #[case::the_first(&[("a", 1), ("b", 3)], 0, Some("a"))]
    #[case::the_second(&[("a", 1), ("b", 3)], 1, Some("b"))]
    #[case::its_end(&[("a", 1), ("b", 3)], 3, Some("b"))]
    #[case::round_again(&[("a", 1), ("b", 3)], 4, Some("a"))]
    #[case::weight_zero(&[("a", 0), ("b", 1)], 0, Some("b"))]
    #[case::no_weight_at_all(&[("a", 0)], 0, None)]
    #[case::no_group(&[], 0, None)]
    fn a_number_falls_to_a_group_by_weight(
        #[case] forward: &[(&str, u32)],
        #[case] random: u64,
        #[case] expected: Option<&str>,
    ) {
        assert_eq!(balancer(&[], forward).group_for(random), expected);
    }

    #[test]
    fn a_group_is_in_the_zones_of_all_its_load_balancers() {
        let (one, two) = (balancer(&["a"], &[("g", 1)]), balancer(&["b"], &[("g", 0)]));
        let (everywhere, other) = (balancer(&[], &[("g", 1)]), balancer(&["c"], &[("h", 1)]));
        let of = |balancers: &[&LoadBalancer]| Attachment::of("g", balancers.iter().copied());
        let zones = ["a", "b"].map(str::to_owned).into();
        assert_eq!(of(&[&one, &two, &other]), Attachment::Zones(zones));
        assert_eq!(of(&[&one, &everywhere]), Attachment::AllZones);
        assert_eq!(of(&[&other]), Attachment::None);
    }
}
