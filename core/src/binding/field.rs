//! The fields of a binding's spec that hooks fill in, check or name. Each path is spelled here and, for serde
//! and the schema, in [`spec`](crate::binding::spec).

use std::fmt;

use crate::binding::spec::TargetGroupBindingSpec;
use crate::model::TargetGroup;

/// `spec.multiClusterTargetGroup`.
pub const MULTI_CLUSTER: &str = "spec.multiClusterTargetGroup";
/// `spec.nodeSelector`.
pub const NODE_SELECTOR: &str = "spec.nodeSelector";
/// `spec.iamRoleArnToAssume`.
pub const ROLE: &str = "spec.iamRoleArnToAssume";
/// `spec.serviceRef.port`.
pub const SERVICE_PORT: &str = "spec.serviceRef.port";

/// A field that repeats a property of the target group in AWS. All of these fields are texts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GroupField {
    Arn,
    Name,
    TargetType,
    IpAddressType,
    VpcId,
    Protocol,
}

impl GroupField {
    /// The fields that are filled in from AWS, in the order in which messages list them.
    ///
    /// The name is not among them, because AWS is asked by the ARN if the binding has one.
    pub const FILLED_IN: [Self; 5] = [
        Self::Arn,
        Self::TargetType,
        Self::IpAddressType,
        Self::VpcId,
        Self::Protocol,
    ];

    /// The path of the field, such as `spec.vpcID`.
    pub const fn path(self) -> &'static str {
        match self {
            Self::Arn => "spec.targetGroupARN",
            Self::Name => "spec.targetGroupName",
            Self::TargetType => "spec.targetType",
            Self::IpAddressType => "spec.ipAddressType",
            Self::VpcId => "spec.vpcID",
            Self::Protocol => "spec.targetGroupProtocol",
        }
    }

    /// The field's value in the binding; `None` if it is absent, `null` or empty.
    pub fn written(self, spec: &TargetGroupBindingSpec) -> Option<&str> {
        match self {
            Self::Arn => &spec.target_group_arn,
            Self::Name => &spec.target_group_name,
            Self::TargetType => &spec.target_type,
            Self::IpAddressType => &spec.ip_address_type,
            Self::VpcId => &spec.vpc_id,
            Self::Protocol => &spec.target_group_protocol,
        }
        .as_deref()
    }

    /// The property's value in AWS; `None` if the group lacks it, as a `lambda` group lacks a VPC.
    pub fn described(self, group: &TargetGroup) -> Option<&str> {
        match self {
            Self::Arn => Some(group.arn.as_str()),
            Self::Name => Some(&group.name),
            Self::TargetType => Some(&group.target_type),
            Self::IpAddressType => Some(group.family.as_str()),
            Self::VpcId => group.vpc_id.as_deref(),
            Self::Protocol => group.protocol.as_deref(),
        }
    }
}

impl fmt::Display for GroupField {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.path())
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::{Value, json};

    use super::*;
    use crate::binding::spec::yaml;

    #[rstest]
    fn a_field_is_read_from_its_path_alone(
        #[values(
            GroupField::Arn,
            GroupField::Name,
            GroupField::TargetType,
            GroupField::IpAddressType,
            GroupField::VpcId,
            GroupField::Protocol
        )]
        field: GroupField,
    ) {
        let key = field.path().strip_prefix("spec.").unwrap();
        let spec = |json: Value| serde_json::from_value::<TargetGroupBindingSpec>(json).unwrap();
        assert_eq!(field.written(&spec(json!({ key: "x" }))), Some("x"));
        assert_eq!(field.written(&spec(json!({ "other": "x" }))), None);
    }

    #[rstest]
    #[case(MULTI_CLUSTER)]
    #[case(NODE_SELECTOR)]
    #[case(ROLE)]
    #[case(SERVICE_PORT)]
    fn a_path_leads_to_a_field_of_the_schema(#[case] path: &str) {
        let pointer = format!("/properties/{}", path.replace('.', "/properties/"));
        let definition: Value = serde_saphyr::from_str(&yaml()).unwrap();
        let versions = definition["spec"]["versions"].as_array().unwrap();
        let stored = versions.iter().find(|version| version["storage"] == true);
        let schema = &stored.unwrap()["schema"]["openAPIV3Schema"];
        assert!(schema.pointer(&pointer).is_some(), "{pointer}");
    }
}
