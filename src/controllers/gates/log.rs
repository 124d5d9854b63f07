//! What becomes of gates, in metrics, in the log, and to their owners: a line a flip at `info`, a line a decision at
//! `debug`. The pace of writes bounds the lines of flips, and those of decisions are off by default.

use std::time::{Duration, Instant};

use targetgate_core::gates::machine::Tracker;
use targetgate_core::gates::machine::action::{Change, Write, WriteOutcome};
use targetgate_core::names::{GateName, ObjectKey};
use targetgate_core::notices::{self, LASTING};
use targetgate_core::reason::Reason;
use tracing::{Level, debug, enabled, info};

use crate::controllers::gates::{Loop, Work};

impl Loop {
    /// Logs and counts the result of a write.
    pub(super) fn note(&self, work: &mut Work, write: &Write, outcome: &WriteOutcome) {
        let result = match outcome {
            WriteOutcome::Written(_) => "Written",
            WriteOutcome::Gone => "Gone",
            WriteOutcome::Conflict => "Conflict",
            WriteOutcome::Unsent => "Unsent",
            WriteOutcome::PutOff { .. } => "PutOff",
            WriteOutcome::Failed => "Failed",
        };
        self.metrics.wrote(result, write.changes.len());
        if matches!(outcome, WriteOutcome::Written(_)) {
            for change in &write.changes {
                self.note_change(work, write, change);
            }
        }
    }

    fn note_change(&self, work: &mut Work, write: &Write, change: &Change) {
        let (pod, Change { gate, reason, .. }) = (&write.pod, change);
        if change.closes {
            let group = self.group(pod, gate);
            self.metrics.closed(*reason);
            info!(%pod, %gate, group, %reason, "gate closed again");
        } else if change.condition.status && change.transition {
            let group = self.group(pod, gate);
            let age = self.age(write.containers_ready);
            // How long a pod waits says nothing about one whose gate was open before.
            let waited = (!change.reopens).then_some(age);
            self.metrics.opened(*reason, waited);
            info!(%pod, %gate, group, %reason, ?waited, "gate opened");
            self.note_healthy(work, write, change, age);
        }
    }

    /// Notes a pod that had waited for long, for the owner that may have been told of that.
    fn note_healthy(&self, work: &mut Work, write: &Write, change: &Change, age: Duration) {
        if change.reason != Reason::Healthy || age < LASTING {
            return;
        }
        self.cache.read(|index| {
            let pod = index.pod(&write.pod).filter(|pod| pod.uid == write.uid);
            if let Some(pod) = pod {
                notices::healthy(&mut work.seen, pod, &change.gate, index);
            }
        });
    }

    /// Logs what is decided, whether or not it opens or closes a gate.
    pub(super) fn log_decisions(&self, write: &Write) {
        if !enabled!(Level::DEBUG) {
            return;
        }
        let pod = &write.pod;
        for change in &write.changes {
            let Change { gate, reason, .. } = change;
            let (open, group) = (change.condition.status, self.group(pod, gate));
            debug!(%pod, %gate, group, %reason, open, "gate decided");
        }
    }

    /// Logs why a pod's gates are not open.
    pub(super) fn log_waiting(&self, tracker: &Tracker, pod: &ObjectKey, now: Instant) {
        for waiting in tracker.waiting(pod) {
            let (gate, reason) = (&waiting.gate, waiting.reason);
            let group = self.group(pod, gate);
            let next_poll = waiting
                .next_poll
                .map(|at| at.saturating_duration_since(now));
            debug!(%pod, %gate, group, %reason, ?next_poll, "gate waits");
        }
    }

    /// The target group of a gate, as the first of its bindings names it.
    fn group(&self, pod: &ObjectKey, gate: &GateName) -> Option<String> {
        self.cache.read(|index| {
            let bindings = index.namespace(&pod.namespace)?.bindings_of(gate);
            let binding = bindings.first()?;
            let arn = binding.arn.as_ref().map(ToString::to_string);
            arn.or_else(|| Some(binding.group_name.as_ref()?.to_string()))
        })
    }
}
