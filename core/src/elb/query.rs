//! Which target group AWS is asked to describe, and why a description is missing.

use thiserror::Error;

use crate::model::TargetGroup;
use crate::names::{AssumedRole, GroupKey, NamedGroup, Quota, TargetGroupArn};

/// A target group as a call identifies it; [`GroupKey`] is one whose ARN is known.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum GroupSelector {
    /// By ARN, which also names account and Region.
    Arn(TargetGroupArn),
    /// By name, in the SDK's own Region.
    Name(String),
}

impl GroupSelector {
    /// The ARN or the name, as the call passes it to AWS.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Arn(arn) => arn.as_str(),
            Self::Name(name) => name,
        }
    }

    /// The quota that a call with this selector counts against; a name is looked up in `region`.
    pub fn quota(&self, role: Option<&AssumedRole>, region: &str) -> Quota {
        match self {
            Self::Arn(arn) => Quota::of(arn),
            Self::Name(_) => Quota::of_role(role, region),
        }
    }

    /// Whether it identifies `group`.
    pub fn is(&self, group: &TargetGroup) -> bool {
        match self {
            Self::Arn(arn) => *arn == group.arn,
            Self::Name(name) => **name == *group.name,
        }
    }
}

/// The target group that a call is about, and the role that makes the call.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupQuery {
    pub selector: GroupSelector,
    /// The role to assume; `None` uses the process's own credentials.
    pub role: Option<AssumedRole>,
}

impl GroupQuery {
    /// The quota that the call counts against; `home` is the SDK's own Region.
    pub fn quota(&self, home: &str) -> Quota {
        self.selector.quota(self.role.as_ref(), home)
    }
}

impl From<&GroupKey> for GroupQuery {
    fn from(group: &GroupKey) -> Self {
        Self {
            selector: GroupSelector::Arn(group.arn.clone()),
            role: group.role.clone(),
        }
    }
}

impl From<&NamedGroup> for GroupQuery {
    fn from(group: &NamedGroup) -> Self {
        Self {
            selector: GroupSelector::Name(group.name.to_string()),
            role: group.role.clone(),
        }
    }
}

/// Why the description of a target group is missing.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum DescribeError {
    /// AWS answers that the group does not exist.
    #[error("the target group does not exist in this account and Region")]
    NotFound,
    /// Several groups have the name.
    #[error("{groups} target groups have this name")]
    Ambiguous { groups: usize },
    /// The caller's deadline passed before AWS was asked or had answered.
    #[error("AWS has not answered in time")]
    TimedOut,
    /// The call failed, for good or up to the caller's deadline.
    #[error("{message}")]
    Failed {
        kind: FailureKind,
        /// AWS's error code, or `Overloaded` if too many callers waited already.
        code: String,
        /// AWS's message, or the SDK's.
        message: String,
    },
}

/// The kind of a failed call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailureKind {
    /// AWS refuses the ARN or name.
    Invalid,
    /// AWS rejects the credentials as expired, unknown or not authorized.
    Denied,
    /// There are no credentials, or the role of the binding cannot be assumed.
    NoCredentials,
    /// No answer, throttling, or a failure inside of AWS or of ours.
    Unavailable,
}

impl DescribeError {
    /// AWS's error code, or a word in its place if the failure is not an answer of AWS.
    pub fn code(&self) -> &str {
        match self {
            Self::NotFound => "TargetGroupNotFound",
            Self::Ambiguous { .. } => "AmbiguousName",
            Self::TimedOut => "Timeout",
            Self::Failed { code, .. } => code,
        }
    }
}
