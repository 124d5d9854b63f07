//! Rules on what AWS knows of the group. Where AWS did not answer they let the binding pass.

use crate::binding::field::GroupField;
use crate::binding::validate::written::is_instance;
use crate::binding::validate::{GroupLookup, Subject, shown};

pub(super) fn arn_exists(subject: &Subject<'_>) -> Option<String> {
    let arn = subject.new.target_group_arn.as_deref()?;
    not_found(subject, Some(arn))
}

pub(super) fn name_exists(subject: &Subject<'_>) -> Option<String> {
    let spec = subject.new;
    // AWS was asked by the ARN, if there is one.
    match spec.target_group_arn {
        Some(_) => None,
        None => not_found(subject, spec.target_group_name.as_deref()),
    }
}

fn not_found(subject: &Subject<'_>, group: Option<&str>) -> Option<String> {
    (subject.group == GroupLookup::NotFound).then(|| {
        let shown = shown(group);
        format!(
            "AWS knows no target group {shown} (TargetGroupNotFound): check its account and Region, or create it first"
        )
    })
}

pub(super) fn target_type(subject: &Subject<'_>) -> Option<String> {
    differs(GroupField::TargetType, subject)
}

pub(super) fn ip_address_type(subject: &Subject<'_>) -> Option<String> {
    // Absent means ipv4, to AWS and to us, so an absent field can differ too.
    let meant = Some(subject.new.family().as_str());
    differs_from(GroupField::IpAddressType, meant, subject)
}

pub(super) fn vpc_id(subject: &Subject<'_>) -> Option<String> {
    differs(GroupField::VpcId, subject)
}

pub(super) fn protocol(subject: &Subject<'_>) -> Option<String> {
    differs(GroupField::Protocol, subject)
}

pub(super) fn quic_not_for_instance(subject: &Subject<'_>) -> Option<String> {
    let spec = subject.new;
    let of_group = match subject.group {
        GroupLookup::Found(group) => group.protocol.as_deref(),
        GroupLookup::Unanswered => None,
        // The group is the mistake: another one may well have another protocol.
        GroupLookup::NotFound => return None,
    };
    let protocol = spec.target_group_protocol.as_deref().or(of_group)?;
    (matches!(protocol, "QUIC" | "TCP_QUIC") && is_instance(spec)).then(|| {
        format!("{protocol:?} is not supported with targetType \"instance\": use a target group of type \"ip\"")
    })
}

fn differs(field: GroupField, subject: &Subject<'_>) -> Option<String> {
    differs_from(field, field.written(subject.new), subject)
}

fn differs_from(field: GroupField, written: Option<&str>, subject: &Subject<'_>) -> Option<String> {
    let GroupLookup::Found(group) = subject.group else {
        return None;
    };
    let described = field.described(group);
    (written.is_some() && written != described).then(|| {
        let (written, described) = (shown(written), shown(described));
        format!("{written} is not what the target group has in AWS, {described}: correct it, or leave the field out")
    })
}
