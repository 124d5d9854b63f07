//! Write queue: pods whose gate opens, or closes again, go before pods of which only reason or message change, and namespaces
//! take turns, so that a large rollout does not delay the rollouts of other namespaces.
//!
//! The content of a write is decided when it leaves the queue, not when the pod joins.

use std::collections::BTreeMap;
use std::ops::Bound::{Excluded, Unbounded};
use std::sync::Arc;

use crate::names::ObjectKey;

/// The urgency of a write; the greater goes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Urgency {
    /// Only reason or message change, and the pod's readiness stays.
    MessageOnly,
    /// The pod's readiness may change: a gate opens, or closes again.
    Readiness,
}

/// The pods that wait to be written to.
#[derive(Debug, Default)]
pub(crate) struct WriteQueue {
    waiting: BTreeMap<ObjectKey, Place>,
    readiness: Turns,
    words: Turns,
    arrivals: u64,
}

#[derive(Debug, Clone, Copy)]
struct Place {
    urgency: Urgency,
    arrival: u64,
}

impl WriteQueue {
    /// Queues a pod, or removes it with `None`. A pod that is queued with the same urgency keeps its place.
    pub(crate) fn set(&mut self, pod: &ObjectKey, urgency: Option<Urgency>) {
        let former = self.waiting.get(pod).copied();
        if former.map(|place| place.urgency) == urgency {
            return;
        }
        if let Some(place) = former {
            self.waiting.remove(pod);
            self.turns(place.urgency).leave(pod, place.arrival);
        }
        if let Some(urgency) = urgency {
            self.arrivals += 1;
            let arrival = self.arrivals;
            self.waiting.insert(pod.clone(), Place { urgency, arrival });
            self.turns(urgency).join(pod, arrival);
        }
    }

    /// Removes and returns the next pod.
    pub(crate) fn take(&mut self) -> Option<ObjectKey> {
        let pod = self.readiness.take().or_else(|| self.words.take())?;
        self.waiting.remove(&pod);
        Some(pod)
    }

    /// Whether the queue is empty.
    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Empties the queue.
    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }

    fn turns(&mut self, urgency: Urgency) -> &mut Turns {
        match urgency {
            Urgency::Readiness => &mut self.readiness,
            Urgency::MessageOnly => &mut self.words,
        }
    }
}

/// Round robin over namespaces, first in first out within each.
#[derive(Debug, Default)]
struct Turns {
    namespaces: BTreeMap<Arc<str>, BTreeMap<u64, ObjectKey>>,
    /// The namespace that had the last turn.
    last: Option<Arc<str>>,
}

impl Turns {
    fn join(&mut self, pod: &ObjectKey, arrival: u64) {
        let namespace = self.namespaces.entry(pod.namespace.clone()).or_default();
        namespace.insert(arrival, pod.clone());
    }

    fn leave(&mut self, pod: &ObjectKey, arrival: u64) {
        if let Some(namespace) = self.namespaces.get_mut(&pod.namespace) {
            namespace.remove(&arrival);
            if namespace.is_empty() {
                self.namespaces.remove(&pod.namespace);
            }
        }
    }

    fn take(&mut self) -> Option<ObjectKey> {
        let after = self.last.as_deref().map_or(Unbounded, Excluded);
        let mut later = self.namespaces.range::<str, _>((after, Unbounded));
        let (_, pods) = later.next().or_else(|| self.namespaces.iter().next())?;
        let (arrival, pod) = pods.iter().next()?;
        let (arrival, pod) = (*arrival, pod.clone());
        self.leave(&pod, arrival);
        self.last = Some(pod.namespace.clone());
        Some(pod)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waiting(pods: &[(&str, Urgency)]) -> WriteQueue {
        let mut writes = WriteQueue::default();
        for (pod, urgency) in pods {
            writes.set(&key(pod), Some(*urgency));
        }
        writes
    }

    fn key(pod: &str) -> ObjectKey {
        let (namespace, name) = pod.split_once('/').unwrap();
        ObjectKey::new(namespace, name)
    }

    fn order(mut writes: WriteQueue) -> Vec<String> {
        let all: Vec<String> = std::iter::from_fn(|| writes.take())
            .map(|pod| pod.to_string())
            .collect();
        assert!(writes.is_empty() && writes.readiness.namespaces.is_empty());
        assert!(writes.words.namespaces.is_empty());
        all
    }

    use Urgency::{MessageOnly, Readiness};

    #[test]
    fn namespaces_take_turns_and_their_pods_come_in_order() {
        let writes = waiting(&[
            ("big/3", Readiness),
            ("big/2", Readiness),
            ("big/1", Readiness),
            ("small/1", Readiness),
            ("tiny/1", Readiness),
        ]);
        let expected = ["big/3", "small/1", "tiny/1", "big/2", "big/1"];
        assert_eq!(order(writes), expected);
    }

    #[test]
    fn a_namespace_that_had_its_turn_goes_after_one_that_comes_later() {
        let mut writes = waiting(&[("big/1", Readiness), ("big/2", Readiness)]);
        assert_eq!(writes.take(), Some(key("big/1")));
        writes.set(&key("small/1"), Some(Readiness));
        assert_eq!(order(writes), ["small/1", "big/2"]);
    }

    #[test]
    fn opening_a_gate_goes_before_changing_its_message() {
        let writes = waiting(&[
            ("a/1", MessageOnly),
            ("a/2", Readiness),
            ("b/1", MessageOnly),
        ]);
        assert_eq!(order(writes), ["a/2", "a/1", "b/1"]);
    }

    #[test]
    fn a_pod_waits_once_at_the_place_of_its_newest_urgency() {
        let mut writes = waiting(&[
            ("a/1", MessageOnly),
            ("a/2", Readiness),
            ("a/3", MessageOnly),
        ]);
        writes.set(&key("a/3"), Some(Readiness));
        writes.set(&key("a/2"), Some(MessageOnly));
        assert_eq!(order(writes), ["a/3", "a/1", "a/2"]);
    }

    #[test]
    fn queueing_a_pod_again_keeps_its_place() {
        let mut writes = waiting(&[("a/1", Readiness), ("a/2", Readiness)]);
        writes.set(&key("a/1"), Some(Readiness));
        assert_eq!(order(writes), ["a/1", "a/2"]);
    }

    #[test]
    fn a_pod_without_a_write_leaves_the_queue() {
        let mut writes = waiting(&[("a/1", Readiness), ("b/1", MessageOnly)]);
        writes.set(&key("a/1"), None);
        writes.set(&key("a/2"), None);
        assert_eq!(order(writes), ["b/1"]);
    }
}
