//! State machine of the registrar, without I/O: which targets go into which group, and out of it (contract 8).
//!
//! The controller feeds it with what watches show, what ELB answers and how writes and calls end, and carries out the
//! actions that it returns. Time is passed in. A replica that does not lead takes in what watches show, and acts on
//! nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

use crate::binding::allow_list::AllowList;
use crate::elb::buckets::Buckets;
use crate::gates::refusals::Refused;
use crate::index::{BindingKey, Changes, Index};
use crate::names::{GroupKey, ObjectKey, Quota, TargetGroupArn};
use crate::targets::Target;
use crate::targets::calls::LIMITS;
use crate::targets::calls::outbox::Told;
use crate::targets::machine::action::{Action, Settings, Step, View};
use crate::targets::machine::group::{Group, Inputs};
use crate::targets::machine::held::Held;
use crate::targets::machine::sharing::{adopt_into, given_up_by, pass_on};
use crate::targets::machine::telling::tell;
use crate::targets::record::Record;
use crate::targets::slices::Slices;
use crate::targets::standing::Incumbent;
use crate::targets::wanted::{Touched, Wanted};

pub mod action;
mod advancing;
mod counting;
mod group;
mod held;
pub mod known;
mod outcomes;
mod sending;
mod sharing;
mod telling;
#[cfg(test)]
mod tests;

/// Of more ended targets of a group, those alone are kept that a record names: nothing else leaves for the end of its
/// pod, and a replica that does not lead takes none out. AWS's default quota of targets in a group.
const MOST_ENDED: usize = 1_000;

/// All bindings that ask for registration, and their groups.
#[derive(Debug)]
pub struct Registrar {
    settings: Settings,
    wanted: Wanted,
    pub slices: Slices,
    held: BTreeMap<BindingKey, Held>,
    /// The records whose binding is not known, by UID.
    orphans: BTreeMap<Arc<str>, (Record, Arc<str>)>,
    /// The orphans that are being deleted, and when that is tried again, if it failed.
    deleting: BTreeMap<Arc<str>, Option<Instant>>,
    groups: BTreeMap<TargetGroupArn, Group>,
    dirty: BTreeSet<TargetGroupArn>,
    /// What is to be told of pods and bindings, and of groups that are forgotten.
    news: Vec<Action>,
    buckets: Buckets,
    /// `None` until its Lease was read, which counts as if it led.
    incumbent: Option<Incumbent>,
    /// When the last read of its Lease was sent that was answered.
    lease_read: Option<Instant>,
    /// Whether a read is asked for.
    asks_for_lease: bool,
    view: View,
    records_read: bool,
    /// How many groups ELB is asked about.
    looked_at: usize,
    leads: bool,
}

impl Registrar {
    /// A registrar that does not lead.
    pub fn new(settings: Settings, now: Instant) -> Self {
        Self {
            wanted: Wanted::new(settings.slice_addresses),
            settings,
            slices: Slices::default(),
            held: BTreeMap::new(),
            orphans: BTreeMap::new(),
            deleting: BTreeMap::new(),
            groups: BTreeMap::new(),
            dirty: BTreeSet::new(),
            news: vec![],
            buckets: Buckets::new(LIMITS, now),
            incumbent: None,
            lease_read: None,
            asks_for_lease: false,
            view: View::default(),
            records_read: false,
            looked_at: 0,
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
        (self.lease_read, self.asks_for_lease) = (None, false);
        self.held.values_mut().for_each(Held::forget_absence);
        for group in self.groups.values_mut() {
            group.look_anew(now);
            group.tell_anew();
        }
        self.dirty.extend(self.groups.keys().cloned());
    }

    /// This replica stops leading.
    pub fn follow(&mut self) {
        self.leads = false;
        self.news.clear();
    }

    /// Takes in whether the watches have synced in this leadership, and work.
    pub fn see(&mut self, view: View) {
        if self.view != view {
            self.view = view;
            self.dirty.extend(self.groups.keys().cloned());
        }
    }

    /// Takes in whether the incumbent leads, after a read of its Lease that was sent at `read`, or not answered.
    pub fn see_incumbent(
        &mut self,
        incumbent: Incumbent,
        read: Option<Instant>,
        index: &Index,
        now: Instant,
    ) {
        self.lease_read = self.lease_read.max(read);
        self.asks_for_lease = false;
        if self.incumbent.replace(incumbent) != Some(incumbent) {
            self.see_all(index, now);
        }
    }

    /// Takes in another allow-list.
    pub fn allow(&mut self, list: Option<Arc<AllowList>>, index: &Index, now: Instant) {
        self.settings.policy.allow_list = list;
        self.see_all(index, now);
    }

    fn see_all(&mut self, index: &Index, now: Instant) {
        let keys: Vec<BindingKey> = self.held.keys().cloned().collect();
        for key in keys {
            self.see_binding(&key, &BTreeSet::new(), index, now);
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
        self.news
            .extend(held.switched(binding).filter(|_| self.leads));
        held.see(binding);
        let record = held.stored.as_ref().map(|(record, _)| record);
        let policy = &self.settings.policy;
        let incumbent = self.incumbent.unwrap_or(Incumbent::Leads);
        held.standing = policy.standing(key, index, record, incumbent, held.alone);
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
            self.take_role(&arn, index, now);
            self.dirty.insert(arn);
        }
    }

    /// Calls a group with the role that a binding of ours names, which may be edited.
    fn take_role(&mut self, arn: &TargetGroupArn, index: &Index, now: Instant) {
        let bindings = index.bindings_of_group(arn);
        let ours = bindings
            .filter_map(|(key, _)| self.held.get(key))
            .filter(|held| held.standing.is_ours());
        let named: Vec<&GroupKey> = ours.filter_map(|held| held.group.as_ref()).collect();
        if let Some(group) = self.groups.get_mut(arn)
            && let Some(first) = named.first()
            && !named.contains(&&group.key)
        {
            group.take_role(first, now);
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
        for (arn, target) in &touched.ended {
            if let Some(group) = self.groups.get_mut(arn) {
                group.ended.insert(*target);
                if group.ended.len() > MOST_ENDED {
                    let recorded = self.held.values().flat_map(|held| held.recorded(arn));
                    let recorded: BTreeSet<Target> = recorded.copied().collect();
                    group.ended.retain(|target| recorded.contains(target));
                }
            }
            self.dirty.insert(arn.clone());
        }
        // Also while another replica leads: another pod can take the address over, and be unwanted by the time we lead.
        for arn in &touched.groups {
            let group = self.groups.get_mut(arn);
            if let Some(group) = group.filter(|group| !group.ended.is_empty()) {
                let wants = self.wanted.of_group(arn);
                group
                    .ended
                    .retain(|target| !wants.wanted.contains_key(target));
            }
        }
        self.dirty.extend(touched.groups);
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
                // One whose deletion failed is deleted again.
                self.deleting.remove(uid);
                self.orphans.insert(uid.clone(), stored);
            }
            return;
        };
        held.see_record(record);
        let key = held.key.clone();
        self.see_binding(&key, &BTreeSet::new(), index, now);
    }

