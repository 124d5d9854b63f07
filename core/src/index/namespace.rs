//! One namespace: its Services and bindings, and its pods.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crate::index::moved_gates::MovedGates;
use crate::index::pods::Pods;
use crate::index::remarked::RemarkedPods;
use crate::index::scope::HookScope;
use crate::index::services::ServiceIndex;
use crate::index::ungated::PodClasses;
use crate::model::{Binding, Labels, Namespace, Pod};
use crate::names::{BindingApi, GateName, ObjectKey};
use crate::selector::selects;

/// One namespace in the index.
#[derive(Debug, Default)]
pub struct NamespaceView {
    pub(super) name: Arc<str>,
    pub namespace: Namespace,
    pub routes: ServiceIndex,
    /// The pods with our gates.
    pub(super) pods: BTreeMap<Arc<str>, Arc<Pod>>,
    pub(super) all: Pods,
    pub(super) classes: PodClasses,
    pub(super) moved_gates: MovedGates,
    pub(super) remarked: RemarkedPods,
}

impl NamespaceView {
    /// The bindings that a gate stands for, of one name in either API group. A shortened name is compared
    /// with the name of each binding.
    pub fn bindings_of(&self, gate: &GateName) -> Vec<&Binding> {
        if gate.may_be_shortened() {
            let bindings = self.routes.bindings();
            return bindings.filter(|b| gate.is_of(&b.name)).collect();
        }
        let name: Arc<str> = gate.name().into();
        let both = BindingApi::ALL.map(|api| self.routes.binding(&name, api));
        both.into_iter().flatten().collect()
    }

    /// The pods, if all are kept: see [`keep_all_pods`](crate::index::Index::keep_all_pods).
    pub fn all_pods(&self) -> impl Iterator<Item = Cow<'_, Pod>> {
        let gated = self.pods.values().map(|pod| Cow::Borrowed(&**pod));
        let key = |name: &Arc<str>| ObjectKey::new(self.name.clone(), name.clone());
        let plain = self.all.all_plain();
        gated.chain(plain.map(move |(name, pod)| Cow::Owned(pod.pod(key(name)))))
    }

    /// The pods that a selector selects, if all are kept.
    pub(crate) fn pods_selected_by(&self, selector: &Labels) -> impl Iterator<Item = ObjectKey> {
        let gated = self.pods.iter();
        let gated = gated.map(|(name, pod)| (name, &*pod.template));
        let plain = self.all.all_plain();
        let all = gated.chain(plain.map(|(name, pod)| (name, pod.template())));
        let selected = all.filter(|(_, template)| selects(selector, &template.labels));
        selected.map(|(name, _)| ObjectKey::new(self.name.clone(), name.clone()))
    }

    /// The namespace of this name, which is added if it is new.
    pub(super) fn entry<'a>(
        namespaces: &'a mut HashMap<Arc<str>, Self>,
        name: &Arc<str>,
    ) -> &'a mut Self {
        let new = || Self {
            name: name.clone(),
            ..Self::default()
        };
        namespaces.entry(name.clone()).or_insert_with(new)
    }

    pub(super) fn count_ungated(&mut self, apis: &[BindingApi], scope: &HookScope) -> usize {
        let Some(scope) = scope.of(&self.name, &self.namespace) else {
            return 0;
        };
        let routes = &self.routes;
        self.classes.count(
            |class| scope.covers(&class.labels),
            |class| routes.lacks_gate(&class.labels, &class.gates, apis),
        )
    }

    pub(super) fn is_empty(&self) -> bool {
        self.namespace == Namespace::default() && self.routes.is_empty() && self.all.is_empty()
    }
}
