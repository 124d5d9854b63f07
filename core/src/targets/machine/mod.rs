//! State machine of the registrar, without I/O: which targets go into which group, and out of it (contract 8).
//!
//! The controller feeds it with what watches show, what ELB answers and how writes and calls end, and carries out the
//! actions that it returns. Time is passed in. A replica that does not lead takes in what watches show, and acts on
//! nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

use crate::elb::buckets::{Admissions, Buckets, PollRequest};
use crate::gates::target::service_port;
use crate::index::{BindingKey, Changes, Index};
use crate::model::Service;
use crate::names::{ObjectKey, Quota, TargetGroupArn};
use crate::reason::Reason;
use crate::targets::Target;
use crate::targets::calls::outbox::Told;
use crate::targets::calls::{Call, CallError, CallErrorKind, Kind, LIMITS};
use crate::targets::difference::Listing;
use crate::targets::machine::action::{Action, Counts, Settings, Step, View, Written};
use crate::targets::machine::group::{Group, Inputs};
use crate::targets::machine::held::Held;
use crate::targets::record::Record;
use crate::targets::slices::Slices;
use crate::targets::standing::{Incumbent, Standing};
use crate::targets::wanted::{GroupWants, Touched, Wanted};

pub mod action;
mod group;
mod held;
#[cfg(test)]
mod tests;

/// After so long, a call that is neither of an ended pod nor a first registration goes as if it were one. Chosen, so
/// that a long rollout does not starve them.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(10);

/// All bindings that ask for registration, and their groups.
#[derive(Debug)]
pub struct Registrar {
    settings: Settings,
    wanted: Wanted,
    pub slices: Slices,
    held: BTreeMap<BindingKey, Held>,
    /// The records whose binding is not known, by UID.
    orphans: BTreeMap<Arc<str>, (Record, Arc<str>)>,
    deleting: BTreeSet<Arc<str>>,
    groups: BTreeMap<TargetGroupArn, Group>,
    dirty: BTreeSet<TargetGroupArn>,
    buckets: Buckets,
    /// `None` until its Lease was read, which counts as if it led.
    incumbent: Option<Incumbent>,
    view: View,
    records_read: bool,
    leads: bool,
}

impl Registrar {
    /// A registrar that does not lead.
    pub fn new(settings: Settings, now: Instant) -> Self {
        Self {
            settings,
            wanted: Wanted::default(),
            slices: Slices::default(),
            held: BTreeMap::new(),
            orphans: BTreeMap::new(),
            deleting: BTreeSet::new(),
            groups: BTreeMap::new(),
            dirty: BTreeSet::new(),
            buckets: Buckets::new(LIMITS, now),
            incumbent: None,
            view: View::default(),
            records_read: false,
            leads: false,
        }
    }

    /// Whether this replica leads.
    pub fn leads(&self) -> bool {
        self.leads
    }

    /// This replica begins to lead: what the watches, the records and ELB said before does not count.
    pub fn lead(&mut self, now: Instant) {
        self.leads = true;
        (self.view, self.records_read) = (View::default(), false);
        self.incumbent = None;
        for group in self.groups.values_mut() {
            group.look_anew(now);
        }
        self.dirty.extend(self.groups.keys().cloned());
    }

    /// This replica stops leading.
    pub fn follow(&mut self) {
        self.leads = false;
    }

    /// Takes in whether the watches have synced in this leadership, and work.
    pub fn see(&mut self, view: View) {
        if self.view != view {
            self.view = view;
            self.dirty.extend(self.groups.keys().cloned());
        }
    }

    /// Takes in whether the incumbent leads.
    pub fn see_incumbent(&mut self, incumbent: Incumbent, index: &Index, now: Instant) {
        if self.incumbent.replace(incumbent) != Some(incumbent) {
            let keys: Vec<BindingKey> = self.held.keys().cloned().collect();
            for key in keys {
                self.see_binding(&key, &BTreeSet::new(), index, now);
            }
        }
    }

