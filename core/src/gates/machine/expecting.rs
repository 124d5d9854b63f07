//! Gates that are not due yet, by the groups that will be polled for them: an answer for other pods of the group
//! shows whether their target was registered before (contract 5.4).

use std::collections::{BTreeMap, BTreeSet};

use crate::gates::machine::action::GateId;
use crate::names::GroupKey;

/// Gates that are not due yet, by group.
#[derive(Debug, Default)]
pub(crate) struct Expecting(BTreeMap<GroupKey, BTreeSet<GateId>>);

impl Expecting {
    pub(crate) fn join(&mut self, group: &GroupKey, gate: &GateId) {
        let here = self.0.entry(group.clone()).or_default();
        here.insert(gate.clone());
    }

    pub(crate) fn leave(&mut self, group: &GroupKey, gate: &GateId) {
        if let Some(here) = self.0.get_mut(group) {
            here.remove(gate);
            if here.is_empty() {
                self.0.remove(group);
            }
        }
    }

    pub(crate) fn of(&self, group: &GroupKey) -> Vec<GateId> {
        let here = self.0.get(group).into_iter().flatten();
        here.cloned().collect()
    }
}
