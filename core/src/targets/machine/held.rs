//! One binding that we hold, or held: its record, its finalizers, and the absence of its Service.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::backoff::Backoff;
use crate::index::BindingKey;
use crate::model::Binding;
use crate::names::{GroupKey, TargetGroupArn};
use crate::reason::Reason;
use crate::targets::Target;
use crate::targets::machine::action::{Action, Finalizer, Status};
use crate::targets::machine::held::absence::Absence;
use crate::targets::record::Record;
use crate::targets::standing::Standing;
use crate::version::is_older;

mod absence;
mod news;

/// The pause after a write to the API server that failed. Contract 5.7 has the longest.
const WRITE_AGAIN: Backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(30));

/// A binding that was ready is told that targets are being registered once that takes so long. Chosen: a registration
/// takes a tenth of a second, and a rollout must not make the condition flap.
const LASTING: Duration = Duration::from_secs(10);

/// After so many failed writes in a row, no other binding waits for this one any more. Chosen: with [`WRITE_AGAIN`] they
/// take about a minute and a half, longer than a hook is away while it is rolled out.
const WAITED_FOR: u32 = 8;

/// A binding, with what we have done about it.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) key: BindingKey,
    pub(super) uid: Arc<str>,
    pub(super) standing: Standing,
    /// The group that the binding names.
    pub(super) group: Option<GroupKey>,
    pub(super) terminating: bool,
    pub(super) abandoned: bool,
    /// `None` before a watch has shown it.
    multi_cluster: Option<bool>,
    our_finalizer: bool,
    incumbent_finalizer: bool,
    generation: i64,
    /// The record as the API server has it, with its resourceVersion.
    pub(super) stored: Option<(Record, Arc<str>)>,
    /// What a watch showed of the record while a write was under way.
    shown: Option<Option<(Record, Arc<str>)>>,
    /// Whether a write failed in a way that may have written it all the same.
    unsure: bool,
    /// What is being written to the record.
    pub(super) writing: Option<Record>,
    /// Targets that were deregistered, to be taken out of the record.
    dropped: BTreeSet<Target>,
    patching: Option<Finalizer>,
    /// Why a patch failed, as was told.
    unpatched: Option<Arc<str>>,
    failures: u32,
    /// No write before then.
    again: Option<Instant>,
    /// Whether it was ours without the incumbent's finalizer, so that one which appears proves that the incumbent is
    /// back.
    pub(super) alone: bool,
    /// Since when it waits for a read of the incumbent's Lease before it is taken over.
    looks_since: Option<Instant>,
    absence: Option<Absence>,
    told: Option<Status>,
    /// Whether it was told what an abandoned binding leaves in AWS.
    told_of_the_left: bool,
    /// Since when targets have been being registered that was not told.
    registering: Option<Instant>,
}

impl Held {
    pub(super) fn new(key: BindingKey, uid: Arc<str>) -> Self {
        Self {
            key,
            uid,
            standing: Standing::NotOurs(Reason::RegistrationOff),
            group: None,
            terminating: false,
            abandoned: false,
            multi_cluster: None,
            our_finalizer: false,
            incumbent_finalizer: false,
            generation: 0,
            stored: None,
            shown: None,
            unsure: false,
            writing: None,
            dropped: BTreeSet::new(),
            patching: None,
            unpatched: None,
            failures: 0,
            again: None,
            alone: false,
            looks_since: None,
            absence: None,
            told: None,
            told_of_the_left: false,
            registering: None,
        }
    }

    /// Takes in the binding as a watch shows it.
    pub(super) fn see(&mut self, binding: &Binding) {
        let registration = &binding.registration;
        self.group = binding.arn.clone().map(|arn| GroupKey {
            arn,
            role: binding.role.clone(),
        });
        self.terminating = binding.terminating;
        self.abandoned = registration.abandoned;
        self.multi_cluster = Some(binding.multi_cluster);
        self.our_finalizer = registration.our_finalizer;
        self.incumbent_finalizer = registration.incumbent_finalizer;
        self.alone = self.our_finalizer && (self.alone || !self.incumbent_finalizer);
        self.generation = registration.generation;
    }

    /// Whether its targets are registered and deregistered now.
    pub(super) fn is_active(&self) -> bool {
        self.standing.is_ours()
            && !self.terminating
            && self.our_finalizer
            && !self.incumbent_finalizer
            && self.is_recorded_in_its_group()
    }

