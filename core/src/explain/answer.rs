//! The answers, as `-o json` prints them: `docs/explain.schema.json` is their schema.

use std::borrow::Cow;

use jiff::Timestamp;
use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Serialize, Serializer};

use crate::reason::Reason;

/// What `targetgate explain` prints.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum Answer {
    Pod(Box<PodAnswer>),
    Binding(Box<BindingAnswer>),
    Namespace(Box<NamespaceAnswer>),
}

impl Answer {
    /// The verdict, from which the exit status follows.
    pub fn verdict(&self) -> Verdict {
        match self {
            Self::Pod(pod) => pod.verdict,
            Self::Binding(binding) => binding.verdict,
            Self::Namespace(namespace) => namespace.verdict,
        }
    }

    /// Why the verdict is as it is.
    pub fn why(&self) -> &Why {
        match self {
            Self::Pod(pod) => &pod.why,
            Self::Binding(binding) => &binding.why,
            Self::Namespace(namespace) => &namespace.why,
        }
    }
}

/// The JSON Schema of all answers.
pub fn schema() -> Schema {
    let settings = SchemaSettings::draft2020_12().for_serialize();
    let mut schema = settings.into_generator().into_root_schema_for::<Answer>();
    schema.insert("title".into(), "targetgate explain -o json".into());
    schema
}

/// The version of the form of the answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
pub enum ApiVersion {
    #[serde(rename = "targetgate.dev/v1")]
    V1,
}

/// The answer to the question.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
pub enum Verdict {
    /// Exit status 0: each gate that is due is there, and open.
    Yes,
    /// Exit status 1: a gate waits.
    NotYet,
    /// Exit status 1: there is no gate, or none that can open, and time alone does not change that.
    No,
}

impl Verdict {
    /// How people are told.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Yes => "yes",
            Self::NotYet => "not yet",
            Self::No => "no",
        }
    }
}

/// Why something is as it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Why {
    /// A word of `docs/reasons.md`.
    pub reason: Reason,
    /// What is the case, in a sentence.
    pub message: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub remedy: String,
    /// The command that mends it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub command: Option<String>,
}

impl Why {
    pub(super) fn new(reason: Reason) -> Self {
        Self::saying(reason, reason.sentence())
    }

    /// With a message of its own instead of the reason's sentence.
    pub(crate) fn saying(reason: Reason, message: impl Into<String>) -> Self {
        Self {
            reason,
            message: message.into(),
            remedy: reason.remedy().to_owned(),
            command: None,
        }
    }

    /// With a remedy that is more precise than the reason's, where one is known.
    pub(super) fn with_remedy(self, remedy: Option<&str>) -> Self {
        Self {
            remedy: remedy.map_or(self.remedy, str::to_owned),
            ..self
        }
    }
}

impl Serialize for Reason {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl JsonSchema for Reason {
    fn schema_name() -> Cow<'static, str> {
        "Reason".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let words: Vec<&str> = Self::ALL.iter().map(|reason| reason.as_str()).collect();
        json_schema!({ "type": "string", "enum": words })
    }
}

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

/// Whether the API server itself injects gates, with `--admission both`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ModeAnswer {
    /// Whether a pod that is made now gets its gates while no process of targetgate runs; absent if that is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub injects: Option<bool>,
    pub why: Why,
}

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
