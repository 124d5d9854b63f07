//! Bindings that are taken over, given back and let go, and the records of those that are gone.

use std::collections::BTreeSet;
use std::time::Instant;

use crate::targets::machine::Registrar;
use crate::targets::machine::action::{Action, Finalizer};

impl Registrar {
    /// The next step of each binding that is to be taken over, given back or let go.
    pub(super) fn advance(&mut self, now: Instant, actions: &mut Vec<Action>) {
        if !self.records_read || !self.view.synced {
            return;
        }
        for held in self.held.values_mut() {
            let of = held
                .stored
                .as_ref()
                .map(|(record, _)| &record.group)
                .or(held.group.as_ref());
            let group = of.and_then(|group| self.groups.get(&group.arn));
            let described = group.and_then(|group| group.described.as_ref());
            let listing = described.map(|(listing, _)| {
                let registered = listing.iter().filter(|(_, listed)| listed.is_registered());
                registered.map(|(target, _)| *target).collect()
            });
            let gone = group.is_some_and(|group| group.gone);
            let next = held.step(listing.as_ref(), gone, self.lease_read, now);
            let lets_go = matches!(
                next,
                Some(Action::Patch {
                    finalizer: Finalizer::RemoveOurs,
                    ..
                })
            );
            if lets_go && !gone {
                actions.extend(held.left_behind(listing.as_ref()));
            }
            actions.extend(next);
            if held.is_to_be_reduced() || held.is_unsure() {
                actions.extend(held.record(&BTreeSet::new(), now));
            }
        }
        let mut held = self.held.values();
        let waits = held.any(|held| held.waits_for_lease(self.lease_read));
        if waits && !std::mem::replace(&mut self.asks_for_lease, true) {
            actions.push(Action::ReadLease);
        }
    }

    /// Deletes the records of bindings that are gone; one that was abandoned stays until its targets are gone as well.
    pub(super) fn delete_orphans(&mut self, now: Instant, actions: &mut Vec<Action>) {
        if !self.records_read || !self.view.synced || !self.view.works {
            return;
        }
        for (uid, (record, version)) in &self.orphans {
            let group = self.groups.get(&record.group.arn);
            let described = group.and_then(|group| group.described.as_ref());
            let empty = described.is_some_and(|(listing, _)| {
                !record
                    .targets
                    .iter()
                    .any(|target| listing.contains_key(target))
            });
            let gone = empty || group.is_some_and(|group| group.gone);
            let again = self.deleting.get(uid);
            let free = again.is_none_or(|again| again.is_some_and(|at| at <= now));
            if (!record.abandoned || gone) && free {
                self.deleting.insert(uid.clone(), None);
                let (uid, version) = (uid.clone(), version.clone());
                actions.push(Action::DeleteRecord { uid, version });
            }
        }
    }
}
