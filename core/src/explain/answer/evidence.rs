//! Where an answer comes from: the leader, ELB or the conditions, and the flags of the installation.

use schemars::JsonSchema;
use serde::Serialize;

/// Where what is said of targets comes from.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Evidence {
    pub source: Source,
    /// Why ELB was not asked, or not about all groups.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// The pod of the leader, if it was asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub leader: Option<String>,
    /// Why the leader was not asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub without_leader: Option<String>,
    /// The calls of ELB a second that the leader's budget allows now, by account and Region.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub rates: Vec<RateAnswer>,
}

/// What the leader's budget allows in one account and Region.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RateAnswer {
    /// Account and Region, such as `123456789012/eu-west-1`.
    pub quota: String,
    pub calls_per_second: f64,
}

/// Where the flags come from, by which it is decided.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SettingsAnswer {
    /// Namespace and name of the Deployment whose flags count where none were given; absent if only those count that were
    /// given, and the defaults.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deployment: Option<String>,
    /// Why no Deployment's count.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

/// Where what is said of a target comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Source {
    /// The leader was asked what it knows.
    Leader,
    /// ELB was asked just now.
    Elb,
    /// The pod's condition, which is as old as it says.
    Condition,
}
