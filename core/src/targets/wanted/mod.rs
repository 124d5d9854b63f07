//! Which targets are wanted in which group, over all bindings that ask for registration (contract 8).
//!
//! The pods of each binding are worked out once and then kept up to date, pod by pod; the union over the bindings of a
//! group is made when it is asked for. Time is not known here.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::Timestamp;

use crate::gates::target::{service_port, target};
use crate::index::{BindingKey, Changes, Index};
use crate::model::{Binding, Service, ServicePort};
use crate::names::{BindingApi, ObjectKey, TargetGroupArn};
use crate::packed::{PackedTime, PackedUid};
use crate::reason::Reason;
use crate::selector::selects;
use crate::targets::Target;
use crate::targets::slices::{SliceAddresses, Slices};
use crate::targets::wanted::by_pod::ByPod;
use crate::targets::wanted::member::{Member, Placed, State, has};

mod by_pod;
mod endpoints;
mod member;
#[cfg(test)]
mod tests;

pub use crate::targets::wanted::endpoints::LeftOut;

/// The pods, by key and UID, of which a watch said that they were deleted.
type Deleted = BTreeSet<(ObjectKey, Arc<str>)>;

/// The pods of each binding that is tracked.
#[derive(Debug, Default)]
pub struct Wanted {
    slice_addresses: SliceAddresses,
    bindings: BTreeMap<BindingKey, Members>,
    by_pod: ByPod,
    by_group: BTreeMap<TargetGroupArn, BTreeSet<BindingKey>>,
}

/// The pods of one binding.
#[derive(Debug)]
struct Members {
    key: Arc<BindingKey>,
    group: TargetGroupArn,
    service: ObjectKey,
    pods: BTreeMap<ObjectKey, Member>,
    /// The further targets of the pods that have several.
    further: BTreeMap<ObjectKey, BTreeSet<Target>>,
    /// Whether the pods are those that EndpointSlices name.
    by_slices: bool,
    slice_addresses: SliceAddresses,
    /// Targets that no pod has, and whether each is ready.
    podless: BTreeMap<Target, bool>,
    /// Why the pods cannot be worked out: the Service, or its port, seems to be gone. Those that were wanted before
    /// stay wanted until that is confirmed.
    missing: Option<Reason>,
    left_out: LeftOut,
}

/// What one group should hold.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct GroupWants {
    pub wanted: BTreeMap<Target, Want>,
    /// Targets of living pods whose containers are not ready, and of endpoints without a pod that are not, that nothing
    /// else wants.
    pub unready: BTreeSet<Target>,
    /// The bindings whose Service or port seems to be gone, and why. Nothing leaves for that until it is confirmed.
    pub missing: BTreeMap<BindingKey, Reason>,
    /// Endpoints of EndpointSlices that are not taken.
    pub left_out: BTreeSet<Target>,
    /// Whether some of these name no pod.
    pub has_podless_left_out: bool,
    /// Whether targets of the group may have no pod.
    pub may_be_podless: bool,
    /// Pods with ready containers that cannot be targets, by reason.
    pub impossible: BTreeMap<Reason, usize>,
}

/// Who wants a target.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Want {
    /// Since when the pod's containers are ready; `None` where they need not be, or there is no pod.
    pub ready: Option<Timestamp>,
    /// The pod and its UID, for Events; `None` if it is an endpoint without a pod.
    pub pod: Option<(ObjectKey, PackedUid)>,
    pub bindings: BTreeSet<BindingKey>,
}

/// What a change led to.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Touched {
    /// The groups of which something else may be wanted now.
    pub groups: BTreeSet<TargetGroupArn>,
    /// Targets whose own pod has ended: it is terminating, finished, deleted, or has another address.
    pub ended: BTreeSet<(TargetGroupArn, Target)>,
}

impl Wanted {
    /// Nothing is tracked, and of Services without a selector these endpoints will be taken.
    pub fn new(slice_addresses: SliceAddresses) -> Self {
        Self {
            slice_addresses,
            ..Self::default()
        }
    }

