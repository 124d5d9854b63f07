//! ELB and the API server as far as a registrar sees them.

use fastrand::Rng;
use jiff::Timestamp;

use super::*;
use crate::fixtures::epoch;
use crate::gates::refusals::Refused;
use crate::model::{IpFamily, Protocol, TargetState};
use crate::names::{AssumedRole, GroupKey};
use crate::targets::difference::Listed;
use crate::targets::machine::action::Finalizer;
use crate::targets::slices::{Endpoint, Slice, SliceAddresses, SlicePort};
use crate::targets::standing::Policy;

/// A target becomes healthy so long after its registration, and is gone so long after its deregistration.
const HEALTHY: Duration = Duration::from_millis(500);
const DRAINED: Duration = Duration::from_secs(3);

/// One target of the model ELB.
#[derive(Debug, Clone, Copy)]
pub(super) struct Held {
    since: Instant,
    leaves: bool,
}

/// What ends later.
#[derive(Debug)]
enum Done {
    Described(GroupKey, Instant),
    Called(Call),
    Recorded(Record, Option<Arc<str>>),
    Patched(BindingKey, Finalizer),
    Confirmed(BindingKey),
    LeaseRead(Instant),
    /// A registration whose answer was lost does its work only now.
    Late(Call),
    /// A watch shows a record.
    Shown(Arc<str>),
}

pub(super) struct World {
    pub(super) registrar: Registrar,
    pub(super) index: Index,
    pub(super) now: Instant,
    pub(super) random: Rng,
    pub(super) groups: BTreeMap<TargetGroupArn, BTreeMap<Target, Held>>,
    pub(super) records: BTreeMap<Arc<str>, (Record, Arc<str>)>,
    pub(super) calls: Vec<(Kind, BTreeSet<Target>)>,
    /// So many deletions of records are not answered.
    pub(super) deletions_to_fail: usize,
    /// The role of each call.
    pub(super) roles: Vec<Option<AssumedRole>>,
    /// A Service that there is, and that the watch does not show.
    pub(super) unseen: Option<Service>,
    pub(super) incumbent: Incumbent,
    /// Whether the Lease is read only where the registrar asks for it.
    pub(super) lease_is_read_on_demand: bool,
    pub(super) deadline: Option<Instant>,
    pub(super) denied: bool,
    pub(super) throttled: bool,
    pub(super) bad: BTreeSet<Target>,
    /// So many targets fit into a group.
    pub(super) quota: usize,
    /// Of so many calls and writes in a hundred, the end is lost or they fail.
    pub(super) faults: u8,
    /// What a record has ever named: what was decided on the last known record may be sent while a write of it is lost.
    named: BTreeSet<(TargetGroupArn, Target)>,
    /// What we put into each group and did not take out.
    ours: BTreeSet<(TargetGroupArn, Target)>,
    /// How often each reason was told.
    tells: BTreeMap<&'static str, usize>,
    /// The groups about which ELB was asked, in order.
    pub(super) descriptions: Vec<TargetGroupArn>,
    /// The last words with which each reason was told.
    pub(super) last_words: BTreeMap<&'static str, Arc<str>>,
    /// Whether a hook refuses each patch of finalizers.
    pub(super) is_refused_by_a_hook: bool,
    /// The binding whose patches alone are refused.
    pub(super) refused_by_a_policy: Option<&'static str>,
    /// What the gates were told of targets that AWS does not take, by the name of the group, and how often.
    pub(super) refused: BTreeMap<String, Refused>,
    pub(super) refusals_told: usize,
    /// The pods that were told, in order.
    pub(super) told_pods: Vec<String>,
    /// The conditions that were written, in order.
    pub(super) statuses: Vec<(bool, Reason)>,
    later: BTreeMap<(Instant, u64), Done>,
    serial: u64,
}

impl World {
    pub(super) fn new(seed: u64) -> Self {
        let now = epoch();
        let mut index = Index::default();
        index.keep_all_pods();
        let mut world = Self {
            registrar: Self::registrar(now),
            index,
            now,
            random: Rng::with_seed(seed),
            groups: BTreeMap::new(),
            records: BTreeMap::new(),
            calls: vec![],
            deletions_to_fail: 0,
            roles: vec![],
            unseen: None,
            incumbent: Incumbent::Gone,
            lease_is_read_on_demand: false,
            deadline: None,
            denied: false,
            throttled: false,
            bad: BTreeSet::new(),
            quota: usize::MAX,
            faults: 0,
            named: BTreeSet::new(),
            ours: BTreeSet::new(),
            tells: BTreeMap::new(),
            descriptions: vec![],
            last_words: BTreeMap::new(),
            is_refused_by_a_hook: false,
            refused_by_a_policy: None,
            refused: BTreeMap::new(),
            refusals_told: 0,
            told_pods: vec![],
            statuses: vec![],
            later: BTreeMap::new(),
            serial: 0,
        };
        world.sync();
        world
    }

