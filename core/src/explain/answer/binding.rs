//! The answer about a binding.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Serialize;

use crate::explain::answer::{
    ApiVersion, Evidence, PodCounts, PodsAlike, RegistrationAnswer, SettingsAnswer, Verdict, Why,
};

/// `explain binding`.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BindingAnswer {
    pub api_version: ApiVersion,
    pub kind: BindingKind,
    pub namespace: String,
    pub name: String,
    /// The API group.
    pub api: String,
    #[schemars(with = "String")]
    pub as_of: Timestamp,
    pub verdict: Verdict,
    pub why: Why,
    pub evidence: Evidence,
    pub settings: SettingsAnswer,
    pub service: String,
    /// Its target group: the ARN, else the name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target_group: Option<String>,
    /// The pods that its Service selects.
    pub pods: PodCounts,
    pub waiting: Vec<PodsAlike>,
    pub ungated: Vec<PodsAlike>,
    /// What becomes of its targets; absent with `--register none`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub registration: Option<RegistrationAnswer>,
    pub notices: Vec<Why>,
}

/// The `kind` of a [`BindingAnswer`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
pub enum BindingKind {
    BindingExplanation,
}
