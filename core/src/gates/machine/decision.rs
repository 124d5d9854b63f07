//! Which condition a gate should have, and why that is not decided yet.

use crate::gates::condition;
use crate::gates::condition::Decision;
use crate::gates::machine::check::TargetCheck;
use crate::gates::machine::gate::Gate;
use crate::gates::machine::pending_absence::PendingAbsence;
use crate::model::WhenUnused;
use crate::reason::Reason;

impl Gate {
    /// Why the gate is not open: what keeps it closed, or why that is not decided yet.
    pub(crate) fn waits_for(&self) -> Reason {
        if self.due.is_none() && self.closes_for().is_none() {
            return Reason::PodNotDue;
        }
        self.decide()
            .map_or_else(|undecided| undecided, |decision| decision.reason)
    }

    /// The condition that the gate should have; the error is why that is not decided yet.
    pub(super) fn decide(&self) -> Result<Decision, Reason> {
        let decided = self.decide_in_time();
        let Some(after) = self.policies.open_after().filter(|_| self.timed_out) else {
            return decided;
        };
        let closes = self.closes_for().is_some();
        match decided {
            Ok(decision) if decision.condition.status || closes => Ok(decision),
            Ok(decision) => Ok(condition::of_timeout(after, decision.reason)),
            Err(undecided) => Ok(condition::of_timeout(after, undecided)),
        }
    }

    /// The same, as long as the gate need not open whatever ELB says.
    ///
    /// The order matters: all that keeps the gate closed comes before what opens it.
    fn decide_in_time(&self) -> Result<Decision, Reason> {
        if let Some(address) = self.closes_for() {
            return Ok(condition::of_another_address(address));
        }
        if let Some(closed) = &self.closed {
            return Ok(closed.decision.clone());
        }
        let pending = self.pending_absence.as_ref();
        let confirmed = pending.is_some_and(PendingAbsence::is_confirmed);
        // ELB's word counts as long as a binding that is being deleted has the target.
        let is_over =
            |check: &TargetCheck| check.query.terminating && check.is_unregistered() && confirmed;
        let unused = || self.checks.iter().any(|check| self.opens_unused(check));
        let counts = |check: &&TargetCheck| !is_over(check) && !self.opens_unused(check);
        let checks = || self.checks.iter().filter(counts);
        if let Some(not_healthy) = checks().find_map(TargetCheck::not_healthy) {
            return Ok(not_healthy);
        }
        // From here on, only what opens the gate is left, so each doubt holds it back.
        if self.unresolved {
            return Err(Reason::GroupNotResolved);
        }
        let mut healthy = None;
        for check in checks() {
            healthy = Some(check.answer()?);
        }
        let terminates = pending.is_some_and(|pending| pending.is_of_terminating());
        if pending.is_some() && !confirmed && !(terminates && healthy.is_some()) {
            return Err(Reason::AbsenceNotConfirmed);
        }
        // Bindings of both API groups can share the gate. If one is gone and the target of the other is
        // healthy, the gate opens as healthy.
        match (healthy, pending) {
            _ if unused() => Ok(condition::of_unused()),
            (Some(healthy), _) => Ok(healthy.clone()),
            (None, Some(pending)) => Ok(condition::of_absence(&pending.absence)),
            // A binding gives at least one of these, and a gate without bindings an absence.
            (None, None) => Err(Reason::NotPolled),
        }
    }

    /// What becomes of an open gate that follows ELB; `None` while it stays as it is.
    ///
    /// Only what ELB says of a target closes the gate, and only if it was healthy before: a gate that was opened
    /// for another reason, such as its age, would be closed and opened by turns. A binding that is being deleted
    /// takes its targets out, which says nothing about the pods.
    pub(super) fn decide_followed(&self) -> Option<Decision> {
        let counts = |check: &&TargetCheck| !check.query.terminating && !self.opens_unused(check);
        let mut checks = self.checks.iter().filter(counts);
        let closes = |check: &&TargetCheck| {
            check.answer().is_ok_and(|answer| {
                matches!(answer.reason, Reason::NotHealthy | Reason::NotRegistered)
            })
        };
        if let Some(not_healthy) = checks.find(closes) {
            return not_healthy.not_healthy().filter(|_| self.says_healthy());
        }
        let others = self.pending_absence.is_some() || self.closed.is_some() || self.unresolved;
        let healthy = !others && self.checks.iter().all(TargetCheck::is_healthy);
        let healthy = self.checks.first().filter(|_| healthy)?;
        healthy.answer().ok().cloned()
    }

    /// Whether no load balancer uses the group of a target, for which the gate need not wait then.
    fn opens_unused(&self, check: &TargetCheck) -> bool {
        let opens = self.policies.when_unused == Some(WhenUnused::Open);
        opens && check.answer().is_ok_and(condition::is_unused)
    }
}
