//! What the health loop knows of the gates of a pod or namespace, for the answers of `explain` (contract 10).

use std::sync::Arc;
use std::time::Instant;

use crate::gates::condition::Decision;
use crate::gates::machine::Tracker;
use crate::gates::machine::gate::Gate;
use crate::gates::polling::known::GroupKnown;
use crate::gates::requirements::TargetQuery;
use crate::names::{GateName, ObjectKey};
use crate::reason::Reason;

/// What the health loop knows of a gate that is not open, or follows ELB.
#[derive(Debug, Clone, PartialEq)]
pub struct GateKnown {
    pub pod: ObjectKey,
    pub uid: Arc<str>,
    pub gate: GateName,
    pub open: bool,
    /// Why it is not open.
    pub reason: Reason,
    /// Since when its pod is due, as far as this process has seen.
    pub due: Option<Instant>,
    pub targets: Vec<TargetKnown>,
}

/// What it knows of a target for which the gate waits.
#[derive(Debug, Clone, PartialEq)]
pub struct TargetKnown {
    pub query: TargetQuery,
    /// ELB's last answer that counts, and when it was requested.
    pub answer: Option<(Decision, Instant)>,
    /// `None` while no gate waits for the group.
    pub group: Option<GroupKnown>,
}

impl Tracker {
    /// What is known of the gates of a namespace, or of one pod of it: of at most so many, with the number of those
    /// that are left out.
    pub fn known(
        &self,
        namespace: &str,
        pod: Option<&str>,
        at_most: usize,
    ) -> (Vec<GateKnown>, usize) {
        let groups = self.polls.known();
        let first = ObjectKey::new(namespace, pod.unwrap_or_default());
        let pods = self.pods.range(first..);
        let pods = pods.take_while(|(key, _)| *key.namespace == *namespace);
        let pods = pods.take_while(|(key, _)| pod.is_none_or(|pod| *key.name == *pod));
        let mut gates = pods.flat_map(|(_, pod)| &pod.gates);
        let known = gates.by_ref().take(at_most);
        let known = known.map(|(name, gate)| gate.known(name, |query| groups.get(&query.group)));
        (known.collect(), gates.count())
    }
}

impl Gate {
    fn known<'a>(
        &self,
        name: &GateName,
        group: impl Fn(&TargetQuery) -> Option<&'a GroupKnown>,
    ) -> GateKnown {
        let targets = self.checks.iter().map(|check| TargetKnown {
            query: check.query.clone(),
            answer: check.last_answer().map(|(said, at)| (said.clone(), at)),
            group: group(&check.query).copied(),
        });
        GateKnown {
            pod: self.pod.key.clone(),
            uid: self.pod.uid.clone(),
            gate: name.clone(),
            open: self.is_open(),
            reason: self.waits_for(),
            due: self.due,
            targets: targets.collect(),
        }
    }
}
