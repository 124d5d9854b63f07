//! Recently deleted bindings. A pod whose gate names one of these waits the 30 s of a deleted binding, and
//! not `--orphan-after`, which is for bindings never seen (contract 5.5).

use std::collections::VecDeque;

use crate::names::{GateName, ObjectKey};

/// At most this many deleted bindings are kept, the latest. Chosen: a gate of one that was evicted waits for
/// `--orphan-after`.
const REMEMBERED: usize = 1024;

/// Keys of recently deleted bindings, the latest last.
#[derive(Debug, Default)]
pub(crate) struct RecentlyDeleted(VecDeque<ObjectKey>);

impl RecentlyDeleted {
    /// Takes in a binding that was deleted.
    pub(crate) fn insert(&mut self, binding: &ObjectKey) {
        self.0.retain(|known| known != binding);
        if self.0.len() >= REMEMBERED {
            self.0.pop_front();
        }
        self.0.push_back(binding.clone());
    }

    /// Whether a gate of this namespace may stand for a recently deleted binding.
    pub(crate) fn contains(&self, namespace: &str, gate: &GateName) -> bool {
        let mut here = self.0.iter().filter(|key| *key.namespace == *namespace);
        here.any(|key| gate.is_of(&key.name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::pod;

    #[test]
    fn bindings_that_went_are_remembered_by_namespace_up_to_a_bound() {
        let mut recently_deleted = RecentlyDeleted::default();
        recently_deleted.insert(&ObjectKey::new("shop", "web"));
        let gates = pod("web-1").gate("web").gate("api").gates;
        let (web, api) = (&gates[0].0, &gates[1].0);
        assert!(recently_deleted.contains("shop", web));
        assert!(!recently_deleted.contains("shop", api));
        assert!(!recently_deleted.contains("other", web));
        for number in 0..REMEMBERED {
            recently_deleted.insert(&ObjectKey::new("shop", format!("b-{number}")));
        }
        assert_eq!(recently_deleted.0.len(), REMEMBERED);
        assert!(!recently_deleted.contains("shop", web));
    }
}
