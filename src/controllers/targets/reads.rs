//! What the leader reads besides the watches: all records once, and the incumbent's Lease again and again.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use targetgate_core::backoff::Backoff;
use targetgate_core::targets::incumbent::{Look, Watched};
use tokio::task::JoinSet;
use tracing::warn;

use crate::controllers::targets::{Controller, Done, Work};
use crate::kubernetes::targets::incumbent;
use crate::kubernetes::targets::records::Listed;

/// The pause after a list that failed. Contract 5.7 has the longest.
const AGAIN: Backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(30));

/// The reads of one leadership.
#[derive(Debug)]
pub(super) struct Reads {
    /// When the leadership began, by which late answers of an earlier one are told.
    since: Instant,
    /// When the records are listed; `None` while they are, and once they have been.
    records: Option<Instant>,
    failures: u32,
    /// When the incumbent's Lease is read; `None` while it is.
    incumbent: Option<Instant>,
    /// Whether the last read of it was not answered, so that the next is not hurried.
    unanswered: bool,
    watched: Watched,
}

impl Reads {
    /// What a leadership that begins `now` reads.
    pub(super) fn begin(now: Instant) -> Self {
        Self {
            since: now,
            records: Some(now),
            failures: 0,
            incumbent: Some(now),
            unanswered: false,
            watched: Watched::default(),
        }
    }

    /// When the next read is due.
    pub(super) fn next(&self) -> Option<Instant> {
        let wakes = [self.records, self.incumbent];
        wakes.into_iter().flatten().min()
    }

    /// Reads the incumbent's Lease now, unless a read is under way, or the last one was not answered.
    pub(super) fn hurry(&mut self, now: Instant) {
        if !self.unanswered {
            self.incumbent = self.incumbent.map(|at| at.min(now));
        }
    }
}

fn is_due(at: &mut Option<Instant>, now: Instant) -> bool {
    at.take_if(|at| *at <= now).is_some()
}

impl Controller {
    /// Begins the reads that are due. Returns when more will be.
    pub(super) fn read(
        self: &Arc<Self>,
        work: &mut Work,
        tasks: &mut JoinSet<Done>,
        now: Instant,
    ) -> Option<Instant> {
        let reads = work.reads.as_mut()?;
        if is_due(&mut reads.records, now) {
            let (this, since) = (self.clone(), reads.since);
            let known = work.registrar.known_records();
            tasks.spawn(async move { Done::Listed(since, known, this.records.list().await) });
        }
        if is_due(&mut reads.incumbent, now) {
            let (this, since) = (self.clone(), reads.since);
            tasks.spawn(async move {
                let look = incumbent::look(&this.kube, &this.incumbent_lease).await;
                Done::Incumbent(since, now, look)
            });
        }
        reads.next()
    }

    /// Takes in all records, or why they could not be read. `known` are those that were known when they were
    /// requested: of these alone the list says that they are gone.
    pub(super) fn listed(
        &self,
        work: &mut Work,
        since: Instant,
        known: &BTreeSet<Arc<str>>,
        found: Result<Listed, Arc<str>>,
        now: Instant,
    ) {
        let Some(reads) = work.reads.as_mut().filter(|reads| reads.since == since) else {
            return;
        };
        let Listed {
            records,
            unreadable,
        } = match found {
            Ok(listed) => listed,
            Err(error) => {
                work.failures.listed(Some(&error), now);
                reads.failures += 1;
                reads.records = Some(now + AGAIN.after(reads.failures));
                return;
            }
        };
        work.failures.listed(None, now);
        for error in unreadable {
            warn!("{error}");
        }
        let registrar = &mut work.registrar;
        self.cache.read(|index| {
            let mut gone = known.clone();
            for stored in records {
                let uid = stored.0.uid.clone();
                gone.remove(&uid);
                if self.is_watched(Some(&stored)) {
                    registrar.see_record(&uid, Some(stored), index, now);
                }
            }
            for uid in gone {
                registrar.see_record(&uid, None, index, now);
            }
        });
        registrar.records_read();
    }

    /// Takes in a read of the incumbent's Lease that was sent at `sent`.
    pub(super) fn saw_incumbent(
        &self,
        work: &mut Work,
        (since, sent): (Instant, Instant),
        look: Look,
        now: Instant,
    ) {
        let Some(reads) = work.reads.as_mut().filter(|reads| reads.since == since) else {
            return;
        };
        reads.unanswered = look == Look::Failed;
        let read = (!reads.unanswered).then_some(sent);
        let incumbent = reads.watched.see(look, sent);
        reads.incumbent = Some(now + reads.watched.pause());
        let registrar = &mut work.registrar;
        self.cache
            .read(|index| registrar.see_incumbent(incumbent, read, index, now));
    }
}