    fn registrar(now: Instant) -> Registrar {
        let policy = Policy {
            mode: Mode::All,
            allow_list: None,
            incumbent_namespaces: None,
            deployment: None,
        };
        let settings = Settings {
            policy,
            slice_addresses: SliceAddresses::Any,
        };
        let mut registrar = Registrar::new(settings, now);
        registrar.lead(now);
        registrar
    }

    /// Another process leads, which knows what the watches know. What was under way is lost, its work may be done.
    pub(super) fn fail_over(&mut self, synced: bool) {
        self.registrar = Self::registrar(self.now);
        let late: Vec<Done> = std::mem::take(&mut self.later).into_values().collect();
        for done in late {
            if let Done::Called(call) = done
                && self.random.bool()
            {
                _ = self.apply_call(&call);
            }
        }
        let mut changes = Changes::default();
        let view = self.index.namespace("shop");
        for binding in view.into_iter().flat_map(|view| view.routes.bindings()) {
            changes.bindings.insert(key(&binding.name));
        }
        self.registrar.observe(&changes, &self.index, self.now);
        if synced {
            self.sync();
        }
    }

    /// All watches have synced, and the records were read.
    pub(super) fn sync(&mut self) {
        self.works(true);
        for (uid, stored) in self.records.clone() {
            let stored = Some(stored);
            self.registrar
                .see_record(&uid, stored, &self.index, self.now);
        }
        self.registrar.records_read();
    }

    pub(super) fn works(&mut self, works: bool) {
        self.registrar.see(View {
            synced: true,
            works,
        });
    }

    fn observe(&mut self) {
        let changes = self.index.take_changes();
        self.registrar.observe(&changes, &self.index, self.now);
    }

    pub(super) fn apply(&mut self, pod: Pod) {
        self.index.apply_pod(pod);
        self.observe();
    }

    /// A list lacks a pod.
    pub(super) fn lose(&mut self, name: &str) {
        let mut listing = crate::index::Listing::default();
        let view = self.index.namespace("shop");
        let pods = view
            .into_iter()
            .flat_map(|view| view.all_pods())
            .map(|pod| pod.key.clone());
        listing.keys = pods.filter(|key| &*key.name != name).collect();
        self.index.retain_pods(&listing);
        self.observe();
    }

    pub(super) fn serve(&mut self, name: &str, service: Service) {
        self.index
            .apply_service(&ObjectKey::new("shop", name), service);
        self.observe();
    }

    pub(super) fn slice(&mut self, name: &str, addresses: &[u8]) {
        let endpoint = |last: &u8| Endpoint {
            address: target(*last).0,
            pod: None,
            ready: true,
        };
        let port = SlicePort {
            name: "http".into(),
            protocol: Protocol::Tcp,
            number: 8080,
        };
        let slice = Slice {
            service: "web".into(),
            family: IpFamily::V4,
            ports: vec![port],
            endpoints: addresses.iter().map(endpoint).collect(),
        };
        let key = ObjectKey::new("shop", name);
        let services = self.registrar.slices.apply(&key, slice);
        self.registrar.observe_slices(services, &self.index);
    }

    pub(super) fn remove_service(&mut self, name: &str) {
        self.index.delete_service(&ObjectKey::new("shop", name));
        self.observe();
    }

    pub(super) fn bind(&mut self, binding: Binding) {
        if let Some(arn) = &binding.arn {
            self.groups.entry(arn.clone()).or_default();
        }
        self.index.apply_binding(&"shop".into(), binding);
        self.observe();
    }

    pub(super) fn change_binding(&mut self, name: &str, change: impl FnOnce(&mut Binding)) {
        if let Some(mut binding) = self.index.binding(&key(name)).cloned() {
            change(&mut binding);
            let held =
                binding.registration.our_finalizer || binding.registration.incumbent_finalizer;
            match binding.terminating && !held {
                true => self.index.delete_binding(&key(name)),
                false => self.index.apply_binding(&"shop".into(), binding),
            }
            self.observe();
        }
    }

    pub(super) fn delete_binding(&mut self, name: &str) {
        self.change_binding(name, |binding| binding.terminating = true);
    }

    pub(super) fn is_bound(&self, name: &str) -> bool {
        self.index.binding(&key(name)).is_some()
    }

