//! A missing binding or Service, until a live read confirms that it is gone (contract 5.5).
//!
//! The 30 s of absence are those of contract 5.5; the pause between two attempts to confirm it is chosen.

use std::time::{Duration, Instant};

use crate::gates::absence::Absence;

/// How long something must be absent before its absence is confirmed: watches have no order among
/// each other, so a pod may be seen before the binding under which it was admitted.
pub(crate) const ABSENT_FOR: Duration = Duration::from_secs(30);
/// Between two attempts to confirm an absence where the first could not be carried out.
const CONFIRM_AGAIN: Duration = Duration::from_secs(10);

/// An absence for which a gate opens once it is confirmed.
#[derive(Debug)]
pub(crate) struct PendingAbsence {
    pub(crate) absence: Absence,
    stage: Stage,
    /// The last live read found what seems absent, so the time of the absence does not count.
    contradicted: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// A live read is due then.
    Waiting(Instant),
    Confirming,
    Confirmed,
}

impl PendingAbsence {
    /// An absence that begins now. An orphan, whose binding was never seen, waits for `orphan_after`.
    pub(crate) fn new(absence: Absence, orphan_after: Option<Duration>, now: Instant) -> Self {
        Self {
            absence,
            stage: Stage::Waiting(now + orphan_after.unwrap_or(ABSENT_FOR)),
            contradicted: false,
        }
    }

    /// Whether a live read has confirmed the absence.
    pub(crate) fn is_confirmed(&self) -> bool {
        self.stage == Stage::Confirmed
    }

    /// Whether it is a binding that is being deleted, and not one that is gone.
    pub(crate) fn is_of_terminating(&self) -> bool {
        matches!(self.absence, Absence::BindingTerminating { .. })
    }

    /// When a live read is due.
    pub(crate) fn wake(&self) -> Option<Instant> {
        match self.stage {
            Stage::Waiting(until) => Some(until),
            Stage::Confirming | Stage::Confirmed => None,
        }
    }

    /// Whether a live read is due now; it then counts as in flight.
    pub(crate) fn start_confirming(&mut self, now: Instant) -> bool {
        let due = self.wake().is_some_and(|until| until <= now);
        if due {
            self.stage = Stage::Confirming;
        }
        due
    }

    /// It could not be looked up, or that told nothing.
    pub(crate) fn learn_nothing(&mut self, now: Instant) {
        if self.stage == Stage::Confirming {
            self.stage = Stage::Waiting(now + CONFIRM_AGAIN);
        }
    }

    /// Takes in what a live read found absent.
    pub(crate) fn learn_of(
        &mut self,
        absent: Option<&Absence>,
        orphan_after: Duration,
        now: Instant,
    ) {
        // The read may have been started for an earlier absence that has ended meanwhile.
        if self.stage != Stage::Confirming {
            return;
        }
        let is_absent = absent == Some(&self.absence);
        // It may have gone only now: its time counts from here.
        let is_new = is_absent && self.contradicted;
        self.contradicted = !is_absent;
        self.stage = match is_absent && !is_new {
            true => Stage::Confirmed,
            false => Stage::Waiting(now + ABSENT_FOR.min(orphan_after)),
        };
    }
}
