//! Leader election among replicas that share one Lease (contract 5.8), with client-go's semantics and
//! without I/O.
//!
//! Nobody compares the wall clocks of two machines. Each candidate notes by its own monotonic clock
//! when it saw the record change; once that is the Lease's duration ago, the holder has lost it. A
//! holder that could not renew for the renew deadline, which is shorter, has by then ceased to write.
//! Each write of the Lease is guarded by the `resourceVersion` that the candidate has seen.
//!
//! A holder whose view of its work has failed for [`BLIND_AFTER`] ceases to write, and releases the Lease: another
//! replica may see. It stands again once its view works.
//!
//! Times are counted on one monotonic clock of this process, from a fixed moment.
//!
//! Source: <https://pkg.go.dev/k8s.io/client-go/tools/leaderelection>

use std::mem;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use thiserror::Error;

use crate::version::is_older;

#[cfg(test)]
mod tests;

/// The `leaseDurationSeconds` of a released Lease, as client-go writes it.
const RELEASED: Duration = Duration::from_secs(1);

/// A holder whose view has failed for this long gives up the Lease (contract 5.8). Chosen: longer than a restart of an
/// API server, after which the views of all replicas work again.
pub const BLIND_AFTER: Duration = Duration::from_secs(60);

/// Whether a candidate sees the objects that it would write about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum View {
    /// Its watch works, or its work needs none.
    Works,
    /// Its watch has not worked since then.
    FailsSince(Duration),
}

/// The durations of an election.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    lease: Duration,
    renew_deadline: Duration,
    retry_period: Duration,
}

/// Why three durations do not make a [`Timing`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum TimingError {
    /// `leaseDurationSeconds` is a positive `int32`.
    #[error("a Lease lasts whole seconds, from one to 2147483647")]
    NotSeconds,
    /// A holder must cease to write before another replica may begin.
    #[error("the renew deadline must be shorter than the Lease's duration")]
    DeadlineTooLong,
    /// One attempt that fails must leave time for another.
    #[error("the retry period must be above zero and shorter than half of the renew deadline")]
    RetryTooLong,
}

impl Timing {
    /// `lease` is how long the holder keeps the Lease without a renewal, `renew_deadline` is how long the
    /// holder itself relies on it, and `retry_period` is the time between two attempts to renew it.
    ///
    /// # Errors
    /// Unless `lease` > `renew_deadline` > 2 × `retry_period` > 0, and `lease` is of whole seconds.
    pub fn new(
        lease: Duration,
        renew_deadline: Duration,
        retry_period: Duration,
    ) -> Result<Self, TimingError> {
        if lease.subsec_nanos() != 0 || lease.is_zero() || i32::try_from(lease.as_secs()).is_err() {
            return Err(TimingError::NotSeconds);
        }
        if renew_deadline >= lease {
            return Err(TimingError::DeadlineTooLong);
        }
        if retry_period.is_zero() || retry_period >= renew_deadline / 2 {
            return Err(TimingError::RetryTooLong);
        }
        Ok(Self {
            lease,
            renew_deadline,
            retry_period,
        })
    }

    /// How long the holder keeps the Lease without a renewal.
    pub fn lease(&self) -> Duration {
        self.lease
    }

    /// How long the holder itself relies on the Lease without a renewal.
    pub fn renew_deadline(&self) -> Duration {
        self.renew_deadline
    }

    /// The time between two attempts to renew the Lease.
    pub fn retry_period(&self) -> Duration {
        self.retry_period
    }
}

/// The `spec` of a Lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// The holder's identity; empty while the Lease is free.
    pub holder: Arc<str>,
    /// How long the holder keeps the Lease without a renewal.
    pub lease: Duration,
    /// When the holder acquired the Lease, by the holder's wall clock; only people read it.
    pub acquired: Option<Timestamp>,
    /// When the holder last renewed the Lease, by the holder's wall clock; only people read it.
    pub renewed: Option<Timestamp>,
    /// How often the Lease went from one holder to another.
    pub transitions: u32,
}

/// The next step of a candidate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Wait until that time, or until a watch shows a change.
    Wait(Duration),
    /// Read the Lease; report to [`Election::looked`], or [`Election::look_failed`].
    Look,
    /// Write the Lease; report to [`Election::tried`].
    Try(Attempt),
}

/// A write of the Lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    pub record: Record,
    /// The `resourceVersion` to replace; `None` to create the Lease.
    pub version: Option<Arc<str>>,
}

