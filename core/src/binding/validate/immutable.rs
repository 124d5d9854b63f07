//! The fields that an update may not change.

use crate::binding::field::GroupField;
use crate::binding::spec::TargetGroupBindingSpec;
use crate::binding::validate::{GroupLookup, Subject, shown};
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
    unless_spelled_out(GroupField::IpAddressType, &[default], old, subject)
}

pub(super) fn vpc_id(old: &TargetGroupBindingSpec, subject: &Subject<'_>) -> Option<String> {
    let of_group = match subject.group {
        GroupLookup::Found(group) => group.vpc_id.as_deref(),
        GroupLookup::Unanswered | GroupLookup::Refused(_) => None,
    };
    let meant = [subject.vpc_id, of_group];
    let message = unless_spelled_out(GroupField::VpcId, &meant, old, subject)?;
    Some(match (of_group, subject.vpc_id) {
        _ if !adds_vpc_id(old, subject.new) => message,
        (Some(of_group), _) => format!("{message}, and the target group's is {of_group:?}"),
        (None, Some(_)) => message,
        (None, None) => format!(
            "{message}, and it is not known whether that is no change: neither the cluster's own VPC (start targetgate with --vpc-id) nor what AWS says of the target group's"
        ),
    })
}

/// Whether the VPC is added to a binding without one.
pub(super) fn adds_vpc_id(old: &TargetGroupBindingSpec, new: &TargetGroupBindingSpec) -> bool {
    old.vpc_id.is_none() && new.vpc_id.is_some()
}

/// The change of a field, unless the update only spells out what the absent field meant, which is one of `meant`.
fn unless_spelled_out(
    field: GroupField,
    meant: &[Option<&str>],
    old: &TargetGroupBindingSpec,
    subject: &Subject<'_>,
) -> Option<String> {
    let (from, to) = (field.written(old), field.written(subject.new));
    let spelled_out = from.is_none() && to.is_some() && meant.contains(&to);
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
