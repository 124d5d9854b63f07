//! The watches that feed the index: Namespaces, Services, Pods and the bindings of both API groups.
//!
//! A watch lists in pages, then watches from there. It survives dropped connections, `410 Gone`, a CRD
//! that is absent or deleted and recreated, missing permissions, and an API server that is down, also at start.
//! Each step has a timeout: a page of a list a minute, the start of a watch half a minute. A page that fails is read
//! again, and the pages before it are not. A watch that is silent for two and a half minutes, without even the bookmark
//! that an API server sends each minute, is resumed on a new request.
//!
//! We do not use kube's own `watcher`: it does not bound the time until a response begins, it does not
//! report when a quiet watch works again, and it logs a missing permission at each attempt.

use std::sync::Arc;

use futures::FutureExt;
use futures::future::{BoxFuture, join_all};
use kube::Client;
use parking_lot::Mutex;
use targetgate_core::names::ConditionPrefix;
use tokio::time::Instant;

use crate::metrics::Metrics;
use crate::state::cache::{Cache, InitialList, WatchedResource};

use crate::kubernetes::watch::feed::{Bindings, Feed, Namespaces, Pods, Records, Services, Slices};
use crate::kubernetes::watch::follow::Follow;
pub(crate) use backoff::JitteredBackoff;

mod backoff;
mod failure;
mod feed;
mod follow;
#[cfg(test)]
mod tests;
mod wire;

/// Settings of the watches.
#[derive(Debug, Clone)]
pub struct WatchOptions {
    /// The namespaces to watch; empty for the whole cluster.
    pub namespaces: Vec<Arc<str>>,
    /// Prefixes of the gates that we open; the index ignores other gates.
    pub prefixes: Vec<ConditionPrefix>,
    /// Maximum number of objects in one page of a list.
    pub page_size: u32,
    /// Our own namespace, where targets are registered: it has our TargetRecords. `None` watches neither these nor
    /// EndpointSlices.
    pub records: Option<Arc<str>>,
    /// Seed of the jitter between attempts, so that replicas do not retry simultaneously.
    pub seed: u64,
}

impl Default for WatchOptions {
    fn default() -> Self {
        Self {
            namespaces: vec![],
            prefixes: vec![ConditionPrefix::default()],
            page_size: 100,
            records: None,
            seed: 0,
        }
    }
}

/// One watch for each of [`WatchedResource::ALL`], and for each of [`WatchedResource::TARGETS`] where targets are
/// registered, to be run concurrently. They never end.
pub fn watches(
    client: &Client,
    cache: &Arc<Cache>,
    metrics: &Metrics,
    options: &WatchOptions,
) -> Vec<(WatchedResource, BoxFuture<'static, ()>)> {
    let watch = |watched| {
        let scope = Scope {
            client,
            cache,
            metrics,
            options,
            watched,
        };
        let prefixes = options.prefixes.clone();
        let watch = match watched {
            WatchedResource::Namespaces => scope.watch(Namespaces),
            WatchedResource::Services => scope.watch(Services),
            WatchedResource::Pods => scope.watch(Pods(prefixes.into())),
            WatchedResource::Bindings(api) => scope.watch(Bindings(api)),
            WatchedResource::EndpointSlices => scope.watch(Slices),
            WatchedResource::TargetRecords => scope.watch(Records),
        };
        (watched, watch)
    };
    let targets = WatchedResource::TARGETS.into_iter();
    let targets = targets.filter(|_| options.records.is_some());
    let all = WatchedResource::ALL.into_iter().chain(targets);
    all.map(watch).collect()
}

struct Scope<'a> {
    client: &'a Client,
    cache: &'a Arc<Cache>,
    metrics: &'a Metrics,
    options: &'a WatchOptions,
    watched: WatchedResource,
}

impl Scope<'_> {
    fn namespaces(&self) -> Vec<Option<Arc<str>>> {
        if self.watched == WatchedResource::TargetRecords {
            return vec![self.options.records.clone()];
        }
        match &self.options.namespaces[..] {
            [] => vec![None],
            some => some.iter().cloned().map(Some).collect(),
        }
    }

    fn watch<F: Feed>(&self, feed: F) -> BoxFuture<'static, ()> {
        let feed = Arc::new(feed);
        let namespaces = self.namespaces();
        let progress = Progress {
            list: InitialList::Pending,
            fails_since: Some(Instant::now()),
        };
        self.cache.watch_fails(self.watched, progress.fails_since);
        let looks = Arc::new(Looks {
            cache: self.cache.clone(),
            watched: self.watched,
            each: Mutex::new(vec![progress; namespaces.len()]),
        });
        let follow = |(slot, namespace)| {
            let look = Look {
                looks: looks.clone(),
                slot,
            };
            Follow::new(self, feed.clone(), namespace, look).run()
        };
        let follows = namespaces.into_iter().enumerate().map(follow);
        join_all(follows).map(drop).boxed()
    }
}

/// The lists and watches of one resource, one of each for each watched namespace.
struct Looks {
    cache: Arc<Cache>,
    watched: WatchedResource,
    each: Mutex<Vec<Progress>>,
}

/// How far the initial list has come, and since when the watch has not worked.
#[derive(Clone, Copy)]
struct Progress {
    list: InitialList,
    fails_since: Option<Instant>,
}

/// The list and watch of one resource in one watched namespace, or in all of them.
struct Look {
    looks: Arc<Looks>,
    slot: usize,
}

impl Look {
    /// Sets the progress of the list. The resource counts as listed once it is listed in each namespace.
    fn is(&self, list: InitialList) {
        let mut each = self.looks.each.lock();
        each[self.slot].list = list;
        let whole = [InitialList::Pending, InitialList::NotServed]
            .into_iter()
            .find(|worse| each.iter().any(|progress| progress.list == *worse));
        let whole = whole.unwrap_or(InitialList::Listed);
        self.looks.cache.looked(self.looks.watched, whole);
    }

    /// Sets that the watch works. The resource counts as seen while it is in each namespace.
    fn works(&self) {
        self.set(|_| None);
    }

    /// Sets that a page of a list was read, which is as good as a watch up to now.
    fn read(&self) {
        self.set(|_| Some(Instant::now()));
    }

    /// Sets that the watch does not work. If it did, it worked until now.
    fn fails(&self) {
        self.set(|since| since.or_else(|| Some(Instant::now())));
    }

    fn set(&self, change: impl FnOnce(Option<Instant>) -> Option<Instant>) {
        let mut each = self.looks.each.lock();
        let since = &mut each[self.slot].fails_since;
        *since = change(*since);
        let longest = each
            .iter()
            .filter_map(|progress| progress.fails_since)
            .min();
        let Looks { cache, watched, .. } = &*self.looks;
        cache.watch_fails(*watched, longest);
    }
}
