//! What a request names, in the model.

use std::net::SocketAddr;

use super::ApiError;
use super::request::TargetId;
use crate::elb::model::{Group, Model};

pub(super) fn group<'a>(model: &'a Model, arn: &str) -> Result<&'a Group, ApiError> {
    let group = model.groups.get(arn);
    group.ok_or_else(|| ApiError::no_such_group(arn))
}

pub(super) fn address(group: &Group, id: &TargetId) -> SocketAddr {
    SocketAddr::new(id.ip, id.port.unwrap_or(group.spec.port))
}
