//! The effect of each action on the model.

use super::ApiError;
use super::attributes::{of_balancer, of_group};
use super::lookup::{address, group};
use super::registration::{deregister, register};
use super::request::{Action, Filter, Page, TargetId};
use super::response::{Answer, GroupView};
use crate::elb::Elb;
use crate::elb::group::TargetGroupSpec;
use crate::elb::health::Health;
use crate::elb::model::{Described, Group, Model};

impl Elb {
    pub(super) fn perform(&self, action: Action) -> Result<Answer, ApiError> {
        match action {
            Action::DescribeTargetHealth { arn, targets } => self.describe_health(&arn, &targets),
            Action::DescribeTargetGroups { filter, page } => {
                self.with_model(|model, _| describe_groups(model, &filter, &page))
            }
            Action::DescribeTargetGroupAttributes { arn } => {
                self.with_model(|model, _| of_group(model, &arn))
            }
            Action::DescribeLoadBalancers { arns } => self.describe_balancers(&arns),
            Action::DescribeLoadBalancerAttributes { arn } => {
                self.with_model(|model, _| of_balancer(model, &arn))
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
        let (frozen, lag) = (self.faults().frozen(arn), self.faults().registration_lag());
        self.with_model(|model, now| {
            let group = group(model, arn)?;
            if targets.is_empty() {
                let all = frozen.unwrap_or_else(|| group.described(now, lag));
                return Ok(Answer::TargetHealth(all));
            }
            let health = |id: &TargetId| {
                let target = address(group, id);
                let described = match &frozen {
                    Some(frozen) => frozen.get(&target).cloned(),
                    None => group.describe(target, now, lag),
                };
                // A caller that names another zone than the registered one finds nothing (LBC#4544).
                let named =
                    described.filter(|described| id.zone.is_none() || id.zone == described.zone);
                (target, named.unwrap_or_else(not_registered))
            };
            Ok(Answer::TargetHealth(targets.iter().map(health).collect()))
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

fn not_registered() -> Described {
    Described {
        health: Health::not_registered(),
        zone: None,
    }
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