    /// Takes in what changed in the index.
    pub fn observe(&mut self, changes: &Changes, index: &Index, now: Instant) {
        let mut concerned = changes.bindings.clone();
        for key in &changes.bindings {
            // Whether a binding is the oldest of its group depends on the others.
            let arns = self.groups_of(key, index);
            for arn in arns {
                concerned.extend(index.bindings_of_group(&arn).map(|(key, _)| key.clone()));
                concerned.extend(self.wanted.bindings_of(&arn).cloned());
            }
        }
        for key in &concerned {
            self.see_binding(key, &changes.deleted, index, now);
        }
        let touched = self.wanted.observe(changes, index, &self.slices);
        self.touch(touched);
    }

    /// Takes in that the EndpointSlices of these Services changed.
    pub fn observe_slices(&mut self, services: Vec<ObjectKey>, index: &Index) {
        let changes = Changes {
            services: services.into_iter().collect(),
            ..Changes::default()
        };
        let touched = self.wanted.observe(&changes, index, &self.slices);
        self.touch(touched);
    }

    fn groups_of(&self, key: &BindingKey, index: &Index) -> BTreeSet<TargetGroupArn> {
        let now = index.binding(key).and_then(|binding| binding.arn.clone());
        let held = self.held.get(key).into_iter().flat_map(Held::groups);
        held.map(|group| group.arn.clone()).chain(now).collect()
    }

    /// Brings one binding up to date.
    fn see_binding(
        &mut self,
        key: &BindingKey,
        deleted: &BTreeSet<(ObjectKey, Arc<str>)>,
        index: &Index,
        now: Instant,
    ) {
        self.dirty.extend(self.groups_of(key, index));
        let known = index
            .binding(key)
            .and_then(|binding| Some((binding, binding.uid.clone()?)));
        let Some((binding, uid)) = known else {
            self.forget(key);
            let touched = self.wanted.untrack(key);
            return self.touch(touched);
        };
        if self.held.get(key).is_some_and(|held| held.uid != uid) {
            self.forget(key);
        }
        let new = || Held::new(key.clone(), uid.clone());
        let held = self.held.entry(key.clone()).or_insert_with(new);
        if let Some(stored) = self.orphans.remove(&uid) {
            held.see_record(Some(stored));
        }
        held.see(binding);
        let record = held.stored.as_ref().map(|(record, _)| record);
        let policy = &self.settings.policy;
        let incumbent = self.incumbent.unwrap_or(Incumbent::Leads);
        held.standing = policy.standing(key, index, record, incumbent, held.taken_over);
        let wants = held.wants();
        let touched = match wants {
            true => self.wanted.track(key, deleted, index, &self.slices),
            false => self.wanted.untrack(key),
        };
        self.touch(touched);
        for group in held_groups(&self.held, key) {
            let arn = group.arn.clone();
            self.groups
                .entry(arn.clone())
                .or_insert_with(|| Group::new(group, now));
            self.dirty.insert(arn);
        }
    }

    /// Forgets a binding that is gone; its record is an orphan.
    fn forget(&mut self, key: &BindingKey) {
        if let Some(held) = self.held.remove(key)
            && let Some(stored) = held.stored
        {
            self.orphans.insert(held.uid, stored);
        }
    }

    fn touch(&mut self, touched: Touched) {
        self.dirty.extend(touched.groups);
        for (arn, target) in touched.ended {
            if let Some(group) = self.groups.get_mut(&arn) {
                group.ended.insert(target);
            }
            self.dirty.insert(arn);
        }
    }

    /// Takes in a record that a list or watch shows, with its resourceVersion; `None` if it was deleted.
    pub fn see_record(
        &mut self,
        uid: &Arc<str>,
        record: Option<(Record, Arc<str>)>,
        index: &Index,
        now: Instant,
    ) {
        if record.is_none() {
            self.deleting.remove(uid);
        }
        let held = self.held.values_mut().find(|held| held.uid == *uid);
        let Some(held) = held else {
            self.orphans.remove(uid);
            if let Some(stored) = record {
                let group = stored.0.group.clone();
                let arn = group.arn.clone();
                self.groups
                    .entry(arn)
                    .or_insert_with(|| Group::new(group, now));
                self.orphans.insert(uid.clone(), stored);
            }
            return;
        };
        held.see_record(record);
        let key = held.key.clone();
        self.see_binding(&key, &BTreeSet::new(), index, now);
    }

