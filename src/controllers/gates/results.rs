//! Takes in the results of the loop's tasks.

use std::sync::Arc;
use std::time::Instant;

use targetgate_core::elb::query::DescribeError;
use targetgate_core::gates::machine::action::{Action, CallFailure, Write, WriteOutcome};
use targetgate_core::gates::polling::queue::Call;
use targetgate_core::model::TargetHealth;
use targetgate_core::names::{GroupKey, NamedGroup, TargetGroupArn};

use crate::aws::error::{ElbError, ElbErrorKind};
use crate::clock;
use crate::controllers::gates::failures::Failures;
use crate::controllers::gates::{Done, Loop, Work};
use crate::kubernetes::pod_status::WriteError;

impl Loop {
    pub(super) fn handle(&self, work: &mut Work, done: Done) -> Vec<Action> {
        let now = clock::monotonic();
        match done {
            Done::Answered(call, requested, answer) => {
                self.answered(work, &call, requested, answer, now)
            }
            Done::Written(write, result) => {
                work.failures.wrote(&write.pod, result.as_ref().err(), now);
                self.ended(work, &write, &outcome(result), now)
            }
            Done::Unsent(write) => self.ended(work, &write, &WriteOutcome::Unsent, now),
            Done::Read(id, read) => {
                work.failures.read(&id, read.as_ref().err(), now);
                work.tracker.confirmed(&id, read.ok().as_ref(), now)
            }
            Done::Proven(group, checks) => {
                work.failures.proven(&group, checks.as_ref().err(), now);
                let checks = checks.ok().flatten();
                work.tracker.proven(&group, checks, now)
            }
            Done::Resolved(group, found) => self.resolved(work, &group, found, now),
            Done::Looked(look, requested, answer) => {
                self.looked(work, &look, requested, &answer, now);
                vec![]
            }
            Done::Swept(batch, answer) => {
                self.swept(work, &batch, &answer, now);
                vec![]
            }
            Done::Told => vec![],
        }
    }

    /// Takes in the ARN of a group that bindings name without it, or why it is not known.
    fn resolved(
        &self,
        work: &mut Work,
        group: &NamedGroup,
        found: Result<TargetGroupArn, DescribeError>,
        now: Instant,
    ) -> Vec<Action> {
        let found = match found {
            Ok(arn) => Ok(Some(arn)),
            Err(DescribeError::NotFound) => Ok(None),
            Err(error) => Err(error),
        };
        work.failures.resolved(group, found.as_ref().err(), now);
        let (found, moment) = (found.map_err(|_| ()), (now, (self.now)()));
        self.cache
            .read(|index| work.tracker.resolved(group, found, index, moment))
    }

    fn answered(
        &self,
        work: &mut Work,
        Call { group, targets }: &Call,
        requested: Instant,
        answer: Result<Vec<TargetHealth>, ElbError>,
        now: Instant,
    ) -> Vec<Action> {
        let is_whole = targets.is_empty();
        if let (Some(answers), true, Ok(targets)) = (&self.answers, is_whole, &answer) {
            answers.tell(group, requested, targets);
        }
        let answer = match &answer {
            Ok(targets) => {
                work.sweep.found(group, now);
                work.failures.polled(group, None, now);
                self.see_answer(work, group, requested, targets, now);
                Ok(&targets[..])
            }
            Err(error) => Err(self.failure(&mut work.failures, group, error, now)),
        };
        work.tracker.answered(group, requested, answer, now)
    }

    fn failure(
        &self,
        failures: &mut Failures,
        group: &GroupKey,
        error: &ElbError,
        now: Instant,
    ) -> CallFailure {
        match error.kind {
            ElbErrorKind::GroupNotFound => {
                self.metrics.group_not_found();
                CallFailure::GroupNotFound
            }
            ElbErrorKind::Throttled => CallFailure::Throttled,
            kind => {
                failures.polled(group, Some(error), now);
                match kind {
                    ElbErrorKind::Invalid => CallFailure::Invalid,
                    _ => CallFailure::Other,
                }
            }
        }
    }

    fn ended(
        &self,
        work: &mut Work,
        write: &Write,
        outcome: &WriteOutcome,
        now: Instant,
    ) -> Vec<Action> {
        self.note(work, write, outcome);
        work.tracker.written(write, outcome, now)
    }
}

fn outcome(result: Result<Arc<str>, WriteError>) -> WriteOutcome {
    match result {
        Ok(version) => WriteOutcome::Written(version),
        Err(WriteError::Gone(_)) => WriteOutcome::Gone,
        Err(WriteError::Conflict(_)) => WriteOutcome::Conflict,
        Err(WriteError::TooManyRequests { retry_after, .. }) => {
            WriteOutcome::PutOff { retry_after }
        }
        Err(WriteError::Failed { .. }) => WriteOutcome::Failed,
    }
}
