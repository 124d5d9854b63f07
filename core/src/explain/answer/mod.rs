//! The answers, as `-o json` prints them: `docs/explain.schema.json` is their schema.

use std::borrow::Cow;

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Serialize, Serializer};

use crate::reason::Reason;

mod binding;
mod evidence;
mod gate;
mod namespace;
mod pod;
mod registration;

pub use crate::explain::answer::binding::BindingAnswer;
pub(super) use crate::explain::answer::binding::BindingKind;
pub(super) use crate::explain::answer::evidence::RateAnswer;
pub use crate::explain::answer::evidence::{Evidence, SettingsAnswer, Source};
pub(super) use crate::explain::answer::gate::FailingAnswer;
pub use crate::explain::answer::gate::{ConditionAnswer, GateAnswer, TargetAnswer};
pub(super) use crate::explain::answer::namespace::{ModeAnswer, NamespaceKind};
pub use crate::explain::answer::namespace::{NamespaceAnswer, PodCounts, PodsAlike};
pub(super) use crate::explain::answer::pod::PodKind;
pub use crate::explain::answer::pod::{BindingOfPod, EndAnswer, Lacking, OtherGate, PodAnswer};
pub use crate::explain::answer::registration::RegistrationAnswer;
pub(super) use crate::explain::answer::registration::{
    LeftOutAnswer, RefusedAnswer, UnregisteredAnswer,
};

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
