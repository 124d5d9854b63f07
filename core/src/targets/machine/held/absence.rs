//! The absence of a binding's Service or port, which a live read has to confirm.

use std::time::{Duration, Instant};

use crate::reason::Reason;
use crate::targets::machine::action::Action;
use crate::targets::machine::held::Held;

/// A Service or port is absent for so long before that is confirmed (contract 5.5).
const ABSENT_FOR: Duration = Duration::from_secs(30);
/// What the floor holds goes once the Service has been confirmed gone for so long, by a second live read. Contract 8.
const GIVEN_UP_AFTER: Duration = Duration::from_secs(300);

/// The Service or port of a binding that seems to be gone.
#[derive(Debug)]
pub(super) struct Absence {
    reason: Reason,
    /// When the next live read is due.
    due: Instant,
    /// Whether one is under way.
    asked: bool,
    confirmed: bool,
    /// Since when live reads find that the Service itself is gone.
    gone: Option<Instant>,
    /// Whether one did so long after the first.
    given_up: bool,
}

impl Absence {
    fn new(reason: Reason, now: Instant) -> Self {
        Self {
            reason,
            due: now + ABSENT_FOR,
            asked: false,
            confirmed: false,
            gone: None,
            given_up: false,
        }
    }

    /// When a live read is due.
    pub(super) fn wake(&self) -> Option<Instant> {
        (!self.asked && !self.given_up).then_some(self.due)
    }

    /// Takes in why it seems to be gone now. A Service may go long after its port.
    fn see(&mut self, reason: Reason, now: Instant) {
        if std::mem::replace(&mut self.reason, reason) != reason {
            (self.gone, self.given_up) = (None, false);
            self.due = self.due.min(now + ABSENT_FOR);
        }
    }

    fn found(&mut self, found: Result<Option<Reason>, ()>, now: Instant) {
        self.asked = false;
        let again = match found {
            // The watch is late.
            Ok(None) => ABSENT_FOR,
            Ok(Some(_)) => GIVEN_UP_AFTER,
            Err(()) => ABSENT_FOR / 3,
        };
        self.due = now + again;
        if let Ok(absent) = found {
            self.confirmed = absent.is_some();
            let gone = absent == Some(Reason::ServiceGone);
            self.gone = gone.then(|| self.gone.unwrap_or(now));
            self.given_up = self.gone.is_some_and(|since| now >= since + GIVEN_UP_AFTER);
        }
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
        let absence = &mut self.absence;
        let absence = absence.get_or_insert_with(|| Absence::new(reason, now));
        absence.see(reason, now);
        absence.asked |= absence.wake()? <= now;
        absence.asked.then(|| Action::Confirm(self.key.clone()))
    }

    /// Takes in what a live read found: why the Service or port is absent, that it is there, or nothing. Returns whether
    /// the absence is confirmed by that.
    pub(in crate::targets::machine) fn confirmed(
        &mut self,
        found: Result<Option<Reason>, ()>,
        now: Instant,
    ) -> bool {
        let Some(absence) = self.absence.as_mut().filter(|absence| absence.asked) else {
            return false;
        };
        let before = absence.confirmed;
        absence.found(found, now);
        absence.confirmed && !before
    }

    /// Whether nothing may leave for an absence that is not confirmed yet.
    pub(in crate::targets::machine) fn is_unsettled(&self) -> bool {
        let absence = self.absence.as_ref();
        absence.is_some_and(|absence| !absence.confirmed)
    }

    /// Whether the Service has been confirmed gone for so long that the floor does not hold any more.
    pub(in crate::targets::machine) fn is_given_up(&self) -> bool {
        self.absence
            .as_ref()
            .is_some_and(|absence| absence.given_up)
    }

    /// Forgets that its Service or port seemed to be gone: it may have come back while another replica led.
    pub(in crate::targets::machine) fn forget_absence(&mut self) {
        self.absence = None;
    }
}
