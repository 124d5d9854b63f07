//! One watch: it lists in pages, watches from there, and repeats.

use std::mem::{Discriminant, discriminant};
use std::sync::Arc;
use std::time::Duration;

use kube::Client;
use kube::Error::BuildRequest;
use kube::api::{ListParams, WatchParams};
use kube::core::Request;
use targetgate_core::index::Listing;
use tokio::time::{sleep, timeout};
use tracing::{info, warn};

use crate::kubernetes::decode::{Object, url_path};
use crate::kubernetes::metrics::WatchMetrics;
use crate::state::cache::{Cache, InitialList, WatchedResource};

use crate::kubernetes::watch::backoff::JitteredBackoff;
use crate::kubernetes::watch::failure::Failure;
use crate::kubernetes::watch::feed::Feed;
use crate::kubernetes::watch::wire::{Event, Page, events};
use crate::kubernetes::watch::{Look, Scope};

/// Timeout of one page of a list: the API server itself gives up after a minute.
pub(super) const LIST_TIMEOUT: Duration = Duration::from_secs(60);
/// How long the API server may take to begin a watch. Chosen.
pub(super) const WATCH_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a watch may be silent. Chosen: API servers send a bookmark about each minute.
pub(super) const SILENCE: Duration = Duration::from_secs(150);
/// How long we ask the API server to keep a watch open (`timeoutSeconds`). client-go draws 5 to 10 minutes.
const WATCH_SECONDS: u32 = 290;
/// Longest pause between two polls of a resource that is not served. Chosen.
const LOOK_AGAIN: Duration = Duration::from_secs(8);
/// A watch that ends earlier, without an event, counts as failed. Chosen.
const TOO_SHORT: Duration = Duration::from_secs(1);

/// The objects that a feed takes.
type Known<F> = Object<<F as Feed>::Spec, <F as Feed>::Status>;

/// One watch of one resource, in one namespace or in all of them.
pub(super) struct Follow<F: Feed> {
    client: Client,
    /// The path at which the resource is served.
    requests: Request,
    feed: Arc<F>,
    cache: Arc<Cache>,
    metrics: WatchMetrics,
    watched: WatchedResource,
    namespace: Option<Arc<str>>,
    page_size: u32,
    look: Look,
    backoff: JitteredBackoff,
    failing: Option<Discriminant<Failure>>,
}

impl<F: Feed> Follow<F> {
    pub(super) fn new(
        scope: &Scope<'_>,
        feed: Arc<F>,
        namespace: Option<Arc<str>>,
        look: Look,
    ) -> Self {
        let within = namespace
            .as_deref()
            .filter(|_| scope.watched != WatchedResource::Namespaces);
        // Each watch draws its own backoff.
        let seed = (scope.options.seed, scope.watched.as_str(), look.slot);
        Self {
            client: scope.client.clone(),
            requests: Request::new(url_path(scope.watched, within)),
            feed,
            cache: scope.cache.clone(),
            metrics: scope.metrics.of(),
            watched: scope.watched,
            namespace,
            page_size: scope.options.page_size,
            look,
            backoff: JitteredBackoff::new(seed),
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
        let mut body = vec![];
        loop {
            let request = self.requests.list(&params).map_err(BuildRequest);
            let request = request.map_err(|error| Failure::of("list", &error))?;
            let page = Page::<Known<F>>::fetch(&self.client, request, &mut body);
            let page = timeout(LIST_TIMEOUT, page).await;
            let mut page = page.map_err(|_| Failure::Timeout {
                verb: "list",
                within: LIST_TIMEOUT,
            })??;
            params.continue_token = page.next();
            let version = page.version();
            let objects = page.into_items();
            for object in &objects {
                listing.keys.insert(object.key().clone());
            }
            self.apply(objects);
            if params.continue_token.is_none() {
                self.cache.write(|index| self.feed.retain(index, &listing));
                self.look.is(InitialList::Listed);
                return Ok(version);
            }
        }
    }

    /// Watches from `version` until the watch ends, and updates it with each event.
    async fn watch(&mut self, version: &mut String) -> Result<(), Failure> {
        let params = WatchParams {
            field_selector: self.field_selector(),
            timeout: Some(WATCH_SECONDS),
            ..WatchParams::default()
        };
        let request = self.requests.watch(&params, version).map_err(BuildRequest);
        let request = request.map_err(|error| Failure::of("watch", &error))?;
        let started = timeout(WATCH_TIMEOUT, events(&self.client, request)).await;
        let mut events = started.map_err(|_| Failure::Timeout {
            verb: "watch",
            within: WATCH_TIMEOUT,
        })??;
        let mut proven = false;
        loop {
            let patience = if proven { SILENCE } else { TOO_SHORT };
            match timeout(patience, events.next()).await {
                Ok(event) => match event? {
                    Some(event) => self.take(event, version),
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

    fn take(&self, event: Event<Known<F>>, version: &mut String) {
        let (Event::Applied(object) | Event::Deleted(object) | Event::Bookmark(object)) = &event;
        let next = object.version().map(str::to_owned);
        match event {
            Event::Applied(object) => self.apply(vec![object]),
            Event::Deleted(object) => {
                let delete = |index: &mut _| self.feed.delete(index, object.key());
                self.cache.write(delete);
            }
            Event::Bookmark(_) => {}
        }
        if let Some(next) = next.filter(|next| !next.is_empty()) {
            *version = next;
        }
    }

    fn apply(&self, objects: Vec<Known<F>>) {
        self.cache.write(|index| {
            for object in objects {
                if let Err(unreadable) = self.feed.apply(index, object) {
                    warn!(resource = self.watched.as_str(), "{unreadable}");
                }
            }
        });
    }

    /// Selects a watched Namespace by its name, because a Namespace object is not in a namespace.
    fn field_selector(&self) -> Option<String> {
        let name = self.namespace.as_ref()?;
        (self.watched == WatchedResource::Namespaces).then(|| format!("metadata.name={name}"))
    }

    /// Notes that the watch works, and logs it if it did not before.
    fn works(&mut self) {
        self.backoff.reset();
        if self.failing.take().is_some() {
            let namespace = self.namespace.as_deref();
            info!(resource = self.watched.as_str(), namespace, "watched again");
        }
    }

    /// Counts a failure, logs its cause once, and returns the backoff.
    fn failed(&mut self, failure: &Failure) -> Duration {
        let resource = self.watched.as_str();
        let namespace = self.namespace.as_deref();
        let known = self.failing.replace(discriminant(failure)) == Some(discriminant(failure));
        if *failure == Failure::NotServed && matches!(self.watched, WatchedResource::Bindings(_)) {
            self.look.is(InitialList::NotServed);
            if !known {
                info!(resource, namespace, "not watched: {failure}");
            }
            return self.backoff.jittered(LOOK_AGAIN);
        }
        self.metrics.restarted(resource);
        if !known {
            warn!(resource, namespace, "not watched: {failure}");
        }
        self.backoff.next()
    }
}
