//! What is seen of the ends of pods, out of watches, of the polls that the schedule makes, and, with
//! `--measure-drain`, of calls for the measurement alone.

use std::sync::Arc;
use std::time::Instant;

use targetgate_core::drain::LoadBalancerKind;
use targetgate_core::elb::buckets::PollRequest;
use targetgate_core::elb::query::GroupQuery;
use targetgate_core::endings::{EndedEarly, EndingTarget, Look};
use targetgate_core::gates::requirements::TargetQuery;
use targetgate_core::index::{BindingKey, Ending, Index};
use targetgate_core::model::{Pod, TargetHealth};
use targetgate_core::names::{GroupKey, ObjectKey, Quota};
use targetgate_core::notices::AllFound;
use tokio::task::JoinSet;
use tracing::debug;

use crate::aws::error::ElbError;
use crate::controllers::gates::{AFTER_ALL_POLLS, Done, Loop, NO_HURRY, Work, notices};

impl Loop {
    /// Takes in what watches have shown.
    pub(super) fn see_endings(&self, work: &mut Work, endings: Vec<Ending>, now: Instant) {
        for ending in endings {
            match ending {
                Ending::Began { pod, requested } => {
                    let targets = self.ending_targets(work, &pod);
                    work.endings.begin(&pod, targets, requested, now);
                }
                Ending::Ended(pod) => self.see_end(work, &pod, now),
                Ending::Missed(pod) => work.endings.miss(&pod),
            }
        }
    }

    fn see_end(&self, work: &mut Work, pod: &Arc<Pod>, now: Instant) {
        if pod.is_live() {
            // A forced deletion, or a container that ended for good: the load balancer had no notice.
            let targets = self.ending_targets(work, pod);
            work.endings.begin(pod, targets, None, now);
        }
        let early = work.endings.end(pod, now, (self.now)());
        if let Some(early) = early.filter(|_| work.tracker.leads()) {
            self.tell_early(&mut work.seen, &early);
        }
    }

    fn tell_early(&self, seen: &mut AllFound, early: &EndedEarly) {
        self.endings.ended_early(early.kind);
        debug!(pod = %early.pod.key, "{}", early.finding);
        notices::ended_early(seen, early);
    }

    /// The targets of a pod whose load balancer is of a known kind.
    fn ending_targets(&self, work: &Work, pod: &Pod) -> Vec<EndingTarget> {
        let known = self.cache.read(|index| {
            let queries = work.tracker.open_targets(pod, index).into_iter();
            let known = queries.map(|query| (binding_kind(index, pod, &query), query));
            known.collect::<Vec<_>>()
        });
        let target = |(kind, query): (Option<LoadBalancerKind>, TargetQuery)| {
            Some(EndingTarget {
                kind: kind.or_else(|| self.described_kind(&query.group))?,
                group: query.group,
                target: query.target,
            })
        };
        known.into_iter().filter_map(target).collect()
    }

    /// The kind of load balancer by what AWS described lately.
    fn described_kind(&self, group: &GroupKey) -> Option<LoadBalancerKind> {
        let group = self.groups.known(&GroupQuery::from(group))?;
        LoadBalancerKind::of_protocol(group.protocol.as_deref()?)
    }

    /// Takes in an answer to a poll of the schedule, before the tracker does.
    pub(super) fn see_answer(
        &self,
        work: &mut Work,
        group: &GroupKey,
        requested: Instant,
        answer: &[TargetHealth],
        now: Instant,
    ) {
        let named = work.tracker.named(group);
        let endings = &mut work.endings;
        for deregistered in endings.answered(group, &named, answer, requested, now) {
            self.endings.deregistered(deregistered);
        }
    }

    /// Starts the call for the measurement alone that is due, as far as polls and sweep leave tokens. Returns the next
    /// wake-up.
    pub(super) fn look(
        &self,
        work: &mut Work,
        tasks: &mut JoinSet<Done>,
        now: Instant,
    ) -> Option<Instant> {
        work.endings.forget_old(now);
        if !work.tracker.leads() {
            return None;
        }
        let look = match work.endings.next_look(now) {
            Ok(look) => look,
            Err(again) => return again,
        };
        if !self.affords(&Quota::of(&look.group.arn)) {
            work.endings.put_off_look(&look, now);
            return Some(now + NO_HURRY);
        }
        work.endings.begin_look(&look, now);
        let elb = self.elb.clone();
        tasks.spawn(async move {
            let targets: Vec<_> = look.targets.iter().copied().collect();
            let answer = elb.target_health(&look.group, &targets).await;
            Done::Looked(look, now, answer)
        });
        Some(now)
    }

    /// Takes a token, unless AWS throttles the quota.
    fn affords(&self, quota: &Quota) -> bool {
        let request = PollRequest {
            groups: AFTER_ALL_POLLS,
            likely_healthy: false,
        };
        let throttled = self.budget.all_throttled().contains(quota);
        !throttled && self.budget.try_take_for_loop(quota, request).is_ok()
    }

    /// Takes in the answer to a call for the measurement alone, or its failure.
    pub(super) fn looked(
        &self,
        work: &mut Work,
        look: &Look,
        requested: Instant,
        answer: &Result<Vec<TargetHealth>, ElbError>,
        now: Instant,
    ) {
        let endings = &mut work.endings;
        endings.end_look(look, answer.is_err(), now);
        let Ok(answer) = answer else {
            return;
        };
        for deregistered in endings.answered(&look.group, &look.targets, answer, requested, now) {
            self.endings.deregistered(deregistered);
        }
    }
}

/// The kind of load balancer by the binding from which a query follows.
fn binding_kind(index: &Index, pod: &Pod, query: &TargetQuery) -> Option<LoadBalancerKind> {
    let (name, api) = &query.binding;
    let key = BindingKey {
        object: ObjectKey::new(pod.key.namespace.clone(), name.clone()),
        api: *api,
    };
    index.binding(&key)?.load_balancer
}
