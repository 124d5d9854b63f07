//! How objects of each watched kind change the index, or what only the registrar reads.

use std::collections::BTreeSet;
use std::fmt::Display;
use std::sync::Arc;

use serde::de::DeserializeOwned;
use targetgate_core::index::{BindingKey, Index, Listing};
use targetgate_core::names::{BindingApi, ConditionPrefix, ObjectKey};

use crate::kubernetes::decode::{
    BindingObject, Keyed, NamespaceObject, PodObject, RecordObject, ServiceObject, SliceObject,
    Unreadable, UnreadableRecord, binding, namespace, pod, record, service, slice,
};
use crate::state::cache::Cache;
use crate::state::seen::Seen;

/// How objects of one kind change what is known.
pub(super) trait Feed: Send + Sync + 'static {
    /// The fields of an object that are read.
    type Object: DeserializeOwned + Keyed + Send;
    /// Why an object is passed over.
    type Unreadable: Display;
    /// What changes.
    type Store;

    /// Changes the store, under its lock.
    fn write<R>(cache: &Cache, feed: impl FnOnce(&mut Self::Store) -> R) -> R;

    /// Applies an object that was listed, created or changed.
    fn apply(&self, store: &mut Self::Store, object: Self::Object) -> Result<(), Self::Unreadable>;

    /// Removes a deleted object.
    fn delete(&self, store: &mut Self::Store, key: &ObjectKey);

    /// Removes the objects that a complete list does not name.
    fn retain(&self, store: &mut Self::Store, listing: &Listing);
}

pub(super) struct Namespaces;

impl Feed for Namespaces {
    type Object = NamespaceObject;
    type Unreadable = Unreadable;
    type Store = Index;

    fn write<R>(cache: &Cache, feed: impl FnOnce(&mut Index) -> R) -> R {
        cache.write(feed)
    }

    fn apply(&self, index: &mut Index, object: NamespaceObject) -> Result<(), Unreadable> {
        let (name, namespace) = namespace(object)?;
        index.apply_namespace(&name, namespace);
        Ok(())
    }

    fn delete(&self, index: &mut Index, key: &ObjectKey) {
        index.delete_namespace(&key.name);
    }

    fn retain(&self, index: &mut Index, listing: &Listing) {
        index.retain_namespaces(listing);
    }
}

pub(super) struct Services;

impl Feed for Services {
    type Object = ServiceObject;
    type Unreadable = Unreadable;
    type Store = Index;

    fn write<R>(cache: &Cache, feed: impl FnOnce(&mut Index) -> R) -> R {
        cache.write(feed)
    }

    fn apply(&self, index: &mut Index, object: ServiceObject) -> Result<(), Unreadable> {
        let (key, service) = service(object)?;
        index.apply_service(&key, service);
        Ok(())
    }

    fn delete(&self, index: &mut Index, key: &ObjectKey) {
        index.delete_service(key);
    }

    fn retain(&self, index: &mut Index, listing: &Listing) {
        index.retain_services(listing);
    }
}

pub(super) struct Pods(pub(super) Arc<[ConditionPrefix]>);

impl Feed for Pods {
    type Object = PodObject;
    type Unreadable = Unreadable;
    type Store = Index;

    fn write<R>(cache: &Cache, feed: impl FnOnce(&mut Index) -> R) -> R {
        cache.write(feed)
    }

    fn apply(&self, index: &mut Index, object: PodObject) -> Result<(), Unreadable> {
        let times = object.times();
        index.apply_pod_at(pod(object, &self.0)?, times);
        Ok(())
    }

    fn delete(&self, index: &mut Index, key: &ObjectKey) {
        index.delete_pod(key);
    }

    fn retain(&self, index: &mut Index, listing: &Listing) {
        index.retain_pods(listing);
    }
}

pub(super) struct Bindings(pub(super) BindingApi);

impl Feed for Bindings {
    type Object = BindingObject;
    type Unreadable = Unreadable;
    type Store = Index;

    fn write<R>(cache: &Cache, feed: impl FnOnce(&mut Index) -> R) -> R {
        cache.write(feed)
    }

    fn apply(&self, index: &mut Index, object: BindingObject) -> Result<(), Unreadable> {
        let (namespace, binding) = binding(object, self.0)?;
        index.apply_binding(&namespace, binding);
        Ok(())
    }

    fn delete(&self, index: &mut Index, key: &ObjectKey) {
        let object = key.clone();
        index.delete_binding(&BindingKey {
            object,
            api: self.0,
        });
    }

    fn retain(&self, index: &mut Index, listing: &Listing) {
        index.retain_bindings(self.0, listing);
    }
}

pub(super) struct Slices;

impl Feed for Slices {
    type Object = SliceObject;
    type Unreadable = Unreadable;
    type Store = Seen;

    fn write<R>(cache: &Cache, feed: impl FnOnce(&mut Seen) -> R) -> R {
        cache.write_seen(feed)
    }

    fn apply(&self, seen: &mut Seen, object: SliceObject) -> Result<(), Unreadable> {
        let key = object.key().clone();
        match slice(object)? {
            Some(slice) => seen.slices.apply(key, slice),
            // It may have named a Service before.
            None => seen.slices.delete(&key),
        }
        Ok(())
    }

    fn delete(&self, seen: &mut Seen, key: &ObjectKey) {
        seen.slices.delete(key);
    }

    fn retain(&self, seen: &mut Seen, listing: &Listing) {
        seen.slices.retain(|key| !listing.lacks(key));
    }
}

pub(super) struct Records;

impl Feed for Records {
    type Object = RecordObject;
    type Unreadable = UnreadableRecord;
    type Store = Seen;

    fn write<R>(cache: &Cache, feed: impl FnOnce(&mut Seen) -> R) -> R {
        cache.write_seen(feed)
    }

    fn apply(&self, seen: &mut Seen, object: RecordObject) -> Result<(), UnreadableRecord> {
        let (record, version) = record(object)?;
        seen.records.apply(record.uid.clone(), (record, version));
        Ok(())
    }

    fn delete(&self, seen: &mut Seen, key: &ObjectKey) {
        seen.records.delete(&key.name);
    }

    fn retain(&self, seen: &mut Seen, listing: &Listing) {
        let listed: BTreeSet<&Arc<str>> = listing.keys.iter().map(|key| &key.name).collect();
        seen.records.retain(|uid| listed.contains(uid));
    }
}
