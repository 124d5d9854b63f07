//! Which tracked bindings have a pod among theirs.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::index::BindingKey;
use crate::names::{BindingApi, ObjectKey};

/// Pairs of a pod and a binding. One set of pairs, because most pods have one binding, and a set of its own for each pod
/// takes half a kilobyte (measured).
#[derive(Debug, Default)]
pub(super) struct ByPod(BTreeSet<(ObjectKey, Arc<BindingKey>)>);

impl ByPod {
    pub(super) fn link(&mut self, pod: &ObjectKey, binding: &Arc<BindingKey>) {
        self.0.insert((pod.clone(), binding.clone()));
    }

    pub(super) fn unlink(&mut self, pod: &ObjectKey, binding: &Arc<BindingKey>) {
        self.0.remove(&(pod.clone(), binding.clone()));
    }

    /// The bindings of a pod.
    pub(super) fn of(&self, pod: &ObjectKey) -> impl Iterator<Item = &Arc<BindingKey>> {
        let least = BindingKey {
            object: ObjectKey::new("", ""),
            api: BindingApi::ALL[0],
        };
        let from = self.0.range((pod.clone(), Arc::new(least))..);
        let of_pod = from.take_while(move |(other, _)| other == pod);
        of_pod.map(|(_, binding)| binding)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl ByPod {
        pub(in crate::targets::wanted) fn is_empty(&self) -> bool {
            self.0.is_empty()
        }
    }

    #[test]
    fn the_bindings_of_a_pod_are_those_that_were_linked_to_it_alone() {
        let pod = |name: &str| ObjectKey::new("shop", name);
        let binding = |name: &str, api| {
            let object = ObjectKey::new("shop", name);
            Arc::new(BindingKey { object, api })
        };
        let [elbv2, eks] = BindingApi::ALL.map(|api| binding("web", api));
        let api = binding("api", BindingApi::Elbv2);
        let mut by_pod = ByPod::default();
        for (name, binding) in [
            ("web-1", &elbv2),
            ("web-1", &eks),
            ("web-1", &api),
            ("web-10", &elbv2),
            ("web-0", &api),
        ] {
            by_pod.link(&pod(name), binding);
        }
        let mut expected = [api.clone(), elbv2, eks.clone()];
        expected.sort();
        assert!(by_pod.of(&pod("web-1")).eq(&expected));
        by_pod.unlink(&pod("web-1"), &eks);
        by_pod.unlink(&pod("web-1"), &api);
        assert_eq!(by_pod.of(&pod("web-1")).count(), 1);
        assert_eq!(by_pod.of(&pod("web-10")).count(), 1);
        assert_eq!(by_pod.of(&pod("web")).count(), 0);
    }
}
