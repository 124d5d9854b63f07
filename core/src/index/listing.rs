//! What a list returned.

use std::sync::Arc;

use crate::names::ObjectKey;

/// The keys that a list returned, of the whole cluster or of one namespace. Keys of Namespaces have an empty
/// namespace.
#[derive(Debug, Default)]
pub struct Listing {
    /// The one namespace that was listed; `None` for the whole cluster.
    pub namespace: Option<Arc<str>>,
    pub keys: Keys,
}

impl Listing {
    /// Whether the list covers an object of this key, and did not return it.
    pub fn lacks(&self, key: &ObjectKey) -> bool {
        let of = match &*key.namespace {
            "" => &key.name,
            _ => &key.namespace,
        };
        let covered = self.namespace.as_ref().is_none_or(|listed| listed == of);
        covered && !self.keys.contains(key)
    }
}

/// A set of keys in one allocation, in their order, because a list can be long, and allocations that end with it leave
/// gaps between those that stay.
#[derive(Debug, Default)]
pub struct Keys(Vec<ObjectKey>);

impl Keys {
    /// The keys, in their order.
    pub fn iter(&self) -> impl Iterator<Item = &ObjectKey> {
        self.0.iter()
    }

    fn contains(&self, key: &ObjectKey) -> bool {
        self.0.binary_search(key).is_ok()
    }
}

impl Extend<ObjectKey> for Keys {
    /// Adds keys, which are sorted only where that is necessary: a list is nearly in order.
    fn extend<I: IntoIterator<Item = ObjectKey>>(&mut self, keys: I) {
        let mut in_order = true;
        for mut key in keys {
            if let Some(last) = self.0.last() {
                in_order &= *last <= key;
                if last.namespace == key.namespace {
                    key.namespace = last.namespace.clone();
                }
            }
            self.0.push(key);
        }
        if !in_order {
            self.0.sort();
        }
    }
}

impl FromIterator<ObjectKey> for Keys {
    fn from_iter<I: IntoIterator<Item = ObjectKey>>(keys: I) -> Self {
        let mut all = Self::default();
        all.extend(keys);
        all
    }
}

impl<const N: usize> From<[ObjectKey; N]> for Keys {
    fn from(keys: [ObjectKey; N]) -> Self {
        keys.into_iter().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(namespace: &str, name: &str) -> ObjectKey {
        ObjectKey::new(namespace, name)
    }

    #[test]
    fn keys_are_found_in_whatever_order_the_pages_have_them() {
        // etcd has `a-b/x` before `a/x`.
        let mut keys = Keys::from([key("a-b", "x"), key("a", "x")]);
        keys.extend([key("a", "y"), key("b", "x")]);
        keys.extend([key("a", "z")]);
        let listing = Listing {
            keys,
            ..Listing::default()
        };
        for (namespace, name) in [("a-b", "x"), ("a", "x"), ("a", "y"), ("a", "z"), ("b", "x")] {
            assert!(!listing.lacks(&key(namespace, name)));
        }
        assert!(listing.lacks(&key("b", "y")) && listing.lacks(&key("a-b", "y")));
        assert!(listing.keys.iter().is_sorted());
    }

    #[test]
    fn keys_of_one_namespace_share_its_name() {
        let keys = Keys::from([key("a", "x"), key("a", "y")]);
        let mut names = keys.iter().map(|key| &key.namespace);
        let (first, second) = (names.next().unwrap(), names.next().unwrap());
        assert!(Arc::ptr_eq(first, second));
    }
}
