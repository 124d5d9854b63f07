//! Bindings whose gates stay closed until an operator mends something, each told once by an Event.

use std::collections::BTreeMap;
use std::mem;

use crate::gates::machine::action::{Action, Change, Subject, Write};
use crate::gates::machine::gate::Gate;
use crate::names::{BindingApi, ObjectKey};
use crate::reason::Reason;

/// At most this many bindings are remembered as told; beyond, the one with the first name is forgotten, and told
/// again. Chosen.
const REMEMBERED: usize = 1024;

/// The bindings whose problem was told.
#[derive(Debug, Default)]
pub(crate) struct Problems {
    told: BTreeMap<(ObjectKey, BindingApi), Reason>,
    news: Vec<Action>,
}

impl Problems {
    /// Takes in why a gate is closed, if that is its binding's fault.
    pub(crate) fn see(&mut self, gate: &Gate) {
        if !self.told.is_empty() {
            gate.bindings()
                .for_each(|binding| _ = self.told.remove(&binding));
        }
        let Some(closed) = gate.closed() else {
            return;
        };
        let reason = closed.decision.reason;
        if !matches!(
            reason,
            Reason::ServicePortNotFound | Reason::TargetGroupUnknown
        ) {
            return;
        }
        let (name, api) = closed.binding.clone();
        let binding = (ObjectKey::new(gate.pod.key.namespace.clone(), name), api);
        if self.told.insert(binding.clone(), reason) == Some(reason) {
            return;
        }
        if self.told.len() > REMEMBERED {
            self.told.pop_first();
        }
        self.news.push(Action::Report {
            about: Subject::Binding(binding.0, binding.1),
            reason,
            message: closed.decision.condition.message.clone(),
        });
    }

    /// Takes in that a condition was written, which may have opened a gate whatever ELB says.
    pub(crate) fn opened(&mut self, write: &Write, change: &Change) {
        if matches!(
            change.reason,
            Reason::GateTimeout | Reason::TargetGroupUnused
        ) {
            self.news.push(Action::Report {
                about: Subject::Pod(write.pod.clone(), write.uid.clone()),
                reason: change.reason,
                message: change.condition.message.clone(),
            });
        }
    }

    /// The Events that are due.
    pub(crate) fn take(&mut self) -> Vec<Action> {
        mem::take(&mut self.news)
    }
}
