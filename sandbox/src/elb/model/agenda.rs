//! The next events of all targets of all groups, in order of time.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::time::Instant;

/// A time and the target that it belongs to.
pub(super) type Entry = (Instant, Arc<str>, SocketAddr);

/// The next events of one target.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Plan {
    /// The end of its phase.
    pub(super) deadline: Option<Instant>,
    /// Its next health check.
    pub(super) check: Option<Instant>,
}

/// The plans of all targets in order of time, so that no call has to visit every target.
#[derive(Debug, Default)]
pub(super) struct Agenda {
    deadlines: BTreeSet<Entry>,
    checks: BTreeSet<Entry>,
}

impl Agenda {
    /// Replaces a target's old plan by its new one.
    pub(super) fn replace(&mut self, arn: &str, target: SocketAddr, old: Plan, new: Plan) {
        replace(&mut self.deadlines, arn, target, old.deadline, new.deadline);
        replace(&mut self.checks, arn, target, old.check, new.check);
    }

    /// The earliest time of all plans.
    pub(super) fn first(&self) -> Option<Instant> {
        let firsts = [self.deadlines.first(), self.checks.first()];
        firsts.into_iter().flatten().map(|entry| entry.0).min()
    }

    /// The phases that end by `at`, in order.
    pub(super) fn deadlines_until(&self, at: Instant) -> Vec<Entry> {
        until(&self.deadlines, at)
    }

    /// The health checks that are due by `at`, in order.
    pub(super) fn checks_until(&self, at: Instant) -> Vec<Entry> {
        until(&self.checks, at)
    }
}

fn until(entries: &BTreeSet<Entry>, at: Instant) -> Vec<Entry> {
    let due = entries.iter().take_while(|entry| entry.0 <= at);
    due.cloned().collect()
}

fn replace(
    entries: &mut BTreeSet<Entry>,
    arn: &str,
    target: SocketAddr,
    old: Option<Instant>,
    new: Option<Instant>,
) {
    if old == new {
        return;
    }
    let arn: Arc<str> = arn.into();
    if let Some(old) = old {
        entries.remove(&(old, Arc::clone(&arn), target));
    }
    if let Some(new) = new {
        entries.insert((new, arn, target));
    }
}