    /// Whether what the record names may leave: it is active, or to be cleaned up.
    pub(super) fn may_leave(&self) -> bool {
        self.is_active() || self.is_cleaned_up() || self.has_moved()
    }

    /// Whether all that the record names is to leave, but for what others want.
    pub(super) fn is_cleaned_up(&self) -> bool {
        // An incumbent without its finalizer does nothing about a binding that is being deleted.
        let held =
            self.standing == Standing::Suspended(Reason::HeldByAnother) && self.incumbent_finalizer;
        self.terminating && self.our_finalizer && !held && !self.abandoned
    }

    /// Whether the binding names another group than its record, whose targets have to leave first.
    pub(super) fn has_moved(&self) -> bool {
        let stored = self
            .stored
            .as_ref()
            .filter(|_| self.our_finalizer && self.standing.is_ours());
        stored.is_some_and(|(record, _)| {
            Some(&record.group.arn) != self.group.as_ref().map(|group| &group.arn)
        })
    }

    fn is_recorded_in_its_group(&self) -> bool {
        self.stored.is_some() && !self.has_moved()
    }

    /// The groups that it has to do with.
    pub(super) fn groups(&self) -> impl Iterator<Item = &GroupKey> {
        let recorded = self.stored.as_ref().map(|(record, _)| &record.group);
        self.group.iter().chain(recorded)
    }

    /// What the record names in a group, without what was deregistered since.
    pub(super) fn recorded(&self, arn: &TargetGroupArn) -> impl Iterator<Item = &Target> {
        let stored = self
            .stored
            .as_ref()
            .filter(|(record, _)| record.group.arn == *arn);
        let targets = stored.into_iter().flat_map(|(record, _)| &record.targets);
        targets.filter(|target| !self.dropped.contains(target))
    }

    /// Whether the record as the API server has it names a target.
    pub(super) fn has_recorded(&self, target: &Target) -> bool {
        let stored = self.stored.as_ref();
        stored.is_some_and(|(record, _)| record.targets.contains(target))
            && !self.dropped.contains(target)
            && !self.unsure
    }

    /// Takes in that targets were deregistered.
    pub(super) fn drop_targets(&mut self, targets: impl IntoIterator<Item = Target>) {
        let stored = self.stored.as_ref();
        let recorded = |target: &Target| {
            let named = |record: &Record| record.targets.contains(target);
            stored.is_some_and(|(record, _)| named(record))
                || self.writing.as_ref().is_some_and(named)
        };
        let dropped: Vec<Target> = targets.into_iter().filter(recorded).collect();
        self.dropped.extend(dropped);
    }

    /// Takes in that targets are out of a group.
    pub(super) fn drop_from(&mut self, arn: &TargetGroupArn, out: &BTreeSet<Target>) {
        let named: Vec<Target> = self.recorded(arn).copied().collect();
        self.drop_targets(named.into_iter().filter(|target| out.contains(target)));
    }

    /// Writes the record so that it names these targets as well, if it does not. Only one write is under way at a time.
    pub(super) fn record(&mut self, more: &BTreeSet<Target>, now: Instant) -> Option<Action> {
        if self.writing.is_some() || self.is_put_off(now) {
            return None;
        }
        // A target that is to go in again stays in the record.
        self.dropped.retain(|target| !more.contains(target));
        let stored = self.stored.as_ref().map(|(record, _)| record.clone());
        let group = self.group.clone();
        let (uid, key) = (&self.uid, &self.key.object);
        let new = || Some(Record::new(uid.clone(), key.clone(), group.clone()?));
        let record = stored.clone().or_else(new)?;
        let mut record = record.without(&self.dropped).with(more.iter().copied());
        record.abandoned = self.terminating && self.abandoned;
        // A record that names no target can be about another group, and any with another role.
        let may_change =
            |group: &GroupKey| record.targets.is_empty() || group.arn == record.group.arn;
        if let Some(group) = group.filter(may_change) {
            record.group = group;
        }
        if stored.as_ref() == Some(&record) && !self.unsure {
            return None;
        }
        self.writing = Some(record.clone());
        let replaces = self.stored.as_ref().map(|(_, version)| version.clone());
        Some(Action::WriteRecord { record, replaces })
    }

    /// Whether the record names targets that were deregistered since.
    pub(super) fn is_to_be_reduced(&self) -> bool {
        !self.dropped.is_empty()
    }

