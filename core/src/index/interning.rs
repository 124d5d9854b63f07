//! Interning: the index keeps one copy of equal values, because the pods of a Deployment have the same
//! labels, and the labels of all pods consist of the same few words.

use std::collections::HashSet;
use std::hash::Hash;
use std::sync::Arc;

use crate::model::{ControllerRef, Pod, PodTemplate};
use crate::names::GateName;

/// The interned values. A pool drops the values that only the pool itself holds, each time it has grown to
/// twice what was in use after the last time, so that the cost is amortised.
#[derive(Debug, Default)]
pub(crate) struct Interner {
    words: Pool<Arc<str>>,
    templates: Pool<Arc<PodTemplate>>,
    controllers: Pool<Arc<ControllerRef>>,
    gates: Pool<GateName>,
}

impl Interner {
    /// Returns the pod with interned parts, and without spare capacity.
    pub(crate) fn pod(&mut self, mut pod: Pod) -> Pod {
        pod.key.namespace = self.words.share(pod.key.namespace);
        pod.template = self.template(pod.template);
        for (gate, condition) in &mut pod.gates {
            *gate = self.gates.share(gate.clone());
            if let Some(condition) = condition {
                self.word(&mut condition.reason);
                self.word(&mut condition.message);
            }
        }
        pod.gates.shrink_to_fit();
        pod.ips.shrink_to_fit();
        pod
    }

    /// Returns the interned template that equals this one.
    pub(crate) fn template(&mut self, template: Arc<PodTemplate>) -> Arc<PodTemplate> {
        if let Some(known) = self.templates.known(&template) {
            return known;
        }
        let mut template = Arc::unwrap_or_clone(template);
        let labels = std::mem::take(&mut template.labels);
        let words = labels.into_iter();
        let words = words.map(|(key, value)| (self.words.share(key), self.words.share(value)));
        template.labels = words.collect();
        for port in &mut template.ports {
            self.word(&mut port.name);
        }
        template.ports.shrink_to_fit();
        template.controller = template.controller.map(|found| self.controller(found));
        self.templates.share(Arc::new(template))
    }

    pub(crate) fn controller(&mut self, controller: Arc<ControllerRef>) -> Arc<ControllerRef> {
        if let Some(known) = self.controllers.known(&controller) {
            return known;
        }
        let mut controller = Arc::unwrap_or_clone(controller);
        self.word(&mut controller.api_version);
        self.word(&mut controller.kind);
        self.controllers.share(Arc::new(controller))
    }

    fn word(&mut self, word: &mut Arc<str>) {
        *word = self.words.share(word.clone());
    }
}

/// A set of interned values of one type.
#[derive(Debug)]
struct Pool<T> {
    values: HashSet<T>,
    in_use: usize,
}

impl<T> Default for Pool<T> {
    fn default() -> Self {
        Self {
            values: HashSet::new(),
            in_use: 0,
        }
    }
}

impl<T: Counted> Pool<T> {
    /// A pool with fewer values is not pruned. Chosen.
    const FEW: usize = 64;

    fn known(&self, value: &T) -> Option<T> {
        self.values.get(value).cloned()
    }

    fn share(&mut self, value: T) -> T {
        if let Some(known) = self.known(&value) {
            return known;
        }
        if self.values.len() >= Self::FEW.max(2 * self.in_use) {
            self.values.retain(|value| value.holders() > 1);
            self.in_use = self.values.len();
        }
        self.values.insert(value.clone());
        value
    }
}

/// A value whose clones share one allocation.
trait Counted: Clone + Eq + Hash {
    /// The number of clones.
    fn holders(&self) -> usize;
}

impl<T: ?Sized + Eq + Hash> Counted for Arc<T> {
    fn holders(&self) -> usize {
        Arc::strong_count(self)
    }
}

impl Counted for GateName {
    fn holders(&self) -> usize {
        GateName::holders(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::pod;

    #[test]
    fn pods_that_are_alike_share_all_but_their_own_names() {
        let mut shared = Interner::default();
        let mut web = |name: &str, app: &str| {
            let pod = pod(name)
                .label("app", app)
                .gate("web")
                .named_port("http", 80)
                .controlled_by("web-5d");
            shared.pod(pod)
        };
        let (one, other, api) = (
            web("web-1", "web"),
            web("web-2", "web"),
            web("api-1", "api"),
        );
        assert!(Arc::ptr_eq(&one.template, &other.template));
        assert!(Arc::ptr_eq(&one.key.namespace, &other.key.namespace));
        assert_eq!(
            one.gates[0].0.as_str().as_ptr(),
            other.gates[0].0.as_str().as_ptr()
        );
        let key = |pod: &Pod| pod.template.labels.keys().next().cloned().unwrap();
        assert!(
            Arc::ptr_eq(&key(&one), &key(&api)),
            "other labels, same words"
        );
        let controller = |pod: &Pod| pod.template.controller.clone().unwrap();
        assert!(
            Arc::ptr_eq(&controller(&one), &controller(&api)),
            "other labels, same controller, as in a StatefulSet"
        );
        assert_eq!(api.template.labels.get("app").map(Arc::as_ref), Some("api"));
    }

    #[test]
    fn a_value_that_only_the_pool_holds_is_dropped() {
        let mut shared = Interner::default();
        let kept = shared.pod(pod("web-0").label("app", "web-0"));
        for number in 1..1_000 {
            let name = format!("web-{number}");
            shared.pod(pod(&name).label("app", &name));
        }
        let few = 4 * Pool::<Arc<str>>::FEW;
        assert!(
            shared.words.values.len() <= few,
            "{}",
            shared.words.values.len()
        );
        assert!(shared.templates.values.len() <= few);
        let again = shared.pod(pod("web-0").label("app", "web-0"));
        assert!(Arc::ptr_eq(&kept.template, &again.template));
    }
}
