//! The table of rules: each with its check, its operations, and the consequence of a violation.

use std::fmt;

use crate::binding::field::{GroupField, NODE_SELECTOR, ROLE, SERVICE_PORT};
use crate::binding::spec::TargetGroupBindingSpec;
use crate::binding::validate::{Subject, agreement, cluster, immutable, written};

const ARN: &str = GroupField::Arn.path();
const NAME: &str = GroupField::Name.path();
const TARGET_TYPE: &str = GroupField::TargetType.path();
const IP_ADDRESS_TYPE: &str = GroupField::IpAddressType.path();
const VPC_ID: &str = GroupField::VpcId.path();
const PROTOCOL: &str = GroupField::Protocol.path();

/// The operations on which AWS is asked about the group. An update can only change the protocol of the fields
/// that have to agree with AWS, because the others are immutable.
pub(super) const ASKS_AWS: On = On::CreateOrChangeOf(GroupField::Protocol);

/// A rule about one field of a binding.
#[derive(Debug, Clone, Copy)]
pub struct Rule {
    pub name: &'static str,
    /// The path of the field under which a violation is reported.
    pub field: &'static str,
    /// What the rule demands of the field, as a clause whose subject is the field.
    pub demands: &'static str,
    pub on: On,
    pub(super) check: Check,
}

/// The operations on which a rule is checked. An update that does not change the spec is never checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum On {
    Create,
    Update,
    CreateAndUpdate,
    /// CREATE, and an UPDATE that changes this field.
    CreateOrChangeOf(GroupField),
}

