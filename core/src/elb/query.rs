//! Which target group is asked about, and why there may be no answer.

use thiserror::Error;

use crate::model::TargetGroup;
use crate::names::{AssumedRole, Quota, TargetGroupArn};

/// How a target group is named.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum GroupSelector {
    /// By ARN, which also names account and Region.
    Arn(TargetGroupArn),
    /// By name, in the SDK's own Region.
    Name(String),
}

impl GroupSelector {
    /// Whether `group` is the one that is meant.
    pub fn is(&self, group: &TargetGroup) -> bool {
        match self {
            Self::Arn(arn) => *arn == group.arn,
            Self::Name(name) => **name == *group.name,
        }
    }
}

/// A target group, and as whom to ask about it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupQuery {
    /// Which group.
    pub selector: GroupSelector,
    /// The role to assume; `None` asks with the process's own credentials.
    pub role: Option<AssumedRole>,
}

impl GroupQuery {
    /// Of which account and Region the call is; `home` is the SDK's own Region.
    pub fn quota(&self, home: &str) -> Quota {
        match &self.selector {
            GroupSelector::Arn(arn) => Quota::of(arn),
            GroupSelector::Name(_) => Quota::of_role(self.role.as_ref(), home),
        }
    }
}

/// Why there is no description.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum DescribeError {
    /// AWS says that there is no such group.
    #[error("the target group does not exist in this account and Region")]
    NotFound,
    /// The caller's deadline came before AWS was asked or had answered.
    #[error("AWS has not answered in time")]
    TimedOut,
    /// The call failed, for good or up to the caller's deadline.
    #[error("{message}")]
    Failed {
        /// As in AWS's answer, or `Overloaded` when too many callers wait already.
        code: String,
        /// What was tried, why it failed and what to do.
        message: String,
    },
}

impl DescribeError {
    /// AWS's error code, or the word that stands in for it where AWS gave none.
    pub fn code(&self) -> &str {
        match self {
            Self::NotFound => "TargetGroupNotFound",
            Self::TimedOut => "Timeout",
            Self::Failed { code, .. } => code,
        }
    }
}
