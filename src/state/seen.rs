//! What watches have shown of the objects that only the registrar reads, until it takes that.

use std::collections::{BTreeMap, BTreeSet};
use std::mem;
use std::sync::Arc;

use targetgate_core::names::ObjectKey;
use targetgate_core::targets::record::Record;
use targetgate_core::targets::slices::Slice;

/// EndpointSlices, and TargetRecords by the binding's UID, each with its resourceVersion.
#[derive(Debug, Default)]
pub struct Seen {
    pub slices: Changed<ObjectKey, Slice>,
    pub records: Changed<Arc<str>, (Record, Arc<str>)>,
}

impl Seen {
    /// Whether there is nothing to take.
    pub fn is_empty(&self) -> bool {
        self.slices.changed.is_empty() && self.records.changed.is_empty()
    }
}

/// The objects of one kind that changed since they were last taken. It keeps the last state of each, and is therefore
/// bounded by their number.
#[derive(Debug)]
pub struct Changed<K, V> {
    /// Those that exist, as far as is known.
    known: BTreeSet<K>,
    /// The last state; `None` if it is gone.
    changed: BTreeMap<K, Option<V>>,
}

impl<K, V> Default for Changed<K, V> {
    fn default() -> Self {
        Self {
            known: BTreeSet::new(),
            changed: BTreeMap::new(),
        }
    }
}

impl<K: Ord + Clone, V> Changed<K, V> {
    /// Takes in an object that was listed, created or changed.
    pub fn apply(&mut self, key: K, object: V) {
        self.known.insert(key.clone());
        self.changed.insert(key, Some(object));
    }

    /// Takes in that an object is gone.
    pub fn delete(&mut self, key: &K) {
        if self.known.remove(key) {
            self.changed.insert(key.clone(), None);
        }
    }

    /// Takes in that the objects that a complete list did not return are gone.
    pub fn retain(&mut self, listed: impl Fn(&K) -> bool) {
        let known = self.known.iter();
        let gone: Vec<K> = known.filter(|key| !listed(key)).cloned().collect();
        gone.iter().for_each(|key| self.delete(key));
    }

    /// Takes what changed.
    pub fn take(&mut self) -> BTreeMap<K, Option<V>> {
        mem::take(&mut self.changed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_state_of_each_object_is_taken_once() {
        let mut seen: Changed<&str, u32> = Changed::default();
        seen.apply("a", 1);
        seen.apply("a", 2);
        seen.apply("b", 3);
        seen.delete(&"b");
        seen.delete(&"never seen");
        assert_eq!(seen.take(), [("a", Some(2)), ("b", None)].into());
        assert!(seen.take().is_empty());
    }

    #[test]
    fn what_a_list_lacks_is_gone_also_if_it_was_taken_long_ago() {
        let mut seen: Changed<&str, u32> = Changed::default();
        seen.apply("a", 1);
        seen.apply("b", 2);
        seen.take();
        seen.retain(|key| *key == "a");
        seen.retain(|key| *key == "a");
        assert_eq!(seen.take(), [("b", None)].into());
    }
}