    /// The records that are known, by UID.
    pub fn known_records(&self) -> BTreeSet<Arc<str>> {
        let held = self.held.values().filter(|held| held.stored.is_some());
        let held = held.map(|held| &held.uid);
        held.chain(self.orphans.keys()).cloned().collect()
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
        step.actions.append(&mut self.news);
        let due = self
            .groups
            .iter()
            .filter(|(_, group)| group.wake(now).is_some_and(|at| at <= now));
        self.dirty.extend(due.map(|(arn, _)| arn.clone()));
        let timed = |held: &&Held| held.is_absent() || held.is_to_be_told(now);
        let timed = self.held.values().filter(timed).flat_map(Held::groups);
        self.dirty.extend(timed.map(|group| group.arn.clone()));
        for arn in std::mem::take(&mut self.dirty) {
            self.settle(&arn, index, now, &mut step.actions);
        }
        self.advance(now, &mut step.actions);
        self.track_moved(index, now);
        self.delete_orphans(now, &mut step.actions);
        let token = self.calls(index, now, &mut step.actions);
        let described = self.describe(now, &mut step.actions, &mut poll);
        // What is due and does not go waits for a token, or for the end of a call or write, which wakes the controller.
        let groups = self.groups.values().filter_map(|group| group.wake(now));
        let groups = groups.filter(|at| *at > now);
        let held = self.held.values().filter_map(|held| held.wake(now));
        let news = (!self.dirty.is_empty()).then_some(now);
        let wakes = groups.chain(held).chain(token).chain(described).chain(news);
        step.wake = wakes.min();
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
        let news = &mut self.news;
        self.groups.retain(|arn, group| {
            let stays = named.contains(arn)
                || abandoned.contains(arn)
                || group.register.is_busy()
                || group.deregister.is_busy();
            if !stays && group.has_told_refusals() {
                let (group, targets) = (arn.clone(), Refused::new());
                news.push(Action::Refused { group, targets });
            }
            stays
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
            // What is not ours is not asked about, and the time of its absence begins when it becomes ours.
            let missing = self.wanted.missing(&held.key);
            let missing = missing.filter(|_| held.standing.is_ours());
            actions.extend(held.see_absence(missing, now));
            is_settled &= !held.is_unsettled();
            if held.is_active() {
                active.insert(held.key.clone());
            }
            if held.may_leave() {
                recorded.extend(held.recorded(arn));
                let given_up = held.is_cleaned_up()
                    || held.has_moved()
                    || (self.view.works && held.is_given_up());
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
            is_active: !active.is_empty(),
            may_leave: self.view.synced && self.records_read,
            is_settled,
        };
        let mut adopt = group.settle(&inputs, |ip| index.is_held(ip), now);
        actions.extend(group.news_of_refusals().map(|targets| Action::Refused {
            group: arn.clone(),
            targets,
        }));
        let out = group.take_out();
        for held in self.held.values_mut().filter(of_group) {
            held.drop_from(arn, &out);
        }
        if self.records_read {
            // What another binding wants stays in the group, and passes from one record to the other.
            let shared: BTreeSet<Target> = given_up_by(&self.held, arn)
                .filter(|target| wants.wanted.contains_key(target))
                .collect();
            adopt.extend(&shared & &registrable);
            adopt_into(&mut self.held, &active, &adopt, &wants, now, actions);
            // Before the incumbent's Lease was read, it is not known which bindings are ours.
            if self.incumbent.is_some() {
                pass_on(&mut self.held, &shared, &wants);
            }
        }
        let verdict = group.verdict.clone();
        for held in self.held.values_mut().filter(of_group) {
            if self.incumbent.is_some() {
                actions.extend(tell(held, verdict.as_ref(), now));
            }
        }
    }

    /// Why a target that is wanted does not go in, in ELB's words; `None` if it is in, or on its way.
    pub fn why(&self, group: &TargetGroupArn, target: &Target) -> Option<&Told> {
        self.groups.get(group)?.register.why(target)
    }
}

fn held_groups(held: &BTreeMap<BindingKey, Held>, key: &BindingKey) -> Vec<GroupKey> {
    let held = held.get(key).into_iter();
    held.flat_map(Held::groups).cloned().collect()
}
