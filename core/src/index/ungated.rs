//! Counts the ungated pods of a namespace: those that lack a gate.
//!
//! Most pods of a large cluster do not have a gate, and any of them may come to lack one when a binding or
//! Service changes or the namespace opts in. The index therefore keeps only a shared [`PodClass`] of such a pod, and
//! not a [`Pod`]: pods of one Deployment are of one class, which is decided once for all.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crate::model::{ControllerRef, Labels, Pod};
use crate::names::GateName;
use crate::selector::LabelSet;

/// The classes of a namespace's pods that could lack a gate.
#[derive(Debug, Default)]
pub(crate) struct PodClasses(BTreeMap<Arc<PodClass>, Tally>);

/// The parts of a pod that decide whether it lacks a gate.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct PodClass {
    pub(crate) labels: PackedLabels,
    /// Its gates under the prefixes that are served.
    pub(crate) gates: Box<[GateName]>,
    /// Decides nothing: whom to tell that the pods lack a gate.
    pub(crate) controller: Option<Arc<ControllerRef>>,
}

/// The pods of one class.
#[derive(Debug, Default)]
struct Tally {
    pods: usize,
    /// Whether they lack a gate; `None` until that is decided.
    lacking: Option<bool>,
}

impl PodClass {
    /// The class of a pod; `None` if it cannot lack a gate, because it is terminating, finished or opted out.
    fn of(pod: &Pod) -> Option<Self> {
        (pod.is_live() && !pod.opted_out).then(|| Self {
            labels: PackedLabels::new(&pod.template.labels),
            gates: pod.gates.iter().map(|(gate, _)| gate.clone()).collect(),
            controller: pod.template.controller.clone(),
        })
    }
}

impl PodClasses {
    /// Takes in a pod, whose controller `intern` interns, and brings its class up to date; `None` if the pod cannot lack
    /// a gate. Returns whether the class changed.
    pub(crate) fn apply(
        &mut self,
        pod: &Pod,
        its: &mut Option<Arc<PodClass>>,
        intern: impl FnOnce(Arc<ControllerRef>) -> Arc<ControllerRef>,
    ) -> bool {
        let class = PodClass::of(pod);
        if its.as_deref() == class.as_ref() {
            return false;
        }
        self.delete(its.take());
        if let Some(mut class) = class {
            let known = self.0.get_key_value(&class);
            let known = known.map(|(known, _)| known.clone());
            let class = known.unwrap_or_else(|| {
                class.controller = class.controller.map(intern);
                Arc::new(class)
            });
            self.0.entry(class.clone()).or_default().pods += 1;
            *its = Some(class);
        }
        true
    }

    /// Removes a pod of this class. Returns whether it was counted here.
    pub(crate) fn delete(&mut self, class: Option<Arc<PodClass>>) -> bool {
        let Some(class) = class else {
            return false;
        };
        if let Some(tally) = self.0.get_mut(&class) {
            tally.pods -= 1;
            if tally.pods == 0 {
                self.0.remove(&class);
            }
        }
        true
    }

    /// Invalidates the decision for each class after a binding or Service changed.
    pub(crate) fn reopen(&mut self) {
        self.0.values_mut().for_each(|t| t.lacking = None);
    }

    /// The number of pods.
    pub(crate) fn pods(&self) -> usize {
        self.0.values().map(|tally| tally.pods).sum()
    }

