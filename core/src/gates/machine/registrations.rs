//! What the tracker hears of the registrar: ELB's answers to its calls, its registrations, and what AWS says of targets
//! that it does not take (contract 8).

use std::collections::BTreeSet;
use std::time::Instant;

use crate::gates::machine::Tracker;
use crate::gates::machine::action::Action;
use crate::gates::machine::observation::PollResult;
use crate::gates::polling::group::Target;
use crate::gates::refusals::Refused;
use crate::model::TargetHealth;
use crate::names::{GroupKey, TargetGroupArn};

impl Tracker {
    /// Takes in what ELB answered to a call of the registrar about a whole group, sent at `requested`. It counts as the
    /// answer to a poll does, and spares one.
    pub fn heard(
        &mut self,
        group: &GroupKey,
        requested: Instant,
        targets: &[TargetHealth],
        now: Instant,
    ) -> Vec<Action> {
        let before = self.leads_since.is_none_or(|since| requested < since);
        if before || self.polls.is_overtaken(group, requested) {
            return vec![];
        }
        let answer = PollResult::new(BTreeSet::new(), targets);
        let (healthy, actions) = self.show(group, requested, &answer, now);
        self.polls
            .heard(group, answer.registered(), &healthy, requested, now);
        actions
    }

    /// Takes in that ELB took targets that the registrar registered: the schedule of their group counts from then on.
    pub fn registered(&mut self, group: &TargetGroupArn, targets: &BTreeSet<Target>, now: Instant) {
        self.polls.registered(group, targets, now);
    }

    /// Takes in which targets of a group AWS does not take now, all of them.
    pub fn refused(
        &mut self,
        group: &TargetGroupArn,
        refused: Refused,
        now: Instant,
    ) -> Vec<Action> {
        self.refusals.set(group, refused);
        let mut actions = vec![];
        for id in self.polls.gates_of(group) {
            let Some(tracked) = self.pods.get_mut(&id.pod) else {
                continue;
            };
            if let Some(gate) = tracked.gates.get_mut(&id.gate) {
                gate.see_refusals(&self.refusals);
            }
            actions.extend(self.step(&id, now));
        }
        actions
    }

    /// Forgets all that AWS did not take: the registrar begins anew.
    pub fn forget_refusals(&mut self, now: Instant) -> Vec<Action> {
        let groups = self.refusals.groups().into_iter();
        groups
            .flat_map(|group| self.refused(&group, Refused::new(), now))
            .collect()
    }
}