    /// Whether our finalizer, and the incumbent's, is on a binding.
    pub(super) fn finalizers(&self, name: &str) -> (bool, bool) {
        let registration = &self.index.binding(&key(name)).unwrap().registration;
        (registration.our_finalizer, registration.incumbent_finalizer)
    }

    pub(super) fn delete_record(&mut self, uid: &str) {
        if let Some((record, _)) = self.records.remove(uid) {
            self.ours
                .retain(|(_, target)| !record.targets.contains(target));
        }
        self.registrar
            .see_record(&uid.into(), None, &self.index, self.now);
    }

    /// `targetgate release` marks a record, or clears the mark.
    pub(super) fn mark(&mut self, uid: &str, released: Option<&str>) {
        self.serial += 1;
        let (record, version) = self.records.get_mut(uid).unwrap();
        record.released = released.map(Into::into);
        *version = self.serial.to_string().into();
        self.later(Done::Shown(uid.into()));
    }

    /// AWS does not have the groups any more.
    pub(super) fn lose_groups(&mut self) {
        self.groups.clear();
        self.ours.clear();
    }

    /// Something else registers, or deregisters, a target.
    pub(super) fn register(&mut self, group: &str, target: Target) {
        let held = Held {
            since: self.now,
            leaves: false,
        };
        self.groups
            .entry(arn(group))
            .or_default()
            .insert(target, held);
    }

    pub(super) fn remove(&mut self, group: &str, target: Target) {
        self.groups.entry(arn(group)).or_default().remove(&target);
        self.ours.remove(&(arn(group), target));
    }

    pub(super) fn registered(&self, group: &str) -> BTreeSet<Target> {
        let held = self.groups.get(&arn(group)).into_iter().flatten();
        held.filter(|(_, held)| !held.leaves)
            .map(|(target, _)| *target)
            .collect()
    }

    pub(super) fn recorded(&self, uid: &str) -> BTreeSet<Target> {
        let record = self.records.get(uid);
        record
            .map(|(record, _)| record.targets.clone())
            .unwrap_or_default()
    }

    pub(super) fn told(&self, reason: &str) -> bool {
        self.times_told(reason) > 0
    }

    pub(super) fn times_told(&self, reason: &str) -> usize {
        self.tells.get(reason).copied().unwrap_or_default()
    }

