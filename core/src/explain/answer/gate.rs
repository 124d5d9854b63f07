//! The answer about a gate, and the targets that it waits for.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Serialize;

use crate::explain::answer::{Source, Why};

/// A gate of a pod.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct GateAnswer {
    /// The condition type, which is the gate's name.
    pub condition_type: String,
    /// The bindings that it stands for.
    pub bindings: Vec<String>,
    pub open: bool,
    pub why: Why,
    /// Since when a closed gate holds back a pod that is ready otherwise, or since when an open one is open.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub since: Option<Timestamp>,
    /// Since when the leader counts the pod as due, as far as it has seen.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub due_since: Option<Timestamp>,
    /// When `targetgate.dev/open-after` opens it at the latest.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub opens: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub condition: Option<ConditionAnswer>,
    pub source: Source,
    pub targets: Vec<TargetAnswer>,
}

/// The condition of a gate.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ConditionAnswer {
    pub status: bool,
    pub reason: String,
    pub message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub since: Option<Timestamp>,
}

/// A target that a gate waits for.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TargetAnswer {
    pub binding: String,
    #[serde(rename = "targetGroupARN")]
    pub target_group_arn: String,
    pub address: String,
    pub port: u16,
    /// What ELB says of it now: absent if it was not asked, or did not answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub elb: Option<String>,
    /// Why ELB did not answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
    /// When the leader asked ELB for that.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub asked: Option<Timestamp>,
    /// When the leader asks ELB again, if its budget allows it then.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub next_look: Option<Timestamp>,
    /// The place of the group in the leader's queue of its account and Region, by the next look.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub place: Option<usize>,
    /// The number of groups in that queue.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub queue: Option<usize>,
    /// Whether the leader is asking ELB now.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub in_flight: bool,
    /// Why the leader gets no answer of ELB.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failing: Option<FailingAnswer>,
}

/// Calls of ELB that fail.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FailingAnswer {
    /// AWS's error code of the last call.
    pub code: String,
    #[schemars(with = "String")]
    pub since: Timestamp,
    /// Calls that failed in a row.
    pub calls: u32,
}
