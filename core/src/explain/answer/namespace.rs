//! The answer about a namespace: its pods by what they have in common, and what the API server does for new ones.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Serialize;

use crate::explain::answer::{
    ApiVersion, BindingOfPod, Evidence, RegistrationAnswer, SettingsAnswer, Verdict, Why,
};

/// `explain -n NS --all`.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NamespaceAnswer {
    pub api_version: ApiVersion,
    pub kind: NamespaceKind,
    pub namespace: String,
    #[schemars(with = "String")]
    pub as_of: Timestamp,
    pub verdict: Verdict,
    pub why: Why,
    pub evidence: Evidence,
    pub settings: SettingsAnswer,
    /// Whether the API server itself injects gates; absent with `--admission webhook`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<ModeAnswer>,
    pub pods: PodCounts,
    /// The number of its bindings.
    pub bindings: usize,
    pub waiting: Vec<PodsAlike>,
    pub ungated: Vec<PodsAlike>,
    /// The bindings that give no pod a gate.
    pub idle_bindings: Vec<BindingOfPod>,
    /// The bindings whose targets are not as they should be, where targetgate registers them.
    pub unregistered: Vec<RegistrationAnswer>,
    pub notices: Vec<Why>,
}

/// The `kind` of a [`NamespaceAnswer`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
pub enum NamespaceKind {
    NamespaceExplanation,
}

/// How many live pods there are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PodCounts {
    pub all: usize,
    /// Those with a gate of targetgate.
    pub gated: usize,
    /// Those with a closed gate.
    pub waiting: usize,
    /// Those that lack a gate which they would get were they created now.
    pub ungated: usize,
}

/// Pods of one controller that are as they are for one reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PodsAlike {
    /// Kind and name of the controller, such as `ReplicaSet/web-5d4f8`; absent of pods that were created by hand.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub controller: Option<String>,
    /// The binding whose gate it is about.
    pub binding: String,
    pub pods: usize,
    /// The name of one of the pods, about which the message is.
    pub example: String,
    pub why: Why,
    /// Since when, for the pod for which it is longest.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub since: Option<Timestamp>,
}

/// Whether the API server itself injects gates, with `--admission both`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ModeAnswer {
    /// Whether a pod that is made now gets its gates while no process of targetgate runs; absent if that is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub injects: Option<bool>,
    pub why: Why,
}