/// How an attempt ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The API server wrote the Lease, which has this `resourceVersion` now.
    Written(Arc<str>),
    /// Another client wrote, created or deleted the Lease in between.
    Overtaken,
    /// The attempt failed otherwise, and the Lease may have been written.
    Failed,
}

/// A term: how long the last renewal lets the holder write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hold {
    /// The holder may begin writes until then.
    pub begin_until: Duration,
    /// Writes must be over by then, because another replica may lead from then on.
    pub end_by: Duration,
}

/// One candidate's view of the election.
#[derive(Debug)]
pub struct Election {
    identity: Arc<str>,
    timing: Timing,
    observed: Option<Observed>,
    /// Whether the observed Lease may be stale, so that it has to be read.
    unsure: bool,
    /// When the last attempt that acquired or renewed the Lease began.
    renewed_at: Option<Duration>,
    /// Whether another client's write overtook the last attempt.
    overtaken: bool,
    /// When the next read or attempt may begin.
    retry_at: Duration,
    view: View,
}

/// The Lease as this candidate last saw it.
#[derive(Debug)]
struct Observed {
    record: Record,
    /// The `resourceVersion`; `None` if the object was deleted since.
    version: Option<Arc<str>>,
    /// When this candidate first saw this record.
    since: Duration,
}

impl Election {
    /// A candidate that has not seen the Lease yet. Each process needs an identity of its own, also one that
    /// was restarted, or a new process would take its predecessor's term for its own.
    pub fn new(identity: impl Into<Arc<str>>, timing: Timing) -> Self {
        Self {
            identity: identity.into(),
            timing,
            observed: None,
            unsure: true,
            renewed_at: None,
            overtaken: false,
            retry_at: Duration::ZERO,
            view: View::Works,
        }
    }

    /// Takes in whether this candidate sees the objects that it would write about.
    pub fn sees(&mut self, view: View) {
        self.view = view;
    }

    /// The identity of the last holder that this candidate saw; empty if the Lease is free or was not seen.
    pub fn holder(&self) -> &str {
        let observed = self.observed.as_ref();
        observed.map_or("", |observed| &observed.record.holder)
    }

    /// The term of this candidate at this time; `None` while it does not lead.
    pub fn hold(&self, at: Duration) -> Option<Hold> {
        let renewed_at = self.renewed_at?;
        let hold = Hold {
            begin_until: renewed_at + self.timing.renew_deadline,
            end_by: renewed_at + self.timing.lease,
        };
        let hold = Hold {
            begin_until: hold.begin_until.min(self.blind_at()),
            end_by: hold.end_by.min(self.steps_down_at()),
        };
        (at < hold.begin_until).then_some(hold)
    }

    /// Whether this candidate must not lead at this time because of its view.
    pub fn is_blind(&self, at: Duration) -> bool {
        self.blind_at() <= at
    }

    /// From when on this candidate must not lead, unless its view works again.
    fn blind_at(&self) -> Duration {
        match self.view {
            View::Works => Duration::MAX,
            View::FailsSince(since) => since.saturating_add(BLIND_AFTER),
        }
    }

    /// When a blind holder releases the Lease: writes that it began have the retry period to arrive.
    fn steps_down_at(&self) -> Duration {
        self.blind_at().saturating_add(self.timing.retry_period)
    }

    /// Takes in a read of the Lease; `None` if it does not exist.
    pub fn looked(&mut self, read: Option<(Record, Arc<str>)>, at: Duration) {
        self.unsure = false;
        self.see(read, at);
    }

    /// Takes in that a read which began at `begun` failed.
    pub fn look_failed(&mut self, begun: Duration, at: Duration) {
        self.retry_at = at.max(begun + self.timing.retry_period);
    }

    /// Takes in the Lease as a watch shows it; `None` if it does not exist. A version older than the one that
    /// was observed is ignored.
    pub fn see(&mut self, seen: Option<(Record, Arc<str>)>, at: Duration) {
        match (seen, &mut self.observed) {
            (Some((record, version)), _) => self.observe(record, version, at),
            // The record of a deleted Lease still counts for its duration: a holder that lives creates the
            // Lease anew, and until then it may write.
            (None, Some(observed)) => observed.version = None,
            (None, None) => {}
        }
    }

