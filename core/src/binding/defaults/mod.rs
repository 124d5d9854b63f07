//! Defaults of a new binding, from AWS and from its Service (contract 3).

use json_patch::{Patch, PatchOperation};
use serde_json::{Value, json};
use thiserror::Error;

use crate::binding::field::{GroupField, SERVICE_PORT};
use crate::binding::service::{ServiceLookup, listed};
use crate::binding::spec::{
    ServiceReference, TargetGroupBindingSpec, is_protocol_filled_in, target_type,
};
use crate::elb::query::{GroupQuery, GroupSelector};
use crate::model::{ServicePort, TargetGroup};
use crate::names::{NameError, TargetGroupArn};
use crate::object::IntOrString;
use crate::patch::add;

/// Why a binding cannot be completed.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum Incomplete {
    #[error("must provide either targetGroupARN or targetGroupName")]
    NoGroup,
    /// `spec.targetGroupARN` is not the ARN of a target group.
    #[error("{field}: {0}", field = GroupField::Arn)]
    MalformedArn(NameError),
    /// The group's targets are neither nodes nor pods, and the binding does not have a target type.
    #[error(
        "{}: target group {arn} has the unsupported target type {target_type:?}; bind a target group of type instance or ip",
        GroupField::TargetType
    )]
    UnsupportedTargetType {
        arn: TargetGroupArn,
        /// The type in AWS, such as `lambda` or `alb`.
        target_type: String,
    },
    /// `spec.serviceRef.port` is absent, and the index does not have the Service.
    #[error(
        "{SERVICE_PORT}: it is not set, and Service {service:?} is not known in the binding's namespace; set the port, or create the Service first"
    )]
    NoService { service: String },
    /// `spec.serviceRef.port` is absent, and the Services of the namespace are not watched.
    #[error(
        "{SERVICE_PORT}: it is not set, and --watch-namespaces leaves out the binding's namespace, so that the ports of Service {service:?} are not known; set the port"
    )]
    NotWatched { service: String },
    /// `spec.serviceRef.port` is absent, and the Service does not have exactly one port.
    #[error(
        "{SERVICE_PORT}: it is not set, and Service {service:?} has {} ports{}; set the port",
        ports.len(),
        in_parentheses(ports)
    )]
    AmbiguousPort {
        service: String,
        ports: Vec<ServicePort>,
    },
}

fn in_parentheses(ports: &[ServicePort]) -> String {
    match ports {
        [] => String::new(),
        ports => format!(" ({})", listed(ports)),
    }
}

/// The query about the binding's target group, in which the ARN prevails over the name.
///
/// # Errors
/// [`Incomplete::NoGroup`] or [`Incomplete::MalformedArn`].
pub fn group_query(spec: &TargetGroupBindingSpec) -> Result<GroupQuery, Incomplete> {
    let selector = match (&spec.target_group_arn, &spec.target_group_name) {
        (Some(arn), _) => GroupSelector::Arn(arn.parse().map_err(Incomplete::MalformedArn)?),
        (None, Some(name)) => GroupSelector::Name(name.clone()),
        (None, None) => return Err(Incomplete::NoGroup),
    };
    let role = spec.role();
    Ok(GroupQuery { selector, role })
}

/// The paths of the absent fields that only AWS can fill in.
pub fn left_to_aws(spec: &TargetGroupBindingSpec) -> Vec<&'static str> {
    absent(spec).map(GroupField::path).collect()
}

fn absent(spec: &TargetGroupBindingSpec) -> impl Iterator<Item = GroupField> {
    let fields = GroupField::FILLED_IN.into_iter();
    fields.filter(|field| field.written(spec).is_none())
}

/// The Service whose only port is to be filled in; `None` if the binding names a port, or does not name a
/// Service.
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

/// The patch that fills in the fields that are absent, `null` or empty. It never replaces what the user wrote.
///
/// A value that a schema in use may not know is left out, because a default must not make the binding invalid.
/// `group` is AWS's description, if AWS was asked; `service` is the one of [`service_to_ask`].
///
/// # Errors
/// [`Incomplete`], if a field that the binding needs cannot be filled in.
///
/// ```
/// use serde_json::json;
/// use targetgate_core::binding::defaults::fill;
/// use targetgate_core::binding::service::ServiceLookup;
/// use targetgate_core::binding::spec::TargetGroupBindingSpec;
/// use targetgate_core::model::{Protocol, ServicePort};
///
/// let mut binding = json!({ "spec": {
///     "targetGroupName": "web",
///     "serviceRef": { "name": "web", "port": "" },
/// } });
/// let spec: TargetGroupBindingSpec = serde_json::from_value(binding["spec"].clone()).unwrap();
/// let only = ServicePort { name: None, port: 8080, protocol: Protocol::Tcp, target_port: None };
///
/// let patch = fill(&spec, None, &ServiceLookup::Ports(vec![only]))?;
/// json_patch::patch(&mut binding, &patch).unwrap();
/// assert_eq!(binding["spec"]["serviceRef"], json!({ "name": "web", "port": 8080 }));
///
/// let error = fill(&spec, None, &ServiceLookup::Absent).unwrap_err();
/// assert!(error.to_string().contains("create the Service first"));
/// # Ok::<(), targetgate_core::binding::defaults::Incomplete>(())
/// ```
pub fn fill(
    spec: &TargetGroupBindingSpec,
    group: Option<&TargetGroup>,
    service: &ServiceLookup,
) -> Result<Patch, Incomplete> {
    let mut patch = match group {
        Some(group) => of_group(spec, group)?,
        None => Vec::new(),
    };
    if let Some(name) = service_to_ask(spec) {
        let port = only_port(name, service)?;
        patch.push(set(SERVICE_PORT, json!(port)));
    }
    Ok(Patch(patch))
}

fn of_group(
    spec: &TargetGroupBindingSpec,
    group: &TargetGroup,
) -> Result<Vec<PatchOperation>, Incomplete> {
    // A type that the user wrote is left to the validating hook, which reports what is wrong with it.
    if spec.target_type.is_none() && target_type(&group.target_type).is_none() {
        return Err(Incomplete::UnsupportedTargetType {
            arn: group.arn.clone(),
            target_type: group.target_type.to_string(),
        });
    }
    Ok(absent(spec)
        .filter_map(|field| Some(set(field.path(), json!(writable(field, group)?))))
        .collect())
}

/// The property's value in AWS, if every schema in use takes it.
fn writable(field: GroupField, group: &TargetGroup) -> Option<&str> {
    let value = field.described(group)?;
    (field != GroupField::Protocol || is_protocol_filled_in(value)).then_some(value)
}

fn set(path: &str, value: Value) -> PatchOperation {
    let keys: Vec<&str> = path.split('.').collect();
    add(&keys, value)
}

fn only_port(name: &str, lookup: &ServiceLookup) -> Result<u16, Incomplete> {
    let service = name.to_owned();
    match lookup {
        ServiceLookup::NotWatched => Err(Incomplete::NotWatched { service }),
        ServiceLookup::Absent => Err(Incomplete::NoService { service }),
        ServiceLookup::Ports(ports) => match &ports[..] {
            [port] => Ok(port.port),
            ports => Err(Incomplete::AmbiguousPort {
                service,
                ports: ports.to_vec(),
            }),
        },
    }
}

#[cfg(test)]
mod tests;
