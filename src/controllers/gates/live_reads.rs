//! Live reads of gates whose binding or Service seems absent: one read serves all pods of a gate.

use std::collections::BTreeMap;
use std::mem;
use std::sync::Arc;

use targetgate_core::gates::machine::action::GateId;
use targetgate_core::names::GateName;

/// A gate of a namespace, as a live read is about it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Subject {
    pub(super) namespace: Arc<str>,
    pub(super) gate: GateName,
}

/// The gates of pods that wait for a live read.
#[derive(Debug, Default)]
pub(super) struct LiveReads {
    reads: BTreeMap<Subject, Read>,
}

/// The pods' gates of one subject.
#[derive(Debug, Default)]
struct Read {
    /// Those that the read in flight answers; empty while there is none.
    answers: Vec<GateId>,
    /// Those that came after it was started: what it finds may be older than what they have to know.
    next: Vec<GateId>,
}

impl LiveReads {
    /// Adds a pod's gate that waits for a live read.
    pub(super) fn add(&mut self, id: GateId) {
        let subject = Subject {
            namespace: id.pod.namespace.clone(),
            gate: id.gate.clone(),
        };
        self.reads.entry(subject).or_default().next.push(id);
    }

    /// The reads to start now, one at a time for each subject.
    pub(super) fn start(&mut self) -> Vec<Subject> {
        let idle = |read: &Read| read.answers.is_empty() && !read.next.is_empty();
        let idle = self.reads.iter_mut().filter(|(_, read)| idle(read));
        let started = idle.map(|(subject, read)| {
            read.answers = mem::take(&mut read.next);
            subject.clone()
        });
        started.collect()
    }

    /// Ends a read. Returns the pods' gates that it answers.
    pub(super) fn end(&mut self, subject: &Subject) -> Vec<GateId> {
        let Some(read) = self.reads.get_mut(subject) else {
            return vec![];
        };
        let answers = mem::take(&mut read.answers);
        if read.next.is_empty() {
            self.reads.remove(subject);
        }
        answers
    }
}

#[cfg(test)]
mod tests {
    use targetgate_core::names::{ConditionPrefix, ObjectKey};

    use super::*;

    fn id(pod: &str, gate: &str) -> GateId {
        GateId {
            pod: ObjectKey::new("shop", pod),
            uid: pod.into(),
            gate: ConditionPrefix::default().gate(gate),
        }
    }

    #[test]
    fn one_read_answers_all_pods_of_a_gate_that_waited_when_it_was_started() {
        let mut reads = LiveReads::default();
        (0..1_000).for_each(|pod| reads.add(id(&format!("web-{pod}"), "web")));
        reads.add(id("api-1", "api"));
        let started = reads.start();
        let gates: Vec<&str> = started.iter().map(|subject| subject.gate.name()).collect();
        assert_eq!(gates, ["api", "web"]);
        reads.add(id("late", "web"));
        assert_eq!(reads.start(), []);
        assert_eq!(reads.end(&started[1]).len(), 1_000);
        assert_eq!(reads.start(), started[1..]);
        assert_eq!(reads.end(&started[1]), [id("late", "web")]);
        assert_eq!(reads.end(&started[0]), [id("api-1", "api")]);
        assert!(reads.reads.is_empty());
    }
}
