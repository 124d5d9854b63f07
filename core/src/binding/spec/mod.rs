//! `TargetGroupBinding` of `elbv2.k8s.aws`, as a user writes it.
//!
//! EKS Auto Mode's kind of the same name has the same fields, as far as they are read here. [`yaml`] generates
//! the CRD from these types, so the doc comments on their fields are what `kubectl explain` shows.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer};

use crate::drain::LoadBalancerKind;
use crate::model::{Binding, IpFamily, Policies, PortRef, Registration, TargetType};
use crate::names::{AssumedRole, BindingApi};
use crate::object::IntOrString;

mod schema;
#[cfg(test)]
mod tests;

pub use crate::binding::spec::schema::yaml;

/// TargetGroupBindingSpec says which Service's endpoints are targets of which target group.
///
/// A text that is absent, `null` or empty reads as `None`: the three mean the same.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(
    description = "TargetGroupBindingSpec says which Service's endpoints are targets of which target group."
)]
pub struct TargetGroupBindingSpec {
    /// The Amazon Resource Name (ARN) of the target group. If unset, it is derived from targetGroupName.
    #[serde(default, rename = "targetGroupARN", deserialize_with = "text")]
    pub target_group_arn: Option<String>,
    /// The name of the target group. targetGroupARN prevails where both are set.
    #[serde(default, deserialize_with = "text")]
    pub target_group_name: Option<String>,
    /// Whether other clusters or bindings register targets in the same target group.
    pub multi_cluster_target_group: Option<bool>,
    /// What the targets are: instance (nodes, by node port) or ip (pods). If unset, it is derived from AWS.
    #[serde(default, deserialize_with = "text")]
    #[schemars(extend("enum" = ["instance", "ip"]))]
    pub target_type: Option<String>,
    /// The Service, and its port, whose endpoints are registered.
    #[schemars(required)]
    pub service_ref: Option<ServiceReference>,
    /// Which traffic from the load balancer may reach the targets.
    #[schemars(with = "Option<Networking>")]
    pub networking: Option<serde_json::Value>,
    /// Which nodes are registered, for targetType instance only.
    #[schemars(with = "Option<LabelSelector>", extend("x-kubernetes-map-type" = "atomic"))]
    pub node_selector: Option<serde_json::Value>,
    /// The address family of the target group. If unset, it is derived from AWS.
    #[serde(default, deserialize_with = "text")]
    #[schemars(extend("enum" = ["ipv4", "ipv6"]))]
    pub ip_address_type: Option<String>,
    /// The VPC of the target group. If unset, it is derived from AWS.
    #[serde(default, rename = "vpcID", deserialize_with = "text")]
    pub vpc_id: Option<String>,
    /// The protocol of the target group. If unset, it is derived from AWS.
    #[serde(default, deserialize_with = "text")]
    #[schemars(extend("enum" = PROTOCOLS))]
    pub target_group_protocol: Option<String>,
    /// The ARN of an IAM role to assume for calls about the target group, if it is another account's.
    #[serde(default, deserialize_with = "text")]
    pub iam_role_arn_to_assume: Option<String>,
    /// The external id that the role's trust policy asks for.
    #[serde(default, deserialize_with = "text")]
    pub assume_role_external_id: Option<String>,
    /// Whether targets are registered with the Availability Zone of their pods. The AWS Load Balancer Controller reads it.
    pub register_targets_with_pod_availability_zone: Option<bool>,
}

/// The protocols of a target group that a binding can name: those of the incumbent's v3.5, and `GENEVE` of later
/// releases.
const PROTOCOLS: [&str; 9] = [
    "HTTP", "HTTPS", "TCP", "TLS", "UDP", "TCP_UDP", "QUIC", "TCP_QUIC", "GENEVE",
];
/// The protocols that [`defaults`](crate::binding::defaults) fills in. `GENEVE` is not among them: beside the
/// incumbent its CRD is the one that is installed, and that of v3.5 refuses a binding with it.
const FILLED_IN_PROTOCOLS: [&str; 8] = [
    "HTTP", "HTTPS", "TCP", "TLS", "UDP", "TCP_UDP", "QUIC", "TCP_QUIC",
];

