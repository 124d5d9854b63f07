//! Failures of the loop's work, told once and then counted (contract 5.10).

use std::fmt::Display;
use std::sync::Arc;
use std::time::Instant;

use targetgate_core::elb::query::DescribeError;
use targetgate_core::elb::sweep::Batch;
use targetgate_core::failure_log::{Failing, FailureLog};
use targetgate_core::gates::machine::action::GateId;
use targetgate_core::names::{AssumedRole, GateName, GroupKey, NamedGroup, ObjectKey, Quota};
use tracing::warn;

use crate::aws::error::ElbError;
use crate::controllers::failures::{count, news};
use crate::kubernetes::live_read::ConfirmError;
use crate::kubernetes::pod_status::WriteError;

/// What each kind of work has failed at.
#[derive(Debug, Default)]
pub(super) struct Failures {
    polls: FailureLog<GroupKey>,
    sweeps: FailureLog<Lane>,
    proofs: FailureLog<GroupKey>,
    names: FailureLog<NamedGroup>,
    /// By namespace and gate, because the pods of a gate share a live read.
    reads: FailureLog<(Arc<str>, GateName)>,
    writes: FailureLog<ObjectKey>,
}

/// The account and Region of a sweep, and the role that it assumes.
type Lane = (Option<Quota>, Option<AssumedRole>);

/// Why a live read confirms nothing.
#[derive(Debug)]
pub(super) enum Unread {
    /// The API of the binding is not served.
    NotServed,
    Failed(ConfirmError),
}

impl Failures {
    /// What the polls of a group fail with.
    pub(super) fn of_polls(&self, group: &GroupKey) -> Option<&Failing> {
        self.polls.failing(group)
    }

    pub(super) fn polled(&mut self, group: &GroupKey, error: Option<&ElbError>, now: Instant) {
        if let Some(error) = news(&mut self.polls, group, error, ElbError::code, now) {
            warn!(%error, "gates stay as they are");
        }
    }

    pub(super) fn swept(&mut self, batch: &Batch, error: Option<&ElbError>, now: Instant) {
        let lane = (batch.quota(), batch.role().cloned());
        if let Some(error) = news(&mut self.sweeps, &lane, error, ElbError::code, now) {
            warn!(%error, "it is not known whether AWS has the target groups of bindings");
        }
    }

    pub(super) fn proven(&mut self, group: &GroupKey, error: Option<&DescribeError>, now: Instant) {
        if let Some(error) = news(&mut self.proofs, group, error, DescribeError::code, now) {
            warn!(group = %group.arn, %error, "a gate on a used address waits to be proven");
        }
    }

    pub(super) fn resolved(
        &mut self,
        group: &NamedGroup,
        error: Option<&DescribeError>,
        now: Instant,
    ) {
        if let Some(error) = news(&mut self.names, group, error, DescribeError::code, now) {
            warn!(group = %group.name, %error, "gates wait until AWS tells the group's ARN");
        }
    }

    pub(super) fn read(&mut self, id: &GateId, error: Option<&Unread>, now: Instant) {
        let subject = (id.pod.namespace.clone(), id.gate.clone());
        let Some(error) = error else {
            return self.reads.worked(&subject);
        };
        let (code, why): (&str, &dyn Display) = match error {
            Unread::NotServed => ("NotServed", &"the binding's API is not served"),
            Unread::Failed(error @ ConfirmError::Failed { .. }) => ("Failed", error),
            Unread::Failed(error @ ConfirmError::Unreadable(_)) => ("Unreadable", error),
        };
        let (namespace, gate) = &subject;
        if self.reads.failed(subject.clone(), code, now) {
            warn!(%namespace, %gate, error = %why, "the gate stays closed; it is looked at again soon");
        }
    }

    pub(super) fn wrote(&mut self, pod: &ObjectKey, error: Option<&WriteError>, now: Instant) {
        let code = match error {
            Some(WriteError::TooManyRequests { .. }) => "TooManyRequests",
            Some(WriteError::Failed { .. }) => "Failed",
            // A pod that is gone or changed is no failure.
            None | Some(WriteError::Gone(_) | WriteError::Conflict(_)) => {
                return self.writes.worked(pod);
            }
        };
        if let Some(error) = error
            && self.writes.failed(pod.clone(), code, now)
        {
            warn!(%pod, %error, "conditions not written; they are decided again soon");
        }
    }

    /// Tells the counts that are due. Returns when more will be.
    pub(super) fn count(&mut self, now: Instant) -> Option<Instant> {
        let wakes = [
            count(&mut self.polls, "polls of target groups", now),
            count(&mut self.sweeps, "sweeps of target groups", now),
            count(&mut self.proofs, "descriptions of target groups", now),
            count(&mut self.names, "look-ups of target groups by name", now),
            count(&mut self.reads, "live reads of bindings", now),
            count(&mut self.writes, "writes of conditions", now),
        ];
        wakes.into_iter().flatten().min()
    }
}
