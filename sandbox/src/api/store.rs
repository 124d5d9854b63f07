//! The objects, the counter of versions, and the history that watches read.

use std::{
    collections::{BTreeMap, VecDeque},
    ops::Bound,
    sync::Arc,
};

use parking_lot::Mutex;
use serde_json::json;
use tokio::time::Instant;

use super::{
    generated,
    kinds::{Catalog, Resource},
    object::Object,
};
use crate::random::Random;
use crate::signal::{Listener, Signal};

/// The key of one object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    /// The group under which the resource is stored.
    pub group: String,
    /// The plural of the resource.
    pub resource: String,
    /// The namespace; empty for an object that has none.
    pub namespace: String,
    pub name: String,
}

impl Key {
    pub fn new(resource: &Resource, namespace: &str, name: &str) -> Key {
        Key {
            group: resource.kept_in.clone(),
            resource: resource.plural.clone(),
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        }
    }

    fn is_of(&self, group: &str, plural: &str) -> bool {
        self.group == group && self.resource == plural
    }
}

/// One write, as a watch sees it.
#[derive(Clone, Debug)]
pub struct Change {
    /// The version that the write created.
    pub version: u64,
    /// The time of the write, on tokio's clock.
    pub at: Instant,
    pub key: Key,
    /// The object before the write; `None` if it did not exist.
    pub before: Option<Arc<Object>>,
    /// The object after the write; `None` if the write removed it.
    pub after: Option<Arc<Object>>,
    /// The object after the write. A removed object is in its last state, with the version of the
    /// removal.
    pub last: Arc<Object>,
}

/// The refusal of a write because the object was not in the state that the writer had seen.
#[derive(Debug, PartialEq, Eq)]
pub struct Raced;

/// The requested changes are older than the kept history. Carries the oldest version to start from.
#[derive(Debug, PartialEq, Eq)]
pub struct Forgotten(pub u64);

/// The store. Its lock is never held across an await.
pub struct Store {
    state: Mutex<State>,
    version: Signal,
}

struct State {
    objects: BTreeMap<Key, Arc<Object>>,
    catalog: Catalog,
    version: u64,
    history: VecDeque<Change>,
    limit: usize,
    /// The oldest version that a watch may start from.
    oldest: u64,
    random: Random,
}

impl Store {
    /// An empty store that keeps `history` changes for watches and draws names from `seed`.
    pub fn new(history: usize, seed: u64) -> Store {
        Store {
            state: Mutex::new(State {
                objects: BTreeMap::new(),
                catalog: Catalog::builtin(),
                version: 1,
                history: VecDeque::new(),
                limit: history,
                oldest: 1,
                random: Random::new(seed),
            }),
            version: Signal::new(1),
        }
    }

    /// Reads the catalog of the resources that are served at the moment.
    pub fn catalog<T>(&self, read: impl FnOnce(&Catalog) -> T) -> T {
        read(&self.state.lock().catalog)
    }

    pub fn read(&self, key: &Key) -> Option<Arc<Object>> {
        self.state.lock().objects.get(key).cloned()
    }

    /// Lists up to `limit` objects of a resource after `after`, in the order of namespace and name,
    /// with the number of objects that follow and the version at which they were read.
    pub fn list(&self, scan: &Scan<'_>) -> Page {
        let state = self.state.lock();
        let then = scan.at.map(|version| state.as_of(scan, version));
        let objects = then.as_ref().unwrap_or(&state.objects);
        let first = scan.first();
        let start = match &scan.after {
            Some((namespace, name)) => Bound::Excluded(Key::new(scan.resource, namespace, name)),
            None => Bound::Included(first),
        };
        let mut items = objects
            .range((start, Bound::Unbounded))
            .take_while(|(key, _)| scan.holds(key))
            .filter(|(_, object)| (scan.keep)(object))
            .map(|(key, object)| (key.clone(), Arc::clone(object)));
        let taken: Vec<_> = items.by_ref().take(scan.limit).collect();
        let remaining = items.count();
        Page {
            items: taken,
            remaining,
            version: state.version,
        }
    }