/// ServiceReference names a Service of the binding's namespace, and one of its ports.
///
/// The schema requires both fields; the mutating hook, which runs before the schema is checked,
/// fills in the port where the Service has only one.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[schemars(
    description = "ServiceReference names a Service of the binding's namespace, and one of its ports.",
    extend("required" = ["name", "port"])
)]
pub struct ServiceReference {
    /// The name of the Service.
    #[serde(default, deserialize_with = "text")]
    pub name: Option<String>,
    /// The port of the Service, by number or name.
    pub port: Option<IntOrString>,
}

/// LabelSelector selects nodes by their labels. Only its schema is used, with Kubernetes' own words.
#[derive(JsonSchema)]
#[schemars(rename_all = "camelCase")]
#[expect(dead_code, reason = "the fields are read by the schema's derive")]
struct LabelSelector {
    /// matchExpressions is a list of label selector requirements. The requirements are ANDed.
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    match_expressions: Option<Vec<LabelSelectorRequirement>>,
    /// matchLabels is a map of {key,value} pairs. A single {key,value} in the matchLabels map is equivalent to an element of matchExpressions, whose key field is "key", the operator is "In", and the values array contains only "value". The requirements are ANDed.
    match_labels: Option<BTreeMap<String, String>>,
}

/// A label selector requirement is a selector that contains values, a key, and an operator that relates the key and values.
#[derive(JsonSchema)]
#[expect(dead_code, reason = "the fields are read by the schema's derive")]
struct LabelSelectorRequirement {
    /// key is the label key that the selector applies to.
    key: String,
    /// operator represents a key's relationship to a set of values. Valid operators are In, NotIn, Exists and DoesNotExist.
    operator: String,
    /// values is an array of string values. If the operator is In or NotIn, the values array must be non-empty. If the operator is Exists or DoesNotExist, the values array must be empty. This array is replaced during a strategic merge patch.
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    values: Option<Vec<String>>,
}

/// Networking lists what may reach the targets. Only its schema is used.
#[derive(JsonSchema)]
#[expect(dead_code, reason = "the fields are read by the schema's derive")]
struct Networking {
    /// Rules that each allow some peers to reach some ports.
    ingress: Option<Vec<IngressRule>>,
}

/// IngressRule allows peers to reach ports of the targets.
#[derive(JsonSchema)]
#[expect(dead_code, reason = "the fields are read by the schema's derive")]
struct IngressRule {
    /// Who may reach the targets; at least one peer.
    from: Vec<Peer>,
    /// The ports that may be reached; all TCP ports if empty.
    ports: Vec<Port>,
}

/// Peer is one source of traffic: either an IP block or a security group.
#[derive(JsonSchema)]
#[schemars(rename_all = "camelCase")]
#[expect(dead_code, reason = "the fields are read by the schema's derive")]
struct Peer {
    /// A block of addresses.
    ip_block: Option<IpBlock>,
    /// A security group.
    security_group: Option<SecurityGroup>,
}

/// IpBlock is a block of addresses.
#[derive(JsonSchema)]
#[expect(dead_code, reason = "the fields are read by the schema's derive")]
struct IpBlock {
    /// The block in CIDR notation, IPv4 or IPv6.
    cidr: String,
}

/// SecurityGroup is an EC2 security group.
#[derive(JsonSchema)]
#[expect(dead_code, reason = "the fields are read by the schema's derive")]
struct SecurityGroup {
    /// Its id.
    #[schemars(rename = "groupID")]
    group_id: String,
}

/// Port is a port of the targets.
#[derive(JsonSchema)]
#[expect(dead_code, reason = "the fields are read by the schema's derive")]
struct Port {
    /// The protocol; TCP if unset.
    #[schemars(extend("enum" = ["TCP", "UDP"]))]
    protocol: Option<String>,
    /// The port by number or, for targetType ip, by name; all ports if unset.
    port: Option<IntOrString>,
}

/// TargetGroupBindingStatus is what the controller that registers the targets tells of the binding.
#[derive(JsonSchema)]
#[schemars(rename_all = "camelCase")]
#[expect(dead_code, reason = "the fields are read by the schema's derive")]
struct TargetGroupBindingStatus {
    /// The generation that the controller has acted on.
    observed_generation: Option<i64>,
    /// Aspects of the binding's state, such as why its deletion is stuck.
    conditions: Option<Vec<Condition>>,
}

