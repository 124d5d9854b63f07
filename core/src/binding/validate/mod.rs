//! What a binding may say, and what an update of it may change (contract 4).

use std::fmt;

use crate::binding::allow_list::AllowList;
use crate::binding::defaults::{Incomplete, group_ref};
use crate::binding::spec::TargetGroupBindingSpec;
use crate::model::{TargetGroup, TargetType};
use crate::names::{BindingApi, ObjectKey, TargetGroupArn};

/// Characters of a value that a message repeats.
const MAX_SHOWN: usize = 300;
/// Other bindings that a message names.
const MAX_NAMED: usize = 5;

const ARN: &str = "spec.targetGroupARN";
const NAME: &str = "spec.targetGroupName";
const TARGET_TYPE: &str = "spec.targetType";
const IP_ADDRESS_TYPE: &str = "spec.ipAddressType";
const VPC_ID: &str = "spec.vpcID";
const PROTOCOL: &str = "spec.targetGroupProtocol";

/// A binding to be checked, and what is known around it.
#[derive(Debug, Clone, Copy)]
pub struct Subject<'a> {
    /// The spec as it was; `None` on CREATE.
    pub old: Option<&'a TargetGroupBindingSpec>,
    /// The spec as it would become.
    pub new: &'a TargetGroupBindingSpec,
    /// What AWS told of the group.
    pub told: Told<'a>,
    /// The other bindings of the group, in either API group and any namespace.
    pub sharers: &'a [Sharer],
    /// The cluster's own VPC, where it is known.
    pub vpc_id: Option<&'a str>,
    /// What the binding's namespace may bind; `None` where anything may be bound.
    pub allowance: Option<Allowance<'a>>,
}

/// What a namespace may bind.
#[derive(Debug, Clone, Copy)]
pub struct Allowance<'a> {
    /// The operator's list.
    pub list: &'a AllowList,
    /// The namespace.
    pub namespace: &'a str,
    /// The group that is meant; `None` where that is not known.
    pub arn: Option<&'a TargetGroupArn>,
}

/// What AWS told of a binding's target group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Told<'a> {
    /// Nothing: it was not asked, or did not answer.
    Nothing,
    /// There is no such group.
    NoSuchGroup,
    /// The group.
    Group(&'a TargetGroup),
}

/// Another binding of the same target group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sharer {
    /// The API group that serves it.
    pub api: BindingApi,
    /// Its namespace and name.
    pub object: ObjectKey,
    /// Its `spec.multiClusterTargetGroup`.
    pub multi_cluster: bool,
}

/// Something that a binding may not say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// The field, such as `spec.vpcID`.
    pub field: &'static str,
    /// What is wrong with it, with the values and what to do.
    pub message: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.message)
    }
}

/// All that was found.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Fields that an update may not change, and how they would.
    pub changed: Vec<Violation>,
    /// Whatever else the binding may not say.
    pub violations: Vec<Violation>,
    /// What is allowed and yet worth telling.
    pub warnings: Vec<String>,
}

impl Verdict {
    /// The message of the denial, with every violation; `None` where there is none.
    ///
    /// The words on changed fields are the incumbent's own: tools look for them.
    pub fn denial(&self) -> Option<String> {
        let others = self.violations.iter().map(ToString::to_string);
        let all: Vec<String> = self.immutable().into_iter().chain(others).collect();
        (!all.is_empty()).then(|| all.join("; "))
    }

    fn immutable(&self) -> Option<String> {
        let fields: Vec<&str> = self.changed.iter().map(|change| change.field).collect();
        let details: Vec<String> = self.changed.iter().map(ToString::to_string).collect();
        (!fields.is_empty()).then(|| {
            format!(
                "TargetGroupBinding update may not change these fields: {} ({}); create a new TargetGroupBinding with the new values and delete this one",
                fields.join(","),
                details.join("; ")
            )
        })
    }
}

/// Whether AWS has to be asked about the group: on CREATE, and where an update changes the protocol.
pub fn needs_group(old: Option<&TargetGroupBindingSpec>, new: &TargetGroupBindingSpec) -> bool {
    old.is_none_or(|old| changes_protocol(old, new))
}

fn changes_protocol(old: &TargetGroupBindingSpec, new: &TargetGroupBindingSpec) -> bool {
    new.target_group_protocol.is_some() && new.target_group_protocol != old.target_group_protocol
}

/// Checks a binding against every rule. An update that leaves the spec as it was is not to be
/// checked at all: it must pass whatever the binding says.
pub fn check(subject: &Subject<'_>) -> Verdict {
    let Subject { old, new, .. } = *subject;
    let mut verdict = Verdict::default();
    if let Some(old) = old {
        verdict.changed = changes(old, new, subject.vpc_id);
    }
    verdict.violations = presence(new);
    verdict.violations.extend(shape(new, old.is_none()));
    verdict.violations.extend(agreement(subject));
    verdict.violations.extend(sharing(subject));
    verdict
        .violations
        .extend(subject.allowance.and_then(outside));
    let renamed = verdict.changed.iter().any(|change| change.field == NAME);
    verdict.warnings = two_groups(new).filter(|_| !renamed).into_iter().collect();
    verdict
}

