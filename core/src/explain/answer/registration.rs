//! The answer about the targets of a binding that targetgate registers.

use schemars::JsonSchema;
use serde::Serialize;

use crate::explain::answer::{Source, Why};
use crate::reason::Reason;

/// What becomes of the targets of a binding that targetgate may register.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RegistrationAnswer {
    pub binding: String,
    /// Where this comes from: the leader, or the binding with its condition `Ready`.
    pub source: Source,
    /// Whether all targets that are wanted are registered, and nothing is amiss.
    pub ready: bool,
    pub why: Why,
    /// The number of targets in the binding's TargetRecord, if there is one that can be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recorded: Option<usize>,
    /// The targets that are wanted in the group, over all of its bindings.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wanted: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub registered: Option<usize>,
    /// Targets that are not wanted and stay, because too few healthy ones would be left.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub held_by_floor: Option<usize>,
    /// Targets in the group that targetgate did not register.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub foreign: Option<usize>,
    /// Targets that are wanted and not registered, and pods that cannot be targets.
    pub unregistered: Vec<UnregisteredAnswer>,
    /// Targets that ELB refuses.
    pub refused: Vec<RefusedAnswer>,
    /// The number of endpoints of EndpointSlices that are left out, as the leader tells it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub endpoints_left_out: Option<usize>,
    /// Some of these endpoints.
    pub left_out: Vec<LeftOutAnswer>,
}

/// How many targets are not registered for a reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct UnregisteredAnswer {
    pub reason: Reason,
    pub targets: usize,
}

/// A target that ELB refuses.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RefusedAnswer {
    pub address: String,
    pub port: u16,
    pub why: Why,
}

/// An endpoint of an EndpointSlice that is left out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LeftOutAnswer {
    pub address: String,
    pub port: u16,
    pub why: Why,
}
