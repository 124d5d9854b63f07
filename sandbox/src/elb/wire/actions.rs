//! The effect of each action on the model.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use tokio::time::Instant;

use super::ApiError;
use super::request::{Action, Filter, Page, TargetId};
use super::response::{Answer, GroupView};
use crate::elb::Elb;
use crate::elb::group::TargetGroupSpec;
use crate::elb::health::Health;
use crate::elb::model::{Group, Model};

/// The largest number of targets in a group: AWS's default quota.
const TARGET_QUOTA: usize = 1_000;

impl Elb {
    pub(super) fn perform(&self, action: Action) -> Result<Answer, ApiError> {
        match action {
            Action::DescribeTargetHealth { arn, targets } => self.describe_health(&arn, &targets),
            Action::DescribeTargetGroups { filter, page } => {
                self.with_model(|model, _| describe_groups(model, &filter, &page))
            }
            Action::RegisterTargets { arn, targets } => {
                self.with_model(|model, now| register(model, &arn, &targets, now))
            }
            Action::DeregisterTargets { arn, targets } => {
                self.with_model(|model, now| deregister(model, &arn, &targets, now))
            }
            Action::CreateTargetGroup(spec) => self.create(*spec),
            Action::DeleteTargetGroup { arn } => self.with_model(|model, now| {
                group(model, &arn)?;
                if model.balancers_of(&arn).next().is_some() {
                    return Err(ApiError::group_in_use(&arn));
                }
                model.remove_group(&arn, now);
                Ok(Answer::Nothing)
            }),
        }
    }

    /// A UUID, which is the form of AWS's request identifiers.
    pub(super) fn next_request_id(&self) -> String {
        let (high, low) = self.with_model(|model, _| (model.random(), model.random()));
        format!(
            "{:08x}-{:04x}-4{:03x}-8{:03x}-{:012x}",
            high >> 32,
            (high >> 16) & 0xffff,
            high & 0xfff,
            (low >> 48) & 0xfff,
            low & 0xffff_ffff_ffff,
        )
    }

    fn describe_health(&self, arn: &str, targets: &[TargetId]) -> Result<Answer, ApiError> {
        self.with_model(|model, _| {
            let group = group(model, arn)?;
            let frozen = self.faults().frozen(arn);
            if targets.is_empty() {
                let all = frozen.unwrap_or_else(|| group.all_health());
                return Ok(Answer::TargetHealth(all));
            }
            let asked = targets.iter().map(|id| address(group, *id));
            let health = asked
                .map(|target| {
                    let health = match &frozen {
                        Some(frozen) => frozen.get(&target).cloned(),
                        None => group.health(target),
                    };
                    (target, health.unwrap_or_else(Health::not_registered))
                })
                .collect::<BTreeMap<_, _>>();
            Ok(Answer::TargetHealth(health))
        })
    }

    /// Creates a group. An equal group that exists already is not an error.
    fn create(&self, spec: TargetGroupSpec) -> Result<Answer, ApiError> {
        let existing = self.with_model(|model, _| {
            let mut groups = model.groups.iter();
            groups
                .find(|(_, group)| group.spec.name == spec.name)
                .map(|(arn, group)| (arn.clone(), group.spec == spec))
        });
        let arn = match existing {
            Some((_, false)) => return Err(ApiError::duplicate_name(&spec.name)),
            Some((arn, true)) => arn,
            None => self.create_target_group(spec),
        };
        self.with_model(|model, _| {
            Ok(Answer::TargetGroups {
                groups: vec![view(model, &arn, group(model, &arn)?)],
                next_marker: None,
            })
        })
    }
}

fn group<'a>(model: &'a Model, arn: &str) -> Result<&'a Group, ApiError> {
    let group = model.groups.get(arn);
    group.ok_or_else(|| ApiError::no_such_group(arn))
}

