//! What watches show of the ends of pods with open gates, until the loop takes it.

use std::collections::VecDeque;
use std::mem;
use std::sync::Arc;

use jiff::Timestamp;

use crate::index::Index;
use crate::model::Pod;

/// At most this many are kept, the latest. Chosen: the loop takes them within milliseconds, and a kilobyte each is
/// little.
const MOST: usize = 4096;

/// What a watch shows of the end of a pod with an open gate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ending {
    /// Its deletion was requested, while it lived at our last sight of it.
    Began {
        pod: Arc<Pod>,
        /// When the API server took the request in, by its own clock.
        requested: Option<Timestamp>,
    },
    /// The watch showed that it is gone, or that all of its containers have ended. The pod is as it was seen last: not
    /// terminating where nothing was seen before its end.
    Ended(Arc<Pod>),
    /// It is gone, and no watch showed when: a list did not return it, or another pod has its name.
    Missed(Arc<Pod>),
}

/// The endings that the health loop has not taken yet, in their order.
#[derive(Debug, Default)]
pub(crate) struct Endings(VecDeque<Ending>);

impl Endings {
    pub(crate) fn take(&mut self) -> Vec<Ending> {
        mem::take(&mut self.0).into()
    }

    /// Takes in a pod in place of its former version, or of the pod that had its name.
    pub(crate) fn replace(
        &mut self,
        former: Option<Arc<Pod>>,
        pod: &Arc<Pod>,
        requested: Option<Timestamp>,
    ) {
        let Some(former) = former else {
            return;
        };
        if former.uid != pod.uid {
            self.push(Ending::Missed(former));
        } else if former.is_live() && pod.terminating && !pod.finished {
            let pod = pod.clone();
            self.push(Ending::Began { pod, requested });
        } else if !former.finished && pod.finished {
            self.push(Ending::Ended(former));
        }
    }

    pub(crate) fn push(&mut self, ending: Ending) {
        let (Ending::Began { pod, .. } | Ending::Ended(pod) | Ending::Missed(pod)) = &ending;
        // The end of a finished pod was seen when it finished.
        if !pod.has_open_gate() || pod.finished {
            return;
        }
        if self.0.len() >= MOST {
            self.0.pop_front();
        }
        self.0.push_back(ending);
    }
}

impl Index {
    /// Removes and returns what was seen of the ends of pods with open gates. The pods are dirty as well.
    pub fn take_endings(&mut self) -> Vec<Ending> {
        self.endings.take()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::pod;
    use crate::index::{Listing, PodTimes};
    use crate::names::ObjectKey;

    const REQUESTED: &str = "2026-11-21T09:00:00Z";

    fn web() -> Pod {
        pod("web-1").gate("web").condition(true, "", "")
    }

    fn terminating() -> Pod {
        Pod {
            terminating: true,
            ..web()
        }
    }

    fn key() -> ObjectKey {
        ObjectKey::new("shop", "web-1")
    }

    fn words(index: &mut Index) -> Vec<String> {
        let word = |ending| match ending {
            Ending::Began { requested, .. } => format!("began {}", requested.is_some()),
            Ending::Ended(pod) => format!("ended {}", pod.terminating),
            Ending::Missed(_) => "missed".to_owned(),
        };
        index.take_endings().into_iter().map(word).collect()
    }

    #[test]
    fn a_deletion_begins_once_and_ends_once() {
        let mut index = Index::default();
        index.apply_pod(web());
        let requested = PodTimes {
            deletion_requested: REQUESTED.parse().ok(),
            ..PodTimes::default()
        };
        index.apply_pod_at(terminating(), requested);
        index.apply_pod_at(terminating(), requested);
        index.delete_pod(&key());
        index.delete_pod(&key());
        assert_eq!(words(&mut index), ["began true", "ended true"]);
        assert_eq!(words(&mut index), [""; 0]);
    }

    #[test]
    fn of_a_pod_that_was_terminating_at_first_sight_the_begin_is_not_known() {
        let mut index = Index::default();
        index.apply_pod(terminating());
        index.delete_pod(&key());
        assert_eq!(words(&mut index), ["ended true"]);
    }

    #[test]
    fn a_forced_deletion_ends_a_pod_that_lived() {
        let mut index = Index::default();
        index.apply_pod(web());
        index.delete_pod(&key());
        assert_eq!(words(&mut index), ["ended false"]);
    }

    #[test]
    fn a_pod_that_finishes_has_ended_before_it_is_gone() {
        let mut index = Index::default();
        index.apply_pod(terminating());
        let finished = Pod {
            finished: true,
            ..terminating()
        };
        index.apply_pod(finished.clone());
        index.apply_pod(finished);
        assert_eq!(words(&mut index), ["ended true"]);
    }

    #[test]
    fn an_end_that_nobody_saw_is_a_missed_one() {
        let mut index = Index::default();
        index.apply_pod(web());
        index.apply_pod(web().uid("another"));
        index.retain_pods(&Listing::default());
        assert_eq!(words(&mut index), ["missed", "missed"]);
    }

    #[test]
    fn pods_without_an_open_gate_do_not_count() {
        let mut index = Index::default();
        let closed = pod("web-1").gate("web").condition(false, "", "");
        index.apply_pod(closed.clone());
        index.apply_pod(Pod {
            terminating: true,
            ..closed
        });
        index.delete_pod(&key());
        assert_eq!(words(&mut index), [""; 0]);
    }

    #[test]
    fn the_first_are_forgotten_while_nobody_takes_them() {
        let mut endings = Endings::default();
        for number in 0..=MOST {
            let pod = pod(&format!("web-{number}"))
                .gate("web")
                .condition(true, "", "");
            endings.push(Ending::Ended(pod.into()));
        }
        let kept = endings.take();
        let Some(Ending::Ended(first)) = kept.first() else {
            panic!("{kept:?}");
        };
        assert_eq!((kept.len(), &*first.key.name), (MOST, "web-1"));
    }
}