    /// Takes in that all records were read in this leadership.
    pub fn records_read(&mut self) {
        self.records_read = true;
        self.dirty.extend(self.groups.keys().cloned());
    }

    /// What is to be done now. Calls are begun until `begin_until`, the renew deadline, alone; `poll` takes a token for
    /// a description, or says when to try again.
    pub fn step(
        &mut self,
        index: &Index,
        begin_until: Instant,
        now: Instant,
        mut poll: impl FnMut(&Quota) -> Result<(), Instant>,
    ) -> Step {
        let mut step = Step::default();
        if !self.leads || now >= begin_until {
            return step;
        }
        let due = self
            .groups
            .iter()
            .filter(|(_, group)| group.wake(now).is_some_and(|at| at <= now));
        self.dirty.extend(due.map(|(arn, _)| arn.clone()));
        let absent = self.held.values().filter(|held| held.is_absent());
        let absent = absent.flat_map(Held::groups).map(|group| group.arn.clone());
        self.dirty.extend(absent);
        for arn in std::mem::take(&mut self.dirty) {
            self.settle(&arn, index, now, &mut step.actions);
        }
        self.advance(now, &mut step.actions);
        self.track_moved(index, now);
        self.delete_orphans(&mut step.actions);
        let token = self.calls(index, now, &mut step.actions);
        let described = self.describe(now, &mut step.actions, &mut poll);
        let groups = self.groups.values().filter_map(|group| group.wake(now));
        let held = self.held.values().filter_map(|held| held.wake(now));
        let wakes = groups.chain(held).chain(token).chain(described);
        step.wake = wakes.map(|at| at.max(now)).min();
        step
    }

    /// The groups about which ELB is asked: those of bindings that we hold, and those in which targets were abandoned.
    /// Forgets groups that nothing names any more.
    fn looked_at(&mut self) -> BTreeSet<TargetGroupArn> {
        let abandoned = self.orphans.values().filter(|(record, _)| record.abandoned);
        let abandoned: BTreeSet<TargetGroupArn> = abandoned
            .map(|(record, _)| record.group.arn.clone())
            .collect();
        let groups = |held: &Held| -> Vec<TargetGroupArn> {
            held.groups().map(|group| group.arn.clone()).collect()
        };
        let named: BTreeSet<TargetGroupArn> = self.held.values().flat_map(groups).collect();
        self.groups.retain(|arn, group| {
            named.contains(arn)
                || abandoned.contains(arn)
                || group.register.is_busy()
                || group.deregister.is_busy()
        });
        let ours = self
            .held
            .values()
            .filter(|held| held.standing.is_ours() || held.may_leave());
        ours.flat_map(groups).chain(abandoned).collect()
    }

    /// Tracks bindings whose record is about the group that they name now.
    fn track_moved(&mut self, index: &Index, now: Instant) {
        let held = self.held.values().filter(|held| held.wants());
        let untracked = held.filter(|held| !self.wanted.is_tracked(&held.key));
        let untracked: Vec<BindingKey> = untracked.map(|held| held.key.clone()).collect();
        for key in untracked {
            self.see_binding(&key, &BTreeSet::new(), index, now);
        }
    }

