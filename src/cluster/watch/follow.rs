//! One watch: list in pages, watch from there, and again.

use std::mem::{Discriminant, discriminant};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures::TryStreamExt;
use kube::api::{Api, ListParams, WatchEvent, WatchParams};
use kube::{Resource, ResourceExt};
use tokio::time::{sleep, timeout};
use tracing::{info, warn};

use crate::cluster::cache::{Cache, FirstLook, Watched};
use crate::cluster::objects::api_resource;
use crate::index::Listing;
use crate::metrics::Metrics;
use crate::names::ObjectKey;

use super::backoff::Backoff;
use super::failure::Failure;
use super::feed::Feed;
use super::{Look, Scope};

/// How long one page of a list may take: the API server itself gives up after a minute.
pub(super) const LIST_TIMEOUT: Duration = Duration::from_secs(60);
/// How long the API server may take to begin a watch.
pub(super) const WATCH_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a watch may carry nothing. API servers send a bookmark about each minute.
pub(super) const SILENCE: Duration = Duration::from_secs(150);
/// After how long the API server is asked to end a watch (`timeoutSeconds`).
const WATCH_SECONDS: u32 = 290;
/// Longest pause between two looks for a resource that is not served.
const LOOK_AGAIN: Duration = Duration::from_secs(8);
/// A watch that ends earlier, without an event, is no watch.
const TOO_SHORT: Duration = Duration::from_secs(1);

/// One watch of one resource, in one namespace or in all of them.
pub(super) struct Follow<F: Feed> {
    api: Api<F::Object>,
    feed: Arc<F>,
    cache: Arc<Cache>,
    metrics: Arc<Metrics>,
    watched: Watched,
    namespace: Option<Arc<str>>,
    page_size: u32,
    look: Look,
    backoff: Backoff,
    failing: Option<Discriminant<Failure>>,
}

impl<F: Feed> Follow<F> {
    pub(super) fn new(
        scope: &Scope<'_>,
        feed: Arc<F>,
        namespace: Option<Arc<str>>,
        look: Look,
    ) -> Self {
        let resource = api_resource(scope.watched);
        let client = scope.client.clone();
        let api = match &namespace {
            Some(namespace) if scope.watched != Watched::Namespaces => {
                Api::namespaced_with(client, namespace, &resource)
            }
            _ => Api::all_with(client, &resource),
        };
        // Each watch draws its own pauses.
        let seed = (scope.options.seed, scope.watched.as_str(), look.slot);
        Self {
            api,
            feed,
            cache: scope.cache.clone(),
            metrics: scope.metrics.clone(),
            watched: scope.watched,
            namespace,
            page_size: scope.options.page_size,
            look,
            backoff: Backoff::new(seed),
            failing: None,
        }
    }

    /// Follows the resource for ever.
    pub(super) async fn run(mut self) {
        let mut version = None;
        loop {
            let Err(failure) = self.follow(&mut version).await else {
                continue;
            };
            if failure.lists_again() {
                version = None;
            }
            let pause = self.failed(&failure);
            sleep(pause).await;
        }
    }

    /// Follows the resource from `version`, or from a new list, until the watch ends.
    async fn follow(&mut self, version: &mut Option<String>) -> Result<(), Failure> {
        let mut from = match version.take() {
            Some(version) => version,
            None => self.list().await?,
        };
        let watched = self.watch(&mut from).await;
        *version = Some(from);
        watched
    }

    /// Lists, and returns the version to watch from.
    async fn list(&self) -> Result<String, Failure> {
        let mut listing = Listing {
            namespace: self.namespace.clone(),
            ..Listing::default()
        };
        let mut params = ListParams::default().limit(self.page_size);
        params.field_selector = self.field_selector();
        loop {
            let page = timeout(LIST_TIMEOUT, self.api.list(&params)).await;
            let page = page.map_err(|_| Failure::Timeout {
                verb: "list",
                within: LIST_TIMEOUT,
            })?;
            let page = page.map_err(|error| Failure::of("list", &error))?;
            for object in &page.items {
                listing.keys.insert(key(object));
            }
            self.apply(page.items);
            params.continue_token = page.metadata.continue_.filter(|token| !token.is_empty());
            if params.continue_token.is_none() {
                self.cache.write(|index| self.feed.retain(index, &listing));
                self.look.is(FirstLook::Listed);
                return Ok(page.metadata.resource_version.unwrap_or_default());
            }
        }
    }