fn violation(field: &'static str, message: impl Into<String>) -> Violation {
    Violation {
        field,
        message: message.into(),
    }
}

fn presence(spec: &TargetGroupBindingSpec) -> Vec<Violation> {
    let mut absent = Vec::new();
    if spec.target_group_arn.is_none() && spec.target_group_name.is_none() {
        absent.push(violation(
            ARN,
            "absent, and spec.targetGroupName too: set one of them",
        ));
    }
    if spec.target_type.is_none() {
        absent.push(violation(TARGET_TYPE, "absent: set it to instance or ip"));
    }
    absent
}

/// Rules on what is written, without anybody else's word.
fn shape(spec: &TargetGroupBindingSpec, create: bool) -> Vec<Violation> {
    let mut found = Vec::new();
    let target_type = spec.target_type.as_deref();
    if let Some(target_type) = target_type.filter(|t| *t != TargetType::Instance.as_str())
        && spec.node_selector.is_some()
    {
        let shown = shown(Some(target_type));
        found.push(violation(
            "spec.nodeSelector",
            format!("it selects the nodes of targetType \"instance\", and targetType is {shown}: remove it"),
        ));
    }
    if target_type == Some(TargetType::Instance.as_str()) && spec.iam_role_arn_to_assume.is_some() {
        found.push(violation(
            "spec.iamRoleArnToAssume",
            "a target group of another account takes no instances of this one, and targetType is \"instance\": remove it, or use targetType \"ip\"",
        ));
    }
    if !create {
        return found;
    }
    if let Err(Incomplete::MalformedArn(error)) = group_ref(spec) {
        found.push(violation(ARN, error.to_string()));
    }
    if let Some(vpc_id) = spec.vpc_id.as_deref().filter(|id| !is_vpc_id(id)) {
        let shown = shown(Some(vpc_id));
        found.push(violation(
            VPC_ID,
            format!("{shown} is not the id of a VPC, \"vpc-\" and 8, 17 or 32 lowercase hexadecimal digits"),
        ));
    }
    found
}

fn is_vpc_id(text: &str) -> bool {
    let hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
    text.strip_prefix("vpc-")
        .is_some_and(|id| matches!(id.len(), 8 | 17 | 32) && id.bytes().all(hex))
}

/// Rules on what AWS tells of the group.
fn agreement(subject: &Subject<'_>) -> Vec<Violation> {
    let Subject { old, new, told, .. } = *subject;
    let group = match told {
        Told::Group(group) => Some(group),
        Told::NoSuchGroup => return vec![no_such_group(new)],
        Told::Nothing => None,
    };
    let create = old.is_none();
    let mut found = Vec::new();
    if let Some(group) = group {
        if create {
            let of_aws = Some(&*group.target_type);
            found.extend(differs(TARGET_TYPE, new.target_type.as_deref(), of_aws));
            let family = Some(group.family.as_str());
            // Absent means ipv4, to AWS and to us.
            found.extend(differs(
                IP_ADDRESS_TYPE,
                Some(new.family().as_str()),
                family,
            ));
            found.extend(differs(
                VPC_ID,
                new.vpc_id.as_deref(),
                group.vpc_id.as_deref(),
            ));
        }
        if old.is_none_or(|old| changes_protocol(old, new)) {
            let protocol = new.target_group_protocol.as_deref();
            found.extend(differs(PROTOCOL, protocol, group.protocol.as_deref()));
        }
    }
    let told = group.and_then(|group| group.protocol.as_deref());
    let protocol = new.target_group_protocol.as_deref().or(told);
    if create {
        found.extend(quic_to_nodes(new, protocol));
    }
    found
}

fn no_such_group(spec: &TargetGroupBindingSpec) -> Violation {
    let (field, named) = match &spec.target_group_arn {
        Some(arn) => (ARN, Some(arn)),
        None => (NAME, spec.target_group_name.as_ref()),
    };
    let shown = shown(named.map(String::as_str));
    violation(
        field,
        format!(
            "AWS knows no target group {shown} (TargetGroupNotFound): check its account and Region, or create it first"
        ),
    )
}

fn differs(field: &'static str, written: Option<&str>, told: Option<&str>) -> Option<Violation> {
    let differs = written.is_some() && written != told;
    differs.then(|| {
        let (written, told) = (shown(written), shown(told));
        violation(
            field,
            format!("{written} is not what the target group has in AWS, {told}: correct it, or leave the field out"),
        )
    })
}

fn quic_to_nodes(spec: &TargetGroupBindingSpec, protocol: Option<&str>) -> Option<Violation> {
    let protocol = protocol.filter(|p| matches!(*p, "QUIC" | "TCP_QUIC"))?;
    let to_nodes = spec.target_type.as_deref() == Some(TargetType::Instance.as_str());
    to_nodes.then(|| {
        violation(
            PROTOCOL,
            format!("{protocol:?} is not supported with targetType \"instance\": use a target group of type \"ip\""),
        )
    })
}