    /// Brings what a group has to send up to date, and says what its bindings are told.
    fn settle(
        &mut self,
        arn: &TargetGroupArn,
        index: &Index,
        now: Instant,
        actions: &mut Vec<Action>,
    ) {
        let wants = self.wanted.of_group(arn);
        let Some(group) = self.groups.get_mut(arn) else {
            return;
        };
        let of_group = |held: &&mut Held| held.groups().any(|group| group.arn == *arn);
        let mut active = BTreeSet::new();
        let mut recorded: BTreeSet<Target> = BTreeSet::new();
        let mut kept: BTreeSet<Target> = BTreeSet::new();
        let mut is_settled = self.view.works;
        for held in self.held.values_mut().filter(of_group) {
            let missing = self.wanted.missing(&held.key);
            actions.extend(
                held.see_absence(missing, now)
                    .filter(|_| held.standing.is_ours()),
            );
            is_settled &= !held.is_unsettled();
            if held.is_active() {
                active.insert(held.key.clone());
            }
            if held.may_leave() {
                recorded.extend(held.recorded(arn));
                let given_up = held.is_cleaned_up() || held.has_moved() || held.is_given_up(now);
                if !given_up {
                    kept.extend(held.recorded(arn));
                }
            }
        }
        let given_up: BTreeSet<Target> = &recorded - &kept;
        let wanted = wants.wanted.iter();
        let registrable = wanted.filter(|(_, want)| !want.bindings.is_disjoint(&active));
        let registrable: BTreeSet<Target> = registrable.map(|(target, _)| *target).collect();
        let inputs = Inputs {
            wants: &wants,
            registrable: &registrable,
            recorded: &recorded,
            given_up: &given_up,
            may_leave: self.view.synced && self.records_read,
            is_settled,
        };
        let mut adopt = group.settle(&inputs, |ip| index.is_held(ip), now);
        if self.records_read {
            // What another binding wants stays in the group, and passes from one record to the other.
            let shared: BTreeSet<Target> = given_up_by(&self.held, arn)
                .filter(|target| wants.wanted.contains_key(target))
                .collect();
            adopt.extend(&shared & &registrable);
            adopt_into(&mut self.held, &active, &adopt, &wants, now, actions);
            pass_on(&mut self.held, &active, &shared, &wants);
        }
        let verdict = group.verdict.clone();
        for held in self.held.values_mut().filter(of_group) {
            if self.incumbent.is_some() {
                actions.extend(tell(held, verdict.as_ref()));
            }
        }
    }

    /// The next step of each binding that is to be taken over, given back or let go.
    fn advance(&mut self, now: Instant, actions: &mut Vec<Action>) {
        if !self.records_read || !self.view.synced {
            return;
        }
        for held in self.held.values_mut() {
            let of = held
                .stored
                .as_ref()
                .map(|(record, _)| &record.group)
                .or(held.group.as_ref());
            let group = of.and_then(|group| self.groups.get(&group.arn));
            let described = group.and_then(|group| group.described.as_ref());
            let listing = described.map(|(listing, _)| {
                let registered = listing.iter().filter(|(_, listed)| listed.is_registered());
                registered.map(|(target, _)| *target).collect()
            });
            let gone = group.is_some_and(|group| group.gone);
            actions.extend(held.step(listing.as_ref(), gone, now));
            if held.is_to_be_reduced() || held.is_unsure() {
                actions.extend(held.record(&BTreeSet::new(), now));
            }
        }
    }

    /// Deletes the records of bindings that are gone; one that was abandoned stays until its targets are gone as well.
    fn delete_orphans(&mut self, actions: &mut Vec<Action>) {
        if !self.records_read || !self.view.synced || !self.view.works {
            return;
        }
        for (uid, (record, version)) in &self.orphans {
            let group = self.groups.get(&record.group.arn);
            let described = group.and_then(|group| group.described.as_ref());
            let empty = described.is_some_and(|(listing, _)| {
                !record
                    .targets
                    .iter()
                    .any(|target| listing.contains_key(target))
            });
            let gone = empty || group.is_some_and(|group| group.gone);
            if (!record.abandoned || gone) && self.deleting.insert(uid.clone()) {
                let (uid, version) = (uid.clone(), version.clone());
                actions.push(Action::DeleteRecord { uid, version });
            }
        }
    }