    /// Watches from `version` until the watch ends, and moves it on.
    async fn watch(&mut self, version: &mut String) -> Result<(), Failure> {
        let params = WatchParams {
            field_selector: self.field_selector(),
            timeout: Some(WATCH_SECONDS),
            ..WatchParams::default()
        };
        let started = timeout(WATCH_TIMEOUT, self.api.watch(&params, version)).await;
        let started = started.map_err(|_| Failure::Timeout {
            verb: "watch",
            within: WATCH_TIMEOUT,
        })?;
        let mut events = pin!(started.map_err(|error| Failure::of("watch", &error))?);
        let mut proven = false;
        loop {
            let patience = if proven { SILENCE } else { TOO_SHORT };
            match timeout(patience, events.try_next()).await {
                Ok(event) => match event.map_err(|error| Failure::of("watch", &error))? {
                    Some(event) => self.take(event, version)?,
                    None if proven => return Ok(()),
                    None => return Err(Failure::EndedAtOnce),
                },
                Err(_) if proven => return Ok(()),
                Err(_) => {}
            }
            if !proven {
                proven = true;
                self.works();
            }
        }
    }

    fn take(&self, event: WatchEvent<F::Object>, version: &mut String) -> Result<(), Failure> {
        let next = match event {
            WatchEvent::Added(object) | WatchEvent::Modified(object) => {
                let next = object.resource_version();
                self.apply(vec![object]);
                next
            }
            WatchEvent::Deleted(object) => {
                let key = key(&object);
                self.cache.write(|index| self.feed.delete(index, &key));
                object.resource_version()
            }
            WatchEvent::Bookmark(bookmark) => Some(bookmark.metadata.resource_version),
            WatchEvent::Error(status) => {
                let error = kube::Error::Api(status);
                return Err(Failure::of("watch", &error));
            }
        };
        if let Some(next) = next.filter(|next| !next.is_empty()) {
            *version = next;
        }
        Ok(())
    }

    fn apply(&self, objects: Vec<F::Object>) {
        self.cache.write(|index| {
            for object in objects {
                if let Err(unreadable) = self.feed.apply(index, object) {
                    warn!(resource = self.watched.as_str(), "{unreadable}");
                }
            }
        });
    }

    /// A cluster's Namespaces are objects without a namespace: one is picked by its name.
    fn field_selector(&self) -> Option<String> {
        let name = self.namespace.as_ref()?;
        (self.watched == Watched::Namespaces).then(|| format!("metadata.name={name}"))
    }

    /// It works: if it did not, that is worth a line.
    fn works(&mut self) {
        self.backoff.reset();
        if self.failing.take().is_some() {
            let namespace = self.namespace.as_deref();
            info!(resource = self.watched.as_str(), namespace, "watched again");
        }
    }

    /// It failed: counts, tells why once, and returns how long to wait.
    fn failed(&mut self, failure: &Failure) -> Duration {
        let resource = self.watched.as_str();
        let namespace = self.namespace.as_deref();
        let known = self.failing.replace(discriminant(failure)) == Some(discriminant(failure));
        if *failure == Failure::NotServed && matches!(self.watched, Watched::Bindings(_)) {
            self.look.is(FirstLook::NotServed);
            if !known {
                info!(resource, namespace, "not watched: {failure}");
            }
            return self.backoff.jittered(LOOK_AGAIN);
        }
        self.metrics.watch_restart(resource);
        if !known {
            warn!(resource, namespace, "not watched: {failure}");
        }
        self.backoff.next()
    }
}

fn key(object: &impl Resource) -> ObjectKey {
    let meta = object.meta();
    let text = |text: &Option<String>| Arc::<str>::from(text.as_deref().unwrap_or(""));
    ObjectKey::new(text(&meta.namespace), text(&meta.name))
}
