//! The settings of target groups and the kinds of load balancers.

use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;

use super::delays::Delays;

/// The two kinds of load balancer that take IP targets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LoadBalancerKind {
    /// An ALB, which proxies HTTP.
    Application,
    /// An NLB, which forwards TCP connections.
    Network,
}

impl LoadBalancerKind {
    /// The word in a load balancer's ARN.
    pub(super) fn arn_word(self) -> &'static str {
        match self {
            Self::Application => "app",
            Self::Network => "net",
        }
    }
}

/// The settings of a new target group; [`TargetGroupSpec::http`] and [`TargetGroupSpec::tcp`] give
/// the usual ones.
#[derive(Clone, Debug, PartialEq)]
pub struct TargetGroupSpec {
    /// The name, unique in the account and Region, at most 32 characters.
    pub name: String,
    /// `HTTP`, `HTTPS`, `TCP`, `TLS`, `UDP`, `TCP_UDP`…, which determines the kind of load
    /// balancer.
    pub protocol: String,
    /// The port of targets that are registered without one.
    pub port: u16,
    /// `ip`, `instance`, `lambda` or `alb`; only `ip` groups take targets here.
    pub target_type: String,
    /// `ipv4` or `ipv6`. `None` leaves it out of answers, as AWS does for old groups.
    pub ip_address_type: Option<String>,
    pub vpc_id: String,
    pub health_check: HealthCheck,
    /// Whether the group balances across zones: the attribute `load_balancing.cross_zone.enabled`.
    /// `None` leaves that to its load balancers: an ALB does, an NLB does not. Only registrations and
    /// descriptions know zones here, the data plane does not.
    pub cross_zone: Option<bool>,
    /// Whether an NLB cuts connections at the end of the deregistration delay: the attribute
    /// `deregistration_delay.connection_termination.enabled`. The data plane does not follow it.
    pub connection_termination: bool,
    /// The group's own delays; `None` means those of the [`super::Options`].
    pub delays: Option<Delays>,
}

impl TargetGroupSpec {
    /// A group of IP targets for an Application Load Balancer, checked by `GET /`.
    pub fn http(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            protocol: "HTTP".to_owned(),
            port: 80,
            target_type: "ip".to_owned(),
            ip_address_type: Some("ipv4".to_owned()),
            vpc_id: "vpc-0123456789abcdef0".to_owned(),
            health_check: HealthCheck::http("/"),
            cross_zone: None,
            connection_termination: false,
            delays: None,
        }
    }

    /// A group of IP targets for a Network Load Balancer, checked by a TCP connection, with the
    /// delays of [`Delays::nlb`].
    pub fn tcp(name: impl Into<String>) -> Self {
        Self {
            protocol: "TCP".to_owned(),
            health_check: HealthCheck::Tcp,
            delays: Some(Delays::nlb()),
            ..Self::http(name)
        }
    }

    /// The same group with delays of its own.
    #[must_use]
    pub fn delays(mut self, delays: Delays) -> Self {
        self.delays = Some(delays);
        self
    }

    /// The same group with another health check.
    #[must_use]
    pub fn health_check(mut self, health_check: HealthCheck) -> Self {
        self.health_check = health_check;
        self
    }

    /// The kind of load balancer that serves this protocol.
    pub fn kind(&self) -> LoadBalancerKind {
        match self.protocol.as_str() {
            "HTTP" | "HTTPS" => LoadBalancerKind::Application,
            _ => LoadBalancerKind::Network,
        }
    }
}

/// How the targets of a group are checked, always on their traffic port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HealthCheck {
    /// `GET path`, which passes if the status matches.
    Http {
        /// The path and query, beginning with `/`.
        path: String,
        matcher: Matcher,
    },
    /// A TCP connection, which passes if it opens.
    Tcp,
}

impl HealthCheck {
    /// `GET path`, which passes on 200.
    pub fn http(path: impl Into<String>) -> Self {
        Self::Http {
            path: path.into(),
            matcher: Matcher::default_of(LoadBalancerKind::Application),
        }
    }
}

/// The HTTP statuses that pass a health check: `200`, `200,202` or `200-299`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Matcher(Vec<RangeInclusive<u16>>);

impl Matcher {
    pub fn accepts(&self, status: u16) -> bool {
        self.0.iter().any(|range| range.contains(&status))
    }

    /// AWS's default: 200 at an ALB, 200 to 399 at an NLB.
    pub fn default_of(kind: LoadBalancerKind) -> Self {
        Self(vec![match kind {
            LoadBalancerKind::Application => 200..=200,
            LoadBalancerKind::Network => 200..=399,
        }])
    }
}

/// A matcher that cannot be parsed.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("'{0}' is not a list of HTTP codes such as 200, 200,202 or 200-299")]
pub struct InvalidMatcher(String);

impl FromStr for Matcher {
    type Err = InvalidMatcher;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let range = |part: &str| {
            let (low, high) = part.split_once('-').unwrap_or((part, part));
            let (low, high) = (low.trim().parse().ok()?, high.trim().parse().ok()?);
            (low <= high && (200..=599).contains(&low) && high <= 599).then_some(low..=high)
        };
        text.split(',')
            .map(range)
            .collect::<Option<_>>()
            .map(Self)
            .ok_or_else(|| InvalidMatcher(text.to_owned()))
    }
}

impl fmt::Display for Matcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, range) in self.0.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            if range.start() == range.end() {
                write!(f, "{comma}{}", range.start())?;
            } else {
                write!(f, "{comma}{}-{}", range.start(), range.end())?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_matcher_takes_codes_and_ranges() {
        let matcher: Matcher = "200-202,301".parse().unwrap();
        let accepted: Vec<u16> = (200..600).filter(|code| matcher.accepts(*code)).collect();
        assert_eq!(accepted, [200, 201, 202, 301]);
        assert_eq!(matcher.to_string(), "200-202,301");
    }

    #[test]
    fn a_matcher_that_is_no_list_of_codes_is_refused() {
        for text in ["", "abc", "200-", "299-200", "99", "200,,201", "200-600"] {
            assert_eq!(
                text.parse::<Matcher>(),
                Err(InvalidMatcher(text.to_owned())),
                "{text}"
            );
        }
    }
}
