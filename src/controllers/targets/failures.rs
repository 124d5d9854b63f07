//! Failures of the registrar's work, told once and then counted (contract 5.10).

use std::fmt::Display;
use std::sync::Arc;
use std::time::Instant;

use targetgate_core::failure_log::FailureLog;
use targetgate_core::index::BindingKey;
use targetgate_core::names::TargetGroupArn;
use targetgate_core::targets::calls::Kind;
use tracing::warn;

use crate::aws::error::ElbError;
use crate::controllers::failures::{count, news};

/// What each kind of work has failed at.
#[derive(Debug, Default)]
pub(super) struct Failures {
    calls: FailureLog<(TargetGroupArn, &'static str)>,
    records: FailureLog<Arc<str>>,
    bindings: FailureLog<(BindingKey, &'static str)>,
    lists: FailureLog<()>,
}

impl Failures {
    /// Notes how a call of ELB ended; `kind` is `None` for a description of the group.
    pub(super) fn called(
        &mut self,
        arn: &TargetGroupArn,
        kind: Option<Kind>,
        error: Option<&ElbError>,
        now: Instant,
    ) {
        let action = kind.map_or("DescribeTargetHealth", Kind::action);
        let about = (arn.clone(), action);
        if let Some(error) = news(&mut self.calls, &about, error, ElbError::code, now) {
            warn!(%error, "targets stay as they are; the call is made again");
        }
    }

    /// Notes how a write of the record of this UID ended.
    pub(super) fn recorded(&mut self, uid: &Arc<str>, error: Option<&dyn Display>, now: Instant) {
        if let Some(error) = news(&mut self.records, uid, error, failed, now) {
            warn!(%uid, %error, "TargetRecord not written: nothing more is registered for its binding until it is");
        }
    }

    /// Notes how a write to a binding, or a live read for it, ended.
    pub(super) fn bound(
        &mut self,
        binding: &BindingKey,
        work: &'static str,
        error: Option<&dyn Display>,
        now: Instant,
    ) {
        let about = (binding.clone(), work);
        if let Some(error) = news(&mut self.bindings, &about, error, failed, now) {
            let binding = &binding.object;
            warn!(%binding, work, %error, "it is tried again");
        }
    }

    /// Notes how a list of all records ended.
    pub(super) fn listed(&mut self, error: Option<&dyn Display>, now: Instant) {
        if let Some(error) = news(&mut self.lists, &(), error, failed, now) {
            warn!(%error, "nothing is registered or deregistered until the TargetRecords can be read");
        }
    }

    /// Tells the counts that are due. Returns when more will be.
    pub(super) fn count(&mut self, now: Instant) -> Option<Instant> {
        let wakes = [
            count(&mut self.calls, "calls about target groups", now),
            count(&mut self.records, "writes of TargetRecords", now),
            count(&mut self.bindings, "writes of bindings", now),
            count(&mut self.lists, "lists of TargetRecords", now),
        ];
        wakes.into_iter().flatten().min()
    }
}

/// The code of a failure that has none of its own.
fn failed<'e>(_: &'e (dyn Display + 'e)) -> &'e str {
    "Failed"
}
