//! The index, shared between the watches that feed it and its readers.

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::{Arc, OnceLock};

use parking_lot::{Mutex, RwLock};
use targetgate_core::index::Index;
use targetgate_core::names::{BindingApi, ObjectKey};
use targetgate_core::targets::record::Record;
use targetgate_core::targets::slices::Slice;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::state::seen::Seen;

/// A resource that feeds the index.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum WatchedResource {
    Namespaces,
    Services,
    Pods,
    /// `TargetGroupBinding`s of one API group.
    Bindings(BindingApi),
    /// Only where targets are registered: slices that Kubernetes' own controller does not write.
    EndpointSlices,
    /// Only where targets are registered: our records, in our own namespace.
    TargetRecords,
}

impl WatchedResource {
    /// The resources that are always watched, and without which no decision can be trusted.
    pub const ALL: [Self; 5] = [
        Self::Namespaces,
        Self::Services,
        Self::Pods,
        Self::Bindings(BindingApi::Elbv2),
        Self::Bindings(BindingApi::Eks),
    ];

    /// The resources that only the registrar needs.
    pub const TARGETS: [Self; 2] = [Self::EndpointSlices, Self::TargetRecords];

    /// The name in metrics, logs and readiness checks.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Namespaces => "namespaces",
            Self::Services => "services",
            Self::Pods => "pods",
            Self::Bindings(BindingApi::Elbv2) => "targetgroupbindings.elbv2.k8s.aws",
            Self::Bindings(BindingApi::Eks) => "targetgroupbindings.eks.amazonaws.com",
            Self::EndpointSlices => "endpointslices",
            Self::TargetRecords => "targetrecords",
        }
    }
}

/// The progress of the initial list of a resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InitialList {
    /// The list of a watched namespace is still pending.
    Pending,
    /// The whole list is in the index.
    Listed,
    /// The API server does not serve the resource: its CRD is absent, which is not an error.
    NotServed,
}

/// The shared index, and what only the registrar needs. Its lock is held only during a closure, never across an await.
#[derive(Debug)]
pub struct Cache {
    index: RwLock<Index>,
    changed: Notify,
    seen: Mutex<Seen>,
    noted: Notify,
    rules_changed: Notify,
    looks: RwLock<BTreeMap<WatchedResource, InitialList>>,
    warm: Notify,
    /// Since when the watch of each resource has not worked; absent while it works.
    failing: RwLock<BTreeMap<WatchedResource, Instant>>,
    view_changed: Notify,
    /// The only namespaces that are watched; empty for all.
    namespaces: OnceLock<Vec<Arc<str>>>,
}

impl Default for Cache {
    fn default() -> Self {
        let pending = WatchedResource::ALL.map(|watched| (watched, InitialList::Pending));
        Self {
            index: RwLock::default(),
            changed: Notify::new(),
            seen: Mutex::default(),
            noted: Notify::new(),
            rules_changed: Notify::new(),
            looks: RwLock::new(pending.into()),
            warm: Notify::new(),
            failing: RwLock::new(
                WatchedResource::ALL
                    .map(|watched| (watched, Instant::now()))
                    .into(),
            ),
            view_changed: Notify::new(),
            namespaces: OnceLock::new(),
        }
    }
}

impl Cache {
    /// Reads from the index.
    pub fn read<R>(&self, ask: impl FnOnce(&Index) -> R) -> R {
        ask(&self.index.read())
    }

    /// Updates the index, and wakes the waiter of [`Self::changed`] if pods may be dirty, and that of [`Self::noted`] if
    /// changes were noted.
    pub fn write<R>(&self, feed: impl FnOnce(&mut Index) -> R) -> R {
        let mut index = self.index.write();
        let fed = feed(&mut index);
        if index.has_dirty() {
            self.changed.notify_one();
        }
        if index.has_changes() {
            self.noted.notify_one();
        }
        if index.has_rule_changes() {
            self.rules_changed.notify_one();
        }
        fed
    }

    /// Updates what the registrar has not taken yet, and wakes the waiter of [`Self::noted`].
    pub fn write_seen<R>(&self, feed: impl FnOnce(&mut Seen) -> R) -> R {
        let mut seen = self.seen.lock();
        let fed = feed(&mut seen);
        if !seen.is_empty() {
            self.noted.notify_one();
        }
        fed
    }

