//! The targets for which a pod's gates are open.

use std::collections::BTreeSet;

use crate::gates::machine::Tracker;
use crate::gates::polling::group::Target;
use crate::gates::requirements;
use crate::gates::requirements::TargetQuery;
use crate::index::Index;
use crate::model::Pod;
use crate::names::{GroupKey, NamedGroup};

impl Tracker {
    /// The targets for which a pod's gates are open, as far as its bindings and their groups are known. A binding that
    /// is being deleted has none: its targets are being deregistered, whatever becomes of the pod.
    pub fn open_targets(&self, pod: &Pod, index: &Index) -> Vec<TargetQuery> {
        let Some(view) = index.namespace(&pod.key.namespace) else {
            return vec![];
        };
        let mut targets = vec![];
        for (name, condition) in &pod.gates {
            let open = condition.as_ref().is_some_and(|condition| condition.status);
            if !open || !index.moved(&pod.key, name).is_empty() {
                continue;
            }
            let bindings = view.bindings_of(name);
            let service = |service: &str| view.routes.service(service);
            let resolve = |group: &NamedGroup| self.names.resolution(group);
            let apis = &self.settings.apis;
            let required = requirements::of_gate(pod, &bindings, service, resolve, apis);
            let lasting = required.queries.into_iter().filter(|q| !q.terminating);
            targets.extend(lasting);
        }
        targets
    }

    /// The targets that the poll of a group in flight names; empty for the whole group.
    pub fn named(&self, group: &GroupKey) -> BTreeSet<Target> {
        self.polls.in_call(group)
    }
}
