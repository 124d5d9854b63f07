//! Rules on other objects of the cluster, and on what the operator allows a namespace to bind.

use crate::binding::field::MULTI_CLUSTER;
use crate::binding::service::{ServiceLookup, has, listed};
use crate::binding::validate::{Allowance, Subject, shown};
use crate::object::IntOrString;

/// A message names at most this many other bindings. Chosen so that the message stays short.
const MAX_NAMED: usize = 5;

pub(super) fn group_not_shared(subject: &Subject<'_>) -> Option<String> {
    let sharers = subject.sharers;
    let agreed = subject.new.is_multi_cluster() && sharers.iter().all(|s| s.multi_cluster);
    if sharers.is_empty() || agreed {
        return None;
    }
    let mut named: Vec<String> = sharers
        .iter()
        .take(MAX_NAMED)
        .map(|s| format!("{} ({})", s.object, s.api))
        .collect();
    if sharers.len() > MAX_NAMED {
        named.push(format!("{} more", sharers.len() - MAX_NAMED));
    }
    Some(format!(
        "the target group is bound by {} already, and only bindings that all set {MULTI_CLUSTER}: true may share one: use another target group, or delete the other binding; if it is being deleted, wait until it is gone",
        named.join(", ")
    ))
}

pub(super) fn group_allowed(subject: &Subject<'_>) -> Option<String> {
    let Allowance {
        list,
        namespace,
        arn,
    } = subject.allowance?;
    let Some(arn) = arn else {
        return Some(
            "it is not known which target group is meant, so --allow-arns cannot let it pass: set it"
                .to_owned(),
        );
    };
    let denied = list.check(namespace, arn).err()?;
    Some(denied.message(namespace))
}

pub(super) fn role_allowed(subject: &Subject<'_>) -> Option<String> {
    let Allowance {
        list,
        namespace,
        arn,
    } = subject.allowance?;
    let role = subject.new.iam_role_arn_to_assume.as_deref()?;
    // A group that is not known, or not allowed, is reported by its own rule.
    let denied = list.check_role(namespace, arn?, role).err()?;
    Some(denied.message_of_role(namespace, &shown(Some(role))))
}

pub(super) fn port_of_service(subject: &Subject<'_>) -> Option<String> {
    let ServiceLookup::Ports(ports) = subject.service else {
        return None;
    };
    let service = subject.new.service_ref.as_ref()?;
    let written = match service.port.as_ref()? {
        IntOrString::Number(number) => number.to_string(),
        IntOrString::Text(name) => shown(Some(name)),
    };
    if service.port().is_some_and(|port| has(ports, &port)) {
        return None;
    }
    let name = shown(service.name.as_deref());
    let known = match &ports[..] {
        [] => "none".to_owned(),
        ports => listed(ports),
    };
    Some(format!(
        "Service {name} has no port {written}, and the gates of its pods stay closed until it has; its ports: {known}"
    ))
}
