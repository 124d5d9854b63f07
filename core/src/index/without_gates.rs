//! Which pods lack a gate, and which bindings and Services that concerns.

use std::mem;
use std::sync::Arc;

use jiff::Timestamp;

use crate::index::scope::PodScope;
use crate::index::ungated::{PackedLabels, PodClass};
use crate::index::{BindingKey, Index, NamespaceView};
use crate::model::{Binding, ControllerRef, Namespace};
use crate::names::{BindingApi, GateName, ObjectKey};
use crate::reason::Reason;
use crate::selector::selects;

/// Why a binding gives no gate to a pod that its Service selects, though its owner wants it to.
const REFUSALS: [Reason; 2] = [Reason::BindingTerminating, Reason::GroupUnknown];

/// A live pod for which the hook is called, and which has no gate of a binding whose Service selects it.
#[derive(Debug, Clone, Copy)]
pub struct UngatedPod<'a> {
    pub namespace: &'a Arc<str>,
    pub name: &'a Arc<str>,
    pub labels: &'a PackedLabels,
    pub controller: Option<&'a Arc<ControllerRef>>,
    /// `metadata.creationTimestamp`; `None` if it is unknown.
    pub created: Option<Timestamp>,
    /// The Namespace that has opted in.
    pub opted_in: &'a Namespace,
    /// The first such binding.
    pub binding: &'a Binding,
    /// Why the binding gives no gate; `None` if the pod would get it were it created now.
    pub refusal: Option<Reason>,
}

/// A live pod that a Service selects, and that is not opted out.
#[derive(Debug, Clone, Copy)]
pub struct SelectedPod<'a> {
    /// Its gates under the prefixes that are served.
    pub gates: &'a [GateName],
    /// `metadata.creationTimestamp`; `None` if it is unknown.
    pub created: Option<Timestamp>,
}

impl NamespaceView {
    /// The number of live pods that are not opted out.
    pub fn gateable_pods(&self) -> usize {
        self.classes.pods()
    }

    fn created(&self, pod: &str) -> Option<Timestamp> {
        self.all.holder(pod)?.created()
    }

    fn refuses(&self, apis: &[BindingApi]) -> bool {
        let mut refusals = self.routes.refusals(apis);
        refusals.any(|refusal| REFUSALS.contains(&refusal))
    }

    fn ungated<'a>(
        &'a self,
        namespace: &'a Arc<str>,
        scope: PodScope,
        lacking: bool,
        apis: &'a [BindingApi],
    ) -> impl Iterator<Item = UngatedPod<'a>> {
        let refuses = self.refuses(apis);
        let concerned = (lacking || refuses).then_some(&self.classes);
        let of = move |class: &'a PodClass, lacks: bool| {
            let (labels, gates) = (&class.labels, &class.gates);
            let first = || match lacks {
                true => {
                    let binding = self.routes.first_lacking(labels, gates, apis)?;
                    Some((binding, None))
                }
                false if refuses => self.routes.first_refusing(labels, gates, apis, &REFUSALS),
                false => None,
            };
            scope.covers(labels).then(first).flatten()
        };
        let pods = concerned.into_iter();
        let pods = pods.flat_map(move |classes| classes.of_classes(self.all.classes(), of));
        pods.map(move |(name, class, (binding, refusal))| UngatedPod {
            namespace,
            name,
            labels: &class.labels,
            controller: class.controller.as_ref(),
            created: self.created(name),
            opted_in: &self.namespace,
            binding,
            refusal,
        })
    }
}

impl Index {
    /// Counts the ungated pods: live pods for which the hook is called, that are not opted out, and that lack a gate
    /// which they would get were they created now, with gates for bindings of `apis`. The count is incremental, and
    /// costs O(changes since the last call).
    pub fn count_ungated(&mut self, apis: &[BindingApi]) -> usize {
        for name in mem::take(&mut self.uncounted) {
            let view = self.namespaces.get_mut(&name);
            let count = |view: &mut NamespaceView| view.count_ungated(apis, &self.scope);
            match view.map_or(0, count) {
                0 => self.ungated.remove(&name),
                pods => self.ungated.insert(name, pods),
            };
        }
        self.ungated()
    }

    /// The result of the last [`Self::count_ungated`].
    pub fn ungated(&self) -> usize {
        self.ungated.values().sum()
    }

    /// Whether the result of [`Self::count_ungated`] may have changed.
    pub fn has_uncounted(&self) -> bool {
        !self.uncounted.is_empty()
    }

    /// The pods that lacked a gate when [`Index::count_ungated`] was called last, and those that get none for another
    /// reason than their owner's wish.
    pub fn ungated_pods<'a>(
        &'a self,
        apis: &'a [BindingApi],
    ) -> impl Iterator<Item = UngatedPod<'a>> {
        let scoped = self.namespaces.iter().filter_map(|(name, view)| {
            let scope = self.scope.of(name, &view.namespace)?;
            Some((name, view, scope, self.ungated.contains_key(name)))
        });
        scoped.flat_map(|(name, view, scope, lacking)| view.ungated(name, scope, lacking, apis))
    }

    /// The Namespaces for all of whose pods the hook is called.
    pub fn opted_in(&self) -> impl Iterator<Item = (&Arc<str>, &NamespaceView)> {
        let all = self.namespaces.iter();
        all.filter(|(name, view)| self.scope.of(name, &view.namespace) == Some(PodScope::All))
    }

    /// The bindings of each group that more than one names, unless all of them are multi-cluster.
    pub fn shared_groups(&self) -> impl Iterator<Item = Vec<(&BindingKey, &Binding)>> {
        let shared = self.by_arn.iter().filter(|(_, keys)| keys.len() > 1);
        let shared = shared.map(|(arn, _)| self.bindings_of_group(arn).collect::<Vec<_>>());
        shared.filter(|group| !group.iter().all(|(_, binding)| binding.multi_cluster))
    }

    /// Whether there is this Service, in a Namespace that has opted in, and no binding gives a gate to pods that it
    /// selects.
    pub fn is_unbound(&self, service: &ObjectKey, apis: &[BindingApi]) -> bool {
        let view = self.namespaces.get(&service.namespace);
        view.is_some_and(|view| {
            let scope = self.scope.of(&service.namespace, &view.namespace);
            let known = view.routes.service(&service.name).is_some();
            let mut giving = view.routes.giving(apis);
            let bound = giving.any(|(binding, _)| binding.service == service.name);
            scope.is_some() && known && !bound
        })
    }

    /// The pods that a Service selects.
    pub fn selected_pods(&self, service: &ObjectKey) -> Vec<SelectedPod<'_>> {
        let view = self.namespaces.get(&service.namespace);
        let known = view.and_then(|view| Some((view, view.routes.service(&service.name)?)));
        let Some((view, service)) = known else {
            return vec![];
        };
        let of = |class: &PodClass, _| selects(&service.selector, &class.labels).then_some(());
        let pods = view.classes.of_classes(view.all.classes(), of);
        let selected = pods.map(|(name, class, ())| SelectedPod {
            gates: &class.gates,
            created: view.created(name),
        });
        selected.collect()
    }
}
