//! `targetgate release`: lets go of bindings whose targets we register, whether or not a registrar runs (contract 8).
//!
//! The mark on a binding's record comes before its finalizer goes, so that a registrar does not put it on again.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use futures::{StreamExt as _, stream};
use kube::Client;
use targetgate_core::names::{FINALIZER, ObjectKey};
use targetgate_core::targets::machine::action::{Finalizer, Written};
use targetgate_core::targets::record::Record;
use targetgate_core::text::agreeing;
use thiserror::Error;
use tokio::time::{Instant, sleep};

use crate::args::Release;
use crate::commands::cluster;
use crate::kubernetes::targets::bindings::patch_finalizer;
use crate::kubernetes::targets::records::{Marked, TargetRecords};
use crate::kubernetes::targets::release;
use crate::kubernetes::targets::release::{Held, ReadError};

/// The pause between two looks. Contract 8's design has it.
const LOOK_AGAIN: Duration = Duration::from_secs(2);
/// Maximum number of bindings that are released at once. Chosen, as the registrar's requests.
const AT_ONCE: usize = 16;
/// The number of looks, one after the other, that have to find nothing.
const LOOKS: usize = 2;
/// The mark where there is no Deployment: a registrar that has none takes any mark for its own.
const NO_DEPLOYMENT: &str = "none";

const DONE: u8 = 0;
/// The exit status where something is left.
const LEFT: u8 = 1;
const UNKNOWN: u8 = 3;

/// Why it is not known whether anything is left.
#[derive(Debug, Error)]
pub enum ReleaseError {
    /// No cluster can be asked.
    #[error("{0:#}")]
    NoCluster(anyhow::Error),
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error("{0}")]
    Records(Arc<str>),
    #[error("cannot write to standard output: {0}")]
    Output(#[from] io::Error),
}

impl ReleaseError {
    /// The exit status: something may be left.
    pub fn exit_status(&self) -> u8 {
        UNKNOWN
    }
}

/// Releases what the settings name, or clears the marks, and says what stays. Returns the exit status.
///
/// # Errors
/// It is not known whether anything is left.
pub async fn run(settings: &Release, out: &mut impl Write) -> Result<u8, ReleaseError> {
    let until = Instant::now() + settings.timeout;
    let client = cluster::of_flags(&settings.cluster).await;
    let client = client.map_err(ReleaseError::NoCluster)?;
    let records = TargetRecords::new(client.clone(), settings.namespace.as_str().into());
    let command = Command {
        settings,
        client,
        records,
        until,
    };
    match settings.undo {
        true => command.undo(out).await,
        false => command.release(out).await,
    }
}

struct Command<'a> {
    settings: &'a Release,
    client: Client,
    records: TargetRecords,
    until: Instant,
}

/// How a binding was let go, or why it was not.
type Outcome = Result<String, Arc<str>>;

/// What a look has found.
#[derive(Default)]
struct Looked {
    found: Vec<Held>,
    missing: BTreeSet<ObjectKey>,
}

#[derive(Default)]
struct Progress {
    outcomes: BTreeMap<ObjectKey, Outcome>,
    /// The bindings of the command line that have never been found.
    missing: BTreeSet<ObjectKey>,
    /// The number of looks, one after the other, that found nothing to do.
    looks_without: usize,
}

impl Progress {
    /// Forgets failures with bindings that are gone.
    fn see(&mut self, looked: &Looked, all: bool) {
        let is_found = |binding: &ObjectKey| {
            let mut found = looked.found.iter();
            found.any(|held| held.key.object == *binding && (held.our_finalizer || !all))
        };
        self.outcomes
            .retain(|binding, outcome| outcome.is_ok() || is_found(binding));
        let missing = looked.missing.iter();
        let missing = missing.filter(|binding| !self.outcomes.contains_key(*binding));
        self.missing = missing.cloned().collect();
    }

    /// The bindings with our finalizer, and those of the command line that have not been released yet.
    fn due(&self, found: Vec<Held>, all: bool) -> Vec<Held> {
        let is_released = |held: &Held| {
            let outcome = self.outcomes.get(&held.key.object);
            outcome.is_some_and(Result::is_ok)
        };
        let due = found.into_iter();
        due.filter(|held| held.our_finalizer || (!all && !is_released(held)))
            .collect()
    }