    /// Begins the calls that are due and that the budget allows: those of ended pods first, then registrations, then
    /// the rest. Returns when to try again for a token.
    fn calls(&mut self, index: &Index, now: Instant, actions: &mut Vec<Action>) -> Option<Instant> {
        let (mut again, mut spent) = (None, BTreeSet::new());
        while let Some((arn, kind)) = self.most_urgent(&spent, now) {
            let quota = Quota::of(&arn);
            // What was queued may not be wanted any more.
            self.settle(&arn, index, now, actions);
            let next = self
                .groups
                .get(&arn)
                .and_then(|group| group.next(kind, now));
            let Some(next) = next else {
                spent.insert((arn, kind));
                continue;
            };
            let targets: BTreeSet<Target> = next.targets.iter().map(|named| named.target).collect();
            if kind == Kind::Register && !self.is_recorded(&arn, &targets, now, actions) {
                spent.insert((arn, kind));
                continue;
            }
            let request = PollRequest {
                groups: 1,
                likely_healthy: true,
            };
            let none = Admissions::default();
            if let Err(wait) = self.buckets.try_take_for_loop(&quota, request, none, now) {
                again = Some(again.map_or(now + wait, |at: Instant| at.min(now + wait)));
                let others = self.groups.keys().filter(|arn| Quota::of(arn) == quota);
                let both = others.flat_map(|arn| {
                    [Kind::Register, Kind::Deregister].map(|kind| (arn.clone(), kind))
                });
                spent.extend(both);
                continue;
            }
            if let Some(group) = self.groups.get_mut(&arn) {
                let call = Call {
                    kind,
                    group: group.key.clone(),
                    targets: next.targets,
                    begun: now,
                };
                group.begin(&call);
                actions.push(Action::Call(call));
            }
        }
        again
    }

    fn most_urgent(
        &self,
        spent: &BTreeSet<(TargetGroupArn, Kind)>,
        now: Instant,
    ) -> Option<(TargetGroupArn, Kind)> {
        let kinds = [Kind::Deregister, Kind::Register];
        let all = self
            .groups
            .iter()
            .flat_map(|(arn, group)| kinds.map(|kind| (arn, group, kind)));
        let free = all.filter(|(arn, _, kind)| !spent.contains(&((*arn).clone(), *kind)));
        let ranked = free.filter_map(|(arn, group, kind)| {
            let next = group.next(kind, now)?;
            let urgent = kind == Kind::Deregister && group.is_urgent(&next);
            let rest = kind == Kind::Deregister || next.again;
            let rank = if rest {
                next.since + PATIENCE
            } else {
                next.since
            };
            Some(((!urgent, rank), arn.clone(), kind))
        });
        let first = ranked.min_by(|(a, _, _), (b, _, _)| a.cmp(b));
        first.map(|(_, arn, kind)| (arn, kind))
    }

    /// Whether the records name these targets, each in that of every active binding that wants it; else has them
    /// written.
    fn is_recorded(
        &mut self,
        arn: &TargetGroupArn,
        targets: &BTreeSet<Target>,
        now: Instant,
        actions: &mut Vec<Action>,
    ) -> bool {
        let wants = self.wanted.of_group(arn);
        let mut all = true;
        for held in self.held.values_mut().filter(|held| held.is_active()) {
            let wanted = wants
                .wanted
                .iter()
                .filter(|(_, want)| want.bindings.contains(&held.key));
            let wanted: BTreeSet<Target> = wanted.map(|(target, _)| *target).collect();
            let lacking = targets
                .intersection(&wanted)
                .filter(|target| !held.has_recorded(target));
            if lacking.count() > 0 {
                all = false;
                actions.extend(held.record(&wanted, now));
            }
        }
        all
    }

