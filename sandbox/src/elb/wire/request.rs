//! Parses a form into a typed action.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::str::FromStr;
use std::time::Duration;

use super::ApiError;
use crate::elb::delays::Delays;
use crate::elb::group::{HealthCheck, LoadBalancerKind, Matcher, TargetGroupSpec};

/// At most this many ARNs or names may be in one DescribeTargetGroups. AWS's limit.
const MAX_NAMED: usize = 20;
/// The number of groups on one page of DescribeTargetGroups, both the largest and the default.
/// AWS's limit.
const MAX_PAGE: usize = 400;
/// At most this many targets of a call are read. Chosen to bound the work; the limit of RegisterTargets
/// and DeregisterTargets is a quota.
const MAX_TARGETS: usize = 1_000;

/// A valid call.
#[derive(Debug, PartialEq)]
pub(super) enum Action {
    DescribeTargetHealth {
        arn: String,
        targets: Vec<TargetId>,
    },
    DescribeTargetGroups {
        filter: Filter,
        page: Page,
    },
    DescribeTargetGroupAttributes {
        arn: String,
    },
    /// Without filters other than ARNs, and without pages.
    DescribeLoadBalancers {
        arns: Vec<String>,
    },
    DescribeLoadBalancerAttributes {
        arn: String,
    },
    RegisterTargets {
        arn: String,
        targets: Vec<TargetId>,
    },
    DeregisterTargets {
        arn: String,
        targets: Vec<TargetId>,
    },
    CreateTargetGroup(Box<TargetGroupSpec>),
    DeleteTargetGroup {
        arn: String,
    },
}

/// A target as a caller names it; without a port it has the group's port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct TargetId {
    pub(super) ip: IpAddr,
    pub(super) port: Option<u16>,
    pub(super) zone: Option<String>,
}

/// Which groups to describe.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Filter {
    All,
    Arns(Vec<String>),
    Names(Vec<String>),
    LoadBalancer(String),
}

/// The start and the size of a page.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Page {
    pub(super) after: Option<String>,
    pub(super) size: usize,
}

/// The parameters of a call. The last value of a repeated name wins.
#[derive(Debug, Default)]
pub(super) struct Form(BTreeMap<String, String>);

impl Form {
    pub(super) fn parse(body: &[u8]) -> Self {
        Self(form_urlencoded::parse(body).into_owned().collect())
    }

    /// The action's name, as the caller gave it.
    pub(super) fn action(&self) -> &str {
        self.text("Action").unwrap_or_default()
    }

    /// The target groups that the call names by ARN, well-formed or not.
    pub(super) fn arns(&self) -> Vec<String> {
        let mut arns: Vec<String> = self
            .text("TargetGroupArn")
            .map(str::to_owned)
            .into_iter()
            .collect();
        arns.extend(self.list("TargetGroupArns").map(str::to_owned));
        arns
    }

    fn text(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    fn required(&self, name: &str) -> Result<&str, ApiError> {
        self.text(name)
            .filter(|value| !value.is_empty())
            .ok_or_else(|| ApiError::validation(format!("The parameter {name} must be specified")))
    }

    fn parsed<T: FromStr>(&self, name: &str) -> Result<Option<T>, ApiError> {
        self.text(name)
            .map(|value| {
                value.parse().map_err(|_| {
                    ApiError::validation(format!("'{value}' is not a valid value of {name}"))
                })
            })
            .transpose()
    }

    /// The values of `name.member.1`, `name.member.2` and so on, up to the first that is absent.
    fn list<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        (1..).map_while(move |index| self.text(&format!("{name}.member.{index}")))
    }

    fn target_ids(&self) -> Result<Vec<TargetId>, ApiError> {
        let mut targets = Vec::new();
        for index in 1.. {
            let prefix = format!("Targets.member.{index}");
            let Some(id) = self.text(&format!("{prefix}.Id")) else {
                break;
            };
            if targets.len() == MAX_TARGETS {
                return Err(ApiError::long_call(MAX_TARGETS));
            }
            let ip = id
                .parse()
                .map_err(|_| ApiError::validation(format!("The IP address '{id}' is not valid")))?;
            let port: Option<u16> = self.parsed(&format!("{prefix}.Port"))?;
            if port == Some(0) {
                return Err(ApiError::validation(
                    "Port '0' is invalid, it must be from 1 to 65535",
                ));
            }
            let zone = self.text(&format!("{prefix}.AvailabilityZone"));
            let zone = zone.filter(|zone| !zone.is_empty()).map(str::to_owned);
            targets.push(TargetId { ip, port, zone });
        }
        Ok(targets)
    }