    /// Takes in an outcome, and says it unless it was said before.
    fn take(
        &mut self,
        out: &mut impl Write,
        binding: &ObjectKey,
        outcome: Outcome,
    ) -> io::Result<()> {
        if self.outcomes.get(binding) != Some(&outcome) {
            match &outcome {
                Ok(what) => writeln!(out, "{binding}: {what}")?,
                Err(why) => writeln!(out, "{binding}: not released yet: {why}")?,
            }
        }
        self.outcomes.insert(binding.clone(), outcome);
        Ok(())
    }

    fn released(&self) -> usize {
        self.outcomes
            .values()
            .filter(|outcome| outcome.is_ok())
            .count()
    }
}

impl Command<'_> {
    async fn release(&self, out: &mut impl Write) -> Result<u8, ReleaseError> {
        let settings = self.settings;
        let deployment = ObjectKey::new(&*settings.namespace, &*settings.deployment);
        let uid = self
            .patiently(out, async || {
                release::deployment(&self.client, &deployment, self.until).await
            })
            .await?;
        let mark = match &uid {
            Some(uid) => uid,
            None => {
                writeln!(out, "there is no Deployment {deployment}")?;
                NO_DEPLOYMENT
            }
        };
        let mut progress = Progress::default();
        // One look that finds none is not enough: a registrar's patch may have been under way.
        while progress.looks_without < LOOKS {
            let looked = self.look(out).await?;
            progress.see(&looked, self.settings.all);
            let due = progress.due(looked.found, self.settings.all);
            progress.looks_without = match due.is_empty() {
                true => progress.looks_without + 1,
                false => 0,
            };
            let mut released = stream::iter(&due)
                .map(|held| async move { (&held.key.object, self.let_go(held, mark).await) })
                .buffered(AT_ONCE);
            while let Some((binding, outcome)) = released.next().await {
                progress.take(out, binding, outcome)?;
            }
            if progress.looks_without < LOOKS {
                if Instant::now() + LOOK_AGAIN >= self.until {
                    break;
                }
                sleep(LOOK_AGAIN).await;
            }
        }
        self.sum_up(out, &progress)
    }

    fn sum_up(&self, out: &mut impl Write, progress: &Progress) -> Result<u8, ReleaseError> {
        let released = progress.released();
        let left = progress.outcomes.len() - released;
        writeln!(
            out,
            "bindings released: {released}; targets stay in their groups, and TargetRecords in namespace {}",
            self.settings.namespace
        )?;
        for missing in &progress.missing {
            writeln!(out, "{missing}: there is no such TargetGroupBinding")?;
        }
        if left == 0 && progress.looks_without == LOOKS {
            return Ok(match progress.missing.is_empty() {
                true => DONE,
                false => LEFT,
            });
        }
        let timeout = humantime::format_duration(self.settings.timeout);
        writeln!(
            out,
            "not done within {timeout}: bindings not released: {left}; run the command again, with a longer --timeout, or \
             take the finalizer {FINALIZER} off by hand"
        )?;
        Ok(LEFT)
    }

    /// The bindings that are looked at, and those of the command line that do not exist.
    async fn look(&self, out: &mut impl Write) -> Result<Looked, ReleaseError> {
        let (mut found, mut missing) = (vec![], BTreeSet::new());
        if self.settings.all {
            found = self
                .patiently(out, async || {
                    release::bindings(&self.client, self.until).await
                })
                .await?;
        }
        for binding in &self.settings.bindings {
            let read = self
                .patiently(out, async || {
                    release::binding(&self.client, binding, self.until).await
                })
                .await?;
            match read {
                Some(held) => found.push(held),
                None => _ = missing.insert(binding.clone()),
            }
        }
        Ok(Looked { found, missing })
    }

    /// Reads again while there is time, unless that is of no use.
    async fn patiently<T>(
        &self,
        out: &mut impl Write,
        read: impl AsyncFn() -> Result<T, ReadError>,
    ) -> Result<T, ReleaseError> {
        loop {
            let error = match read().await {
                Ok(read) => return Ok(read),
                Err(error) => error,
            };
            if error.denied || Instant::now() + LOOK_AGAIN >= self.until {
                return Err(error.into());
            }
            writeln!(out, "{error}; trying again")?;
            sleep(LOOK_AGAIN).await;
        }
    }

    /// Marks the record, and takes our finalizer off.
    async fn let_go(&self, held: &Held, mark: &str) -> Outcome {
        let stays = self.mark(held, mark).await?;
        let ours = Finalizer::RemoveOurs;
        let patched = patch_finalizer(&self.client, &held.key, &held.uid, ours, self.until).await;
        match patched {
            Written::Done(_) => Ok(format!("released; {stays}")),
            Written::Failed(why) => Err(why),
            Written::Conflict | Written::Unsent => {
                Err("the binding is gone, or other clients change its finalizers".into())
            }
        }
    }

    /// Marks the record of a binding, which is made if there is none. Returns what stays.
    async fn mark(&self, held: &Held, mark: &str) -> Outcome {
        let marked = self.records.mark(&held.uid, Some(mark), self.until).await;
        match (marked, &held.group) {
            (Marked::Done(Ok(record)), _) => Ok(stays(&record)),
            (Marked::Done(Err(unreadable)), _) => Ok(unreadable),
            (Marked::Failed(why), _) => Err(why),
            (Marked::NotServed, _) => Ok("TargetRecords are not served".to_owned()),
            (Marked::Absent, None) => Ok("it has no TargetRecord, and names no group".to_owned()),
            (Marked::Absent, Some(group)) => {
                let binding = held.key.object.clone();
                let record = Record {
                    released: Some(mark.into()),
                    ..Record::new(held.uid.clone(), binding, group.clone())
                };
                match self.records.write(&record, None, self.until).await {
                    Written::Failed(why) => Err(why),
                    Written::Done(_) => Ok("it had no TargetRecord, and has one now".to_owned()),
                    Written::Conflict | Written::Unsent => self.mark_again(held, mark).await,
                }
            }
        }
    }

    /// Marks a record that a registrar has made in between. Where it is absent still, there is no namespace for it.
    async fn mark_again(&self, held: &Held, mark: &str) -> Outcome {
        match self.records.mark(&held.uid, Some(mark), self.until).await {
            Marked::Done(Ok(record)) => Ok(stays(&record)),
            Marked::Done(Err(unreadable)) => Ok(unreadable),
            Marked::Failed(why) => Err(why),
            Marked::Absent | Marked::NotServed => Ok(format!(
                "there is no namespace {} for a TargetRecord",
                self.settings.namespace
            )),
        }
    }

    /// Clears the marks, so that a registrar takes the bindings again.
    async fn undo(&self, out: &mut impl Write) -> Result<u8, ReleaseError> {
        let mut marked: Vec<(ObjectKey, Arc<str>)> = vec![];
        let mut status = DONE;
        if self.settings.all {
            let listed = self.records.list().await.map_err(ReleaseError::Records)?;
            let released = listed.records.into_iter().map(|(record, _)| record);
            let released = released.filter(|record| record.released.is_some());
            marked.extend(released.map(|record| (record.binding, record.uid)));
            for unreadable in listed.unreadable {
                status = LEFT;
                writeln!(out, "{unreadable}")?;
            }
        }
        let Looked { found, missing } = match self.settings.all {
            true => Looked::default(),
            false => self.look(out).await?,
        };
        marked.extend(found.into_iter().map(|held| (held.key.object, held.uid)));
        for missing in missing {
            status = LEFT;
            writeln!(out, "{missing}: there is no such TargetGroupBinding")?;
        }
        for (binding, uid) in marked {
            let told = match self.records.mark(&uid, None, self.until).await {
                Marked::Done(_) => {
                    "not released any more; a registrar that is asked for it takes it"
                }
                Marked::Absent | Marked::NotServed => "it has no TargetRecord, and so no mark",
                Marked::Failed(why) => {
                    status = LEFT;
                    writeln!(out, "{binding}: {why}")?;
                    continue;
                }
            };
            writeln!(out, "{binding}: {told}")?;
        }
        Ok(status)
    }
}

/// What stays of a released binding.
fn stays(record: &Record) -> String {
    let Record { uid, group, .. } = record;
    let count = record.targets.len();
    let targets = agreeing(count, "target stays", "targets stay");
    format!("{count} {targets} in {}, TargetRecord {uid}", group.arn)
}
