//! The rounds of the keeper: read, serve, decide, write.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use targetgate_core::rotation::{self, Change, Record, RetiredCa, Situation, Step};
use thiserror::Error;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tracing::{info, warn};

use crate::controllers::certificates::Keeper;
use crate::controllers::certificates::configurations::Hooks;
use crate::controllers::certificates::make::MakeError;
use crate::controllers::certificates::repairs::Repairs;
use crate::controllers::certificates::secret::{self, Reading};
use crate::controllers::certificates::serving::Served;
use crate::controllers::certificates::store::Store;
use crate::kubernetes::server_clock::ServerClock;
use crate::kubernetes::watch::JitteredBackoff;
use crate::kubernetes::{CALL_TIMEOUT, why};
use crate::state::leadership::Leadership;

/// Longest pause between two rounds, in case a watch misses a change. Chosen.
const LOOK_AGAIN: Duration = Duration::from_secs(60);
/// Pause between a write and the next round, which reads it back. Chosen.
const AFTER_WRITE: Duration = Duration::from_millis(20);
/// After so many equal steps in a row the keeper backs off, because another client reverts our writes, or because
/// of a bug of ours. Chosen.
const IN_A_ROW: u32 = 8;

/// Why a step failed; it is retried.
#[derive(Debug, Error)]
enum Trouble {
    #[error("cannot {verb} {object}: {why}")]
    Call {
        verb: &'static str,
        object: String,
        why: String,
    },
    #[error(transparent)]
    Make(#[from] MakeError),
    /// Another client wrote first, or another replica leads: not worth a log line.
    #[error("another client changed it at the same moment")]
    Conflict,
}

/// The pause before the next round, unless a watch ends it.
enum Pause {
    /// None: this step was done, or another client was quicker.
    Done(Step),
    /// At most this long.
    For(Duration),
    /// The backoff after a failure.
    Failed,
}

/// The state between two rounds.
pub(super) struct Rounds<'a> {
    keeper: &'a Keeper,
    store: Store,
    hooks: Vec<Hooks>,
    leadership: Leadership,
    clock: ServerClock,
    served: Served,
    remembered: Vec<RetiredCa>,
    /// The last logged problem of each object, so that the same problem is logged once.
    told: BTreeMap<String, String>,
    repairs: Repairs,
}

impl<'a> Rounds<'a> {
    pub(super) fn new(keeper: &'a Keeper, store: Store, hooks: Vec<Hooks>) -> Self {
        let certificates = keeper.certificates.clone();
        Self {
            served: Served::new(certificates, keeper.maker.lifetimes.seen_after),
            leadership: keeper.leadership.clone(),
            clock: ServerClock::new(keeper.kube.clone()),
            keeper,
            store,
            hooks,
            remembered: vec![],
            told: BTreeMap::new(),
            repairs: Repairs::default(),
        }
    }

    /// Runs rounds for ever.
    pub(super) async fn run(mut self, changed: &Notify) {
        let mut backoff = JitteredBackoff::new(self.store.name());
        let mut row = (None, 0);
        loop {
            let pause = self.round().await;
            let step = match &pause {
                Pause::Done(step) => Some(step.clone()),
                _ => None,
            };
            row = match step == row.0 {
                true => (step, row.1 + 1),
                false => (step, 1),
            };
            match pause {
                Pause::Done(_) if row.1 <= IN_A_ROW => sleep(AFTER_WRITE).await,
                // A change does not cut the backoff short.
                Pause::Done(_) | Pause::Failed => sleep(backoff.next()).await,
                Pause::For(time) => {
                    backoff.reset();
                    tokio::select! {
                        biased;
                        () = changed.notified() => {}
                        () = self.leadership.changed() => {}
                        () = sleep(time) => {}
                    }
                }
            }
        }
    }