    /// Takes in how a write of the record ended.
    pub(super) fn recorded_as(&mut self, version: Option<Arc<str>>, now: Instant) {
        let Some(written) = self.writing.take() else {
            return;
        };
        match version {
            Some(version) => {
                self.dropped
                    .retain(|target| written.targets.contains(target));
                self.stored = Some((written, version));
                self.unsure = false;
                (self.failures, self.again) = (0, None);
            }
            None => {
                self.unsure = true;
                self.put_off(now);
            }
        }
        if let Some(shown) = self.shown.take() {
            self.see_record(shown);
        }
    }

    /// Takes in the record as a watch shows it. A version from before our own last write is older than what is known.
    pub(super) fn see_record(&mut self, shown: Option<(Record, Arc<str>)>) {
        if self.writing.is_some() {
            self.shown = Some(shown);
            return;
        }
        let own = self.stored.as_ref().map(|(_, version)| version);
        let version = shown.as_ref().map(|(_, version)| version);
        let is_news = version != own || shown.is_none();
        if is_news
            && !own
                .zip(version)
                .is_some_and(|(own, version)| is_older(version, own))
        {
            (self.stored, self.unsure) = (shown, false);
        }
    }

    /// Whether the record may be another than it is known to be, so that it has to be written anew.
    pub(super) fn is_unsure(&self) -> bool {
        self.unsure
    }

    /// Whether what it wants protects targets, or has them registered.
    pub(super) fn wants(&self) -> bool {
        self.standing.protects() && !self.terminating && !self.has_moved() && self.group.is_some()
    }

    fn put_off(&mut self, now: Instant) {
        self.failures += 1;
        self.again = Some(now + WRITE_AGAIN.after(self.failures));
    }

    /// Whether what it wants will stand in its record, so that a binding of its group that goes waits for that. One whose
    /// writes go on failing must not keep the other from going.
    pub(super) fn will_record(&self) -> bool {
        self.standing.is_ours() && self.failures < WAITED_FOR
    }

    pub(super) fn is_put_off(&self, now: Instant) -> bool {
        self.again.is_some_and(|again| now < again)
    }

    /// When a write may be tried again.
    pub(super) fn wake(&self, now: Instant) -> Option<Instant> {
        let absence = self.absence.iter().filter_map(Absence::wake);
        let told = self.registering.map(|since| since + LASTING);
        let wakes = absence.chain([self.again, told].into_iter().flatten());
        wakes.filter(|at| *at > now).min()
    }

    /// The next step of taking over, giving back or letting go, besides calls of ELB. `listing` is what the group
    /// holds, if ELB was asked since this replica leads; `gone` says that AWS does not have the group; `read` is when the
    /// last read of the incumbent's Lease that was answered was sent.
    pub(super) fn step(
        &mut self,
        listing: Option<&BTreeSet<Target>>,
        gone: bool,
        read: Option<Instant>,
        now: Instant,
    ) -> Option<Action> {
        if self.patching.is_some() || self.writing.is_some() || self.is_put_off(now) {
            return None;
        }
        match self.standing {
            Standing::NotOurs(_) if self.our_finalizer => self.patch(Finalizer::RemoveOurs),
            Standing::NotOurs(_) => None,
            Standing::Suspended(Reason::HeldByAnother) if self.incumbent_finalizer => None,
            _ if self.terminating => self.let_go(gone, now),
            Standing::Suspended(_) => None,
            Standing::Ours => self.take_over(listing, read, now),
        }
    }

    fn let_go(&mut self, gone: bool, now: Instant) -> Option<Action> {
        if !self.our_finalizer {
            return None;
        }
        if self.abandoned
            && self
                .stored
                .as_ref()
                .is_some_and(|(record, _)| !record.abandoned)
        {
            return self.record(&BTreeSet::new(), now);
        }
        let done = gone || self.abandoned || self.names_nothing();
        done.then(|| self.patch(Finalizer::RemoveOurs)).flatten()
    }

    fn take_over(
        &mut self,
        listing: Option<&BTreeSet<Target>>,
        read: Option<Instant>,
        now: Instant,
    ) -> Option<Action> {
        if self.is_held_alone() || self.has_moved() {
            self.looks_since = None;
        } else if !self.has_looked(read, now) {
            return None;
        }
        let everything = self.incumbent_finalizer && self.multi_cluster == Some(false);
        if self.stored.is_none() {
            let owned = match everything {
                true => listing?.clone(),
                false => BTreeSet::new(),
            };
            return self.record(&owned, now);
        }
        if self.has_moved() && self.names_nothing() {
            return self.record(&BTreeSet::new(), now);
        }
        if !self.our_finalizer {
            return self.patch(Finalizer::AddOurs);
        }
        if self.incumbent_finalizer && listing.is_some() {
            return self.patch(Finalizer::RemoveIncumbents);
        }
        None
    }

