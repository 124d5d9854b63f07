//! Actions that the registrar returns to its controller, and how the controller reports on them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use crate::gates::refusals::Refused;
use crate::index::BindingKey;
use crate::names::{GroupKey, ObjectKey, TargetGroupArn};
use crate::reason::Reason;
use crate::targets::calls::Call;
use crate::targets::record::Record;
use crate::targets::slices::SliceAddresses;
use crate::targets::standing::Policy;

/// Settings of the registrar.
#[derive(Debug, Clone)]
pub struct Settings {
    pub policy: Policy,
    /// Which endpoints of Services without a selector are taken.
    pub slice_addresses: SliceAddresses,
}

/// An action for the controller to carry out, while this replica leads.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Create the record, or replace the one of this resourceVersion; report to `recorded`.
    WriteRecord {
        record: Record,
        replaces: Option<Arc<str>>,
    },
    /// Delete the record of this UID and resourceVersion. A watch reports that it is gone.
    DeleteRecord { uid: Arc<str>, version: Arc<str> },
    /// Put a finalizer on the binding, or take it off; report to `patched`.
    Patch {
        binding: BindingKey,
        uid: Arc<str>,
        finalizer: Finalizer,
    },
    /// Write the binding's condition `Ready`; report to `patched`.
    Status(Status),
    /// Make a live read of the binding's Service; report to `confirmed`.
    Confirm(BindingKey),
    /// Read the incumbent's Lease soon; report to `see_incumbent`.
    ReadLease,
    /// Call `RegisterTargets` or `DeregisterTargets`; report to `called`.
    Call(Call),
    /// Call `DescribeTargetHealth` for the whole group; report to `described`.
    Describe(GroupKey),
    /// Tell by an Event on the binding.
    Tell {
        binding: BindingKey,
        reason: Reason,
        message: Arc<str>,
    },
    /// Tell the gates which targets of a group AWS does not take now, all of them.
    Refused {
        group: TargetGroupArn,
        targets: Refused,
    },
    /// Tell by an Event on the pod of this UID why its target does not go in.
    TellPod {
        pod: ObjectKey,
        uid: Arc<str>,
        reason: Reason,
        message: Arc<str>,
    },
}

/// What is done to a binding's finalizers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finalizer {
    AddOurs,
    RemoveOurs,
    RemoveIncumbents,
}

/// The condition `Ready` of a binding that we hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    pub binding: BindingKey,
    pub uid: Arc<str>,
    pub ready: bool,
    pub reason: Reason,
    pub message: Arc<str>,
    pub generation: i64,
}

/// How a write to the API server ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Written {
    /// It was written; a record has this resourceVersion now.
    Done(Option<Arc<str>>),
    /// Another client has written since; a watch brings that.
    Conflict,
    /// It was refused or not answered, in these words; a hook that refuses is named in them.
    Failed(Arc<str>),
    /// It was not sent, because this replica does not lead any more.
    Unsent,
}

/// What the watches show.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct View {
    /// Whether all watches have synced in this leadership.
    pub synced: bool,
    /// Whether all of them work now.
    pub works: bool,
}

/// What the metrics count, over all groups.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counts {
    pub wanted: usize,
    pub registered: usize,
    pub held_by_floor: usize,
    pub foreign: usize,
    pub fights: usize,
    /// Endpoints of EndpointSlices that are not taken.
    pub left_out: usize,
    /// Targets that are wanted and not registered, by reason, and pods that cannot be targets.
    pub unregistered: BTreeMap<Reason, usize>,
}

/// When the controller has to come back, and what it has to do now.
#[derive(Debug, Default)]
pub struct Step {
    pub actions: Vec<Action>,
    pub wake: Option<Instant>,
}