    /// Reads everything, updates the served leaf, and, as the leader, executes one step.
    async fn round(&mut self) -> Pause {
        let all_read = self.read_configurations().await;
        // The Secret is read after the configurations: see `rotation::Situation`.
        let read = timeout(CALL_TIMEOUT, self.store.read()).await;
        let object = format!("secret/{}", self.store.name());
        let found = match in_time(read) {
            Ok(found) => found,
            Err(why) => {
                self.tell(&object, Some(format!("cannot read {object}: {why}")));
                return Pause::Failed;
            }
        };
        let record = self.understand(&object, found.as_ref());
        let (now, lifetimes) = (self.now().await, self.keeper.maker.lifetimes);
        if let Some(record) = &record {
            let remembered = std::mem::take(&mut self.remembered);
            self.remembered = rotation::remember(remembered, record, now, &lifetimes);
        }
        let leaf = record.as_ref().and_then(|record| record.leaf.as_ref());
        let look_again = self.served.offer(leaf, &self.hooks, now);

        let configurations: Option<Vec<_>> = self.hooks.iter().map(Hooks::configuration).collect();
        let situation = Situation {
            now,
            record: record.as_ref(),
            configurations: configurations.as_deref().filter(|_| all_read),
            remembered: &self.remembered,
        };
        let step = rotation::next(&situation, &lifetimes);
        let pause = match step {
            Step::Wait(time) => time,
            Step::Rest(at) => at.duration_since(now).unsigned_abs(),
            _ if !self.leadership.leads() => LOOK_AGAIN,
            step => return self.done(step, found.as_ref(), record, now).await,
        };
        match all_read {
            true => Pause::For(pause.min(look_again).min(LOOK_AGAIN)),
            false => Pause::Failed,
        }
    }

    /// The time by which certificates are made and judged: a machine whose clock is wrong by more than certificates
    /// allow for would sign what API servers do not accept, and forget a CA that they need.
    async fn now(&mut self) -> Timestamp {
        let tolerance = self.keeper.maker.lifetimes.skew;
        self.clock.read().await;
        let own = (self.keeper.now)();
        let now = self.clock.correct(own, tolerance);
        let wrong = (now != own).then(|| {
            format!(
                "this machine's clock differs from the API server's by more than {tolerance:?}, so certificates are made by the API server's: mend the clock of the node"
            )
        });
        self.tell("clock", wrong);
        now
    }

    async fn read_configurations(&mut self) -> bool {
        let mut all = true;
        for index in 0..self.hooks.len() {
            let read = timeout(CALL_TIMEOUT, self.hooks[index].read()).await;
            let title = self.hooks[index].title();
            let trouble = in_time(read).err();
            all &= trouble.is_none();
            let trouble = trouble.map(|why| {
                format!("cannot read {title}: {why}; no CA can be replaced before it is read")
            });
            self.tell(&title, trouble);
        }
        all
    }

    /// Parses the Secret into a record, and logs what cannot be parsed.
    fn understand(&mut self, object: &str, found: Option<&Secret>) -> Option<Record> {
        let Some(found) = found else {
            self.tell(object, None);
            return None;
        };
        let empty = secret::Data::new();
        let data = found.data.as_ref().unwrap_or(&empty);
        let Reading { record, complaints } = secret::read(data, &self.keeper.maker.names);
        let complaint = complaints.join("; ");
        let broken = !complaint.is_empty();
        let text = broken.then(|| format!("{object} is broken, and is mended: {complaint}"));
        self.tell(object, text);
        if let Some(authority) = &record.authority {
            self.keeper
                .metrics
                .set_ca_expiry(authority.ca.validity.not_after);
        }
        Some(record)
    }

    /// Executes a step, and logs its result.
    async fn done(
        &mut self,
        step: Step,
        found: Option<&Secret>,
        record: Option<Record>,
        now: Timestamp,
    ) -> Pause {
        let title = match &step {
            Step::Trust(index) => self.hooks[*index].title(),
            _ => format!("secret/{}", self.store.name()),
        };
        let topic = format!("write of {title}");
        let done = Pause::Done(step.clone());
        let result = match step {
            Step::Trust(index) => self.trust(index, record.as_ref()).await,
            Step::Secret(change) => self.change(&change, found, record, now).await,
            Step::Wait(_) | Step::Rest(_) => Ok(()),
        };
        match result {
            Ok(()) => {
                self.tell(&topic, None);
                done
            }
            Err(Trouble::Conflict) => done,
            Err(trouble) => {
                self.tell(&topic, Some(trouble.to_string()));
                Pause::Failed
            }
        }
    }

    /// Writes the record's CAs into every bundle of a configuration.
    async fn trust(&mut self, index: usize, record: Option<&Record>) -> Result<(), Trouble> {
        let cas = record.map(Record::trusted).unwrap_or_default();
        let by = self.by()?;
        let hooks = &mut self.hooks[index];
        let title = hooks.title();
        let step = format!("trust {} CAs", cas.len());
        info!(object = title, step, "rotation: writing");
        let written = timeout_at(by, hooks.trust(&cas)).await;
        answered(written, "patch", &title)?;
        info!(object = title, step, "rotation: written");
        if let Some(culprit) = hooks.take_culprit() {
            let culprit = culprit.to_string();
            self.keeper.metrics.repaired_bundle();
            let Some(times) = self.repairs.repaired(&title, &culprit, Instant::now()) else {
                return Ok(());
            };
            warn!(
                object = title,
                by = culprit,
                times,
                "a caBundle was changed; it is put back"
            );
            let note = format!(
                "A caBundle that belongs to targetgate was changed by {culprit}; it is put back. \
                 Whoever applies the webhooks should leave the field out, or ignore it."
            );
            let object = self.hooks[index].reference();
            let told = self
                .keeper
                .events
                .warn(&object, "PutBack", "CABundleChanged", &note);
            told.await;
        }
        Ok(())
    }