/// The consequence of a violation, with the check that returns its message, or `None` if the rule holds.
#[derive(Debug, Clone, Copy)]
pub(super) enum Check {
    /// The update is denied, in one sentence with the other immutable fields that it changes.
    Unchanged(fn(&TargetGroupBindingSpec, &Subject<'_>) -> Option<String>),
    /// The binding is denied.
    Required(fn(&Subject<'_>) -> Option<String>),
    /// The binding is allowed with a warning.
    Advised(fn(&Subject<'_>) -> Option<String>),
}

/// All rules, in the order in which a denial lists the violations.
///
/// ```
/// use targetgate_core::binding::validate::{On, RULES};
///
/// let on_update = RULES.iter().filter(|rule| rule.on == On::Update);
/// let immutable: Vec<_> = on_update.map(|rule| rule.field).collect();
/// assert!(immutable.contains(&"spec.targetType"));
/// assert!(!immutable.contains(&"spec.nodeSelector"));
/// ```
pub const RULES: &[Rule] = &[
    Rule {
        name: "ArnUnchanged",
        field: ARN,
        demands: "stays as it is; it may be added where it is the ARN of the group that the name meant, or where the binding meant no group",
        on: On::Update,
        check: Check::Unchanged(immutable::arn),
    },
    Rule {
        name: "NameUnchanged",
        field: NAME,
        demands: "does not come to mean another group; beside an ARN it may be removed, or corrected to the name in the ARN",
        on: On::Update,
        check: Check::Unchanged(immutable::name),
    },
    Rule {
        name: "TargetTypeUnchanged",
        field: TARGET_TYPE,
        demands: "stays as it is, set or unset",
        on: On::Update,
        check: Check::Unchanged(immutable::target_type),
    },
    Rule {
        name: "IpAddressTypeUnchanged",
        field: IP_ADDRESS_TYPE,
        demands: "stays as it is; `ipv4`, which unset means, may be added",
        on: On::Update,
        check: Check::Unchanged(immutable::ip_address_type),
    },
    Rule {
        name: "VpcUnchanged",
        field: VPC_ID,
        demands: "stays as it is; the cluster's own VPC, or the target group's in AWS, which unset means, may be added",
        on: On::Update,
        check: Check::Unchanged(immutable::vpc_id),
    },
    Rule {
        name: "GroupSet",
        field: ARN,
        demands: "is set, or `spec.targetGroupName` is",
        on: On::CreateAndUpdate,
        check: Check::Required(written::group_set),
    },
    Rule {
        name: "TargetTypeSet",
        field: TARGET_TYPE,
        demands: "is set",
        on: On::CreateAndUpdate,
        check: Check::Required(written::target_type_set),
    },
    Rule {
        name: "NodeSelectorForInstance",
        field: NODE_SELECTOR,
        demands: "is set only with `targetType: instance`",
        on: On::CreateAndUpdate,
        check: Check::Required(written::node_selector_for_instance),
    },
    Rule {
        name: "RoleNotForInstance",
        field: ROLE,
        demands: "is not set with `targetType: instance`",
        on: On::CreateAndUpdate,
        check: Check::Required(written::role_not_for_instance),
    },
    Rule {
        name: "ArnWellFormed",
        field: ARN,
        demands: "is the ARN of a target group, where it is set",
        on: On::Create,
        check: Check::Required(written::arn_well_formed),
    },
    Rule {
        name: "VpcIdWellFormed",
        field: VPC_ID,
        demands: "is `vpc-` and 8, 17 or 32 lowercase hexadecimal digits, where it is set",
        on: On::Create,
        check: Check::Required(written::vpc_id_well_formed),
    },
    Rule {
        name: "ArnExists",
        field: ARN,
        demands: "is a group that AWS describes",
        on: ASKS_AWS,
        check: Check::Required(agreement::arn_exists),
    },
    Rule {
        name: "NameExists",
        field: NAME,
        demands: "is the name of one group that AWS describes, where there is no ARN",
        on: ASKS_AWS,
        check: Check::Required(agreement::name_exists),
    },
    Rule {
        name: "TargetTypeAgrees",
        field: TARGET_TYPE,
        demands: "is the group's in AWS",
        on: On::Create,
        check: Check::Required(agreement::target_type),
    },
    Rule {
        name: "IpAddressTypeAgrees",
        field: IP_ADDRESS_TYPE,
        demands: "is the group's in AWS; unset means `ipv4`",
        on: On::Create,
        check: Check::Required(agreement::ip_address_type),
    },
    Rule {
        name: "VpcAgrees",
        field: VPC_ID,
        demands: "is the group's in AWS, where it is set",
        on: On::Create,
        check: Check::Required(agreement::vpc_id),
    },
    Rule {
        name: "ProtocolAgrees",
        field: PROTOCOL,
        demands: "is the group's in AWS, where it is set",
        on: ASKS_AWS,
        check: Check::Required(agreement::protocol),
    },
    Rule {
        name: "QuicNotForInstance",
        field: PROTOCOL,
        demands: "is not `QUIC` or `TCP_QUIC` with `targetType: instance`; unset means the group's",
        on: On::Create,
        check: Check::Required(agreement::quic_not_for_instance),
    },
    Rule {
        name: "GroupNotShared",
        field: ARN,
        demands: "is bound by no other binding of the cluster, in either API group, unless all of them set `spec.multiClusterTargetGroup: true`",
        on: On::CreateAndUpdate,
        check: Check::Required(cluster::group_not_shared),
    },
    Rule {
        name: "GroupAllowed",
        field: ARN,
        demands: "is a group that `--allow-arns` lets the namespace bind, where that list is given",
        on: On::CreateAndUpdate,
        check: Check::Required(cluster::group_allowed),
    },
    Rule {
        name: "RoleAllowed",
        field: ROLE,
        demands: "is a role that `--allow-arns` lets the namespace assume for the group, where the rules about the group list roles",
        on: On::CreateAndUpdate,
        check: Check::Required(cluster::role_allowed),
    },
    Rule {
        name: "NameOfArn",
        field: NAME,
        demands: "is the name in the ARN, where both are set; the ARN prevails",
        on: On::CreateAndUpdate,
        check: Check::Advised(written::name_of_arn),
    },
    Rule {
        name: "PortOfService",
        field: SERVICE_PORT,
        demands: "is a port of the Service, by number or name, where the Service exists",
        on: On::CreateAndUpdate,
        check: Check::Advised(cluster::port_of_service),
    },
];

impl Rule {
    /// The consequence for a binding that breaks the rule.
    pub fn consequence(&self) -> &'static str {
        match self.check {
            Check::Unchanged(_) | Check::Required(_) => "denied",
            Check::Advised(_) => "allowed with a warning",
        }
    }
}

impl On {
    /// Whether a rule is checked on this operation; `old` is `None` on CREATE.
    pub(super) fn covers(
        self,
        old: Option<&TargetGroupBindingSpec>,
        new: &TargetGroupBindingSpec,
    ) -> bool {
        match (self, old) {
            (Self::CreateAndUpdate, _) => true,
            (Self::Create | Self::CreateOrChangeOf(_), None) => true,
            (Self::Update, old) => old.is_some(),
            (Self::Create, Some(_)) => false,
            (Self::CreateOrChangeOf(field), Some(old)) => {
                let written = field.written(new);
                written.is_some() && written != field.written(old)
            }
        }
    }
}

impl fmt::Display for On {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Create => f.write_str("CREATE"),
            Self::Update => f.write_str("UPDATE"),
            Self::CreateAndUpdate => f.write_str("CREATE, UPDATE"),
            Self::CreateOrChangeOf(field) => write!(f, "CREATE, UPDATE that sets `{field}` anew"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use rstest::rstest;

    use super::*;

    #[test]
    fn the_rules_have_names_of_their_own() {
        let names: BTreeSet<&str> = RULES.iter().map(|rule| rule.name).collect();
        assert_eq!(names.len(), RULES.len());
    }

    #[rstest]
    #[case::create(On::Create, true, false, false)]
    #[case::update(On::Update, false, true, true)]
    #[case::both(On::CreateAndUpdate, true, true, true)]
    #[case::change(On::CreateOrChangeOf(GroupField::Protocol), true, false, true)]
    fn a_rule_is_checked_on_its_operations_alone(
        #[case] on: On,
        #[case] create: bool,
        #[case] update: bool,
        #[case] change: bool,
    ) {
        let old = TargetGroupBindingSpec::default();
        let new = TargetGroupBindingSpec {
            target_group_protocol: Some("TCP".into()),
            ..old.clone()
        };
        assert_eq!(on.covers(None, &new), create);
        assert_eq!(on.covers(Some(&new), &new), update);
        assert_eq!(on.covers(Some(&old), &new), change);
    }
}
