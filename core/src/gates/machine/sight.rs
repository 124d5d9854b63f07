//! What a watch shows of a gate's pod, binding and Service, and what that changes.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;

use crate::gates::absence::Absence;
use crate::gates::machine::action::Settings;
use crate::gates::machine::check::TargetCheck;
use crate::gates::machine::gate::{Gate, condition_of};
use crate::gates::machine::pending_absence::PendingAbsence;
use crate::gates::requirements::{GateRequirements, TargetQuery};
use crate::index::Index;
use crate::model::{Pod, Policies};
use crate::names::GateName;
use crate::version::is_older;

/// A pod as a watch shows it.
pub(crate) struct Seen<'a> {
    pub(crate) pod: &'a Arc<Pod>,
    /// Whether the watch is behind our last write.
    pub(crate) old: bool,
    /// Whether a binding for the gate exists, or existed before.
    pub(crate) bound: bool,
    /// Whether the pod has another address of the binding's family since the gate was opened, as far as both
    /// were seen: the address.
    pub(crate) moved_to: Option<IpAddr>,
    /// Since when a pod that this process has not seen before has its addresses.
    pub(crate) had_since: Instant,
    /// How the gate departs from what ELB says.
    pub(crate) policies: Policies,
}

impl Gate {
    /// Takes in the pod as a watch shows it, and the gate's requirements by now. `maybe_previous_pod` tells
    /// whether ELB can still mean a previous pod by a target.
    pub(crate) fn see(
        &mut self,
        seen: &Seen<'_>,
        name: &GateName,
        requirements: GateRequirements,
        maybe_previous_pod: impl Fn(&TargetQuery) -> bool,
        settings: &Settings,
        now: Instant,
    ) {
        let (pod, was_open) = (seen.pod, self.is_open());
        if !seen.old {
            self.current = condition_of(pod, name).flatten().cloned();
            self.moved_to = seen.moved_to;
            self.note_closing(was_open, now);
        }
        self.settle_conflict(pod);
        let renumbered = self.see_addresses(pod, seen.had_since, now);
        self.pod = pod.clone();
        self.see_due(&requirements.queries, renumbered, now);
        self.seen_before_due |= self.due.is_none();
        let mut former = std::mem::take(&mut self.checks);
        // An unchanged query keeps its answer, so that a change to the pod's labels costs no poll.
        let keep = |query: TargetQuery| {
            let same = |check: &TargetCheck| check.query.is_same_target(&query);
            if let Some(at) = former.iter().position(same) {
                let mut known = former.swap_remove(at);
                known.query = query;
                return known;
            }
            self.forgot = true;
            let maybe_previous_pod = maybe_previous_pod(&query);
            TargetCheck::new(query, maybe_previous_pod)
        };
        self.checks = requirements.queries.into_iter().map(keep).collect();
        self.closed = requirements.closed;
        self.names = requirements.names;
        self.unresolved = requirements.unresolved;
        self.bound |= seen.bound;
        self.policies = seen.policies;
        self.set_absence(requirements.absence, settings, now);
    }

    /// Notes since when the pod has its addresses. Those of a pod that was never seen without them count from
    /// `had_since`. Returns whether it has others, and none of those that it had.
    fn see_addresses(&mut self, pod: &Pod, had_since: Instant, now: Instant) -> bool {
        let is_first = self.addresses.is_empty();
        let since = if is_first { had_since } else { now };
        self.addresses.retain(|(ip, _)| pod.ips.contains(ip));
        let renumbered = !is_first && self.addresses.is_empty() && !pod.ips.is_empty();
        for ip in &pod.ips {
            if self.addresses.iter().all(|(known, _)| known != ip) {
                self.addresses.push((*ip, since));
            }
        }
        renumbered
    }

    /// A pod whose containers stop being ready, or whose address changes, is due anew: what ELB answered before
    /// says nothing about the restarted containers, or about the new address. A gate without queries, as while its
    /// Service is gone, has no family by which to tell: there, all addresses have to be others (`renumbered`).
    fn see_due(&mut self, queries: &[TargetQuery], renumbered: bool, now: Instant) {
        let moved = self.checks.iter().any(|check| {
            let of_binding = |query: &&TargetQuery| query.binding == check.query.binding;
            let mut queries = queries.iter().filter(of_binding);
            queries.any(|query| query.target.0 != check.query.target.0)
        });
        let known = self.due.filter(|_| !moved && !renumbered);
        let due = self.pod.is_due().then(|| known.unwrap_or(now));
        if due != self.due {
            self.checks.iter_mut().for_each(TargetCheck::forget);
            self.forgot = true;
        }
        self.due = due;
    }

    /// Ends the backoff after a conflict once the watch shows a newer version than the refused write
    /// replaced: the next write is decided on what the other client wrote.
    fn settle_conflict(&mut self, pod: &Pod) {
        let met = |version: &mut Arc<str>| is_older(version, &pod.resource_version);
        if self.conflict.take_if(met).is_some() {
            self.retry_at = None;
        }
    }

    fn set_absence(&mut self, absence: Option<Absence>, settings: &Settings, now: Instant) {
        let known = self.pending_absence.take();
        let known = known.filter(|known| Some(&known.absence) == absence.as_ref());
        self.pending_absence = known.or_else(|| {
            let absence = absence?;
            let orphan = absence == Absence::BindingGone && !self.bound;
            let orphan_after = orphan.then_some(settings.orphan_after);
            Some(PendingAbsence::new(absence, orphan_after, now))
        });
    }
}

/// The address that a pod has now, where this gate of it was opened for another one of the binding's family.
pub(super) fn moved_to(
    requirements: &GateRequirements,
    pod: &Pod,
    name: &GateName,
    index: &Index,
) -> Option<IpAddr> {
    let families = index.moved(&pod.key, name);
    let mut addresses = requirements.queries.iter().map(|query| query.target.0);
    addresses.find(|ip| families.iter().any(|family| family.has(*ip)))
}

/// When the kubelet took the pod in, by the monotonic clock; now, if that is unknown or seems to lie ahead.
pub(super) fn started(pod: &Pod, now: Instant, wall: Timestamp) -> Instant {
    let age = pod.started.map(|started| wall.duration_since(started));
    let age = age.and_then(|age| Duration::try_from(age).ok());
    now.checked_sub(age.unwrap_or_default()).unwrap_or(now)
}