    /// Writes a change to the Secret.
    async fn change(
        &mut self,
        change: &Change,
        found: Option<&Secret>,
        record: Option<Record>,
        now: Timestamp,
    ) -> Result<(), Trouble> {
        let title = format!("secret/{}", self.store.name());
        if let Some(found) = found.filter(|found| found.immutable == Some(true)) {
            warn!(
                object = title,
                "it is immutable, which it never should be; it is made anew"
            );
            let deleted = timeout_at(self.by()?, self.store.delete(found)).await;
            return answered(deleted, "delete", &title);
        }
        let Some(record) = self.changed(change, record, now)? else {
            return Ok(());
        };
        let step = step_name(change);
        info!(object = title, step, "rotation: writing");
        let written = timeout_at(self.by()?, self.store.write(found, &record)).await;
        answered(written, "write", &title)?;
        info!(object = title, step, "rotation: written");
        match change {
            Change::Promote => self.keeper.metrics.rotated("ca"),
            Change::Sign(_) => self.keeper.metrics.rotated("leaf"),
            _ => {}
        }
        Ok(())
    }

    /// The record after a change; `None` if it does not change.
    fn changed(
        &self,
        change: &Change,
        record: Option<Record>,
        now: Timestamp,
    ) -> Result<Option<Record>, Trouble> {
        let Some(record) = record else {
            return Ok(Some(Record::new(self.keeper.maker.pair(now)?)));
        };
        Ok(Some(match change {
            Change::Create => return Ok(None),
            Change::Adopt(retired) => record.adopted(retired),
            Change::Forget => record.forgotten(now, &self.keeper.maker.lifetimes),
            Change::Stage(_) => record.staged(self.keeper.maker.pair(now)?),
            Change::Promote => record.promoted(),
            Change::Sign(_) => {
                let Some(authority) = &record.authority else {
                    return Ok(None);
                };
                let leaf = self.keeper.maker.leaf(authority, now)?;
                record.signed(leaf)
            }
        }))
    }

    /// By when a write that begins now must be over.
    fn by(&self) -> Result<Instant, Trouble> {
        let by = self.leadership.write_by().ok_or(Trouble::Conflict)?;
        Ok(by.min(Instant::now() + CALL_TIMEOUT))
    }

    /// Logs a problem of an object once, and logs its end.
    fn tell(&mut self, object: &str, trouble: Option<String>) {
        match trouble {
            None => {
                if self.told.remove(object).is_some() {
                    info!(object, "in order again");
                }
            }
            Some(trouble) => {
                let told = self.told.insert(object.to_owned(), trouble.clone());
                if told.as_ref() != Some(&trouble) {
                    warn!("certificates: {trouble}");
                }
            }
        }
    }
}

/// The name of a change in logs.
fn step_name(change: &Change) -> String {
    match change {
        Change::Create => "create".to_owned(),
        Change::Adopt(retired) => format!("adopt {} CAs", retired.len()),
        Change::Forget => "forget a retired CA".to_owned(),
        Change::Sign(reason) => format!("sign a leaf: {}", reason.as_str()),
        Change::Stage(reason) => format!("stage a CA: {}", reason.as_str()),
        Change::Promote => "promote".to_owned(),
    }
}

/// An answer of the API server, or why there is none.
pub(super) fn in_time<T>(
    answer: Result<Result<T, kube::Error>, tokio::time::error::Elapsed>,
) -> Result<T, String> {
    match answer {
        Ok(answer) => answer.map_err(|error| why(&error)),
        Err(_) => Err("no answer in time".to_owned()),
    }
}

fn answered(
    answer: Result<Result<(), kube::Error>, tokio::time::error::Elapsed>,
    verb: &'static str,
    object: &str,
) -> Result<(), Trouble> {
    match answer {
        // The API server also answers 409 if another client has created the Secret in between.
        Ok(Err(kube::Error::Api(status))) if status.code == 409 => Err(Trouble::Conflict),
        answer => in_time(answer).map_err(|why| Trouble::Call {
            verb,
            object: object.to_owned(),
            why,
        }),
    }
}