    /// Takes what changed of the slices since they were last taken; `None` for a slice that is gone.
    pub fn take_slices(&self) -> BTreeMap<ObjectKey, Option<Slice>> {
        self.seen.lock().slices.take()
    }

    /// Takes what changed of the records since they were last taken, by the binding's UID, each with its
    /// resourceVersion; `None` for a record that is gone.
    pub fn take_records(&self) -> BTreeMap<Arc<str>, Option<(Record, Arc<str>)>> {
        self.seen.lock().records.take()
    }

    /// Says which namespaces are watched, of all if empty. Only the first call counts.
    pub fn watch_only(&self, namespaces: Vec<Arc<str>>) {
        // An error means that it was said before.
        let _ = self.namespaces.set(namespaces);
    }

    /// Whether a namespace is watched: of any other the index knows nothing.
    pub fn watches(&self, namespace: &str) -> bool {
        let named = self.namespaces.get().filter(|named| !named.is_empty());
        named.is_none_or(|named| named.iter().any(|name| **name == *namespace))
    }

    /// Returns once there may be dirty pods to take. Supports one waiter.
    pub async fn changed(&self) {
        self.changed.notified().await;
    }

    /// Returns once there may be changes, slices or records to take, which only the registrar takes. Supports one waiter.
    pub async fn noted(&self) {
        self.noted.notified().await;
    }

    /// Returns once the gate rules of a namespace may have changed. Supports one waiter.
    pub async fn rules_changed(&self) {
        self.rules_changed.notified().await;
    }

    /// Sets the progress of the initial list of a resource.
    pub fn looked(&self, watched: WatchedResource, look: InitialList) {
        self.looks.write().insert(watched, look);
        if self.pending().is_empty() {
            self.warm.notify_waiters();
        }
    }

    /// The progress of the initial list of a resource.
    pub fn look(&self, watched: WatchedResource) -> InitialList {
        let looks = self.looks.read();
        looks.get(&watched).copied().unwrap_or(InitialList::Pending)
    }

    /// The resources whose initial list is pending; empty once the index is warm.
    pub fn pending(&self) -> Vec<WatchedResource> {
        let looks = self.looks.read();
        let is_pending = |watched: &WatchedResource| {
            matches!(looks.get(watched), None | Some(InitialList::Pending))
        };
        let all = WatchedResource::ALL.into_iter();
        all.filter(is_pending).collect()
    }

    /// Sets since when the watch of a resource has not worked; `None` while it works. Wakes the waiter of
    /// [`Self::view_changed`] if that differs.
    pub fn watch_fails(&self, watched: WatchedResource, since: Option<Instant>) {
        let mut failing = self.failing.write();
        let before = match since {
            Some(since) => failing.insert(watched, since),
            None => failing.remove(&watched),
        };
        if before != since {
            self.view_changed.notify_one();
        }
    }

    /// Since when the watch of a resource has not worked; `None` while it works.
    pub fn watch_fails_since(&self, watched: WatchedResource) -> Option<Instant> {
        self.failing.read().get(&watched).copied()
    }

    /// Returns once a watch has begun to fail, or to work. Supports one waiter.
    pub async fn view_changed(&self) {
        self.view_changed.notified().await;
    }

    /// Returns once the index is warm: no initial list is pending, so that decisions can be trusted.
    pub async fn warm(&self) {
        loop {
            let mut noted = pin!(self.warm.notified());
            noted.as_mut().enable();
            if self.pending().is_empty() {
                return;
            }
            noted.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_namespaces_are_watched_unless_some_are_named() {
        let (all, some) = (Cache::default(), Cache::default());
        all.watch_only(vec![]);
        some.watch_only(vec!["shop".into()]);
        assert!(all.watches("shop") && all.watches("blog"));
        assert!(some.watches("shop") && !some.watches("blog"));
        assert!(Cache::default().watches("shop"));
    }

    #[tokio::test]
    async fn it_is_warm_once_every_resource_is_listed_or_known_not_to_be_served() {
        let cache = Arc::<Cache>::default();
        let waiter = cache.clone();
        let warm = tokio::spawn(async move { waiter.warm().await });
        for watched in WatchedResource::ALL {
            tokio::task::yield_now().await;
            assert!(!warm.is_finished());
            cache.looked(watched, InitialList::NotServed);
        }
        warm.await.unwrap();
        cache.warm().await;
    }
}