fn address(group: &Group, id: TargetId) -> SocketAddr {
    SocketAddr::new(id.ip, id.port.unwrap_or(group.spec.port))
}

fn view(model: &Model, arn: &str, group: &Group) -> GroupView {
    GroupView {
        arn: arn.to_owned(),
        spec: group.spec.clone(),
        delays: group.delays.clone(),
        load_balancers: model.balancers_of(arn).map(str::to_owned).collect(),
    }
}

fn describe_groups(model: &Model, filter: &Filter, page: &Page) -> Result<Answer, ApiError> {
    let wanted = |arn: &str, group: &Group| match filter {
        Filter::All => true,
        Filter::Arns(arns) => arns.iter().any(|wanted| wanted == arn),
        Filter::Names(names) => names.contains(&group.spec.name),
        Filter::LoadBalancer(balancer) => model.balancers_of(arn).any(|b| b == balancer),
    };
    let found: Vec<(&String, &Group)> = model
        .groups
        .iter()
        .filter(|(arn, group)| wanted(arn, group))
        .collect();
    match filter {
        Filter::Arns(names) | Filter::Names(names) if found.len() < distinct(names) => {
            return Err(ApiError::groups_missing());
        }
        Filter::LoadBalancer(balancer) if !model.has_balancer(balancer) => {
            return Err(ApiError::balancer_missing(balancer));
        }
        _ => {}
    }
    // A marker is the last ARN of the previous page.
    let rest = found
        .iter()
        .filter(|(arn, _)| page.after.as_ref().is_none_or(|after| *arn > after));
    let mut groups: Vec<GroupView> = rest
        .take(page.size + 1)
        .map(|(arn, group)| view(model, arn, group))
        .collect();
    let more = groups.len() > page.size;
    groups.truncate(page.size);
    let next_marker = groups
        .last()
        .filter(|_| more)
        .map(|group| group.arn.clone());
    Ok(Answer::TargetGroups {
        groups,
        next_marker,
    })
}

fn distinct(names: &[String]) -> usize {
    names
        .iter()
        .collect::<std::collections::BTreeSet<_>>()
        .len()
}

/// Registers all targets or none: one bad target fails the call, as at AWS.
fn register(
    model: &mut Model,
    arn: &str,
    targets: &[TargetId],
    now: Instant,
) -> Result<Answer, ApiError> {
    let group = group(model, arn)?;
    if group.spec.target_type != "ip" {
        return Err(ApiError::invalid_target(format!(
            "The target group takes targets of type {}, not ip addresses",
            group.spec.target_type
        )));
    }
    let wants_v6 = group.spec.ip_address_type.as_deref() == Some("ipv6");
    if let Some(id) = targets.iter().find(|id| id.ip.is_ipv6() != wants_v6) {
        return Err(ApiError::invalid_target(format!(
            "The IP address '{}' is not of the address type of the target group",
            id.ip
        )));
    }
    let addresses: Vec<SocketAddr> = targets.iter().map(|id| address(group, *id)).collect();
    let new = addresses
        .iter()
        .filter(|target| group.is_free(target))
        .count();
    if group.registered() + new > TARGET_QUOTA {
        return Err(ApiError::too_many_targets(TARGET_QUOTA));
    }
    for target in addresses {
        model.register(arn, target, now);
    }
    Ok(Answer::Nothing)
}

fn deregister(
    model: &mut Model,
    arn: &str,
    targets: &[TargetId],
    now: Instant,
) -> Result<Answer, ApiError> {
    let group = group(model, arn)?;
    let all_of_the_address = |id: &TargetId| match id.port {
        Some(port) => vec![SocketAddr::new(id.ip, port)],
        None => group.at_address(id.ip),
    };
    let addresses: Vec<SocketAddr> = targets.iter().flat_map(all_of_the_address).collect();
    for target in addresses {
        model.deregister(arn, target, now);
    }
    Ok(Answer::Nothing)
}