    fn some_target_ids(&self) -> Result<Vec<TargetId>, ApiError> {
        let targets = self.target_ids()?;
        if targets.is_empty() {
            return Err(ApiError::validation("A target must be specified"));
        }
        Ok(targets)
    }
}

impl Action {
    /// Parses a call to the account whose ARNs begin with `arn_prefix`.
    pub(super) fn parse(form: &Form, arn_prefix: &str, delays: &Delays) -> Result<Self, ApiError> {
        let arn = || {
            let arn = form.required("TargetGroupArn")?;
            check_arn(arn, arn_prefix)
        };
        Ok(match form.action() {
            "" => return Err(ApiError::missing_action()),
            "DescribeTargetHealth" => Self::DescribeTargetHealth {
                arn: arn()?,
                targets: form.target_ids()?,
            },
            "DescribeTargetGroups" => Self::DescribeTargetGroups {
                filter: filter(form, arn_prefix)?,
                page: page(form)?,
            },
            "DescribeTargetGroupAttributes" => Self::DescribeTargetGroupAttributes { arn: arn()? },
            "DescribeLoadBalancers" => Self::DescribeLoadBalancers {
                arns: some_balancers(form)?,
            },
            "DescribeLoadBalancerAttributes" => Self::DescribeLoadBalancerAttributes {
                arn: form.required("LoadBalancerArn")?.to_owned(),
            },
            "RegisterTargets" => Self::RegisterTargets {
                arn: arn()?,
                targets: form.some_target_ids()?,
            },
            "DeregisterTargets" => Self::DeregisterTargets {
                arn: arn()?,
                targets: form.some_target_ids()?,
            },
            "CreateTargetGroup" => Self::CreateTargetGroup(Box::new(new_group(form, delays)?)),
            "DeleteTargetGroup" => Self::DeleteTargetGroup { arn: arn()? },
            other => return Err(ApiError::invalid_action(other)),
        })
    }
}

/// Checks the ARN of a target group. An ARN of another account or Region is as invalid as a
/// malformed one.
fn check_arn(arn: &str, prefix: &str) -> Result<String, ApiError> {
    let resource = arn
        .strip_prefix(prefix)
        .and_then(|rest| rest.strip_prefix("targetgroup/"));
    let well_formed = resource
        .and_then(|rest| rest.split_once('/'))
        .is_some_and(|(name, id)| {
            !name.is_empty() && !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_hexdigit())
        });
    if well_formed {
        Ok(arn.to_owned())
    } else {
        Err(ApiError::invalid_arn(arn))
    }
}

fn filter(form: &Form, arn_prefix: &str) -> Result<Filter, ApiError> {
    let arns: Vec<&str> = form.list("TargetGroupArns").take(MAX_NAMED + 1).collect();
    let names: Vec<&str> = form.list("Names").take(MAX_NAMED + 1).collect();
    let balancer = form.text("LoadBalancerArn");
    let owned = |values: &[&str]| values.iter().map(|&value| value.to_owned()).collect();
    match (arns.as_slice(), names.as_slice(), balancer) {
        ([], [], None) => Ok(Filter::All),
        ([], [], Some(balancer)) => Ok(Filter::LoadBalancer(balancer.to_owned())),
        (arns, [], None) if arns.len() <= MAX_NAMED => arns
            .iter()
            .map(|arn| check_arn(arn, arn_prefix))
            .collect::<Result<_, _>>()
            .map(Filter::Arns),
        ([], names, None) if names.len() <= MAX_NAMED => Ok(Filter::Names(owned(names))),
        (_, [], None) | ([], _, None) => Err(ApiError::validation(format!(
            "At most {MAX_NAMED} target groups can be described in a single call"
        ))),
        _ => Err(ApiError::validation(
            "Only one of load balancer ARN, target group ARNs and names can be specified",
        )),
    }
}