    /// Tracks a binding, or brings it up to date after a change to itself or its Service.
    pub fn track(
        &mut self,
        key: &BindingKey,
        deleted: &Deleted,
        index: &Index,
        slices: &Slices,
    ) -> Touched {
        let Some((binding, arn)) = index.binding(key).and_then(|b| Some((b, b.arn.clone()?)))
        else {
            return self.untrack(key);
        };
        let service = ObjectKey::new(key.object.namespace.clone(), binding.service.clone());
        let mut touched = Touched::default();
        let former = self.bindings.get(key);
        if former.is_some_and(|former| former.group != arn || former.service != service) {
            touched = self.untrack(key);
        }
        let members = self.bindings.entry(key.clone()).or_insert_with(|| Members {
            key: Arc::new(key.clone()),
            group: arn.clone(),
            service: service.clone(),
            pods: BTreeMap::new(),
            further: BTreeMap::new(),
            by_slices: false,
            slice_addresses: self.slice_addresses,
            podless: BTreeMap::new(),
            missing: None,
            left_out: LeftOut::new(),
        });
        touched.groups.insert(arn.clone());
        self.by_group.entry(arn).or_default().insert(key.clone());
        let pods: BTreeSet<ObjectKey> =
            match route(binding, index.service(&service.namespace, &service.name)) {
                Ok((service, port)) => {
                    members.missing = None;
                    members.by_slices = service.selector.is_empty();
                    members.take_podless(binding, port, slices);
                    let known = members.pods.keys().cloned();
                    known
                        .chain(members.candidates(service, index, slices))
                        .collect()
                }
                Err(reason) => {
                    members.missing = Some(reason);
                    members.pods.keys().cloned().collect()
                }
            };
        members.leave_out(binding, index, slices);
        for pod in pods {
            self.update(key, &pod, deleted, index, slices, &mut touched);
        }
        touched
    }

    /// Forgets a binding, which then wants nothing.
    pub fn untrack(&mut self, key: &BindingKey) -> Touched {
        let Some(members) = self.bindings.remove(key) else {
            return Touched::default();
        };
        for pod in members.pods.keys() {
            self.by_pod.unlink(pod, &members.key);
        }
        if let Some(keys) = self.by_group.get_mut(&members.group) {
            keys.remove(key);
            if keys.is_empty() {
                self.by_group.remove(&members.group);
            }
        }
        Touched {
            groups: [members.group].into(),
            ended: BTreeSet::new(),
        }
    }

    /// Takes in that the absence of a binding's Service or port was confirmed: the binding wants nothing any more.
    pub fn absence_confirmed(&mut self, key: &BindingKey) {
        let Some(members) = self.bindings.get_mut(key).filter(|m| m.missing.is_some()) else {
            return;
        };
        members.podless.clear();
        members.further.clear();
        let pods = std::mem::take(&mut members.pods);
        let by_pod = &mut self.by_pod;
        pods.keys().for_each(|pod| by_pod.unlink(pod, &members.key));
    }

    /// Takes in what changed, of bindings that are tracked already.
    pub fn observe(&mut self, changes: &Changes, index: &Index, slices: &Slices) -> Touched {
        let mut touched = Touched::default();
        let whole = self.bindings.iter().filter(|(key, members)| {
            changes.bindings.contains(key) || changes.services.contains(&members.service)
        });
        let whole: Vec<BindingKey> = whole.map(|(key, _)| key.clone()).collect();
        for key in &whole {
            touched.add(self.track(key, &changes.deleted, index, slices));
        }
        for pod in &changes.pods {
            for key in self.concerned(pod, index) {
                self.update(&key, pod, &changes.deleted, index, slices, &mut touched);
            }
        }
        self.leave_out(changes, index, slices, &mut touched);
        touched
    }

    /// Whether a binding is tracked.
    pub fn is_tracked(&self, key: &BindingKey) -> bool {
        self.bindings.contains_key(key)
    }

    /// The bindings that are tracked.
    pub fn tracked(&self) -> impl Iterator<Item = &BindingKey> {
        self.bindings.keys()
    }

