//! Bindings that have gone while we looked: a gate that comes for one of them later waits only as long as
//! one that was there before (contract 5.5), and not for a binding that nobody has ever seen.

use std::collections::VecDeque;

use crate::names::{GateName, ObjectKey};

/// How many are remembered. One that is forgotten costs its late pods the longer wait.
const REMEMBERED: usize = 1024;

/// Names of bindings that are gone, the latest last.
#[derive(Debug, Default)]
pub(crate) struct RecentlyDeleted(VecDeque<ObjectKey>);

impl RecentlyDeleted {
    /// A binding is gone.
    pub(crate) fn depart(&mut self, binding: &ObjectKey) {
        self.0.retain(|known| known != binding);
        if self.0.len() >= REMEMBERED {
            self.0.pop_front();
        }
        self.0.push_back(binding.clone());
    }

    /// Whether a gate of this namespace may stand for one of them.
    pub(crate) fn had(&self, namespace: &str, gate: &GateName) -> bool {
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
        recently_deleted.depart(&ObjectKey::new("shop", "web"));
        let gates = pod("web-1").gate("web").gate("api").gates;
        let (web, api) = (&gates[0].0, &gates[1].0);
        assert!(recently_deleted.had("shop", web));
        assert!(!recently_deleted.had("shop", api));
        assert!(!recently_deleted.had("other", web));
        for number in 0..REMEMBERED {
            recently_deleted.depart(&ObjectKey::new("shop", format!("b-{number}")));
        }
        assert_eq!(recently_deleted.0.len(), REMEMBERED);
        assert!(!recently_deleted.had("shop", web));
    }
}
