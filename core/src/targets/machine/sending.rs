//! Calls of ELB: which goes next, within the budget, and once the records name what it registers.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use crate::elb::buckets::{Admissions, PollRequest};
use crate::index::Index;
use crate::names::{Quota, TargetGroupArn};
use crate::targets::Target;
use crate::targets::calls::{Call, Kind};
use crate::targets::machine::Registrar;
use crate::targets::machine::action::Action;

/// After so long, a call that is neither of an ended pod nor a first registration goes as if it were one. Chosen, so
/// that a long rollout does not starve them.
const PATIENCE: Duration = Duration::from_secs(10);

impl Registrar {
    /// Begins the calls that are due and that the budget allows: those of ended pods first, then registrations, then
    /// the rest. Returns when to try again for a token.
    pub(super) fn calls(
        &mut self,
        index: &Index,
        now: Instant,
        actions: &mut Vec<Action>,
    ) -> Option<Instant> {
        let (mut again, mut spent) = (None, BTreeSet::new());
        while let Some((arn, kind)) = self.most_urgent(&spent, now) {
            let quota = Quota::of(&arn);
            // What was queued may not be wanted any more.
            self.settle(&arn, index, now, actions);
            let next = self
                .groups
                .get(&arn)
                .and_then(|group| group.next(kind, now));
            let Some(next) = next else {
                spent.insert((arn, kind));
                continue;
            };
            let targets: BTreeSet<Target> = next.targets.iter().map(|named| named.target).collect();
            if kind == Kind::Register && !self.is_recorded(&arn, &targets, now, actions) {
                spent.insert((arn, kind));
                continue;
            }
            let request = PollRequest {
                groups: 1,
                likely_healthy: true,
            };
            let none = Admissions::default();
            if let Err(wait) = self.buckets.try_take_for_loop(&quota, request, none, now) {
                again = Some(again.map_or(now + wait, |at: Instant| at.min(now + wait)));
                let others = self.groups.keys().filter(|arn| Quota::of(arn) == quota);
                let both = others.flat_map(|arn| {
                    [Kind::Register, Kind::Deregister].map(|kind| (arn.clone(), kind))
                });
                spent.extend(both);
                continue;
            }
            if let Some(group) = self.groups.get_mut(&arn) {
                let call = Call {
                    kind,
                    group: group.key.clone(),
                    targets: next.targets,
                    begun: now,
                };
                group.begin(&call);
                actions.push(Action::Call(call));
            }
        }
        again
    }

    /// How long the targets of a call that begins have waited for it, as far as their pods have become ready, or have
    /// ended, and ELB has not refused them before.
    pub fn waits(&self, call: &Call) -> Vec<Duration> {
        let Some(group) = self.groups.get(&call.group.arn) else {
            return vec![];
        };
        let targets = call.targets.iter().map(|named| &named.target);
        let since = |target: &Target| match call.kind {
            Kind::Register => group.register.since(target),
            Kind::Deregister if group.ended.contains(target) => group.deregister.since(target),
            Kind::Deregister => None,
        };
        let since = targets.filter_map(since);
        since.map(|since| call.begun - since).collect()
    }

    fn most_urgent(
        &self,
        spent: &BTreeSet<(TargetGroupArn, Kind)>,
        now: Instant,
    ) -> Option<(TargetGroupArn, Kind)> {
        let kinds = [Kind::Deregister, Kind::Register];
        let all = self
            .groups
            .iter()
            .flat_map(|(arn, group)| kinds.map(|kind| (arn, group, kind)));
        let free = all.filter(|(arn, _, kind)| !spent.contains(&((*arn).clone(), *kind)));
        let ranked = free.filter_map(|(arn, group, kind)| {
            let next = group.next(kind, now)?;
            let urgent = kind == Kind::Deregister && group.is_urgent(&next);
            let rest = kind == Kind::Deregister || next.again;
            let rank = if rest {
                next.since + PATIENCE
            } else {
                next.since
            };
            Some(((!urgent, rank), arn.clone(), kind))
        });
        let first = ranked.min_by(|(a, _, _), (b, _, _)| a.cmp(b));
        first.map(|(_, arn, kind)| (arn, kind))
    }

    /// Whether the records name these targets, each in that of every active binding that wants it; else has them
    /// written.
    fn is_recorded(
        &mut self,
        arn: &TargetGroupArn,
        targets: &BTreeSet<Target>,
        now: Instant,
        actions: &mut Vec<Action>,
    ) -> bool {
        let wants = self.wanted.of_group(arn);
        let mut all = true;
        for held in self.held.values_mut().filter(|held| held.is_active()) {
            let wanted = wants
                .wanted
                .iter()
                .filter(|(_, want)| want.bindings.contains(&held.key));
            let wanted: BTreeSet<Target> = wanted.map(|(target, _)| *target).collect();
            let lacking = targets
                .intersection(&wanted)
                .filter(|target| !held.has_recorded(target));
            if lacking.count() > 0 {
                all = false;
                actions.extend(held.record(&wanted, now));
            }
        }
        all
    }

    /// Begins the descriptions that are due. Returns when to try again.
    pub(super) fn describe(
        &mut self,
        now: Instant,
        actions: &mut Vec<Action>,
        poll: &mut impl FnMut(&Quota) -> Result<(), Instant>,
    ) -> Option<Instant> {
        let mut wakes = vec![];
        let looked_at = self.looked_at();
        self.looked_at = looked_at.len();
        for arn in looked_at {
            let Some(group) = self.groups.get_mut(&arn) else {
                continue;
            };
            let Some(at) = group.describe_at() else {
                continue;
            };
            match at <= now {
                false => wakes.push(at),
                true => match poll(&Quota::of(&arn)) {
                    Ok(()) => {
                        group.begin_describing();
                        actions.push(Action::Describe(group.key.clone()));
                    }
                    Err(again) => wakes.push(again),
                },
            }
        }
        wakes.into_iter().min()
    }
}
