//! Counts the ungated pods of a namespace: those that lack a gate.
//!
//! Most pods of a large cluster do not have a gate, and any of them may come to lack one when a binding or
//! Service changes or the namespace opts in. The index therefore keeps only the name of such a pod and a
//! shared [`PodClass`], not a [`Pod`]: pods of one Deployment are of one class, which is decided once for all.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crate::model::{ControllerRef, Labels, Pod};
use crate::names::GateName;
use crate::selector::LabelSet;

/// The pods of a namespace that could lack a gate, by their names and by their classes.
#[derive(Debug, Default)]
pub(crate) struct UngatedPods {
    pods: BTreeMap<Arc<str>, Arc<PodClass>>,
    classes: BTreeMap<Arc<PodClass>, Tally>,
}

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

impl UngatedPods {
    /// Takes in a pod, whose controller `intern` interns. Returns whether its class changed.
    pub(crate) fn apply(
        &mut self,
        pod: &Pod,
        intern: impl FnOnce(Arc<ControllerRef>) -> Arc<ControllerRef>,
    ) -> bool {
        let name = &pod.key.name;
        let class = PodClass::of(pod);
        if self.pods.get(name).map(Arc::as_ref) == class.as_ref() {
            return false;
        }
        self.delete(name);
        if let Some(mut class) = class {
            let known = self.classes.get_key_value(&class);
            let known = known.map(|(known, _)| known.clone());
            let class = known.unwrap_or_else(|| {
                class.controller = class.controller.map(intern);
                Arc::new(class)
            });
            self.classes.entry(class.clone()).or_default().pods += 1;
            self.pods.insert(name.clone(), class);
        }
        true
    }

    /// Removes a pod. Returns whether it was counted here.
    pub(crate) fn delete(&mut self, name: &str) -> bool {
        let Some(class) = self.pods.remove(name) else {
            return false;
        };
        if let Some(tally) = self.classes.get_mut(&class) {
            tally.pods -= 1;
            if tally.pods == 0 {
                self.classes.remove(&class);
            }
        }
        true
    }

    /// Invalidates the decision for each class after a binding or Service changed.
    pub(crate) fn reopen(&mut self) {
        self.classes.values_mut().for_each(|t| t.lacking = None);
    }

    /// The number of pods.
    pub(crate) fn len(&self) -> usize {
        self.pods.len()
    }

    /// The pods of which `of` finds something in their class, by name. It is asked once for all pods of a class, and
    /// told whether they were found to lack a gate.
    pub(crate) fn of_classes<'a, T: Copy + 'a>(
        &'a self,
        of: impl Fn(&'a PodClass, bool) -> Option<T>,
    ) -> impl Iterator<Item = (&'a Arc<str>, &'a PodClass, T)> {
        let found = self.classes.iter().filter_map(|(class, tally)| {
            let found = of(class, tally.lacking == Some(true))?;
            Some((Arc::as_ptr(class), found))
        });
        let found: HashMap<*const PodClass, T> = found.collect();
        let pods = (!found.is_empty()).then(|| self.pods.iter());
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
        let classes = self.classes.iter_mut();
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

    impl UngatedPods {
        fn take(&mut self, pod: &Pod) -> bool {
            self.apply(pod, |controller| controller)
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
        let mut ungated_pods = UngatedPods::default();
        for name in ["web-1", "web-2", "web-3"] {
            ungated_pods.take(&pod(name).label("app", "web"));
        }
        ungated_pods.take(&pod("db-1").label("app", "db"));
        let asked = Cell::new(0);
        let lacks = |kind: &PodClass| {
            asked.set(asked.get() + 1);
            kind.labels.value("app") == Some("web")
        };
        assert_eq!((ungated_pods.count(|_| true, lacks), asked.get()), (3, 2));
        ungated_pods.delete("web-1");
        assert_eq!((ungated_pods.count(|_| true, lacks), asked.get()), (2, 2));
        ungated_pods.reopen();
        assert_eq!((ungated_pods.count(|_| true, lacks), asked.get()), (2, 4));
    }

    #[test]
    fn a_pod_that_changes_is_counted_as_what_it_is_now() {
        let mut ungated_pods = UngatedPods::default();
        let web = || pod("web-1").label("app", "web");
        assert!(ungated_pods.take(&web()));
        assert!(!ungated_pods.take(&web().version("2").ip("10.0.0.1")));
        assert!(ungated_pods.take(&web().gate("web")));
        assert_eq!(
            ungated_pods.count(|_| true, |kind| !kind.gates.is_empty()),
            1
        );
        let ended = Pod {
            terminating: true,
            ..web()
        };
        assert!(ungated_pods.take(&ended) && ungated_pods.pods.is_empty());
        assert!(!ungated_pods.delete("web-1"));
        assert_eq!(ungated_pods.count(|_| true, |_| true), 0);
    }
}
