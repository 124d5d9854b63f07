//! What the health loop hears of the registrar.

use std::collections::BTreeSet;
use std::time::Instant;

use targetgate_core::gates::machine::action::Action;

use crate::controllers::gates::{Loop, Work};
use crate::controllers::targets::registrations::{Registrations, Untaken};

impl Loop {
    /// Takes in what the registrar told since the last round.
    pub(super) fn hear_registrar(&self, work: &mut Work, now: Instant) -> Vec<Action> {
        let told = self.registrations.as_ref().map(Registrations::take);
        let Untaken {
            anew,
            answers,
            registered,
            refused,
            notices,
        } = told.unwrap_or_default();
        let mut actions = vec![];
        if anew {
            actions.extend(work.tracker.forget_refusals(now));
        }
        work.seen.extend(notices);
        for (group, targets) in registered {
            work.tracker.registered(&group, &targets, now);
        }
        for (group, targets) in refused {
            actions.extend(work.tracker.refused(&group, targets, now));
        }
        for (group, (requested, targets)) in answers {
            work.sweep.found(&group, now);
            let whole = BTreeSet::new();
            let deregistered = work
                .endings
                .answered(&group, &whole, &targets, requested, now);
            for deregistered in deregistered {
                self.endings.deregistered(deregistered);
            }
            actions.extend(work.tracker.heard(&group, requested, &targets, now));
        }
        actions
    }

    /// Returns once the registrar has told something; never without one.
    pub(super) async fn heard_of_registrar(&self) {
        match &self.registrations {
            Some(registrations) => registrations.told().await,
            None => std::future::pending().await,
        }
    }
}
