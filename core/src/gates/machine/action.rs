//! What the tracker and the loop tell each other.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;

use crate::model::{Binding, Condition, Service};
use crate::names::{BindingApi, GateName, GroupKey, ObjectKey};

/// Names one gate of one pod. A pod replaced under its name is another pod.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct GateId {
    /// The pod.
    pub pod: ObjectKey,
    /// The pod's UID.
    pub uid: Arc<str>,
    /// The gate.
    pub gate: GateName,
}

/// Something for the loop to carry out.
#[derive(Debug, PartialEq)]
pub enum Action {
    /// Write conditions; report to [`Tracker::written`](crate::gates::machine::Tracker::written).
    Write(Write),
    /// Read bindings and Services past the cache; report to [`Tracker::confirmed`](crate::gates::machine::Tracker::confirmed).
    Confirm(GateId),
    /// Ask for a group's health check settings; report to [`Tracker::proven`](crate::gates::machine::Tracker::proven).
    Prove(GroupKey),
    /// AWS does not know this group: tell those whom it concerns.
    MissingGroup {
        /// The group.
        group: GroupKey,
        /// One of the bindings that name it.
        binding: (ObjectKey, BindingApi),
    },
}

/// What is to be written to one pod, in one patch.
#[derive(Debug, Clone, PartialEq)]
pub struct Write {
    /// Whose conditions.
    pub pod: ObjectKey,
    /// The pod's UID.
    pub uid: Arc<str>,
    /// The pod's `resourceVersion` that this is decided on: who has written since must be heard first.
    pub version: Arc<str>,
    /// When its turn came.
    pub begun: Instant,
    /// One for each gate that is decided; at least one.
    pub changes: Vec<Change>,
    /// Since when the pod's containers are ready.
    pub containers_ready: Option<Timestamp>,
}

/// A condition to write.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    /// Of which gate.
    pub gate: GateName,
    /// What.
    pub condition: Condition,
    /// Whether the status differs from the one that is there: only then does its time move.
    pub transition: bool,
    /// Why a gate opens, as metrics and logs name it: `Healthy` or an absence.
    pub reason: &'static str,
}

/// How a write ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WriteOutcome {
    /// It is written; the pod now has this `resourceVersion`.
    Written(Arc<str>),
    /// The pod is gone, or another has its name.
    Gone,
    /// Somebody else wrote in between: to be decided again.
    Conflict,
    /// This replica does not lead any more: it was not sent.
    Unsent,
    /// The API server has too much to do: nobody writes for a while.
    PutOff {
        /// How long it asks to wait, where it does.
        retry_after: Option<Duration>,
    },
    /// It failed; to be decided again after a pause.
    Failed,
}

/// Why ELB said nothing about a group's targets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CallFailure {
    /// The group does not exist.
    GroupNotFound,
    /// Too many calls.
    Throttled,
    /// Anything else.
    Other,
}

/// What was read past the cache about a gate.
#[derive(Debug, Default)]
pub struct LiveRead {
    /// The bindings that it stands for.
    pub bindings: Vec<Binding>,
    /// Their Services.
    pub services: BTreeMap<Arc<str>, Service>,
}

/// What the tracker goes by.
#[derive(Debug, Clone)]
pub struct Settings {
    /// API groups whose bindings give gates.
    pub apis: Vec<BindingApi>,
    /// How long a gate waits whose binding was never seen.
    pub orphan_after: Duration,
    /// Spreads the pauses that an API server asks for.
    pub seed: u64,
}
