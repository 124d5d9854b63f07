//! Who leads among replicas that share one Lease (contract 5.8): an election with client-go's
//! semantics, without I/O.
//!
//! Nobody compares the wall clocks of two machines. Each candidate notes by its own monotonic clock
//! when it saw the record change; once that is the Lease's duration ago, the holder has lost it. A
//! holder that could not renew for the renew deadline, which is shorter, has by then ceased to write.
//! Every write of the Lease is under the `resourceVersion` that was seen.
//!
//! Times are those of one monotonic clock of this process, from any fixed moment on.
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

/// What a released Lease says of its duration, as client-go writes it.
const RELEASED: Duration = Duration::from_secs(1);

/// How long a Lease lasts, and how it is kept.
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
    /// A holder must cease to write before another may begin.
    #[error("the renew deadline must be shorter than the Lease's duration")]
    DeadlineTooLong,
    /// One attempt that fails must leave time for another.
    #[error("the retry period must be above zero and shorter than half of the renew deadline")]
    RetryTooLong,
}

impl Timing {
    /// `lease` is how long a Lease is its holder's without a renewal, `renew_deadline` how long the
    /// holder itself counts on it, `retry_period` the time between two attempts to renew it.
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

    /// How long a Lease is its holder's without a renewal.
    pub fn lease(&self) -> Duration {
        self.lease
    }

    /// How long the holder counts on it.
    pub fn renew_deadline(&self) -> Duration {
        self.renew_deadline
    }

    /// The time between two attempts.
    pub fn retry_period(&self) -> Duration {
        self.retry_period
    }
}

/// The `spec` of a Lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Who holds it; empty where nobody does.
    pub holder: Arc<str>,
    /// How long it is the holder's without a renewal.
    pub lease: Duration,
    /// When the holder got it, by the holder's wall clock: for people to read.
    pub acquired: Option<Timestamp>,
    /// When the holder renewed it last, by the holder's wall clock: for people to read.
    pub renewed: Option<Timestamp>,
    /// How often it went from one holder to another.
    pub transitions: u32,
}

/// What is to be done next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Nothing before that time, unless something new is seen.
    Wait(Duration),
    /// Read the Lease; report to [`Election::looked`], or [`Election::look_failed`].
    Look,
    /// Write the Lease; report to [`Election::tried`].
    Try(Attempt),
}

/// A write of the Lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    /// What to write.
    pub record: Record,
    /// The `resourceVersion` that is to be replaced; `None` where the Lease is to be created.
    pub version: Option<Arc<str>>,
}

/// How an attempt ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It is written, and has this `resourceVersion` now.
    Written(Arc<str>),
    /// Somebody else wrote, created or deleted it in between.
    Overtaken,
    /// Anything else; whether it was written is not known.
    Failed,
}

/// How far a renewal carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hold {
    /// The holder may begin to write until then.
    pub begin_until: Duration,
    /// What it began must be over by then: another may lead from then on.
    pub end_by: Duration,
}

/// One candidate's view of the election.
#[derive(Debug)]
pub struct Election {
    identity: Arc<str>,
    timing: Timing,
    observed: Option<Observed>,
    /// What was observed may not be what is there.
    unsure: bool,
    /// When the last attempt that got or kept the Lease was begun.
    renewed_at: Option<Duration>,
    /// Whether the last attempt met somebody else's write.
    overtaken: bool,
    /// Not before then, after a failure.
    retry_at: Duration,
}

/// What was seen of the Lease.
#[derive(Debug)]
struct Observed {
    record: Record,
    /// `None` where the object has gone since.
    version: Option<Arc<str>>,
    /// When it was first seen so.
    since: Duration,
}

impl Election {
    /// A candidate that has seen nothing yet. No two processes may have one identity, also not one
    /// after the other.
    pub fn new(identity: impl Into<Arc<str>>, timing: Timing) -> Self {
        Self {
            identity: identity.into(),
            timing,
            observed: None,
            unsure: true,
            renewed_at: None,
            overtaken: false,
            retry_at: Duration::ZERO,
        }
    }

    /// Who holds the Lease, as far as is known; empty where nobody does.
    pub fn holder(&self) -> &str {
        let observed = self.observed.as_ref();
        observed.map_or("", |observed| &observed.record.holder)
    }

    /// What this candidate holds at this time.
    pub fn hold(&self, at: Duration) -> Option<Hold> {
        let renewed_at = self.renewed_at?;
        let hold = Hold {
            begin_until: renewed_at + self.timing.renew_deadline,
            end_by: renewed_at + self.timing.lease,
        };
        (at < hold.begin_until).then_some(hold)
    }

    /// The Lease was read; `None` where it is not there.
    pub fn looked(&mut self, read: Option<(Record, Arc<str>)>, at: Duration) {
        self.unsure = false;
        self.see(read, at);
    }

    /// The Lease could not be read, in an attempt that was begun at `begun`.
    pub fn look_failed(&mut self, begun: Duration, at: Duration) {
        self.retry_at = at.max(begun + self.timing.retry_period);
    }

    /// A watch told of the Lease; `None` where it is not there. What is older than what is known
    /// tells nothing.
    pub fn see(&mut self, seen: Option<(Record, Arc<str>)>, at: Duration) {
        match (seen, &mut self.observed) {
            (Some((record, version)), _) => self.observe(record, version, at),
            // Its record counts on: a holder that lives makes the Lease anew.
            (None, Some(observed)) => observed.version = None,
            (None, None) => {}
        }
    }

    /// An attempt that was begun at `begun` has ended.
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
            // To look is worth it once; who is overtaken again and again waits.
            Outcome::Overtaken => {
                self.unsure = true;
                match mem::replace(&mut self.overtaken, true) {
                    true => at + self.timing.retry_period,
                    false => at,
                }
            }
            // One that took long leaves no time for a pause.
            Outcome::Failed => at.max(begun + self.timing.retry_period),
        };
    }

    /// What is to be done at this time, where nothing is under way. `now` is the wall clock's.
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
            false if self.retry_at.max(vacant_at) <= at => Step::Try(self.attempt(now)),
            false => Step::Wait(self.retry_at.max(vacant_at)),
        }
    }

    /// The write that gives the Lease back; `None` where it is not ours.
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
        // The same record under a new version, such as one with another label, is no renewal.
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