    /// The tracked bindings of a group.
    pub fn bindings_of(&self, group: &TargetGroupArn) -> impl Iterator<Item = &BindingKey> {
        self.by_group.get(group).into_iter().flatten()
    }

    /// Why a binding's pods cannot be worked out; `None` if they can.
    pub fn missing(&self, key: &BindingKey) -> Option<Reason> {
        self.bindings.get(key)?.missing
    }

    /// The endpoints of a binding that are left out; `None` if the binding is not tracked.
    pub fn left_out(&self, key: &BindingKey) -> Option<&LeftOut> {
        Some(&self.bindings.get(key)?.left_out)
    }

    /// What a group should hold, over all its bindings.
    pub fn of_group(&self, group: &TargetGroupArn) -> GroupWants {
        let mut wants = GroupWants::default();
        for key in self.bindings_of(group) {
            if let Some(members) = self.bindings.get(key) {
                members.add_to(&mut wants, key);
            }
        }
        let wanted = &wants.wanted;
        wants.unready.retain(|target| !wanted.contains_key(target));
        wants
    }

    /// The tracked bindings whose pods a change to this pod may concern.
    fn concerned(&self, pod: &ObjectKey, index: &Index) -> BTreeSet<BindingKey> {
        let of_pod = self.by_pod.of(pod);
        let mut found: BTreeSet<BindingKey> = of_pod.map(|key| BindingKey::clone(key)).collect();
        let view = index.namespace(&pod.namespace);
        if let Some((view, known)) = view.zip(index.any_pod(pod)) {
            let selecting = view.routes.selecting(&known.template.labels).into_iter();
            let keys = selecting.map(|(route, _)| BindingKey {
                object: ObjectKey::new(pod.namespace.clone(), route.binding.name.clone()),
                api: route.binding.api,
            });
            found.extend(keys.filter(|key| self.bindings.contains_key(key)));
        }
        let first = BindingKey {
            object: ObjectKey::new(pod.namespace.clone(), ""),
            api: BindingApi::Elbv2,
        };
        let here = self.bindings.range(first..);
        let here = here.take_while(|(key, _)| key.object.namespace == pod.namespace);
        let by_slices = here.filter(|(_, members)| members.by_slices);
        found.extend(by_slices.map(|(key, _)| key.clone()));
        found
    }

    /// Brings one pod of one binding up to date.
    fn update(
        &mut self,
        key: &BindingKey,
        pod: &ObjectKey,
        deleted: &Deleted,
        index: &Index,
        slices: &Slices,
        touched: &mut Touched,
    ) {
        let Some((members, binding)) = self.bindings.get_mut(key).zip(index.binding(key)) else {
            return;
        };
        let former = members.take(pod);
        let now = members.member(binding, pod, former.as_ref(), index, slices);
        if former == now {
            if let Some(now) = now {
                members.put(pod, now);
            }
            return;
        }
        touched.groups.insert(members.group.clone());
        if let Some((former, further)) = former {
            let stays = |target: &Target| now.as_ref().is_some_and(|now| has(now, target));
            let targets = former.target.into_iter().chain(further);
            let left = targets.filter(|target| !stays(target));
            let ended = left.filter(|t| has_ended(pod, &former.uid, *t, index, deleted));
            let ended = ended.map(|target| (members.group.clone(), target));
            touched.ended.extend(ended);
        }
        match now {
            Some(now) => {
                members.put(pod, now);
                self.by_pod.link(pod, &members.key);
            }
            None => self.by_pod.unlink(pod, &members.key),
        }
    }
}

impl Touched {
    /// Adds what another change led to.
    pub fn add(&mut self, mut other: Self) {
        self.groups.append(&mut other.groups);
        self.ended.append(&mut other.ended);
    }
}