    /// Stores an object (`Some`) or removes it (`None`), provided that the stored one still has the
    /// version `seen` (`None`: does not exist). Returns the object as stored, or its last state.
    pub fn commit(
        &self,
        key: &Key,
        seen: Option<&str>,
        object: Option<Object>,
    ) -> Result<Arc<Object>, Raced> {
        let mut state = self.state.lock();
        let before = state.objects.get(key).cloned();
        if before.as_deref().map(Object::version) != seen {
            return Err(Raced);
        }
        let Some(mut last) = object.clone().or_else(|| before.as_deref().cloned()) else {
            return Err(Raced);
        };
        state.version += 1;
        last.set_meta("resourceVersion", json!(state.version.to_string()));
        let last = Arc::new(last);
        let after = object.is_some().then(|| Arc::clone(&last));
        state.put(key, after.clone());
        let change = Change {
            version: state.version,
            at: Instant::now(),
            key: key.clone(),
            before,
            after,
            last: Arc::clone(&last),
        };
        state.record(change);
        let version = state.version;
        drop(state);
        self.version.set(version);
        Ok(last)
    }

    pub fn since(&self, version: u64, limit: usize) -> Result<Vec<Change>, Forgotten> {
        let state = self.state.lock();
        if version < state.oldest {
            return Err(Forgotten(state.oldest));
        }
        let start = state.history.partition_point(|c| c.version <= version);
        Ok(state.history.range(start..).take(limit).cloned().collect())
    }

    /// A listener that hears of each new version.
    pub fn versions(&self) -> Listener {
        self.version.listen()
    }

    /// The current version.
    pub fn version(&self) -> u64 {
        self.state.lock().version
    }

    /// The oldest version that a watch may start from.
    pub fn oldest(&self) -> u64 {
        self.state.lock().oldest
    }

    /// Forgets every change, so that a watch from any earlier version is refused.
    pub fn forget_history(&self) {
        let mut state = self.state.lock();
        state.history.clear();
        state.version += 1;
        state.oldest = state.version;
        let version = state.version;
        drop(state);
        self.version.set(version);
    }

    /// A new UID, drawn from the seed.
    pub fn uid(&self) -> String {
        generated::uid(&mut self.state.lock().random)
    }

    /// A name that begins with `prefix`, drawn from the seed.
    pub fn generated_name(&self, prefix: &str) -> String {
        generated::name(&mut self.state.lock().random, prefix)
    }
}

impl State {
    fn put(&mut self, key: &Key, after: Option<Arc<Object>>) {
        let is_crd = key.is_of("apiextensions.k8s.io", "customresourcedefinitions");
        match after {
            Some(object) => {
                if is_crd {
                    self.catalog.define(&object);
                }
                self.objects.insert(key.clone(), object);
            }
            None => {
                if is_crd {
                    self.catalog.forget(&key.name);
                }
                self.objects.remove(key);
            }
        }
    }

    /// The objects of a scan as they were at a version that is still in the history, by undoing the
    /// later changes from the newest on.
    fn as_of(&self, scan: &Scan<'_>, version: u64) -> BTreeMap<Key, Arc<Object>> {
        let now = self.objects.range(scan.first()..);
        let now = now.take_while(|(key, _)| scan.holds(key));
        let mut objects: BTreeMap<_, _> = now.map(|(k, o)| (k.clone(), Arc::clone(o))).collect();
        let later = self.history.iter().rev();
        let later = later.take_while(|change| change.version > version);
        for change in later.filter(|change| scan.holds(&change.key)) {
            match &change.before {
                Some(before) => objects.insert(change.key.clone(), Arc::clone(before)),
                None => objects.remove(&change.key),
            };
        }
        objects
    }

