//! Rules on the agreement of a binding with its group in AWS. They pass if AWS did not answer.

use crate::binding::field::GroupField;
use crate::binding::validate::written::is_instance;
use crate::binding::validate::{GroupLookup, Subject, shown};

pub(super) fn arn_exists(subject: &Subject<'_>) -> Option<String> {
    subject.new.target_group_arn.as_ref()?;
    refused(subject)
}

pub(super) fn name_exists(subject: &Subject<'_>) -> Option<String> {
    // AWS was asked by the name only if the binding lacks an ARN.
    match subject.new.target_group_arn {
        Some(_) => None,
        None => refused(subject),
    }
}

fn refused(subject: &Subject<'_>) -> Option<String> {
    match subject.group {
        GroupLookup::Refused(message) => Some(message.to_owned()),
        GroupLookup::Unanswered | GroupLookup::Found(_) => None,
    }
}

pub(super) fn target_type(subject: &Subject<'_>) -> Option<String> {
    differs(GroupField::TargetType, subject)
}

pub(super) fn ip_address_type(subject: &Subject<'_>) -> Option<String> {
    // An absent field means ipv4, to AWS and to us, and can therefore differ as well.
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
        // The missing group is reported by its own rule, and the group that the user meant may have any
        // protocol.
        GroupLookup::Refused(_) => return None,
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