fn some_balancers(form: &Form) -> Result<Vec<String>, ApiError> {
    let arns = form.list("LoadBalancerArns").take(MAX_NAMED + 1);
    let arns: Vec<String> = arns.map(str::to_owned).collect();
    match arns.len() {
        0 => Err(ApiError::validation(
            "A list of all load balancers is not modelled here, name some by LoadBalancerArns",
        )),
        1..=MAX_NAMED => Ok(arns),
        _ => Err(ApiError::validation(format!(
            "At most {MAX_NAMED} load balancers can be described in a single call"
        ))),
    }
}

fn page(form: &Form) -> Result<Page, ApiError> {
    let size = form.parsed("PageSize")?.unwrap_or(MAX_PAGE);
    if !(1..=MAX_PAGE).contains(&size) {
        return Err(ApiError::validation(format!(
            "PageSize must be from 1 to {MAX_PAGE}"
        )));
    }
    let after = form.text("Marker").map(str::to_owned);
    Ok(Page { after, size })
}

fn new_group(form: &Form, delays: &Delays) -> Result<TargetGroupSpec, ApiError> {
    let name = form.required("Name")?;
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    if name.len() > 32 || !name.bytes().all(legal) || name.starts_with('-') || name.ends_with('-') {
        return Err(ApiError::validation(format!(
            "Target group name '{name}' must be at most 32 letters, digits and inner hyphens"
        )));
    }
    let protocol = form.required("Protocol")?.to_owned();
    let port = form.required("Port").and_then(|_| form.parsed("Port"))?;
    let mut spec = TargetGroupSpec {
        port: port.unwrap_or_default(),
        vpc_id: form.required("VpcId")?.to_owned(),
        target_type: form.text("TargetType").unwrap_or("instance").to_owned(),
        ip_address_type: Some(form.text("IpAddressType").unwrap_or("ipv4").to_owned()),
        protocol,
        ..TargetGroupSpec::http(name)
    };
    spec.health_check = health_check(form, spec.kind())?;
    spec.delays = Some(group_delays(form, spec.kind(), delays)?);
    Ok(spec)
}

fn health_check(form: &Form, kind: LoadBalancerKind) -> Result<HealthCheck, ApiError> {
    let default = match kind {
        LoadBalancerKind::Application => "HTTP",
        LoadBalancerKind::Network => "TCP",
    };
    match form.text("HealthCheckProtocol").unwrap_or(default) {
        "TCP" => Ok(HealthCheck::Tcp),
        "HTTP" => Ok(HealthCheck::Http {
            path: form.text("HealthCheckPath").unwrap_or("/").to_owned(),
            matcher: form
                .parsed::<Matcher>("Matcher.HttpCode")?
                .unwrap_or_else(|| Matcher::default_of(kind)),
        }),
        other => Err(ApiError::validation(format!(
            "Health check protocol '{other}' is not modelled here, use HTTP or TCP"
        ))),
    }
}

fn group_delays(form: &Form, kind: LoadBalancerKind, alb: &Delays) -> Result<Delays, ApiError> {
    let mut delays = match kind {
        LoadBalancerKind::Application => alb.clone(),
        LoadBalancerKind::Network => Delays::nlb(),
    };
    if let Some(seconds) = form.parsed("HealthCheckIntervalSeconds")? {
        delays.health_check_interval = Duration::from_secs(bounded(seconds, 5..=300)?);
    }
    if let Some(seconds) = form.parsed("HealthCheckTimeoutSeconds")? {
        delays.health_check_timeout = Duration::from_secs(bounded(seconds, 2..=120)?);
    }
    if let Some(count) = form.parsed("HealthyThresholdCount")? {
        delays.healthy_threshold = bounded(count, 2..=10)?;
    }
    if let Some(count) = form.parsed("UnhealthyThresholdCount")? {
        delays.unhealthy_threshold = bounded(count, 2..=10)?;
    }
    Ok(delays)
}

fn bounded<T: PartialOrd + std::fmt::Display>(
    value: T,
    range: std::ops::RangeInclusive<T>,
) -> Result<T, ApiError> {
    if range.contains(&value) {
        return Ok(value);
    }
    let (low, high) = range.into_inner();
    Err(ApiError::validation(format!(
        "The health check setting '{value}' must be from {low} to {high}"
    )))
}