    /// Takes in how an attempt that began at `begun` ended.
    pub fn tried(&mut self, attempt: Attempt, begun: Duration, outcome: Outcome, at: Duration) {
        self.retry_at = match outcome {
            Outcome::Written(version) => {
                self.overtaken = false;
                self.observe(attempt.record, version, at);
                if self.holder() == &*self.identity {
                    self.renewed_at = Some(begun);
                }
                begun + self.timing.retry_period
            }
            // After one lost race, the Lease is read at once. A candidate that is overtaken repeatedly waits,
            // or it would spin for as long as the other client writes.
            Outcome::Overtaken => {
                self.unsure = true;
                match mem::replace(&mut self.overtaken, true) {
                    true => at + self.timing.retry_period,
                    false => at,
                }
            }
            // The retry period is counted from the begin, so that an attempt which timed out is followed by
            // another at once, before the renew deadline.
            Outcome::Failed => at.max(begun + self.timing.retry_period),
        };
    }

    /// The next step at this time, while no read or attempt is in flight. `now` is the wall clock's.
    ///
    /// ```
    /// use std::time::Duration;
    /// use jiff::Timestamp;
    /// use targetgate_core::lease::{Election, Outcome, Step, Timing};
    ///
    /// let secs = Duration::from_secs;
    /// let timing = Timing::new(secs(15), secs(10), secs(2)).unwrap();
    /// let (mut election, now) = (Election::new("replica-1", timing), Timestamp::UNIX_EPOCH);
    /// assert_eq!(election.next(secs(0), now), Step::Look);
    ///
    /// election.looked(None, secs(0));
    /// let Step::Try(attempt) = election.next(secs(0), now) else {
    ///     panic!("a Lease that does not exist is created at once");
    /// };
    /// election.tried(attempt, secs(0), Outcome::Written("1".into()), secs(1));
    /// assert!(election.hold(secs(9)).is_some());
    /// assert!(election.hold(secs(10)).is_none(), "the renew deadline has passed");
    /// ```
    pub fn next(&self, at: Duration, now: Timestamp) -> Step {
        let vacant_at = match &self.observed {
            Some(observed) if !self.is_ours_or_free(&observed.record) => {
                observed.since + observed.record.lease
            }
            _ => Duration::ZERO,
        };
        match self.unsure {
            true if self.retry_at <= at => Step::Look,
            true => Step::Wait(self.retry_at),
            false if self.is_blind(at) => self.step_down(at, now),
            false if self.retry_at.max(vacant_at) <= at => Step::Try(self.attempt(now)),
            false => Step::Wait(self.retry_at.max(vacant_at)),
        }
    }

    /// The step of a candidate that is blind: it does not stand, and releases a Lease that it holds.
    fn step_down(&self, at: Duration, now: Timestamp) -> Step {
        let due = self.retry_at.max(self.steps_down_at());
        match self.release(now) {
            Some(release) if due <= at => Step::Try(release),
            Some(_) => Step::Wait(due),
            None => Step::Wait(at + self.timing.lease),
        }
    }

    /// The write that releases the Lease; `None` if this candidate does not hold it.
    pub fn release(&self, now: Timestamp) -> Option<Attempt> {
        let observed = self.observed.as_ref()?;
        let version = observed.version.clone()?;
        (observed.record.holder == self.identity).then(|| Attempt {
            record: Record {
                holder: "".into(),
                lease: RELEASED,
                acquired: Some(now),
                renewed: Some(now),
                transitions: observed.record.transitions,
            },
            version: Some(version),
        })
    }

    fn observe(&mut self, record: Record, version: Arc<str>, at: Duration) {
        let known = self.observed.as_ref();
        if let Some(known) = known.and_then(|known| known.version.as_ref()) {
            if is_older(&version, known) {
                return;
            }
            self.unsure &= *known == version;
        }
        if record.holder != self.identity {
            self.renewed_at = None;
        }
        // The same record under a new version is not a renewal: another client may have set a label. Its time
        // goes on counting, or such a client could keep a dead holder in office.
        let same = known.filter(|known| known.record == record);
        self.observed = Some(Observed {
            since: same.map_or(at, |same| same.since),
            record,
            version: Some(version),
        });
    }

    fn is_ours_or_free(&self, record: &Record) -> bool {
        record.holder.is_empty() || record.holder == self.identity
    }

    fn attempt(&self, now: Timestamp) -> Attempt {
        let replaced = self.observed.as_ref().filter(|o| o.version.is_some());
        let ours = replaced.filter(|o| o.record.holder == self.identity);
        let transitions = replaced.map_or(0, |observed| match ours {
            Some(_) => observed.record.transitions,
            None => observed.record.transitions.saturating_add(1),
        });
        Attempt {
            record: Record {
                holder: self.identity.clone(),
                lease: self.timing.lease,
                acquired: ours.map_or(Some(now), |ours| ours.record.acquired),
                renewed: Some(now),
                transitions,
            },
            version: replaced.and_then(|observed| observed.version.clone()),
        }
    }
}