    /// Begins the descriptions that are due. Returns when to try again.
    fn describe(
        &mut self,
        now: Instant,
        actions: &mut Vec<Action>,
        poll: &mut impl FnMut(&Quota) -> Result<(), Instant>,
    ) -> Option<Instant> {
        let mut wakes = vec![];
        for arn in self.looked_at() {
            let Some(group) = self.groups.get_mut(&arn) else {
                continue;
            };
            let Some(at) = group.describe_at() else {
                continue;
            };
            match at <= now {
                false => wakes.push(at),
                true => match poll(&Quota::of(&arn)) {
                    Ok(()) => {
                        group.begin_describing();
                        actions.push(Action::Describe(group.key.clone()));
                    }
                    Err(again) => wakes.push(again),
                },
            }
        }
        wakes.into_iter().min()
    }

    /// Takes in ELB's answer about a whole group, ours or one that the gates asked for.
    pub fn described(
        &mut self,
        arn: &TargetGroupArn,
        requested: Instant,
        answer: Result<Listing, &CallError>,
        now: Instant,
    ) {
        let groups = self.groups.len();
        if let Some(group) = self.groups.get_mut(arn) {
            group.described(answer, requested, groups, now);
            self.dirty.insert(arn.clone());
        }
    }

    /// Takes in how a call ended.
    pub fn called(&mut self, call: &Call, outcome: Result<(), &CallError>, now: Instant) {
        let arn = &call.group.arn;
        if outcome.is_err_and(|error| error.kind == CallErrorKind::Throttled) {
            self.buckets.throttled(&Quota::of(arn), call.begun, now);
        }
        let wants = self.wanted.of_group(arn);
        let Some(group) = self.groups.get_mut(arn) else {
            return;
        };
        let out = group.called(call, outcome, &wants, now);
        for held in self.held.values_mut() {
            let named: Vec<Target> = held.recorded(arn).copied().collect();
            held.drop_targets(named.into_iter().filter(|target| out.contains(target)));
        }
        self.dirty.insert(arn.clone());
    }

    /// Takes in how a write of a record ended.
    pub fn recorded(&mut self, uid: &Arc<str>, outcome: &Written, now: Instant) {
        if let Some(held) = self.held.values_mut().find(|held| held.uid == *uid) {
            let version = match outcome {
                Written::Done(version) => version.clone(),
                _ => None,
            };
            held.recorded_as(version, now);
            self.dirty
                .extend(held.groups().map(|group| group.arn.clone()));
        }
    }

    /// Takes in how a patch of a binding's finalizers ended.
    pub fn patched(&mut self, key: &BindingKey, outcome: &Written, now: Instant) {
        let Some(held) = self.held.get_mut(key) else {
            return;
        };
        let anew = held.patched(matches!(outcome, Written::Done(_)), now);
        let arns: Vec<TargetGroupArn> = held.groups().map(|group| group.arn.clone()).collect();
        for arn in arns {
            if let Some(group) = self.groups.get_mut(&arn).filter(|_| anew) {
                group.look_anew(now);
            }
            self.dirty.insert(arn);
        }
    }

    /// Takes in that the status of a binding could not be written.
    pub fn untold(&mut self, key: &BindingKey) {
        if let Some(held) = self.held.get_mut(key) {
            held.untold();
        }
    }

    /// Takes in what a live read of a binding's Service found; an error if it found out nothing.
    pub fn confirmed(
        &mut self,
        key: &BindingKey,
        found: Result<Option<&Service>, ()>,
        index: &Index,
        now: Instant,
    ) {
        let binding = index.binding(key);
        let absent = found.ok().zip(binding).map(|(service, binding)| {
            let service = service.filter(|service| !service.external_name);
            service.is_none_or(|service| service_port(binding, service).is_none())
        });
        let Some(held) = self.held.get_mut(key) else {
            return;
        };
        if held.confirmed(absent, now) {
            self.wanted.absence_confirmed(key);
        }
        self.dirty
            .extend(held.groups().map(|group| group.arn.clone()));
    }

    /// Why a target that is wanted does not go in, in ELB's words; `None` if it is in, or on its way.
    pub fn why(&self, group: &TargetGroupArn, target: &Target) -> Option<&Told> {
        self.groups.get(group)?.register.why(target)
    }

