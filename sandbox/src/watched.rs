//! A cache of one kind that a watch keeps current, from which every actor reconciles.

use std::fmt::Debug;
use std::hash::Hash;
use std::time::Duration;

use futures::{FutureExt, Stream, StreamExt};
use kube::core::NamespaceResourceScope;
use kube::runtime::reflector::{self, Store};
use kube::runtime::utils::Backoff;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, Resource};
use serde::de::DeserializeOwned;

/// The pause before a failed watch starts again. Chosen.
const AGAIN: Duration = Duration::from_millis(500);

/// Returns the cache, and a stream that keeps it current. The stream yields once for each change
/// that the cache has taken in, and never ends: it tries again while the API server is unavailable,
/// or the kind is not served yet.
///
/// The pause does not grow, whereas an informer's grows to 30 s. With growing pauses the registrar
/// and the kubelet would come back far apart from each other, and pods would end while they are
/// still targets.
pub(crate) fn watched<K>(api: Api<K>) -> (Store<K>, impl Stream<Item = ()> + Send)
where
    K: Resource + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
    K::DynamicType: Default + Eq + Hash + Clone + Send + Sync,
{
    let (store, writer) = reflector::store();
    let changes = watcher(api, watcher::Config::default())
        .backoff(Steady)
        .reflect(writer)
        .filter_map(async |event| match event {
            Ok(_) => Some(()),
            Err(error) => {
                tracing::debug!(kind = %K::kind(&K::DynamicType::default()), %error, "the watch starts again");
                None
            }
        });
    (store, changes.boxed())
}

/// A backoff whose pause does not grow.
struct Steady;

impl Iterator for Steady {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        Some(AGAIN)
    }
}

impl Backoff for Steady {
    fn reset(&mut self) {}
}

/// The API of one namespace's objects; `None` means all namespaces.
pub(crate) fn scoped<K>(client: &Client, namespace: Option<&str>) -> Api<K>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
{
    match namespace {
        Some(namespace) => Api::namespaced(client.clone(), namespace),
        None => Api::all(client.clone()),
    }
}

/// Whether the cache has received its initial list. Before, an object that is absent from it may
/// exist.
pub(crate) fn is_listed<K>(store: &Store<K>) -> bool
where
    K: Resource + Clone + 'static,
    K::DynamicType: Eq + Hash + Clone,
{
    store.wait_until_ready().now_or_never().is_some()
}
