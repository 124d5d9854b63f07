//! A cache of one kind, kept by a watch: what every actor reconciles from.

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

/// How long to wait before a watch that failed starts again.
const AGAIN: Duration = Duration::from_millis(500);

/// The cache, and a stream that keeps it: it yields once for each change that the cache has taken
/// in and never ends. An API server that is away, or a kind that is not served yet, is tried again.
///
/// An informer's pause between two tries grows to 30 s. Here it does not: the registrar and the
/// kubelet would come back far apart from each other, and pods would end that are still targets.
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

/// The same pause again and again.
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

/// Objects of one namespace; none given means every one.
pub(crate) fn scoped<K>(client: &Client, namespace: Option<&str>) -> Api<K>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
{
    match namespace {
        Some(namespace) => Api::namespaced(client.clone(), namespace),
        None => Api::all(client.clone()),
    }
}

/// Whether the cache has taken its first list in. Before, an absent object says nothing.
pub(crate) fn is_listed<K>(store: &Store<K>) -> bool
where
    K: Resource + Clone + 'static,
    K::DynamicType: Eq + Hash + Clone,
{
    store.wait_until_ready().now_or_never().is_some()
}