    /// Those of some pods of which `of` finds something in their class. It is asked once for all pods of a class, and
    /// told whether they were found to lack a gate.
    pub(crate) fn of_classes<'a, T: Copy + 'a>(
        &'a self,
        pods: impl Iterator<Item = (&'a Arc<str>, &'a Arc<PodClass>)>,
        of: impl Fn(&'a PodClass, bool) -> Option<T>,
    ) -> impl Iterator<Item = (&'a Arc<str>, &'a PodClass, T)> {
        let found = self.0.iter().filter_map(|(class, tally)| {
            let found = of(class, tally.lacking == Some(true))?;
            Some((Arc::as_ptr(class), found))
        });
        let found: HashMap<*const PodClass, T> = found.collect();
        let pods = (!found.is_empty()).then_some(pods);
        pods.into_iter().flatten().filter_map(move |(name, class)| {
            let found = found.get(&Arc::as_ptr(class))?;
            Some((name, &**class, *found))
        })
    }

    /// The number of covered pods whose class lacks a gate. `lacks` is called only for classes that are undecided.
    pub(crate) fn count(
        &mut self,
        covers: impl Fn(&PodClass) -> bool,
        lacks: impl Fn(&PodClass) -> bool,
    ) -> usize {
        let count = |(class, tally): (&Arc<PodClass>, &mut Tally)| {
            let lacking = *tally.lacking.get_or_insert_with(|| lacks(class));
            if lacking { tally.pods } else { 0 }
        };
        let classes = self.0.iter_mut();
        classes.filter(|(class, _)| covers(class)).map(count).sum()
    }
}

/// Labels in one allocation, because each pod of a StatefulSet has labels of its own. Each key and value ends
/// with NUL, which Kubernetes does not allow in labels.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PackedLabels(Box<str>);

impl PackedLabels {
    fn new(labels: &Labels) -> Self {
        let words = labels.iter().flat_map(|(key, value)| [key, value]);
        let packed: String = words.flat_map(|word| [word, "\0"]).collect();
        Self(packed.into())
    }
}

impl LabelSet for PackedLabels {
    fn value(&self, key: &str) -> Option<&str> {
        let mut words = self.0.split_terminator('\0');
        while let (Some(found), Some(value)) = (words.next(), words.next()) {
            if found == key {
                return Some(value);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;
    use crate::fixtures::pod;

    /// Pods with their classes.
    #[derive(Default)]
    struct Pods {
        of: BTreeMap<Arc<str>, Option<Arc<PodClass>>>,
        classes: PodClasses,
    }

    impl Pods {
        fn take(&mut self, pod: &Pod) -> bool {
            let its = self.of.entry(pod.key.name.clone()).or_default();
            self.classes.apply(pod, its, |controller| controller)
        }

        fn delete(&mut self, name: &str) -> bool {
            self.classes.delete(self.of.remove(name).flatten())
        }
    }

    #[test]
    fn packed_labels_are_found_by_their_keys_alone() {
        let web = pod("web-1").label("app", "web").label("tier", "");
        let packed = PackedLabels::new(&web.template.labels);
        assert_eq!(packed.value("app"), Some("web"));
        assert_eq!(packed.value("tier"), Some(""));
        assert_eq!((packed.value("web"), packed.value("")), (None, None));
        let nothing = PackedLabels::new(&Labels::new());
        assert_eq!((nothing.value("app"), nothing.value("")), (None, None));
    }

    #[test]
    fn pods_of_one_kind_are_decided_once_until_something_changes() {
        let mut pods = Pods::default();
        for name in ["web-1", "web-2", "web-3"] {
            pods.take(&pod(name).label("app", "web"));
        }
        pods.take(&pod("db-1").label("app", "db"));
        let asked = Cell::new(0);
        let lacks = |kind: &PodClass| {
            asked.set(asked.get() + 1);
            kind.labels.value("app") == Some("web")
        };
        assert_eq!((pods.classes.count(|_| true, lacks), asked.get()), (3, 2));
        pods.delete("web-1");
        assert_eq!((pods.classes.count(|_| true, lacks), asked.get()), (2, 2));
        pods.classes.reopen();
        assert_eq!((pods.classes.count(|_| true, lacks), asked.get()), (2, 4));
    }

    #[test]
    fn a_pod_that_changes_is_counted_as_what_it_is_now() {
        let mut pods = Pods::default();
        let web = || pod("web-1").label("app", "web");
        assert!(pods.take(&web()));
        assert!(!pods.take(&web().version("2").ip("10.0.0.1")));
        assert!(pods.take(&web().gate("web")));
        assert_eq!(
            pods.classes.count(|_| true, |kind| !kind.gates.is_empty()),
            1
        );
        let ended = Pod {
            terminating: true,
            ..web()
        };
        assert!(pods.take(&ended) && pods.classes.pods() == 0);
        assert!(!pods.delete("web-1"));
        assert_eq!(pods.classes.count(|_| true, |_| true), 0);
    }
}
