//! What would be found by looking at every pod whose gates wait, kept up to date pod by pod instead: a
//! round of the loop must not cost more for each gate that has nothing to do with it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use jiff::Timestamp;

use crate::names::ObjectKey;

/// One pod's part.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PodTimers {
    /// When time alone will give one of its gates something to do.
    pub(crate) wake: Option<Instant>,
    /// How many of its gates wait.
    pub(crate) pending: usize,
    /// Since when its containers are ready.
    pub(crate) containers_ready: Option<Timestamp>,
}

/// All pods' parts together.
#[derive(Debug, Default)]
pub(crate) struct Timers {
    items: BTreeMap<ObjectKey, PodTimers>,
    wakes: BTreeSet<(Instant, ObjectKey)>,
    /// Pods with a gate that waits, by when their containers were ready.
    ready: BTreeMap<Timestamp, usize>,
    pending: usize,
}

impl Timers {
    /// This is now a pod's part; the default is that of a pod that nothing is known of.
    pub(crate) fn set(&mut self, pod: &ObjectKey, item: PodTimers) {
        let former = self.items.get(pod).copied().unwrap_or_default();
        if former == item {
            return;
        }
        self.take_out(pod, former);
        if item == PodTimers::default() {
            self.items.remove(pod);
            return;
        }
        self.items.insert(pod.clone(), item);
        if let Some(wake) = item.wake {
            self.wakes.insert((wake, pod.clone()));
        }
        self.pending += item.pending;
        if let Some(ready) = item.containers_ready.filter(|_| item.pending > 0) {
            *self.ready.entry(ready).or_default() += 1;
        }
    }

    fn take_out(&mut self, pod: &ObjectKey, item: PodTimers) {
        if let Some(wake) = item.wake {
            self.wakes.remove(&(wake, pod.clone()));
        }
        self.pending -= item.pending;
        let ready = item.containers_ready.filter(|_| item.pending > 0);
        if let Some((ready, pods)) = ready.and_then(|at| Some((at, self.ready.get_mut(&at)?))) {
            *pods -= 1;
            if *pods == 0 {
                self.ready.remove(&ready);
            }
        }
    }

    /// When time alone will give a pod something to do.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.wakes.first().map(|(wake, _)| *wake)
    }

    /// The pods to which time has given something to do by now.
    pub(crate) fn woken(&self, now: Instant) -> Vec<ObjectKey> {
        let woken = self.wakes.iter().take_while(|(wake, _)| *wake <= now);
        woken.map(|(_, pod)| pod.clone()).collect()
    }

    /// How many gates wait.
    pub(crate) fn pending(&self) -> usize {
        self.pending
    }

    /// Since when the containers of the pod are ready that has waited longest; `None` where none are.
    pub(crate) fn oldest(&self) -> Option<Timestamp> {
        self.ready.first_key_value().map(|(ready, _)| *ready)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::fixtures::epoch;

    fn key(name: &str) -> ObjectKey {
        ObjectKey::new("shop", name)
    }

    fn waiting(pending: usize, ready: &str) -> PodTimers {
        PodTimers {
            wake: None,
            pending,
            containers_ready: Some(ready.parse().unwrap()),
        }
    }

    #[test]
    fn it_knows_how_many_gates_wait_and_the_oldest() {
        let mut agenda = Timers::default();
        let (early, late) = ("2026-11-21T09:00:00Z", "2026-11-21T09:00:07Z");
        agenda.set(&key("a"), waiting(2, late));
        agenda.set(&key("b"), waiting(1, early));
        agenda.set(&key("c"), waiting(1, early));
        assert_eq!(agenda.pending(), 4);
        agenda.set(&key("b"), waiting(0, early));
        assert_eq!(agenda.oldest(), Some(early.parse().unwrap()));
        agenda.set(&key("c"), PodTimers::default());
        assert_eq!(agenda.oldest(), Some(late.parse().unwrap()));
        agenda.set(&key("a"), waiting(1, late));
        assert_eq!(agenda.pending(), 1);
        agenda.set(&key("a"), PodTimers::default());
        assert_eq!((agenda.pending(), agenda.oldest()), (0, None));
    }

    #[test]
    fn it_wakes_each_pod_at_its_newest_time() {
        let (mut agenda, now) = (Timers::default(), epoch());
        let at = |seconds| PodTimers {
            wake: Some(now + Duration::from_secs(seconds)),
            ..PodTimers::default()
        };
        agenda.set(&key("a"), at(3));
        agenda.set(&key("b"), at(2));
        agenda.set(&key("a"), at(1));
        assert_eq!(agenda.next(), at(1).wake);
        assert_eq!(agenda.woken(now), vec![]);
        assert_eq!(agenda.woken(now + Duration::from_secs(1)), [key("a")]);
        agenda.set(&key("a"), PodTimers::default());
        assert_eq!(agenda.next(), at(2).wake);
    }

    #[test]
    fn a_pod_that_leaves_leaves_nothing_behind() {
        let mut agenda = Timers::default();
        let item = PodTimers {
            wake: Some(epoch()),
            ..waiting(3, "2026-11-21T09:00:00Z")
        };
        agenda.set(&key("a"), item);
        agenda.set(&key("a"), PodTimers::default());
        assert!(agenda.items.is_empty() && agenda.wakes.is_empty() && agenda.ready.is_empty());
    }
}
