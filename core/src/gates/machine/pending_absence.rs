//! Something that is not there, and how sure that is (contract 5.5).

use std::time::{Duration, Instant};

use crate::gates::absence::Absence;

/// How long something must be absent before its absence is confirmed: watches have no order among
/// each other, so a pod may be seen before the binding under which it was admitted.
const ABSENT_FOR: Duration = Duration::from_secs(30);
/// Between two attempts to confirm an absence where the first could not be carried out.
const CONFIRM_AGAIN: Duration = Duration::from_secs(10);

/// An absence of which a gate may have to open.
#[derive(Debug)]
pub(crate) struct PendingAbsence {
    pub(crate) absence: Absence,
    stage: Stage,
    /// It was looked up and found to be there: it has not been absent for as long as it seems.
    contradicted: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// To be confirmed then.
    Doubted(Instant),
    Confirming,
    Confirmed,
}

impl PendingAbsence {
    /// It is absent since now. One whose binding was never seen waits as long as `orphan_after`.
    pub(crate) fn new(absence: Absence, orphan_after: Option<Duration>, now: Instant) -> Self {
        Self {
            absence,
            stage: Stage::Doubted(now + orphan_after.unwrap_or(ABSENT_FOR)),
            contradicted: false,
        }
    }

    /// Whether it was looked up past the cache, and is absent there, too.
    pub(crate) fn is_confirmed(&self) -> bool {
        self.stage == Stage::Confirmed
    }

    /// When it is to be looked up.
    pub(crate) fn wake(&self) -> Option<Instant> {
        match self.stage {
            Stage::Doubted(until) => Some(until),
            Stage::Confirming | Stage::Confirmed => None,
        }
    }

    /// Whether it is to be looked up now; it then counts as being looked up.
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
            self.stage = Stage::Doubted(now + CONFIRM_AGAIN);
        }
    }

    /// It was looked up: this is absent past the cache.
    pub(crate) fn learn_of(
        &mut self,
        absent: Option<&Absence>,
        orphan_after: Duration,
        now: Instant,
    ) {
        // An answer about an absence that has ended meanwhile is not about this one.
        if self.stage != Stage::Confirming {
            return;
        }
        let is_absent = absent == Some(&self.absence);
        // It may have gone only now: its time counts from here.
        let is_new = is_absent && self.contradicted;
        self.contradicted = !is_absent;
        self.stage = match is_absent && !is_new {
            true => Stage::Confirmed,
            false => Stage::Doubted(now + ABSENT_FOR.min(orphan_after)),
        };
    }
}