    fn record(&mut self, change: Change) {
        self.history.push_back(change);
        while self.history.len() > self.limit {
            if let Some(gone) = self.history.pop_front() {
                self.oldest = gone.version;
            }
        }
    }
}

/// The objects that a list selects.
pub struct Scan<'a> {
    pub resource: &'a Resource,
    /// The namespace; `None` means all namespaces.
    pub namespace: Option<&'a str>,
    /// The version at which to read the objects, which must be in the history; `None` means the
    /// current state.
    pub at: Option<u64>,
    /// The namespace and name after which the page starts.
    pub after: Option<(String, String)>,
    /// The largest number of objects to return.
    pub limit: usize,
    /// The filter: only objects for which it returns true are listed.
    pub keep: &'a dyn Fn(&Object) -> bool,
}

impl<'a> Scan<'a> {
    /// All objects of a resource, in one namespace or in all.
    pub fn all(resource: &'a Resource, namespace: Option<&'a str>) -> Scan<'a> {
        Scan {
            resource,
            namespace,
            at: None,
            after: None,
            limit: usize::MAX,
            keep: &|_| true,
        }
    }

    fn first(&self) -> Key {
        Key::new(self.resource, self.namespace.unwrap_or_default(), "")
    }

    fn holds(&self, key: &Key) -> bool {
        key.is_of(&self.resource.kept_in, &self.resource.plural)
            && self.namespace.is_none_or(|wanted| wanted == key.namespace)
    }
}

/// One page of a list.
pub struct Page {
    /// The objects, in the order of their keys.
    pub items: Vec<(Key, Arc<Object>)>,
    /// How many objects follow after this page.
    pub remaining: usize,
    /// The version at which the page was read.
    pub version: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pods(store: &Store) -> Arc<Resource> {
        store
            .catalog(|catalog| catalog.find("", "v1", "pods"))
            .unwrap()
            .resource
    }

    fn pod(name: &str) -> Object {
        Object::new(json!({"metadata": {"name": name, "namespace": "a"}})).unwrap()
    }

    #[test]
    fn a_write_on_an_old_version_is_refused() {
        let store = Store::new(10, 1);
        let key = Key::new(&pods(&store), "a", "p");
        let first = store.commit(&key, None, Some(pod("p"))).unwrap();
        assert!(store.commit(&key, None, Some(pod("p"))).is_err());
        store
            .commit(&key, Some(first.version()), Some(pod("p")))
            .unwrap();
        assert_eq!(store.commit(&key, Some(first.version()), None), Err(Raced));
    }

    #[test]
    fn history_that_is_no_longer_kept_is_reported_as_forgotten() {
        let store = Store::new(2, 1);
        let resource = pods(&store);
        let start = store.version();
        for name in ["p", "q", "r"] {
            let key = Key::new(&resource, "a", name);
            store.commit(&key, None, Some(pod(name))).unwrap();
        }
        assert_eq!(store.since(start, 10).unwrap_err(), Forgotten(start + 1));
        assert_eq!(store.since(start + 1, 10).unwrap().len(), 2);
        store.forget_history();
        assert!(store.since(start + 3, 10).is_err());
        assert!(store.since(store.version(), 10).unwrap().is_empty());
    }

    #[test]
    fn a_page_ends_at_its_resource_and_namespace() {
        let store = Store::new(10, 1);
        let resource = pods(&store);
        for (namespace, name) in [("a", "p"), ("a", "q"), ("b", "p")] {
            let key = Key::new(&resource, namespace, name);
            store.commit(&key, None, Some(pod(name))).unwrap();
        }
        let page = store.list(&Scan {
            limit: 1,
            ..Scan::all(&resource, Some("a"))
        });
        assert_eq!((page.items.len(), page.remaining), (1, 1));
        let all = store.list(&Scan::all(&resource, None));
        assert_eq!(all.items.len(), 3);
    }
}
