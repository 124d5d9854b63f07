//! The zone of a registration.
//!
//! ELB compares an address with the subnets of the group's VPC, not with the VPC's blocks
//! (<https://github.com/kubernetes-sigs/aws-load-balancer-controller/issues/3714>). The texts are
//! those that users quote; which of the two about a missing zone ELB chooses is inferred from their
//! groups.

use super::ApiError;
use super::request::TargetId;
use crate::elb::group::{LoadBalancerKind, TargetGroupSpec};
use crate::elb::limits::Subnet;
use crate::elb::model::ALL_ZONES;

/// The zone that ELB then tells, or why it refuses the target. Without subnets nothing is checked.
pub(super) fn zone(
    subnets: Option<&Vec<Subnet>>,
    group: &TargetGroupSpec,
    id: &TargetId,
) -> Result<Option<String>, ApiError> {
    let Some(subnets) = subnets else {
        return Ok(id.zone.clone());
    };
    match subnets.iter().find(|subnet| subnet.contains(id.ip)) {
        Some(subnet) => inside(&subnet.zone, id),
        None => outside(group, id),
    }
}

/// <https://github.com/kubernetes-sigs/aws-load-balancer-controller/issues/561>
fn inside(own: &str, id: &TargetId) -> Result<Option<String>, ApiError> {
    match id.zone.as_deref() {
        Some(zone) if zone != own => Err(ApiError::validation(format!(
            "The IP address '{}' is within the VPC, and cannot have its Availability Zone \
             overridden to '{zone}' from '{own}'",
            id.ip
        ))),
        _ => Ok(Some(own.to_owned())),
    }
}

fn outside(group: &TargetGroupSpec, id: &TargetId) -> Result<Option<String>, ApiError> {
    let kind = group.kind();
    let without_cross_zone =
        kind == LoadBalancerKind::Application && group.cross_zone == Some(false);
    match id.zone.as_deref() {
        None | Some(ALL_ZONES) if without_cross_zone => Err(ApiError::validation(needs_own(id))),
        None => Err(ApiError::validation(needs_any(kind, id))),
        Some(zone) => Ok(Some(zone.to_owned())),
    }
}

/// <https://github.com/kubernetes-sigs/aws-load-balancer-controller/pull/4496>, which says that it
/// does not concern an NLB.
fn needs_own(id: &TargetId) -> String {
    format!(
        "When cross-zone load balancing is disabled on this target group, you must specify an \
         Availability Zone for IP target '{}' since it is outside of the VPC",
        id.ip
    )
}

/// <https://github.com/kubernetes-sigs/aws-load-balancer-controller/issues/3084> and 3714.
fn needs_any(kind: LoadBalancerKind, id: &TargetId) -> String {
    let ip = id.ip;
    match kind {
        LoadBalancerKind::Application => format!(
            "You must specify a valid Availability Zone or select 'all' for all enabled \
             Availability zones, since the IP address '{ip}' is outside the VPC"
        ),
        LoadBalancerKind::Network => format!(
            "The Availability Zone is required for IP address '{ip}' because it is not in the VPC"
        ),
    }
}
