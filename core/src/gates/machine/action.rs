//! Actions that the tracker returns to the loop, and how the loop reports on them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;

use crate::model::{Binding, Condition, Service};
use crate::names::{BindingApi, GateName, GroupKey, NamedGroup, ObjectKey};
use crate::reason::Reason;

/// Identifies one gate of one pod. A pod that replaces another under its name is another pod.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct GateId {
    pub pod: ObjectKey,
    pub uid: Arc<str>,
    pub gate: GateName,
}

/// An action for the loop to carry out.
#[derive(Debug, PartialEq)]
pub enum Action {
    /// Write conditions; report to [`Tracker::written`](crate::gates::machine::Tracker::written).
    Write(Write),
    /// Make a live read of bindings and Services; report to [`Tracker::confirmed`](crate::gates::machine::Tracker::confirmed).
    Confirm(GateId),
    /// Ask AWS for a group's health check settings; report to [`Tracker::proven`](crate::gates::machine::Tracker::proven).
    Prove(GroupKey),
    /// Ask AWS which group has this name; report to [`Tracker::resolved`](crate::gates::machine::Tracker::resolved).
    Resolve(NamedGroup),
    /// Report by an Event that the gates of a binding stay closed until it is mended, or that a pod's gate was
    /// opened whatever ELB says.
    Report {
        about: Subject,
        reason: Reason,
        /// The message of the condition.
        message: Arc<str>,
    },
    /// Report by an Event that AWS does not know this group.
    MissingGroup(GroupKey),
}

/// What an Event is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Subject {
    Binding(ObjectKey, BindingApi),
    /// A pod and its UID.
    Pod(ObjectKey, Arc<str>),
}

/// One patch of a pod's status.
#[derive(Debug, Clone, PartialEq)]
pub struct Write {
    pub pod: ObjectKey,
    pub uid: Arc<str>,
    /// The pod's `resourceVersion` on which the write is decided: if another client has written since, the
    /// API server refuses it with 409, and it is decided anew.
    pub version: Arc<str>,
    /// When the write left the write queue.
    pub begun: Instant,
    /// One change for each gate that is decided; at least one.
    pub changes: Vec<Change>,
    /// When the pod's containers became ready.
    pub containers_ready: Option<Timestamp>,
}

/// One condition of a write.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    pub gate: GateName,
    pub condition: Condition,
    /// Whether the status changes: only then does `lastTransitionTime` move.
    pub transition: bool,
    /// Whether an open gate closes.
    pub closes: bool,
    /// Whether a gate opens that was closed again before.
    pub reopens: bool,
    /// The reason for metrics and logs.
    pub reason: Reason,
}

/// Why a gate is not open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiting {
    pub gate: GateName,
    pub reason: Reason,
    /// When the schedule polls one of its groups next; `None` while a call is in flight, and for a gate that
    /// waits for no answer of ELB.
    pub next_poll: Option<Instant>,
}

/// How a write ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WriteOutcome {
    /// The API server wrote it; the pod now has this `resourceVersion`.
    Written(Arc<str>),
    /// The pod is gone, or another pod has its name.
    Gone,
    /// Another client wrote to the pod in between, so the write is decided anew.
    Conflict,
    /// The write was not sent, because this replica does not lead any more.
    Unsent,
    /// The API server answered 429, so all writes pause.
    PutOff {
        /// The server's `Retry-After`.
        retry_after: Option<Duration>,
    },
    /// The write failed, and is decided anew after a backoff.
    Failed,
}

/// Why a poll failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CallFailure {
    GroupNotFound,
    Throttled,
    /// ELB rejects the request itself, such as a target that the call names.
    Invalid,
    Other,
}

/// What a live read found about a gate.
#[derive(Debug, Default)]
pub struct LiveRead {
    /// The bindings that the gate stands for.
    pub bindings: Vec<Binding>,
    /// The Services of these bindings.
    pub services: BTreeMap<Arc<str>, Service>,
}

/// Settings of the tracker.
#[derive(Debug, Clone)]
pub struct Settings {
    /// API groups whose bindings give gates.
    pub apis: Vec<BindingApi>,
    /// How long a gate stays closed when its binding has never been seen (`--orphan-after`).
    pub orphan_after: Duration,
    /// Seeds the jitter of pauses that the API server asks for.
    pub seed: u64,
}