impl Members {
    /// The pods that may belong to the binding.
    fn candidates(&self, service: &Service, index: &Index, slices: &Slices) -> Vec<ObjectKey> {
        let namespace = &self.service.namespace;
        if self.by_slices {
            let endpoints = slices.of(&self.service).flat_map(|slice| &slice.endpoints);
            let names = endpoints.filter_map(|endpoint| Some(endpoint.pod.as_ref()?.0.clone()));
            return names
                .map(|name| ObjectKey::new(namespace.clone(), name))
                .collect();
        }
        let view = index.namespace(namespace).into_iter();
        let selected = view.flat_map(|view| view.pods_selected_by(&service.selector));
        selected.collect()
    }

    /// What a pod is to the binding now.
    fn member(
        &self,
        binding: &Binding,
        key: &ObjectKey,
        former: Option<&Placed>,
        index: &Index,
        slices: &Slices,
    ) -> Option<Placed> {
        let pod = index.any_pod(key).filter(|pod| pod.is_live())?;
        let pod = &*pod;
        let service = index.service(&self.service.namespace, &self.service.name);
        let Ok((service, port)) = route(binding, service) else {
            let uid = PackedUid::of(&pod.uid);
            let former = former.filter(|(former, _)| former.uid == uid);
            return former
                .filter(|(former, _)| former.is_at_address_of(pod))
                .cloned();
        };
        let mut further = BTreeSet::new();
        let target = match self.by_slices {
            true => {
                further = self.endpoints(binding, pod, port, slices);
                Ok(further.pop_first()?)
            }
            false if !selects(&service.selector, &pod.template.labels) => return None,
            false => target(pod, binding.family, port).map_err(|why| why.reason()),
        };
        let since = pod.containers_ready;
        let state = match since.is_some() || service.publish_not_ready {
            true => State::Wanted(PackedTime::of(since)),
            false => State::Unready,
        };
        let member = Member {
            uid: PackedUid::of(&pod.uid),
            target,
            state,
        };
        Some((member, further))
    }

    fn add_to(&self, wants: &mut GroupWants, key: &BindingKey) {
        wants.left_out.extend(self.left_out.keys());
        wants.has_podless_left_out |= self.left_out.values().any(Option::is_none);
        wants.may_be_podless |= self.takes_podless();
        if let Some(reason) = self.missing {
            wants.missing.insert(key.clone(), reason);
        }
        for (target, ready) in &self.podless {
            if *ready {
                let want = wants.wanted.entry(*target).or_default();
                want.bindings.insert(key.clone());
            } else {
                wants.unready.insert(*target);
            }
        }
        for (pod, target, member) in self.targets() {
            match (target, member.state) {
                (Ok(target), State::Wanted(ready)) => {
                    let want = wants.wanted.entry(target).or_default();
                    if want.pod.is_none() {
                        want.pod = Some((pod.clone(), member.uid.clone()));
                        want.ready = ready.time();
                    }
                    want.bindings.insert(key.clone());
                }
                (Ok(target), State::Unready) => _ = wants.unready.insert(target),
                (Err(reason), State::Wanted(_)) => {
                    *wants.impossible.entry(reason).or_default() += 1
                }
                (Err(_), State::Unready) => {}
            }
        }
    }
}

/// The Service and its port to which a binding leads.
pub(super) fn route<'a>(
    binding: &Binding,
    service: Option<&'a Service>,
) -> Result<(&'a Service, &'a ServicePort), Reason> {
    let service = service.ok_or(Reason::ServiceGone)?;
    if service.external_name {
        return Err(Reason::ServiceExternalName);
    }
    let port = service_port(binding, service).ok_or(Reason::ServicePortNotFound)?;
    Ok((service, port))
}

/// Whether the pod that had a target has ended, or left the address, as far as that was seen. A pod that a list
/// merely lacks was not seen to end.
fn has_ended(
    key: &ObjectKey,
    uid: &PackedUid,
    (ip, _): Target,
    index: &Index,
    deleted: &Deleted,
) -> bool {
    match index.any_pod(key) {
        Some(pod) if PackedUid::of(&pod.uid) != *uid => true,
        Some(pod) => !pod.is_live() || (!pod.ips.is_empty() && !pod.ips.contains(&ip)),
        None => deleted.contains(&(key.clone(), uid.text())),
    }
}
