//! The fields that an update may not change.

use crate::binding::field::GroupField;
use crate::binding::spec::TargetGroupBindingSpec;
use crate::binding::validate::{Subject, shown};
use crate::model::IpFamily;
use crate::names::TargetGroupArn;

pub(super) fn arn(old: &TargetGroupBindingSpec, subject: &Subject<'_>) -> Option<String> {
    changes_arn(old, subject.new).then(|| change(GroupField::Arn, old, subject))
}

pub(super) fn name(old: &TargetGroupBindingSpec, subject: &Subject<'_>) -> Option<String> {
    // A change of the ARN already reports that the group changes.
    let changed = !changes_arn(old, subject.new) && changes_name(old, subject.new);
    changed.then(|| change(GroupField::Name, old, subject))
}

pub(super) fn target_type(old: &TargetGroupBindingSpec, subject: &Subject<'_>) -> Option<String> {
    (old.target_type != subject.new.target_type)
        .then(|| change(GroupField::TargetType, old, subject))
}

pub(super) fn ip_address_type(
    old: &TargetGroupBindingSpec,
    subject: &Subject<'_>,
) -> Option<String> {
    let default = Some(IpFamily::default().as_str());
    unless_spelled_out(GroupField::IpAddressType, default, old, subject)
}

pub(super) fn vpc_id(old: &TargetGroupBindingSpec, subject: &Subject<'_>) -> Option<String> {
    let message = unless_spelled_out(GroupField::VpcId, subject.vpc_id, old, subject)?;
    let note = match (&old.vpc_id, subject.vpc_id) {
        (None, None) => {
            ", and the cluster's own VPC, which would be no change, is not known: start targetgate with --vpc-id"
        }
        _ => "",
    };
    Some(message + note)
}

/// The change of a field, unless the update only spells out what the absent field meant.
fn unless_spelled_out(
    field: GroupField,
    default: Option<&str>,
    old: &TargetGroupBindingSpec,
    subject: &Subject<'_>,
) -> Option<String> {
    let (from, to) = (field.written(old), field.written(subject.new));
    let spelled_out = from.is_none() && to == default;
    (from != to && !spelled_out).then(|| change(field, old, subject))
}

fn change(field: GroupField, old: &TargetGroupBindingSpec, subject: &Subject<'_>) -> String {
    let (from, to) = (field.written(old), field.written(subject.new));
    format!("from {} to {}", shown(from), shown(to))
}

fn changes_arn(old: &TargetGroupBindingSpec, new: &TargetGroupBindingSpec) -> bool {
    match (&old.target_group_arn, &new.target_group_arn) {
        // An update may spell out the ARN of the group that the name meant. A binding that did not name a
        // group may be given any.
        (None, Some(arn)) => old.target_group_name.as_deref().is_some_and(|name| {
            arn.parse()
                .map_or(true, |arn: TargetGroupArn| arn.name() != name)
        }),
        (from, to) => from != to,
    }
}

/// Whether the name becomes that of another group, while the ARN stays.
pub(super) fn changes_name(old: &TargetGroupBindingSpec, new: &TargetGroupBindingSpec) -> bool {
    let (from, to) = (&old.target_group_name, &new.target_group_name);
    let arn = new.target_group_arn.as_deref();
    match arn.map(str::parse::<TargetGroupArn>) {
        _ if from == to => false,
        // AWS does not rename groups, and the ARN, which prevails, contains the name: correcting or removing
        // the name does not change the group.
        Some(Ok(arn)) => to.as_deref().is_some_and(|name| name != arn.name()),
        Some(Err(_)) => to.is_some(),
        None => from.is_some(),
    }
}
