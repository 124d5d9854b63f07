//! RegisterTargets and DeregisterTargets.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use tokio::time::Instant;

use super::ApiError;
use super::lookup::{address, group};
use super::request::TargetId;
use super::response::Answer;
use super::zones::zone;
use crate::elb::group::TargetGroupSpec;
use crate::elb::model::{Group, Model};

/// Registers all targets or none: one bad target fails the call, as at AWS.
pub(super) fn register(
    model: &mut Model,
    arn: &str,
    targets: &[TargetId],
    now: Instant,
) -> Result<Answer, ApiError> {
    let group = group(model, arn)?;
    expect_short(model, targets)?;
    expect_ip_targets(&group.spec)?;
    let mut zones = BTreeMap::new();
    for id in targets {
        expect_family(&group.spec, id.ip)?;
        expect_valid(model, id.ip)?;
        let subnets = model.networks.get(&group.spec.vpc_id);
        zones.insert(address(group, id), zone(subnets, &group.spec, id)?);
    }
    expect_room(model, arn, group, zones.keys())?;
    for (target, zone) in zones {
        model.register(arn, target, zone, now);
    }
    Ok(Answer::Nothing)
}

/// Deregisters targets. One that is not registered is not an error, nor is one of another zone.
pub(super) fn deregister(
    model: &mut Model,
    arn: &str,
    targets: &[TargetId],
    now: Instant,
) -> Result<Answer, ApiError> {
    let group = group(model, arn)?;
    expect_short(model, targets)?;
    let is_named = |id: &TargetId, target: &SocketAddr| {
        id.zone.is_none() || id.zone.as_deref() == group.zone_of(target)
    };
    let named = |id: &TargetId| {
        let mut targets = match id.port {
            Some(port) => vec![SocketAddr::new(id.ip, port)],
            None => group.at_address(id.ip),
        };
        targets.retain(|target| is_named(id, target));
        targets
    };
    let targets: Vec<SocketAddr> = targets.iter().flat_map(named).collect();
    for target in targets {
        model.deregister(arn, target, now);
    }
    Ok(Answer::Nothing)
}

fn expect_short(model: &Model, targets: &[TargetId]) -> Result<(), ApiError> {
    let limit = model.quotas.targets_per_call;
    if targets.len() > limit {
        return Err(ApiError::long_call(limit));
    }
    Ok(())
}

fn expect_ip_targets(group: &TargetGroupSpec) -> Result<(), ApiError> {
    if group.target_type == "ip" {
        return Ok(());
    }
    Err(ApiError::invalid_target(format!(
        "The target group takes targets of type {}, not ip addresses",
        group.target_type
    )))
}

fn expect_family(group: &TargetGroupSpec, ip: IpAddr) -> Result<(), ApiError> {
    let wants_v6 = group.ip_address_type.as_deref() == Some("ipv6");
    match (wants_v6, ip) {
        (true, IpAddr::V4(_)) => Err(ApiError::wrong_family(ip, "IPv6")),
        (false, IpAddr::V6(_)) => Err(ApiError::wrong_family(ip, "IPv4")),
        _ => Ok(()),
    }
}

/// AWS documents when ELB refuses a target so, not in which words.
fn expect_valid(model: &Model, ip: IpAddr) -> Result<(), ApiError> {
    if model.invalid.contains(&ip) {
        return Err(ApiError::invalid_target(format!(
            "The following targets are not valid: '{ip}'"
        )));
    }
    Ok(())
}

/// Whether the quotas leave room for these targets. Those that are registered need none.
fn expect_room<'a>(
    model: &Model,
    arn: &str,
    group: &Group,
    targets: impl Iterator<Item = &'a SocketAddr>,
) -> Result<(), ApiError> {
    let quotas = model.quotas;
    let new: BTreeSet<&SocketAddr> = targets.filter(|target| group.is_free(target)).collect();
    if group.registered() + new.len() > quotas.targets_per_group {
        return Err(ApiError::too_many_targets(quotas.targets_per_group, arn));
    }
    for balancer in model.balancers_of(arn) {
        let registered: usize = model.groups_of(balancer).map(Group::registered).sum();
        if registered + new.len() > quotas.targets_per_load_balancer {
            let limit = quotas.targets_per_load_balancer;
            return Err(ApiError::full_balancer(limit, balancer));
        }
    }
    let mut ports_of: BTreeMap<IpAddr, usize> = BTreeMap::new();
    for target in new {
        *ports_of.entry(target.ip()).or_default() += 1;
    }
    let beside: Vec<&Group> = model.beside(arn).collect();
    for (ip, new) in ports_of {
        let registered: usize = beside.iter().map(|group| group.registered_at(ip)).sum();
        if registered + new > quotas.registrations_per_target_id {
            let limit = quotas.registrations_per_target_id;
            return Err(ApiError::too_many_registrations(limit, ip));
        }
    }
    Ok(())
}
