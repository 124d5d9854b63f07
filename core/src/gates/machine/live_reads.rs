//! Live reads in flight: the gates of one binding share one, because a binding that is deleted may have a
//! thousand waiting pods.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::gates::machine::action::GateId;
use crate::names::GateName;

/// A gate joins a live read that began at most this long ago. Chosen, far below the time of an absence, so that
/// what the read found is no older than the absence.
const JOINS_WITHIN: Duration = Duration::from_secs(5);

/// Live reads in flight, by namespace and gate.
#[derive(Debug, Default)]
pub(crate) struct LiveReads(BTreeMap<(Arc<str>, GateName), Vec<LiveRead>>);

#[derive(Debug)]
struct LiveRead {
    begun: Instant,
    /// The gate for which it was begun, and those that share it.
    gates: Vec<GateId>,
}

impl LiveReads {
    /// A gate needs a live read. Returns whether one has to be begun; otherwise the gate shares another's.
    pub(crate) fn begin(&mut self, id: &GateId, now: Instant) -> bool {
        let key = (id.pod.namespace.clone(), id.gate.clone());
        let reads = self.0.entry(key).or_default();
        let young = |read: &&mut LiveRead| now <= read.begun + JOINS_WITHIN;
        if let Some(read) = reads.iter_mut().find(young) {
            read.gates.push(id.clone());
            return false;
        }
        reads.push(LiveRead {
            begun: now,
            gates: vec![id.clone()],
        });
        true
    }

    /// The live read that was begun for this gate has ended. Returns the gates that share it.
    pub(crate) fn end(&mut self, id: &GateId) -> Vec<GateId> {
        let key = (id.pod.namespace.clone(), id.gate.clone());
        let Some(reads) = self.0.get_mut(&key) else {
            return vec![];
        };
        let began = |read: &LiveRead| read.gates.first() == Some(id);
        let read = reads.iter().position(began).map(|at| reads.remove(at));
        if reads.is_empty() {
            self.0.remove(&key);
        }
        read.map_or(vec![], |read| read.gates)
    }
}
