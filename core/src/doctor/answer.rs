//! The answer, as `-o json` prints it: `docs/doctor.schema.json` is its schema.

use jiff::Timestamp;
use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema};
use serde::Serialize;

use crate::explain::{ApiVersion, Why};
use crate::reason::Reason;

/// What `targetgate doctor` prints.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Answer {
    pub api_version: ApiVersion,
    pub kind: Kind,
    /// The worst of the findings' states, of which those that are advisory count as advice at most: exit status 0, 1, 3.
    pub state: State,
    #[schemars(with = "String")]
    pub as_of: Timestamp,
    pub findings: Vec<Finding>,
}

/// The kind of the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
pub enum Kind {
    Diagnosis,
}

impl Answer {
    pub(super) fn new(as_of: Timestamp, findings: Vec<Finding>) -> Self {
        let states = findings.iter().map(Finding::counts_as);
        Self {
            api_version: ApiVersion::V1,
            kind: Kind::Diagnosis,
            state: states.max().unwrap_or(State::Unknown),
            as_of,
            findings,
        }
    }
}

/// The JSON Schema of the answer.
pub fn schema() -> Schema {
    let settings = SchemaSettings::draft2020_12().for_serialize();
    let mut schema = settings.into_generator().into_root_schema_for::<Answer>();
    schema.insert("title".into(), "targetgate doctor -o json".into());
    schema
}

/// Whether a hop works, from the best to the worst.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
pub enum State {
    Sound,
    /// It works, and loses or surprises all the same; no exit status follows from it.
    Advice,
    /// It is not known, which is not taken for sound.
    Unknown,
    Broken,
}

/// What is checked, from the API server to ELB.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, JsonSchema)]
pub enum Check {
    /// The Deployment of the installation exists, and its flags can be read.
    Installation,
    /// The CRD of bindings is served, and keeps each field; with registration that of TargetRecords as well.
    Crd,
    /// Each hook is registered.
    Hook,
    /// The `caBundle` of each hook verifies the served certificate.
    Trust,
    /// The certificate that is served is not about to expire.
    Certificate,
    /// The Service of the hooks has endpoints.
    Service,
    /// A pod of a server-side dry-run gets its gate.
    PodTrial,
    /// A wrong binding of a server-side dry-run is denied.
    BindingTrial,
    /// With `--admission both`, the API server serves the policy that injects gates, and it is bound.
    Policy,
    /// With `--admission both`, the gate rules of each namespace are those that its bindings give.
    GateRules,
    /// A hook or a policy keeps an update of a binding from changing its group.
    Immutability,
    /// The service account has each right that targetgate uses.
    Right,
    /// A replica holds the Lease.
    Lease,
    /// One controller registers targets, and AWS Load Balancer Controller's hooks have a process behind them.
    Incumbent,
    /// Listeners that AWS Load Balancer Controller puts back.
    Listener,
    /// No binding has a finalizer of ours that nothing takes off.
    Finalizer,
    /// Whose credentials AWS is called with.
    Identity,
    /// AWS answers about each group, and says of it what its binding says.
    Group,
    /// AWS lets targets be registered and deregistered, as far as a group that cannot exist tells.
    Registration,
    /// Each group has one binding, and no living pods have lost theirs.
    Binding,
    /// Each Namespace that has opted in has bindings, and the hook for pods is called for it.
    Namespace,
    /// Each namespace with drain admits the grace period that drain gives.
    Grace,
    /// No setting of a workload with gates loses requests when its pods end.
    End,
}

/// What was found of one thing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Finding {
    pub check: Check,
    pub state: State,
    /// Whether advice is the worst that can come of it, so that no exit status follows from it, even if it is unknown.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub advisory: bool,
    /// What was looked at.
    pub about: String,
    pub why: Why,
}

impl Finding {
    pub(super) fn sound(check: Check, about: &str, message: impl Into<String>) -> Self {
        Self::new(check, State::Sound, about, Reason::Sound, message)
    }

    pub(super) fn advice(
        check: Check,
        about: &str,
        reason: Reason,
        message: impl Into<String>,
    ) -> Self {
        Self::new(check, State::Advice, about, reason, message)
    }

    /// With the command that mends it.
    pub(super) fn by(mut self, command: String) -> Self {
        self.why.command = Some(command);
        self
    }

    pub(super) fn unknown(check: Check, about: &str, message: impl Into<String>) -> Self {
        Self::new(check, State::Unknown, about, Reason::NotKnown, message)
    }

    /// What is not known, and would be advice at most.
    pub(super) fn unknown_advice(check: Check, about: &str, message: impl Into<String>) -> Self {
        Self {
            advisory: true,
            ..Self::unknown(check, about, message)
        }
    }

    /// What it adds to the state of the whole.
    fn counts_as(&self) -> State {
        match self.advisory {
            true => self.state.min(State::Advice),
            false => self.state,
        }
    }

    pub(super) fn broken(
        check: Check,
        about: &str,
        reason: Reason,
        message: impl Into<String>,
    ) -> Self {
        Self::new(check, State::Broken, about, reason, message)
    }

    fn new(
        check: Check,
        state: State,
        about: &str,
        reason: Reason,
        message: impl Into<String>,
    ) -> Self {
        Self {
            check,
            state,
            advisory: state == State::Advice,
            about: about.to_owned(),
            why: Why::saying(reason, message),
        }
    }
}
