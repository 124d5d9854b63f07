//! Validation of a binding and of updates to it (contract 4).
//!
//! The rules are a table, [`RULES`], from which `docs/binding-rules.md` is generated.

use std::fmt;

use crate::binding::allow_list::AllowList;
use crate::binding::service::ServiceLookup;
use crate::binding::spec::TargetGroupBindingSpec;
use crate::binding::validate::rules::{ASKS_AWS, Check};
use crate::model::TargetGroup;
use crate::names::{BindingApi, ObjectKey, TargetGroupArn};
use crate::text::cut;

mod agreement;
mod cluster;
mod immutable;
mod rules;
#[cfg(test)]
mod tests;
mod written;

pub use crate::binding::validate::rules::{On, RULES, Rule};

/// A message repeats at most this many characters of a value. Chosen so that an ARN is shown whole.
const MAX_SHOWN: usize = 300;

/// A binding to check, with what the rules compare it with.
#[derive(Debug, Clone, Copy)]
pub struct Subject<'a> {
    /// The spec before the update; `None` on CREATE.
    pub old: Option<&'a TargetGroupBindingSpec>,
    pub new: &'a TargetGroupBindingSpec,
    pub group: GroupLookup<'a>,
    /// The other bindings of the group, in either API group and any namespace.
    pub sharers: &'a [Sharer],
    /// The Service that the binding names.
    pub service: &'a ServiceLookup,
    /// The cluster's own VPC, if it is known.
    pub vpc_id: Option<&'a str>,
    /// What the binding's namespace may bind; `None` if the operator did not set an allow-list.
    pub allowance: Option<Allowance<'a>>,
}

/// The operator's allow-list, and the group that the binding asks for.
#[derive(Debug, Clone, Copy)]
pub struct Allowance<'a> {
    pub list: &'a AllowList,
    pub namespace: &'a str,
    /// The group that the binding means; `None` if its ARN is not known.
    pub arn: Option<&'a TargetGroupArn>,
}

/// What AWS answered about a binding's target group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GroupLookup<'a> {
    /// AWS was not asked, or what it answered says nothing about the binding.
    Unanswered,
    /// AWS does not have the group, or refuses its ARN or name, with the message about it.
    Refused(&'a str),
    Found(&'a TargetGroup),
}

/// Another binding of the same target group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sharer {
    pub api: BindingApi,
    pub object: ObjectKey,
    /// Its `spec.multiClusterTargetGroup`.
    pub multi_cluster: bool,
}

/// A rule that a binding breaks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// The path of the field, such as `spec.vpcID`.
    pub field: &'static str,
    /// What is wrong with the field, with the values and the remedy.
    pub message: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.message)
    }
}

/// All rules that a binding breaks.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Changes that the update makes to immutable fields.
    pub changed: Vec<Violation>,
    /// All other violations.
    pub violations: Vec<Violation>,
    /// What is allowed, but probably a mistake.
    pub warnings: Vec<String>,
}

impl Verdict {
    /// The message of the denial, with all violations; `None` if the binding is allowed.
    pub fn denial(&self) -> Option<String> {
        let others = self.violations.iter().map(ToString::to_string);
        let all: Vec<String> = self.immutable().into_iter().chain(others).collect();
        (!all.is_empty()).then(|| all.join("; "))
    }

    fn immutable(&self) -> Option<String> {
        let fields: Vec<&str> = self.changed.iter().map(|change| change.field).collect();
        let details: Vec<String> = self.changed.iter().map(ToString::to_string).collect();
        (!fields.is_empty()).then(|| {
            // The words up to the parenthesis are those of the incumbent's releases until February 2025, because
            // tools search for them; later ones say "these immutable fields" (docs/moving.md).
            format!(
                "TargetGroupBinding update may not change these fields: {} ({}); create a new TargetGroupBinding with the new values and delete this one",
                fields.join(","),
                details.join("; ")
            )
        })
    }

    fn add(&mut self, rule: &Rule, subject: &Subject<'_>) {
        let field = rule.field;
        let violation = |message| Violation { field, message };
        match rule.check {
            Check::Unchanged(check) => {
                let message = subject.old.and_then(|old| check(old, subject));
                self.changed.extend(message.map(violation));
            }
            Check::Required(check) => self.violations.extend(check(subject).map(violation)),
            Check::Advised(check) => {
                let warning = check(subject).map(|message| format!("{field}: {message}"));
                self.warnings.extend(warning);
            }
        }
    }
}

/// Whether AWS has to be asked about the group: on CREATE, and if an update changes the protocol, or adds a VPC other
/// than the cluster's own, `vpc_id`.
pub fn needs_group(
    old: Option<&TargetGroupBindingSpec>,
    new: &TargetGroupBindingSpec,
    vpc_id: Option<&str>,
) -> bool {
    let adds_vpc = |old| immutable::adds_vpc_id(old, new) && new.vpc_id.as_deref() != vpc_id;
    ASKS_AWS.covers(old, new) || old.is_some_and(adds_vpc)
}

/// Checks a binding against all rules. The caller lets an update that does not change the spec pass without
/// this check, so that removing a finalizer works whatever the binding says.
///
/// ```
/// use targetgate_core::binding::service::ServiceLookup;
/// use targetgate_core::binding::spec::TargetGroupBindingSpec;
/// use targetgate_core::binding::validate::{GroupLookup, Subject, check};
///
/// let new = TargetGroupBindingSpec {
///     target_group_name: Some("web".into()),
///     target_type: Some("ip".into()),
///     vpc_id: Some("vpc-1".into()),
///     ..Default::default()
/// };
/// let verdict = check(&Subject {
///     old: None,
///     new: &new,
///     group: GroupLookup::Refused("AWS does not have this group"),
///     sharers: &[],
///     service: &ServiceLookup::Absent,
///     vpc_id: None,
///     allowance: None,
/// });
/// let fields: Vec<_> = verdict.violations.iter().map(|found| found.field).collect();
/// assert_eq!(fields, ["spec.vpcID", "spec.targetGroupName"]);
/// let denial = verdict.denial().unwrap();
/// assert!(denial.contains("spec.targetGroupName: AWS does not have this group"));
/// ```
pub fn check(subject: &Subject<'_>) -> Verdict {
    let mut verdict = Verdict::default();
    for rule in RULES
        .iter()
        .filter(|rule| rule.on.covers(subject.old, subject.new))
    {
        verdict.add(rule, subject);
    }
    verdict
}

/// A value as a message shows it.
fn shown(value: Option<&str>) -> String {
    match value {
        None => "unset".to_owned(),
        Some(value) if value.len() <= MAX_SHOWN => format!("{value:?}"),
        Some(value) => format!("{:?}…", cut(value, MAX_SHOWN)),
    }
}