    pub(super) fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        loop {
            if !self.lease_is_read_on_demand {
                self.read_lease(self.now);
            }
            let until = self.deadline.unwrap_or(self.now + 10 * S);
            let step = self
                .registrar
                .step(&self.index, until, self.now, |_| Ok(()));
            let spins = step.actions.is_empty() && step.wake.is_some_and(|at| at <= self.now);
            assert!(
                !spins,
                "it asks to be called again at once, though it does nothing"
            );
            for action in step.actions {
                self.carry_out(action);
            }
            self.check();
            let done = self.later.first_key_value().map(|((at, _), _)| *at);
            let wake = step.wake.map(|at| at.max(self.now + MS));
            let next = [done, wake, Some(self.now + 5 * S)]
                .into_iter()
                .flatten()
                .min();
            let next = next.unwrap_or(end);
            if next > end {
                self.now = end;
                return;
            }
            self.now = next;
            while let Some(entry) = self.later.first_entry().filter(|e| e.key().0 <= next) {
                let done = entry.remove();
                self.end(done);
            }
        }
    }

    fn read_lease(&mut self, sent: Instant) {
        let read = Some(sent);
        self.registrar
            .see_incumbent(self.incumbent, read, &self.index, self.now);
    }

    fn later(&mut self, done: Done) {
        let latency = MS * self.random.u32(5..40);
        self.after(latency, done);
    }

    fn after(&mut self, latency: Duration, done: Done) {
        self.serial += 1;
        self.later.insert((self.now + latency, self.serial), done);
    }

    fn fails(&mut self) -> bool {
        self.random.u8(..100) < self.faults
    }

    fn carry_out(&mut self, action: Action) {
        match action {
            Action::Call(call) => {
                let targets = call.targets.iter().map(|named| named.target).collect();
                self.check_call(&call, &targets);
                self.calls.push((call.kind, targets));
                self.roles.push(call.group.role.clone());
                self.later(Done::Called(call));
            }
            Action::Describe(group) => {
                self.descriptions.push(group.arn.clone());
                self.later(Done::Described(group, self.now));
            }
            Action::WriteRecord { record, replaces } => {
                self.later(Done::Recorded(record, replaces))
            }
            Action::DeleteRecord { uid, .. } if self.deletions_to_fail > 0 => {
                self.deletions_to_fail -= 1;
                let failed = Written::Failed("no answer".into());
                self.registrar.recorded(&uid, &failed, self.now);
            }
            Action::DeleteRecord { uid, .. } => self.delete_record(&uid),
            Action::Patch {
                binding, finalizer, ..
            } => self.later(Done::Patched(binding, finalizer)),
            Action::Confirm(key) => self.later(Done::Confirmed(key)),
            Action::ReadLease => self.later(Done::LeaseRead(self.now)),
            Action::Tell {
                reason, message, ..
            } => {
                *self.tells.entry(reason.as_str()).or_default() += 1;
                self.last_words.insert(reason.as_str(), message);
            }
            Action::Refused { group, targets } => {
                self.refusals_told += 1;
                self.refused.insert(group.name().to_owned(), targets);
            }
            Action::TellPod { pod, .. } => self.told_pods.push(pod.name.to_string()),
            Action::Status(status) => self.statuses.push((status.ready, status.reason)),
        }
    }

    /// What must hold when a call is begun.
    fn check_call(&self, call: &Call, targets: &BTreeSet<Target>) {
        let group = &call.group.arn;
        for target in targets {
            let recorded = self
                .records
                .values()
                .any(|(record, _)| record.group.arn == *group && record.targets.contains(target));
            let named = self.named.contains(&(group.clone(), *target));
            let may_leave = call.kind == Kind::Deregister && named;
            assert!(
                recorded || may_leave,
                "{:?} of {target:?}, which no record names",
                call.kind
            );
            if call.kind == Kind::Deregister {
                let bindings = self.index.bindings_of_group(group);
                let mut wanting = bindings.filter(|(_, binding)| !binding.terminating);
                let wanted = wanting.any(|(_, binding)| self.wants(binding, *target));
                assert!(!wanted, "{target:?} is deregistered, and wanted");
            }
        }
    }

    pub(super) fn wants(&self, binding: &Binding, (ip, port): Target) -> bool {
        let Some(service) = self.index.service("shop", &binding.service) else {
            return false;
        };
        let ports = port == 8080 && !service.ports.is_empty();
        let view = self.index.namespace("shop").unwrap();
        ports
            && view.all_pods().any(|pod| {
                let selected = crate::selector::selects(&service.selector, &pod.template.labels);
                pod.is_due() && selected && pod.ips.contains(&ip)
            })
    }

    /// The record never names less than what we put in.
    fn check(&self) {
        for (group, target) in &self.ours {
            let mut records = self.records.values();
            let named = records
                .any(|(record, _)| record.group.arn == *group && record.targets.contains(target));
            assert!(
                named,
                "{target:?} of {group} is ours, and no record names it"
            );
        }
    }

    /// What a call does, or why not.
    fn apply_call(&mut self, call: &Call) -> Result<(), CallError> {
        let refusal = |kind: CallErrorKind| CallError {
            kind,
            code: "Refused".into(),
            message: "no".into(),
        };
        if self.denied {
            return Err(refusal(CallErrorKind::Denied));
        }
        if self.throttled {
            return Err(refusal(CallErrorKind::Throttled));
        }
        let targets = call.targets.iter().map(|named| named.target);
        let register = call.kind == Kind::Register;
        if register && targets.clone().any(|target| self.bad.contains(&target)) {
            return Err(refusal(CallErrorKind::Target));
        }
        let arn = &call.group.arn;
        let group = self
            .groups
            .get_mut(arn)
            .ok_or_else(|| refusal(CallErrorKind::GroupNotFound))?;
        let stays = group.iter().filter(|(_, held)| !held.leaves);
        let stays: BTreeSet<Target> = stays.map(|(target, _)| *target).collect();
        let all = stays.len() + targets.clone().filter(|t| !stays.contains(t)).count();
        if register && all > self.quota {
            return Err(refusal(CallErrorKind::TooManyTargets));
        }
        for target in targets {
            let since = self.now;
            match register {
                true => {
                    let held = group.entry(target).or_insert(Held {
                        since,
                        leaves: false,
                    });
                    if held.leaves {
                        *held = Held {
                            since,
                            leaves: false,
                        };
                    }
                    self.ours.insert((arn.clone(), target));
                }
                false => {
                    if let Some(held) = group.get_mut(&target) {
                        *held = Held {
                            since,
                            leaves: true,
                        };
                    }
                    self.ours.remove(&(arn.clone(), target));
                }
            }
        }
        Ok(())
    }

    fn listing(&mut self, group: &GroupKey) -> Result<Listing, CallError> {
        let now = self.now;
        let Some(held) = self.groups.get_mut(&group.arn) else {
            return Err(CallError {
                kind: CallErrorKind::GroupNotFound,
                code: "TargetGroupNotFound".into(),
                message: "gone".into(),
            });
        };
        held.retain(|_, held| !held.leaves || now < held.since + DRAINED);
        let state = |held: &Held| match held {
            Held { leaves: true, .. } => TargetState::Draining,
            Held { since, .. } if now < *since + HEALTHY => TargetState::Initial,
            _ => TargetState::Healthy,
        };
        let listed = |held: &Held| Listed {
            state: state(held),
            zone: None,
        };
        Ok(held
            .iter()
            .map(|(target, held)| (*target, listed(held)))
            .collect())
    }

    fn end(&mut self, done: Done) {
        let other = CallError {
            kind: [CallErrorKind::Other, CallErrorKind::Throttled][self.random.usize(..2)],
            code: "Lost".into(),
            message: "no answer".into(),
        };
        let (fails, now) = (self.fails(), self.now);
        match done {
            Done::Described(group, requested) => {
                let listing = match fails {
                    true => Err(other),
                    false => self.listing(&group),
                };
                let answer = match &listing {
                    Ok(listing) => Ok(listing.clone()),
                    Err(error) => Err(error),
                };
                self.registrar.described(&group.arn, requested, answer, now);
            }
            Done::Called(call) => {
                // A call whose answer is lost may do its work, if late; one that is throttled does not.
                let outcome = match fails {
                    false => self.apply_call(&call),
                    true => Err(other),
                };
                self.registrar.called(&call, outcome.as_ref().copied(), now);
                let lost = outcome.is_err_and(|error| error.kind == CallErrorKind::Other);
                if fails && lost && self.random.bool() {
                    let latency = MS * self.random.u32(0..4_000);
                    self.after(latency, Done::Late(call));
                }
            }
            Done::LeaseRead(sent) => self.read_lease(sent),
            Done::Late(call) => _ = self.apply_call(&call),
            Done::Shown(uid) => {
                let shown = self.records.get(&uid).cloned();
                self.registrar.see_record(&uid, shown, &self.index, now);
            }
            Done::Recorded(record, replaces) => self.write_record(record, replaces, fails),
            Done::Patched(binding, finalizer) => self.patch(&binding, finalizer, fails),
            Done::Confirmed(binding) => {
                let service = self.index.binding(&binding);
                let service = service.and_then(|b| self.index.service("shop", &b.service));
                let service = service.or(self.unseen.as_ref());
                let found = if fails { Err(()) } else { Ok(service) };
                self.registrar.confirmed(&binding, found, &self.index, now);
            }
        }
    }

    fn write_record(&mut self, record: Record, replaces: Option<Arc<str>>, fails: bool) {
        let uid = record.uid.clone();
        let present = self.records.get(&uid).map(|(_, version)| version.clone());
        let lost = fails && self.random.bool();
        let outcome = match () {
            () if fails && !lost => Written::Failed("no answer".into()),
            () if present != replaces => Written::Conflict,
            () => {
                self.serial += 1;
                let version: Arc<str> = self.serial.to_string().into();
                let arn = &record.group.arn;
                self.named
                    .extend(record.targets.iter().map(|target| (arn.clone(), *target)));
                self.records.insert(uid.clone(), (record, version.clone()));
                match lost {
                    true => Written::Failed("no answer".into()),
                    false => Written::Done(Some(version)),
                }
            }
        };
        self.registrar.recorded(&uid, &outcome, self.now);
        let latency = MS * self.random.u32(0..1_000);
        self.after(latency, Done::Shown(uid));
    }

    fn patch(&mut self, key: &BindingKey, finalizer: Finalizer, fails: bool) {
        let fails = fails
            || self.is_refused_by_a_hook
            || self.refused_by_a_policy == Some(&*key.object.name);
        let outcome = match fails {
            true => Written::Failed("refused by a hook".into()),
            false => Written::Done(None),
        };
        self.registrar.patched(key, &outcome, self.now);
        if !fails {
            self.change_binding(&key.object.name.clone(), |binding| {
                let registration = &mut binding.registration;
                match finalizer {
                    Finalizer::AddOurs => registration.our_finalizer = true,
                    Finalizer::RemoveOurs => registration.our_finalizer = false,
                    Finalizer::RemoveIncumbents => registration.incumbent_finalizer = false,
                }
            });
        }
    }
}

/// The time at which a binding was created.
pub(super) fn created(second: i64) -> Option<Timestamp> {
    Timestamp::from_second(second).ok()
}
