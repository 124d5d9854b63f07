//! The gates that have waited for long.

use std::time::Instant;

use crate::gates::machine::Tracker;
use crate::gates::machine::gate::Gate;
use crate::model::Pod;
use crate::names::GateName;

/// A gate that has waited for long.
#[derive(Debug)]
pub struct LongWait<'a> {
    pub pod: &'a Pod,
    pub gate: &'a GateName,
    of: &'a Gate,
}

impl LongWait<'_> {
    /// What keeps the gate closed, in words: ELB's own where it is that.
    pub fn why(&self) -> String {
        let decision = match self.of.decide() {
            Ok(decision) => decision,
            Err(undecided) => return undecided.sentence().to_owned(),
        };
        let (condition, remedy) = (&decision.condition, decision.reason.remedy());
        let why = format!("{}: {}. {remedy}", condition.reason, condition.message);
        why.trim_end().to_owned()
    }
}

impl Tracker {
    /// The gates that wait since this time or longer.
    pub fn waiting_since(&self, time: Instant) -> impl Iterator<Item = LongWait<'_>> {
        let pods = self.pods.values();
        let gates = pods.flat_map(|pod| &pod.gates);
        let long = gates.filter(move |(_, gate)| gate.waits_since().is_some_and(|at| at <= time));
        long.map(|(name, gate)| LongWait {
            pod: &gate.pod,
            gate: name,
            of: gate,
        })
    }
}
