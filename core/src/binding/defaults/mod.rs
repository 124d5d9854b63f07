//! What a new binding leaves out and AWS, or its Service, can tell (contract 3).

use json_patch::{Patch, PatchOperation};
use serde_json::json;
use thiserror::Error;

use crate::binding::spec::{ServiceReference, TargetGroupBindingSpec};
use crate::model::{ServicePort, TargetGroup, TargetType};
use crate::names::{NameError, TargetGroupArn};
use crate::object::IntOrString;
use crate::patch::add;

/// How a binding says which target group it means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GroupRef<'a> {
    /// By `spec.targetGroupARN`, which prevails.
    Arn(TargetGroupArn),
    /// By `spec.targetGroupName`.
    Name(&'a str),
}

/// Why a binding cannot be completed.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum Incomplete {
    /// The binding names no target group.
    #[error("must provide either targetGroupARN or targetGroupName")]
    NoGroup,
    /// `spec.targetGroupARN` is no ARN of a target group.
    #[error("spec.targetGroupARN: {0}")]
    MalformedArn(NameError),
    /// Targets of this type are not supported.
    #[error(
        "spec.targetType: target group {arn} has the unsupported target type {target_type:?}; bind a target group of type instance or ip"
    )]
    UnsupportedTargetType {
        /// The group.
        arn: TargetGroupArn,
        /// Its type as AWS tells it, such as `lambda` or `alb`.
        target_type: String,
    },
    /// `spec.serviceRef.port` is absent and the Service is not known.
    #[error(
        "spec.serviceRef.port: it is not set, and Service {service:?} is not known in the binding's namespace; set the port, or create the Service first"
    )]
    NoService {
        /// The Service's name.
        service: String,
    },
    /// `spec.serviceRef.port` is absent and the Service has none, or more than one.
    #[error(
        "spec.serviceRef.port: it is not set, and Service {service:?} has {} ports{}; set the port",
        ports.len(),
        listed(ports)
    )]
    AmbiguousPort {
        /// The Service's name.
        service: String,
        /// Its ports, as they would be named in the binding.
        ports: Vec<String>,
    },
}

fn listed(ports: &[String]) -> String {
    match ports {
        [] => String::new(),
        ports => format!(" ({})", ports.join(", ")),
    }
}

/// Which target group the binding means.
///
/// # Errors
/// Where it names none, or by something that is no ARN.
pub fn group_ref(spec: &TargetGroupBindingSpec) -> Result<GroupRef<'_>, Incomplete> {
    match (&spec.target_group_arn, &spec.target_group_name) {
        (Some(arn), _) => arn
            .parse()
            .map(GroupRef::Arn)
            .map_err(Incomplete::MalformedArn),
        (None, Some(name)) => Ok(GroupRef::Name(name)),
        (None, None) => Err(Incomplete::NoGroup),
    }
}

/// The fields that are absent and that only AWS can tell.
pub fn left_to_aws(spec: &TargetGroupBindingSpec) -> Vec<&'static str> {
    let fields = [
        ("spec.targetGroupARN", &spec.target_group_arn),
        ("spec.targetType", &spec.target_type),
        ("spec.ipAddressType", &spec.ip_address_type),
        ("spec.vpcID", &spec.vpc_id),
        ("spec.targetGroupProtocol", &spec.target_group_protocol),
    ];
    let absent = fields.into_iter().filter(|(_, value)| value.is_none());
    absent.map(|(field, _)| field).collect()
}

/// The Service whose only port is to be filled in; `None` where the binding names a port.
pub fn service_to_ask(spec: &TargetGroupBindingSpec) -> Option<&str> {
    let service = spec.service_ref.as_ref()?;
    lacks_port(service).then_some(service.name.as_deref())?
}

fn lacks_port(service: &ServiceReference) -> bool {
    match &service.port {
        None => true,
        Some(IntOrString::Text(name)) => name.is_empty(),
        Some(IntOrString::Number(_)) => false,
    }
}

/// The patch that fills in what is absent, `null` or empty; empty where nothing is.
///
/// `group` is what AWS told, where it was asked; `ports` are those of [`service_to_ask`]'s Service,
/// where it is known. What the user wrote stays as written.
///
/// # Errors
/// Where a field cannot be filled in, and the binding would mean nothing without it.
pub fn fill(
    spec: &TargetGroupBindingSpec,
    group: Option<&TargetGroup>,
    ports: Option<&[ServicePort]>,
) -> Result<Patch, Incomplete> {
    let mut patch = match group {
        Some(group) => of_group(spec, group)?,
        None => Vec::new(),
    };
    if let Some(service) = service_to_ask(spec) {
        let port = only_port(service, ports)?;
        patch.push(add(&["spec", "serviceRef", "port"], json!(port)));
    }
    Ok(Patch(patch))
}

fn of_group(
    spec: &TargetGroupBindingSpec,
    group: &TargetGroup,
) -> Result<Vec<PatchOperation>, Incomplete> {
    let known = [TargetType::Instance, TargetType::Ip].map(TargetType::as_str);
    if spec.target_type.is_none() && !known.contains(&&*group.target_type) {
        return Err(Incomplete::UnsupportedTargetType {
            arn: group.arn.clone(),
            target_type: group.target_type.to_string(),
        });
    }
    let fields = [
        (
            "targetGroupARN",
            &spec.target_group_arn,
            Some(group.arn.as_str()),
        ),
        ("targetType", &spec.target_type, Some(&*group.target_type)),
        (
            "ipAddressType",
            &spec.ip_address_type,
            Some(group.family.as_str()),
        ),
        ("vpcID", &spec.vpc_id, group.vpc_id.as_deref()),
        (
            "targetGroupProtocol",
            &spec.target_group_protocol,
            group.protocol.as_deref(),
        ),
    ];
    let absent = fields
        .into_iter()
        .filter(|(_, written, _)| written.is_none());
    Ok(absent
        .filter_map(|(field, _, told)| Some(add(&["spec", field], json!(told?))))
        .collect())
}

fn only_port(service: &str, ports: Option<&[ServicePort]>) -> Result<u16, Incomplete> {
    match ports {
        None => Err(Incomplete::NoService {
            service: service.to_owned(),
        }),
        Some([port]) => Ok(port.port),
        Some(ports) => Err(Incomplete::AmbiguousPort {
            service: service.to_owned(),
            ports: ports.iter().map(port_text).collect(),
        }),
    }
}

fn port_text(port: &ServicePort) -> String {
    match &port.name {
        Some(name) => format!("{} {name:?}", port.port),
        None => port.port.to_string(),
    }
}

#[cfg(test)]
mod tests;