/// Condition is one aspect of the binding's state, in the form that Kubernetes' own kinds have.
///
/// Source: <https://github.com/kubernetes/community/blob/master/contributors/devel/sig-architecture/api-conventions.md#typical-status-properties>
#[derive(JsonSchema)]
#[schemars(
    rename_all = "camelCase",
    description = "Condition is one aspect of the binding's state, in the form that Kubernetes' own kinds have."
)]
#[expect(dead_code, reason = "the fields are read by the schema's derive")]
struct Condition {
    /// When the status last changed.
    #[schemars(extend("format" = "date-time"))]
    last_transition_time: String,
    /// Details for humans.
    #[schemars(extend("maxLength" = 32_768))]
    message: String,
    /// The generation that the condition is about.
    #[schemars(extend("minimum" = 0))]
    observed_generation: Option<i64>,
    /// Why the status last changed, in one word.
    #[schemars(extend("minLength" = 1, "maxLength" = 1024))]
    reason: String,
    /// Whether the aspect holds.
    #[schemars(extend("enum" = ["True", "False", "Unknown"]))]
    status: String,
    /// The aspect, in one word.
    #[schemars(rename = "type", extend("maxLength" = 316))]
    kind: String,
}

impl TargetGroupBindingSpec {
    /// The few fields that decide something.
    ///
    /// A field that cannot be parsed becomes `None`, because the binding may be older than the hooks that
    /// would have denied it.
    pub fn model(&self, api: BindingApi, name: &str, opted_out: bool) -> Binding {
        let service = self.service_ref.as_ref();
        Binding {
            api,
            name: name.into(),
            uid: None,
            arn: self
                .target_group_arn
                .as_deref()
                .and_then(|arn| arn.parse().ok()),
            group_name: self.target_group_name.as_deref().map(Into::into),
            target_type: self.target_type.as_deref().and_then(target_type),
            family: self.family(),
            load_balancer: self.load_balancer(),
            service: service
                .and_then(|s| s.name.as_deref())
                .unwrap_or_default()
                .into(),
            port: service.and_then(ServiceReference::port),
            role: self.role(),
            multi_cluster: self.is_multi_cluster(),
            opted_out,
            terminating: false,
            policies: Policies::default(),
            registration: Registration {
                quic: matches!(
                    self.target_group_protocol.as_deref(),
                    Some("QUIC" | "TCP_QUIC")
                ),
                pod_zone: self.register_targets_with_pod_availability_zone == Some(true),
                ..Registration::default()
            },
            unreadable: vec![],
        }
    }

    /// `ipAddressType`; absent means ipv4.
    pub fn family(&self) -> IpFamily {
        match self.ip_address_type.as_deref() {
            Some("ipv6") => IpFamily::V6,
            _ => IpFamily::V4,
        }
    }

    /// The kind of load balancer that can use the group; `None` while the protocol does not tell.
    pub fn load_balancer(&self) -> Option<LoadBalancerKind> {
        let protocol = self.target_group_protocol.as_deref();
        protocol.and_then(LoadBalancerKind::of_protocol)
    }

    /// The role to assume for calls about the group; `None` for targetgate's own credentials.
    pub fn role(&self) -> Option<AssumedRole> {
        Some(AssumedRole {
            arn: self.iam_role_arn_to_assume.as_deref()?.into(),
            external_id: self.assume_role_external_id.as_deref().map(Into::into),
        })
    }

    /// Whether `multiClusterTargetGroup` is `true`.
    pub fn is_multi_cluster(&self) -> bool {
        self.multi_cluster_target_group == Some(true)
    }
}

impl ServiceReference {
    /// The port; `None` if it is absent, empty, or not between 1 and 65535.
    pub fn port(&self) -> Option<PortRef> {
        self.port.as_ref()?.port()
    }
}

/// The target type of this name; `None` unless a binding can have it.
pub(super) fn target_type(text: &str) -> Option<TargetType> {
    [TargetType::Ip, TargetType::Instance]
        .into_iter()
        .find(|known| known.as_str() == text)
}

/// Whether every schema in use takes this protocol, so that a default does not make a binding invalid.
pub(super) fn is_protocol_filled_in(protocol: &str) -> bool {
    FILLED_IN_PROTOCOLS.contains(&protocol)
}

/// Reads a text, and an empty one as `None`.
fn text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    let text = Option::<String>::deserialize(deserializer)?;
    Ok(text.filter(|text| !text.is_empty()))
}
