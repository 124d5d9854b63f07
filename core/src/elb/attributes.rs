//! Attributes of target groups and load balancers that decide how a target ends, as AWS names and writes them.
//!
//! Source: <https://docs.aws.amazon.com/elasticloadbalancing/latest/APIReference/API_TargetGroupAttribute.html>

/// How long a target that is deregistered may end its requests.
const DELAY: &str = "deregistration_delay.timeout_seconds";
/// Whether its connections are cut then; of an NLB's groups.
const TERMINATION: &str = "deregistration_delay.connection_termination.enabled";
const CROSS_ZONE: &str = "load_balancing.cross_zone.enabled";

/// Whether a load balancer's node in one zone sends to the targets of all zones, as a target group says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CrossZone {
    On,
    Off,
    /// As the group's load balancer does.
    Inherited,
}

/// What a target group says about the ends of its targets; `None` is not known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct GroupAttributes {
    /// In seconds.
    pub deregistration_delay: Option<u64>,
    pub connection_termination: Option<bool>,
    pub cross_zone: Option<CrossZone>,
}

/// ```
/// use targetgate_core::elb::attributes::{CrossZone, GroupAttributes};
///
/// let told = [("deregistration_delay.timeout_seconds", "300")];
/// let attributes: GroupAttributes = told.into_iter().collect();
/// assert_eq!(attributes.deregistration_delay, Some(300));
/// assert_eq!(attributes.connection_termination, None);
/// assert_eq!(attributes.cross_zone, Some(CrossZone::Inherited));
/// ```
impl<'a> FromIterator<(&'a str, &'a str)> for GroupAttributes {
    fn from_iter<T: IntoIterator<Item = (&'a str, &'a str)>>(all: T) -> Self {
        let mut attributes = Self {
            // AWS's default.
            cross_zone: Some(CrossZone::Inherited),
            ..Self::default()
        };
        for (key, value) in all {
            match key {
                DELAY => attributes.deregistration_delay = value.parse().ok(),
                TERMINATION => attributes.connection_termination = switch(value),
                CROSS_ZONE => attributes.cross_zone = cross_zone(value),
                _ => {}
            }
        }
        attributes
    }
}

/// Whether a load balancer sends across zones where its groups leave that to it, by its own attributes.
pub fn crosses_zones<'a>(all: impl IntoIterator<Item = (&'a str, &'a str)>) -> Option<bool> {
    let mut all = all.into_iter();
    let (_, value) = all.find(|(key, _)| *key == CROSS_ZONE)?;
    switch(value)
}

fn switch(value: &str) -> Option<bool> {
    value.parse().ok()
}

fn cross_zone(value: &str) -> Option<CrossZone> {
    match value {
        "true" => Some(CrossZone::On),
        "false" => Some(CrossZone::Off),
        "use_load_balancer_configuration" => Some(CrossZone::Inherited),
        _ => None,
    }
}

/// A load balancer, as far as its zones are known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LoadBalancer {
    /// The number of its Availability Zones.
    pub zones: Option<u32>,
    /// Whether it sends across zones where its groups leave that to it. An ALB always does.
    pub cross_zone: Option<bool>,
}

/// How targets of a group are reached from zone to zone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Reach {
    /// Whether the nodes of each of its load balancers send to the targets of all zones.
    pub cross_zone: Option<bool>,
    /// The number of zones of the load balancer with the most, among those whose nodes do not.
    pub zones: Option<u32>,
}

impl Reach {
    /// That of a group which says this, behind these load balancers.
    ///
    /// ```
    /// use targetgate_core::elb::attributes::{CrossZone, LoadBalancer, Reach};
    ///
    /// let nlb = LoadBalancer { zones: Some(3), cross_zone: Some(false) };
    /// let reach = Reach::of(Some(CrossZone::Inherited), &[nlb]);
    /// assert_eq!(reach, Reach { cross_zone: Some(false), zones: Some(3) });
    /// ```
    pub fn of(group: Option<CrossZone>, behind: &[LoadBalancer]) -> Self {
        let crosses = |balancer: &LoadBalancer| match group? {
            CrossZone::On => Some(true),
            CrossZone::Off => Some(false),
            CrossZone::Inherited => balancer.cross_zone,
        };
        let within = || behind.iter().filter(|b| crosses(b) == Some(false));
        let all = behind.iter().all(|b| crosses(b) == Some(true));
        Self {
            cross_zone: match within().next() {
                Some(_) => Some(false),
                // Of a group without a load balancer nothing is known.
                None => (all && !behind.is_empty()).then_some(true),
            },
            zones: within().filter_map(|balancer| balancer.zones).max(),
        }
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("true", Some(CrossZone::On))]
    #[case("false", Some(CrossZone::Off))]
    #[case("use_load_balancer_configuration", Some(CrossZone::Inherited))]
    #[case("sometimes", None)]
    fn a_group_says_whether_zones_are_crossed(
        #[case] value: &str,
        #[case] expected: Option<CrossZone>,
    ) {
        let told = GroupAttributes::from_iter([(CROSS_ZONE, value)]);
        assert_eq!(told.cross_zone, expected);
    }

    #[test]
    fn what_cannot_be_read_is_not_known() {
        let told = [
            (DELAY, "-1"),
            (TERMINATION, "yes"),
            ("stickiness.enabled", "true"),
        ];
        let expected = GroupAttributes {
            cross_zone: Some(CrossZone::Inherited),
            ..GroupAttributes::default()
        };
        assert_eq!(GroupAttributes::from_iter(told), expected);
        assert_eq!(crosses_zones(told), None);
        assert_eq!(crosses_zones([(CROSS_ZONE, "true")]), Some(true));
    }

    const ALB: LoadBalancer = LoadBalancer {
        zones: Some(2),
        cross_zone: Some(true),
    };
    const NLB: LoadBalancer = LoadBalancer {
        zones: Some(3),
        cross_zone: Some(false),
    };
    const UNKNOWN: LoadBalancer = LoadBalancer {
        zones: Some(4),
        cross_zone: None,
    };

    #[rstest]
    #[case::on(Some(CrossZone::On), &[NLB], Some(true), None)]
    #[case::off(Some(CrossZone::Off), &[ALB], Some(false), Some(2))]
    #[case::of_an_alb(Some(CrossZone::Inherited), &[ALB], Some(true), None)]
    #[case::of_an_nlb(Some(CrossZone::Inherited), &[NLB], Some(false), Some(3))]
    #[case::of_both(Some(CrossZone::Inherited), &[ALB, NLB], Some(false), Some(3))]
    #[case::of_one_that_is_not_known(Some(CrossZone::Inherited), &[UNKNOWN, ALB], None, None)]
    #[case::whatever_is_known_of_it(Some(CrossZone::Off), &[UNKNOWN], Some(false), Some(4))]
    #[case::of_none(Some(CrossZone::Off), &[], None, None)]
    #[case::not_known(None, &[ALB], None, None)]
    fn a_group_is_within_zones_where_one_of_its_load_balancers_is(
        #[case] group: Option<CrossZone>,
        #[case] behind: &[LoadBalancer],
        #[case] cross_zone: Option<bool>,
        #[case] zones: Option<u32>,
    ) {
        assert_eq!(Reach::of(group, behind), Reach { cross_zone, zones });
    }
}
