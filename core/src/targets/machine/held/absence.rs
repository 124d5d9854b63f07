//! The absence of a binding's Service or port, which a live read has to confirm.

use std::time::{Duration, Instant};

use crate::reason::Reason;
use crate::targets::machine::action::Action;
use crate::targets::machine::held::Held;

/// A Service or port is absent for so long before that is confirmed (contract 5.5).
const ABSENT_FOR: Duration = Duration::from_secs(30);
/// What the floor holds goes once the Service has been confirmed gone for so long. Contract 8.
const GIVEN_UP_AFTER: Duration = Duration::from_secs(300);

/// The Service or port of a binding that seems to be gone.
#[derive(Debug)]
pub(super) struct Absence {
    reason: Reason,
    /// A live read is due then; `None` while one is under way, or once it has confirmed the absence.
    due: Option<Instant>,
    confirmed: Option<Instant>,
}

impl Absence {
    /// When something is due about it.
    pub(super) fn wakes(&self) -> [Option<Instant>; 2] {
        [self.due, self.confirmed.map(|at| at + GIVEN_UP_AFTER)]
    }
}

impl Held {
    /// Whether its Service or port seems to be gone.
    pub(in crate::targets::machine) fn is_absent(&self) -> bool {
        self.absence.is_some()
    }

    /// Takes in whether the Service or port seems to be gone. Returns a live read that is due.
    pub(in crate::targets::machine) fn see_absence(
        &mut self,
        missing: Option<Reason>,
        now: Instant,
    ) -> Option<Action> {
        let Some(reason) = missing else {
            self.absence = None;
            return None;
        };
        let absence = self.absence.get_or_insert(Absence {
            reason,
            due: Some(now + ABSENT_FOR),
            confirmed: None,
        });
        absence.reason = reason;
        let due = absence.due.is_some_and(|due| due <= now);
        due.then(|| absence.due = None)?;
        Some(Action::Confirm(self.key.clone()))
    }

    /// Takes in what a live read found: whether the Service or port is absent, or nothing. Returns whether the absence
    /// is confirmed now.
    pub(in crate::targets::machine) fn confirmed(
        &mut self,
        absent: Option<bool>,
        now: Instant,
    ) -> bool {
        let Some(absence) = self
            .absence
            .as_mut()
            .filter(|absence| absence.confirmed.is_none())
        else {
            return false;
        };
        match absent {
            Some(true) => absence.confirmed = Some(now),
            Some(false) => absence.due = Some(now + ABSENT_FOR),
            None => absence.due = Some(now + ABSENT_FOR / 3),
        }
        absent == Some(true)
    }

    /// Whether nothing may leave for an absence that is not confirmed yet.
    pub(in crate::targets::machine) fn is_unsettled(&self) -> bool {
        let absence = self.absence.as_ref();
        absence.is_some_and(|absence| absence.confirmed.is_none())
    }

    /// Whether the Service has been confirmed gone for so long that the floor does not hold any more.
    pub(in crate::targets::machine) fn is_given_up(&self, now: Instant) -> bool {
        self.absence.as_ref().is_some_and(|absence| {
            let long = absence
                .confirmed
                .is_some_and(|at| now >= at + GIVEN_UP_AFTER);
            long && absence.reason == Reason::ServiceGone
        })
    }
}
