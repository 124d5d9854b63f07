//! The sweep: asks AWS now and then whether it has the target groups that bindings name, and tells of those that
//! it does not have (contract 5.7).

use std::time::Instant;

use targetgate_core::elb::buckets::PollRequest;
use targetgate_core::elb::query::GroupSelector;
use targetgate_core::elb::sweep::{Batch, Sweep, Swept};
use targetgate_core::index::BindingKey;
use targetgate_core::model::TargetGroup;
use targetgate_core::names::{GroupKey, TargetGroupArn};
use targetgate_core::reason::Reason;
use tokio::task::JoinSet;
use tracing::warn;

use crate::aws::error::{ElbError, ElbErrorKind};
use crate::controllers::gates::{AFTER_ALL_POLLS, Done, Loop, NO_HURRY, Work};

/// Maximum number of bindings of one group that are told that it is missing. Chosen: rarely more than one names it.
const MAX_TOLD: usize = 10;

impl Loop {
    /// Starts the call that is due, as far as the budget allows. Returns the next wake-up.
    pub(super) fn sweep(
        &self,
        work: &mut Work,
        tasks: &mut JoinSet<Done>,
        now: Instant,
    ) -> Option<Instant> {
        let sweep = &mut work.sweep;
        if !work.tracker.leads() {
            *sweep = Sweep::default();
            return None;
        }
        if sweep.wants_names(now) {
            let apis = &self.settings.apis;
            let named = self.cache.read(|index| index.named_groups(apis));
            sweep.name(named, now);
        }
        let batch = match sweep.next(now) {
            Ok(batch) => batch,
            Err(again) => return again,
        };
        let request = PollRequest {
            groups: AFTER_ALL_POLLS,
            likely_healthy: batch.urgent,
        };
        let quota = batch.quota()?;
        if let Err(again) = self.budget.try_take_for_loop(&quota, request) {
            return Some(again.max(now + NO_HURRY));
        }
        sweep.begin(&batch, now);
        let elb = self.elb.clone();
        tasks.spawn(async move {
            let arns = batch.groups.iter().map(|group| group.arn.clone());
            let arns: Vec<_> = arns.map(GroupSelector::Arn).collect();
            let answer = elb
                .target_groups(Some(quota.region()), batch.role(), &arns)
                .await;
            Done::Swept(batch, answer)
        });
        Some(now)
    }

    /// Takes in the answer to a call of the sweep, or its failure.
    pub(super) fn swept(
        &self,
        work: &mut Work,
        batch: &Batch,
        answer: &Result<Vec<TargetGroup>, ElbError>,
        now: Instant,
    ) {
        let arns: Vec<TargetGroupArn>;
        let outcome = match answer {
            Ok(groups) => {
                arns = groups.iter().map(|group| group.arn.clone()).collect();
                Swept::Found(&arns)
            }
            Err(error) if error.kind == ElbErrorKind::GroupNotFound => Swept::NotFound,
            Err(error) if error.code() == "ValidationError" => Swept::Rejected,
            Err(_) => Swept::Failed,
        };
        let error = answer.as_ref().err();
        let error = error.filter(|_| outcome == Swept::Failed);
        work.failures.swept(batch, error, now);
        let missing = work.sweep.ended(&batch.groups, outcome, now);
        if !missing.is_empty() {
            self.tell_missing(work, missing);
        }
    }

    /// Tells that AWS does not have these groups, in the log and by an Event on each binding that names one.
    pub(super) fn tell_missing(&self, work: &mut Work, groups: Vec<GroupKey>) {
        for group in groups {
            let bindings = self.bindings_of(&group);
            let names = bindings.iter().map(|key| key.object.to_string());
            let names: Vec<String> = names.collect();
            warn!(group = %group.arn, bindings = ?names, "AWS does not have the target group of a binding");
            for binding in bindings {
                let note = format!(
                    "Target group {} does not exist: its targets get no traffic, and gates of this binding that are \
                     not open stay closed. Create a binding to a group that exists, then delete this one",
                    group.arn
                );
                self.note_of_binding(work, &binding, Reason::TargetGroupNotFound, note);
            }
        }
    }

    /// The bindings that name a group, as far as they are told.
    fn bindings_of(&self, group: &GroupKey) -> Vec<BindingKey> {
        let apis = &self.settings.apis;
        self.cache.read(|index| {
            let bindings = index.bindings_of_group(&group.arn);
            let ours = bindings
                .filter(|(key, binding)| binding.role == group.role && apis.contains(&key.api));
            ours.take(MAX_TOLD).map(|(key, _)| key.clone()).collect()
        })
    }
}
