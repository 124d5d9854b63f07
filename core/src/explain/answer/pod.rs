//! The answer about a pod.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Serialize;

use crate::explain::answer::{
    ApiVersion, Evidence, GateAnswer, ModeAnswer, SettingsAnswer, Verdict, Why,
};

/// `explain pod`.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PodAnswer {
    pub api_version: ApiVersion,
    pub kind: PodKind,
    pub namespace: String,
    pub name: String,
    /// When this was looked at.
    #[schemars(with = "String")]
    pub as_of: Timestamp,
    pub verdict: Verdict,
    pub why: Why,
    pub evidence: Evidence,
    pub settings: SettingsAnswer,
    /// Whether the API server itself injects gates; absent with `--admission webhook`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<ModeAnswer>,
    /// When the pod was created; absent of a manifest.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub created: Option<Timestamp>,
    /// Its gates of targetgate.
    pub gates: Vec<GateAnswer>,
    /// The gates that it would get were it created now, and does not have.
    pub lacking: Vec<Lacking>,
    /// Its readiness gates of other controllers.
    pub other_gates: Vec<OtherGate>,
    /// The bindings of its namespace: first those whose Service selects the pod.
    pub bindings: Vec<BindingOfPod>,
    /// What becomes of its end; absent of a pod without gates.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub end: Option<EndAnswer>,
    /// What else there is to tell, such as annotations that cannot be read.
    pub notices: Vec<Why>,
}

/// The `kind` of a [`PodAnswer`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
pub enum PodKind {
    PodExplanation,
}

/// A gate that a pod would get were it created now.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Lacking {
    pub binding: String,
    pub why: Why,
    /// Since when the pod serves without it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub since: Option<Timestamp>,
}

/// A readiness gate of another controller.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct OtherGate {
    pub condition_type: String,
    pub open: bool,
}

/// A binding, and whether it gates a pod.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BindingOfPod {
    pub name: String,
    /// The API group.
    pub api: String,
    pub service: String,
    /// Whether its Service selects the pod.
    pub selects: bool,
    pub why: Why,
}

/// What becomes of a pod's end.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct EndAnswer {
    /// What drain does to the pod, or did.
    pub why: Why,
    /// The seconds for which drain lets its containers sleep before `SIGTERM`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sleep_seconds: Option<u16>,
    /// Its grace period, in seconds.
    pub grace_seconds: u64,
    /// What loses requests when it ends.
    pub lints: Vec<Why>,
}
