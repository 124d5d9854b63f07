//! Next wake-up, number of pending gates and longest waiting pod, maintained incrementally, so that an
//! iteration of the loop costs O(changed pods) and not O(waiting pods).

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use jiff::Timestamp;

use crate::names::ObjectKey;

/// One pod's entry in the timers.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PodTimers {
    /// The next wake-up of one of its gates.
    pub(crate) wake: Option<Instant>,
    /// The number of its gates that are not open.
    pub(crate) pending: usize,
    /// When its containers became ready.
    pub(crate) containers_ready: Option<Timestamp>,
}

/// The timers of all pods.
#[derive(Debug, Default)]
pub(crate) struct Timers {
    pods: BTreeMap<ObjectKey, PodTimers>,
    wakes: BTreeSet<(Instant, ObjectKey)>,
    /// The number of pods with a pending gate, by when their containers became ready.
    ready: BTreeMap<Timestamp, usize>,
    pending: usize,
}

impl Timers {
    /// Sets a pod's entry; the default removes it.
    pub(crate) fn set(&mut self, pod: &ObjectKey, timers: PodTimers) {
        let former = self.pods.get(pod).copied().unwrap_or_default();
        if former == timers {
            return;
        }
        self.remove(pod, former);
        if timers == PodTimers::default() {
            self.pods.remove(pod);
            return;
        }
        self.pods.insert(pod.clone(), timers);
        if let Some(wake) = timers.wake {
            self.wakes.insert((wake, pod.clone()));
        }
        self.pending += timers.pending;
        if let Some(ready) = timers.containers_ready.filter(|_| timers.pending > 0) {
            *self.ready.entry(ready).or_default() += 1;
        }
    }

    fn remove(&mut self, pod: &ObjectKey, timers: PodTimers) {
        if let Some(wake) = timers.wake {
            self.wakes.remove(&(wake, pod.clone()));
        }
        self.pending -= timers.pending;
        let ready = timers.containers_ready.filter(|_| timers.pending > 0);
        if let Some((ready, pods)) = ready.and_then(|at| Some((at, self.ready.get_mut(&at)?))) {
            *pods -= 1;
            if *pods == 0 {
                self.ready.remove(&ready);
            }
        }
    }

    /// The next wake-up of all pods.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.wakes.first().map(|(wake, _)| *wake)
    }

    /// The pods whose wake-up has passed.
    pub(crate) fn woken(&self, now: Instant) -> Vec<ObjectKey> {
        let woken = self.wakes.iter().take_while(|(wake, _)| *wake <= now);
        woken.map(|(_, pod)| pod.clone()).collect()
    }

    /// The number of pending gates.
    pub(crate) fn pending(&self) -> usize {
        self.pending
    }

    /// When the containers of the longest waiting pod became ready; `None` while none are ready.
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
        let mut all = Timers::default();
        let (early, late) = ("2026-11-21T09:00:00Z", "2026-11-21T09:00:07Z");
        all.set(&key("a"), waiting(2, late));
        all.set(&key("b"), waiting(1, early));
        all.set(&key("c"), waiting(1, early));
        assert_eq!(all.pending(), 4);
        all.set(&key("b"), waiting(0, early));
        assert_eq!(all.oldest(), Some(early.parse().unwrap()));
        all.set(&key("c"), PodTimers::default());
        assert_eq!(all.oldest(), Some(late.parse().unwrap()));
        all.set(&key("a"), waiting(1, late));
        assert_eq!(all.pending(), 1);
        all.set(&key("a"), PodTimers::default());
        assert_eq!((all.pending(), all.oldest()), (0, None));
    }

    #[test]
    fn it_wakes_each_pod_at_its_newest_time() {
        let (mut all, now) = (Timers::default(), epoch());
        let at = |seconds| PodTimers {
            wake: Some(now + Duration::from_secs(seconds)),
            ..PodTimers::default()
        };
        all.set(&key("a"), at(3));
        all.set(&key("b"), at(2));
        all.set(&key("a"), at(1));
        assert_eq!(all.next(), at(1).wake);
        assert_eq!(all.woken(now), vec![]);
        assert_eq!(all.woken(now + Duration::from_secs(1)), [key("a")]);
        all.set(&key("a"), PodTimers::default());
        assert_eq!(all.next(), at(2).wake);
    }

    #[test]
    fn a_pod_that_leaves_leaves_nothing_behind() {
        let mut all = Timers::default();
        let timers = PodTimers {
            wake: Some(epoch()),
            ..waiting(3, "2026-11-21T09:00:00Z")
        };
        all.set(&key("a"), timers);
        all.set(&key("a"), PodTimers::default());
        assert!(all.pods.is_empty() && all.wakes.is_empty() && all.ready.is_empty());
    }
}