    fn is_held_alone(&self) -> bool {
        self.our_finalizer && !self.incumbent_finalizer
    }

    /// Whether the incumbent's Lease was read since this was asked first. An incumbent may have started since the last
    /// read, and its Lease is there before its finalizers are.
    fn has_looked(&mut self, read: Option<Instant>, now: Instant) -> bool {
        let since = *self.looks_since.get_or_insert(now);
        read.is_some_and(|read| read >= since)
    }

    /// Whether it waits for a read of the incumbent's Lease.
    pub(super) fn waits_for_lease(&self, read: Option<Instant>) -> bool {
        let ours = self.standing.is_ours() && !self.terminating;
        let since = self.looks_since.filter(|_| ours);
        since.is_some_and(|since| read.is_none_or(|read| read < since))
    }

    /// Whether all that the record names was deregistered.
    fn names_nothing(&self) -> bool {
        let mut named = self.stored.iter().flat_map(|(record, _)| &record.targets);
        named.all(|target| self.dropped.contains(target))
    }

    fn patch(&mut self, finalizer: Finalizer) -> Option<Action> {
        self.patching = Some(finalizer);
        Some(Action::Patch {
            binding: self.key.clone(),
            uid: self.uid.clone(),
            finalizer,
        })
    }

    /// Takes in how a patch of the finalizers ended. Returns whether the group has to be described anew before
    /// anything leaves it.
    pub(super) fn patched(&mut self, done: bool, now: Instant) -> bool {
        let Some(finalizer) = self.patching.take() else {
            return false;
        };
        if !done {
            self.put_off(now);
            return false;
        }
        (self.failures, self.again, self.unpatched) = (0, None, None);
        let beside_the_incumbent = self.incumbent_finalizer;
        match finalizer {
            Finalizer::AddOurs => self.our_finalizer = true,
            Finalizer::RemoveOurs => self.our_finalizer = false,
            Finalizer::RemoveIncumbents => {
                (self.incumbent_finalizer, self.alone) = (false, true);
            }
        }
        self.looks_since = None;
        finalizer != Finalizer::RemoveOurs && beside_the_incumbent
    }

    /// The status to write, and the Event to send, if they are others than before. A binding without our finalizer, or
    /// one that the incumbent holds, has no status of ours, but for one that was released: what we wrote before would go
    /// on saying `Registered`.
    pub(super) fn tell(
        &mut self,
        ready: bool,
        reason: Reason,
        message: &str,
        now: Instant,
    ) -> Vec<Action> {
        let was_ready = self.told.as_ref().is_some_and(|told| told.ready);
        if reason == Reason::Registering && was_ready {
            let since = *self.registering.get_or_insert(now);
            if now < since + LASTING {
                return vec![];
            }
        }
        self.registering = None;
        let status = Status {
            binding: self.key.clone(),
            uid: self.uid.clone(),
            ready,
            reason,
            message: message.into(),
            generation: self.generation,
        };
        if self.told.as_ref() == Some(&status) {
            return vec![];
        }
        let former = self.told.replace(status.clone()).map(|told| told.reason);
        // A binding that was let go before this leadership was told so then.
        let old = reason == Reason::Released && former.is_none() && !self.our_finalizer;
        let news = former != Some(reason)
            && !old
            && !matches!(reason, Reason::Registered | Reason::Registering);
        let mut actions = vec![];
        if news {
            actions.push(Action::Tell {
                binding: self.key.clone(),
                reason,
                message: message.into(),
            });
        }
        let given_back = reason == Reason::Released && !self.incumbent_finalizer;
        if given_back || (self.our_finalizer && reason != Reason::HeldByAnother) {
            actions.push(Action::Status(status));
        }
        actions
    }

    /// Whether targets have been being registered for so long that it is to be told.
    pub(super) fn is_to_be_told(&self, now: Instant) -> bool {
        self.registering.is_some_and(|since| now >= since + LASTING)
    }

    /// Takes in that a status could not be written: it is told again.
    pub(super) fn untold(&mut self) {
        self.told = None;
    }
}