/// One target group, one binding, unless all agree to share.
fn sharing(subject: &Subject<'_>) -> Option<Violation> {
    let sharers = subject.sharers;
    let agreed = subject.new.is_multi_cluster() && sharers.iter().all(|s| s.multi_cluster);
    if sharers.is_empty() || agreed {
        return None;
    }
    let named = sharers.iter().take(MAX_NAMED);
    let mut named: Vec<String> = named.map(|s| format!("{} ({})", s.object, s.api)).collect();
    if sharers.len() > MAX_NAMED {
        named.push(format!("{} more", sharers.len() - MAX_NAMED));
    }
    Some(violation(
        ARN,
        format!(
            "the target group is bound by {} already, and only bindings that all set spec.multiClusterTargetGroup: true may share one: use another target group, or delete the other binding; if it is being deleted, wait until it is gone",
            named.join(", ")
        ),
    ))
}

/// A target group that the namespace may not bind.
fn outside(allowance: Allowance<'_>) -> Option<Violation> {
    let Allowance {
        list,
        namespace,
        arn,
    } = allowance;
    let Some(arn) = arn else {
        return Some(violation(
            ARN,
            "it is not known which target group is meant, so --allow-arns cannot let it pass: set it",
        ));
    };
    let outside = list.check(namespace, arn).err()?;
    Some(violation(ARN, outside.message(namespace)))
}

fn two_groups(spec: &TargetGroupBindingSpec) -> Option<String> {
    let name = spec.target_group_name.as_deref()?;
    let arn: TargetGroupArn = spec.target_group_arn.as_deref()?.parse().ok()?;
    (arn.name() != name).then(|| {
        let (name, of_arn) = (shown(Some(name)), shown(Some(arn.name())));
        format!("spec.targetGroupName: {name} is not the name in spec.targetGroupARN, {of_arn}: the ARN prevails")
    })
}

/// The fields that an update may not change, as far as it does.
fn changes(
    old: &TargetGroupBindingSpec,
    new: &TargetGroupBindingSpec,
    own_vpc: Option<&str>,
) -> Vec<Violation> {
    let mut changed = Vec::new();
    let mut change = |field, from: &Option<String>, to: &Option<String>, note: &str| {
        let (from, to) = (shown(from.as_deref()), shown(to.as_deref()));
        changed.push(violation(field, format!("from {from} to {to}{note}")));
    };
    if changes_arn(old, new) {
        change(ARN, &old.target_group_arn, &new.target_group_arn, "");
    } else if changes_name(old, new) {
        change(NAME, &old.target_group_name, &new.target_group_name, "");
    }
    if old.target_type != new.target_type {
        change(TARGET_TYPE, &old.target_type, &new.target_type, "");
    }
    let (from, to) = (&old.ip_address_type, &new.ip_address_type);
    if from != to && (from.is_some() || to.as_deref() != Some("ipv4")) {
        change(IP_ADDRESS_TYPE, from, to, "");
    }
    let (from, to) = (&old.vpc_id, &new.vpc_id);
    if from != to && (from.is_some() || to.as_deref() != own_vpc) {
        let unknown = from.is_none() && own_vpc.is_none();
        let note = if unknown {
            ", and the cluster's own VPC, which would be no change, is not known: start targetgate with --vpc-id"
        } else {
            ""
        };
        change(VPC_ID, from, to, note);
    }
    changed
}

fn changes_arn(old: &TargetGroupBindingSpec, new: &TargetGroupBindingSpec) -> bool {
    match (&old.target_group_arn, &new.target_group_arn) {
        // Spelling out the group that was meant by its name is no change.
        (None, Some(arn)) => old.target_group_name.as_deref().is_some_and(|name| {
            arn.parse()
                .map_or(true, |arn: TargetGroupArn| arn.name() != name)
        }),
        (from, to) => from != to,
    }
}

/// Whether the name becomes that of another group, while the ARN stays.
///
/// A group's name never changes and is part of its ARN.
fn changes_name(old: &TargetGroupBindingSpec, new: &TargetGroupBindingSpec) -> bool {
    let (from, to) = (&old.target_group_name, &new.target_group_name);
    let arn = new.target_group_arn.as_deref();
    match arn.map(str::parse::<TargetGroupArn>) {
        _ if from == to => false,
        Some(Ok(arn)) => to.as_deref().is_some_and(|name| name != arn.name()),
        Some(Err(_)) => to.is_some(),
        None => from.is_some(),
    }
}

/// A value as a message shows it.
fn shown(value: Option<&str>) -> String {
    match value {
        None => "unset".to_owned(),
        Some(value) if value.chars().count() <= MAX_SHOWN => format!("{value:?}"),
        Some(value) => {
            let kept: String = value.chars().take(MAX_SHOWN).collect();
            format!("{kept:?}…")
        }
    }
}

#[cfg(test)]
mod tests;