    /// What the metrics count.
    pub fn counts(&self) -> Counts {
        let mut all = Counts::default();
        for counts in self.groups.values().map(|group| &group.counts) {
            all.wanted += counts.wanted;
            all.registered += counts.registered;
            all.held_by_floor += counts.held_by_floor;
            all.foreign += counts.foreign;
            all.fights += counts.fights;
            for (reason, number) in &counts.unregistered {
                *all.unregistered.entry(*reason).or_default() += number;
            }
        }
        all
    }
}

fn held_groups(held: &BTreeMap<BindingKey, Held>, key: &BindingKey) -> Vec<crate::names::GroupKey> {
    let held = held.get(key).into_iter();
    held.flat_map(Held::groups).cloned().collect()
}

/// The targets in the records of bindings that want nothing any more.
fn given_up_by<'a>(
    held: &'a BTreeMap<BindingKey, Held>,
    arn: &'a TargetGroupArn,
) -> impl Iterator<Item = Target> + 'a {
    let leaving = held
        .values()
        .filter(|held| held.is_cleaned_up() || held.has_moved());
    leaving.flat_map(|held| held.recorded(arn)).copied()
}

/// Takes targets out of the records of bindings that want nothing any more, once each active binding that wants one
/// has it in its own.
fn pass_on(
    held: &mut BTreeMap<BindingKey, Held>,
    active: &BTreeSet<BindingKey>,
    shared: &BTreeSet<Target>,
    wants: &GroupWants,
) {
    let passed = shared.iter().filter(|target| {
        let wanting = wants.wanted.get(*target).map(|want| &want.bindings);
        let mut wanting = wanting
            .into_iter()
            .flatten()
            .filter(|key| active.contains(*key));
        wanting.all(|key| held.get(key).is_some_and(|held| held.has_recorded(target)))
    });
    let passed: Vec<Target> = passed.copied().collect();
    for held in held
        .values_mut()
        .filter(|held| held.is_cleaned_up() || held.has_moved())
    {
        held.drop_targets(passed.iter().copied());
    }
}

/// Has targets recorded that are registered already: each by the active bindings that want it, or by the first of them.
fn adopt_into(
    held: &mut BTreeMap<BindingKey, Held>,
    active: &BTreeSet<BindingKey>,
    adopt: &BTreeSet<Target>,
    wants: &GroupWants,
    now: Instant,
    actions: &mut Vec<Action>,
) {
    let first = active.first();
    for held in held.values_mut().filter(|held| active.contains(&held.key)) {
        let its = adopt
            .iter()
            .filter(|target| match wants.wanted.get(*target) {
                Some(want) => want.bindings.contains(&held.key),
                None => first == Some(&held.key),
            });
        let its: BTreeSet<Target> = its.copied().collect();
        if !its.is_empty() {
            actions.extend(held.record(&its, now));
        }
    }
}

/// What a binding is told: why it is not ours, or how its group fares.
fn tell(held: &mut Held, verdict: Option<&(bool, Reason, String)>) -> Vec<Action> {
    match (held.standing, verdict) {
        (Standing::NotOurs(reason), _) if is_no_news(reason) => vec![],
        (_, Some((_, reason, words))) if held.is_cleaned_up() => {
            let reason = match reason {
                Reason::CallRefused | Reason::TargetRefused => Reason::CleanupFailed,
                Reason::TargetGroupNotFound => *reason,
                _ => return vec![],
            };
            held.tell(false, reason, words)
        }
        (Standing::NotOurs(reason) | Standing::Suspended(reason), _) => {
            held.tell(false, reason, reason.sentence())
        }
        (Standing::Ours, Some((ready, reason, words))) if held.is_active() => {
            held.tell(*ready, *reason, words)
        }
        (Standing::Ours, _) => vec![],
    }
}

/// Whether a binding that is not ours for this reason is as its owner wants it.
fn is_no_news(reason: Reason) -> bool {
    matches!(
        reason,
        Reason::RegistrationOff
            | Reason::BindingGone
            | Reason::Released
            | Reason::TargetTypeInstance
    )
}
