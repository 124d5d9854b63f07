//! Rules on the spec alone, independent of AWS and the cluster.

use crate::binding::defaults::{Incomplete, group_query};
use crate::binding::field::GroupField;
use crate::binding::spec::TargetGroupBindingSpec;
use crate::binding::validate::{Subject, immutable, shown};
use crate::model::TargetType;
use crate::names::{TargetGroupArn, VpcId};

pub(super) fn group_set(subject: &Subject<'_>) -> Option<String> {
    let spec = subject.new;
    (spec.target_group_arn.is_none() && spec.target_group_name.is_none())
        .then(|| format!("absent, and {} too: set one of them", GroupField::Name))
}

pub(super) fn target_type_set(subject: &Subject<'_>) -> Option<String> {
    let absent = subject.new.target_type.is_none();
    absent.then(|| "absent: set it to instance or ip".to_owned())
}

pub(super) fn node_selector_for_instance(subject: &Subject<'_>) -> Option<String> {
    let spec = subject.new;
    // An absent type is reported by its own rule.
    let target_type = spec.target_type.as_deref()?;
    (spec.node_selector.is_some() && !is_instance(spec)).then(|| {
        let shown = shown(Some(target_type));
        format!(
            "it selects the nodes of targetType \"instance\", and targetType is {shown}: remove it"
        )
    })
}

pub(super) fn role_not_for_instance(subject: &Subject<'_>) -> Option<String> {
    let spec = subject.new;
    (spec.iam_role_arn_to_assume.is_some() && is_instance(spec)).then(|| {
        "a target group of another account takes no instances of this one, and targetType is \"instance\": remove it, or use targetType \"ip\"".to_owned()
    })
}

pub(super) fn arn_well_formed(subject: &Subject<'_>) -> Option<String> {
    match group_query(subject.new) {
        Err(Incomplete::MalformedArn(error)) => Some(error.to_string()),
        _ => None,
    }
}

pub(super) fn vpc_id_well_formed(subject: &Subject<'_>) -> Option<String> {
    let vpc_id = subject.new.vpc_id.as_deref()?;
    vpc_id.parse::<VpcId>().is_err().then(|| {
        let shown = shown(Some(vpc_id));
        format!(
            "{shown} is not the id of a VPC, \"vpc-\" and 8, 17 or 32 lowercase hexadecimal digits"
        )
    })
}

pub(super) fn name_of_arn(subject: &Subject<'_>) -> Option<String> {
    let name = subject.new.target_group_name.as_deref()?;
    let arn: TargetGroupArn = subject.new.target_group_arn.as_deref()?.parse().ok()?;
    // If the change of the name is denied, a warning about the name would be noise.
    let denied = subject
        .old
        .is_some_and(|old| immutable::name(old, subject).is_some());
    (arn.name() != name && !denied).then(|| {
        format!(
            "{} is not the name in {}, {}: the ARN prevails",
            shown(Some(name)),
            GroupField::Arn,
            shown(Some(arn.name()))
        )
    })
}

pub(super) fn is_instance(spec: &TargetGroupBindingSpec) -> bool {
    spec.target_type.as_deref() == Some(TargetType::Instance.as_str())
}
