//! The gates of one pod that are not open, or follow ELB. They are written together, one patch at a time.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use std::time::Instant;

use jiff::Timestamp;

use crate::gates::machine::action::{Action, Change, Write};
use crate::gates::machine::gate::Gate;
use crate::gates::machine::timers::PodTimers;
use crate::gates::writes::queue::Urgency;
use crate::model::Pod;
use crate::names::{GateName, NamedGroup, ObjectKey};
use crate::version::is_older;

/// The gates of one pod that are not open, or follow ELB.
#[derive(Debug, Default)]
pub(crate) struct PodGates {
    pub(crate) gates: BTreeMap<GateName, Gate>,
    /// The pod's `resourceVersion` after our last write, until the watch shows that version.
    written: Option<Arc<str>>,
}

impl PodGates {
    /// Whether this version of the pod is older than our last write.
    pub(crate) fn is_ahead_of(&self, pod: &Pod) -> bool {
        let written = self.written.as_ref();
        written.is_some_and(|written| is_older(&pod.resource_version, written))
    }

    /// Notes that the watch has shown our last write.
    pub(crate) fn caught_up(&mut self) {
        self.written = None;
    }

    /// We wrote to the pod with this UID, and it has this version since then. What the watch tells may
    /// be ahead of that.
    pub(crate) fn wrote(&mut self, uid: &str, version: &Arc<str>) {
        let is_news =
            |pod: &Arc<Pod>| *pod.uid == *uid && !is_older(version, &pod.resource_version);
        if self.pod().is_some_and(is_news) {
            self.written = Some(version.clone());
        }
    }

    /// The pod as it was last seen.
    fn pod(&self) -> Option<&Arc<Pod>> {
        self.gates.values().next().map(|gate| &gate.pod)
    }

    /// The action that is due now for one gate, except for a write.
    pub(crate) fn step(&mut self, name: &GateName, now: Instant) -> Option<Action> {
        self.gates.get_mut(name)?.step(name, now)
    }

    /// The actions that are due now for all gates, except for a write.
    pub(crate) fn step_all(&mut self, now: Instant) -> Vec<Action> {
        let gates = self.gates.iter_mut();
        gates
            .filter_map(|(name, gate)| gate.step(name, now))
            .collect()
    }

    /// The urgency of the write that is due; `None` while a write is in flight, because the next one has to
    /// replace the version that it creates.
    pub(crate) fn urgency(&self) -> Option<Urgency> {
        let gates = || self.gates.values();
        if gates().any(Gate::is_writing) {
            return None;
        }
        gates().filter_map(Gate::urgency).max()
    }

    /// Takes the write that is due, with all changes that are decided by now, and marks it as in flight.
    pub(crate) fn take_write(&mut self, key: &ObjectKey, now: Instant) -> Option<Write> {
        let pod = self.pod()?.clone();
        let version = self.written.as_ref().unwrap_or(&pod.resource_version);
        let gates = self.gates.iter_mut();
        let changes: Vec<Change> = gates
            .filter_map(|(name, gate)| gate.take_change(name, version, now))
            .collect();
        (!changes.is_empty()).then(|| Write {
            pod: key.clone(),
            uid: pod.uid.clone(),
            version: version.clone(),
            begun: now,
            changes,
            containers_ready: pod.containers_ready,
        })
    }

    /// The groups without an ARN that its gates wait for.
    pub(crate) fn names(&self) -> BTreeSet<NamedGroup> {
        let names = self.gates.values().flat_map(Gate::names);
        names.cloned().collect()
    }

    /// When its containers became ready, if a gate waits since then; one that was closed again does not.
    fn waits_since_ready(&self) -> Option<Timestamp> {
        let mut gates = self.gates.values();
        let gate = gates.find(|gate| !gate.is_open() && !gate.was_closed_again())?;
        gate.pod.containers_ready
    }

    /// The pod's entry in the timers.
    pub(crate) fn timers(&self) -> PodTimers {
        let gates = || self.gates.values();
        PodTimers {
            wake: gates().filter_map(Gate::wake).min(),
            pending: gates().filter(|gate| !gate.is_open()).count(),
            containers_ready: self.waits_since_ready(),
        }
    }
}
