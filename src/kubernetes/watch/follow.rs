//! One watch: it lists in pages, watches from there, and repeats.

use std::mem::{Discriminant, discriminant};
use std::sync::Arc;
use std::time::Duration;

use kube::Client;
use kube::Error::BuildRequest;
use kube::api::{ListParams, WatchParams};
use kube::core::Request;
use targetgate_core::backoff::Backoff;
use targetgate_core::index::Listing;
use tokio::time::{sleep, timeout};
use tracing::{info, warn};

use crate::kubernetes::decode::{Keyed as _, url_path};
use crate::kubernetes::metrics::WatchMetrics;
use crate::state::cache::{Cache, InitialList, WatchedResource};

use crate::kubernetes::watch::backoff::JitteredBackoff;
use crate::kubernetes::watch::failure::Failure;
use crate::kubernetes::watch::feed::Feed;
use crate::kubernetes::watch::wire::{Event, Page, events};
use crate::kubernetes::watch::{Look, Scope};

/// Timeout of one page of a list: the API server itself gives up after a minute.
pub(super) const LIST_TIMEOUT: Duration = Duration::from_secs(60);
/// How often a page is read before the list begins anew. Chosen: by then some five minutes have passed, after which an
/// API server has compacted the version of the list (`--etcd-compaction-interval`).
const PAGE_ATTEMPTS: u32 = 40;
/// How long the API server may take to begin a watch. Chosen.
pub(super) const WATCH_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a watch may be silent. Chosen: API servers send a bookmark about each minute.
pub(super) const SILENCE: Duration = Duration::from_secs(150);
/// How long we ask the API server to keep a watch open (`timeoutSeconds`). client-go draws 5 to 10 minutes.
const WATCH_SECONDS: u32 = 290;
/// The pause between two polls of a resource that is not served. Chosen: a CRD that is being installed or replaced is
/// there within seconds, and one that nobody uses must not cost a request each few seconds for ever, which EKS bills as
/// lines of the audit log. Most clusters do not serve one of the two groups.
const NOT_SERVED: Backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(300));
/// The pods that are watched. An API server keeps up to 12,500 finished ones (`--terminated-pod-gc-threshold`).
const UNFINISHED_PODS: &str = "status.phase!=Succeeded,status.phase!=Failed";
/// The slices of Services without a selector, whoever writes them.
/// Source: <https://kubernetes.io/docs/reference/labels-annotations-taints/#endpointslicekubernetesiomanaged-by>
const WRITTEN_BY_OTHERS: &str =
    "endpointslice.kubernetes.io/managed-by!=endpointslice-controller.k8s.io";
/// A watch that ends earlier, without an event, counts as failed. Chosen.
const TOO_SHORT: Duration = Duration::from_secs(1);

/// How far a resource has been followed.
enum Place {
    Listing(Unfinished),
    /// It is watched from this version on.
    Listed(String),
}

/// A list whose last page has not been read.
struct Unfinished {
    /// The continue token of the next page; `None` for the first.
    token: Option<String>,
    /// How often that page has failed.
    failures: u32,
    /// What the pages so far have named.
    listing: Listing,
}

impl Place {
    /// Counts a failure, and returns whether the list must begin anew.
    fn is_given_up(&mut self) -> bool {
        match self {
            Self::Listing(unfinished) => {
                unfinished.failures += 1;
                unfinished.failures >= PAGE_ATTEMPTS
            }
            Self::Listed(_) => false,
        }
    }
}

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
    /// How often in a row the resource was not served.
    absences: u32,
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
            absences: 0,
            failing: None,
        }
    }

    /// Follows the resource for ever.
    pub(super) async fn run(mut self) {
        let mut place = self.beginning();
        loop {
            let Err(failure) = self.follow(&mut place).await else {
                continue;
            };
            if failure.lists_again() || place.is_given_up() {
                place = self.beginning();
            }
            let pause = self.failed(&failure);
            sleep(pause).await;
        }
    }

    fn beginning(&self) -> Place {
        Place::Listing(Unfinished {
            token: None,
            failures: 0,
            listing: Listing {
                namespace: self.namespace.clone(),
                ..Listing::default()
            },
        })
    }

    /// Follows the resource from there until its watch ends.
    async fn follow(&mut self, place: &mut Place) -> Result<(), Failure> {
        loop {
            match place {
                Place::Listing(unfinished) => {
                    let version = self.list(unfinished).await?;
                    *place = Place::Listed(version);
                }
                Place::Listed(version) => {
                    let ended = self.watch(version).await;
                    self.look.fails();
                    return ended;
                }
            }
        }
    }

    /// Reads the rest of a list, and returns the version to watch from. After a failure, the next call goes on with
    /// the page that failed: its token is good for minutes, and a list of thousands of pages that began anew each time
    /// might never end.
    async fn list(&self, unfinished: &mut Unfinished) -> Result<String, Failure> {
        let mut params = ListParams::default().limit(self.page_size);
        params.field_selector = self.field_selector();
        params.label_selector = self.label_selector();
        let mut body = vec![];
        loop {
            params.continue_token = unfinished.token.clone();
            let request = self.requests.list(&params).map_err(BuildRequest);
            let request = request.map_err(|error| Failure::of("list", &error))?;
            let page = Page::<F::Object>::fetch(&self.client, request, &mut body);
            let page = timeout(LIST_TIMEOUT, page).await;
            let mut page = page.map_err(|_| Failure::Timeout {
                verb: "list",
                within: LIST_TIMEOUT,
            })??;
            unfinished.token = page.next();
            unfinished.failures = 0;
            let version = page.version();
            let objects = page.into_items();
            let keys = objects.iter().map(|object| object.key().clone());
            unfinished.listing.keys.extend(keys);
            self.apply(objects);
            self.look.read();
            if unfinished.token.is_none() {
                let listing = &unfinished.listing;
                F::write(&self.cache, |store| self.feed.retain(store, listing));
                self.look.is(InitialList::Listed);
                return Ok(version);
            }
        }
    }

    /// Watches from `version` until the watch ends, and updates it with each event.
    async fn watch(&mut self, version: &mut String) -> Result<(), Failure> {
        let params = WatchParams {
            field_selector: self.field_selector(),
            label_selector: self.label_selector(),
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

    fn take(&self, event: Event<F::Object>, version: &mut String) {
        let (Event::Applied(object) | Event::Deleted(object) | Event::Bookmark(object)) = &event;
        let next = object.version().map(str::to_owned);
        match event {
            Event::Applied(object) => self.apply(vec![object]),
            Event::Deleted(object) => {
                let delete = |store: &mut _| self.feed.delete(store, object.key());
                F::write(&self.cache, delete);
            }
            Event::Bookmark(_) => {}
        }
        if let Some(next) = next.filter(|next| !next.is_empty()) {
            *version = next;
        }
    }

    fn apply(&self, objects: Vec<F::Object>) {
        F::write(&self.cache, |store| {
            for object in objects {
                if let Err(unreadable) = self.feed.apply(store, object) {
                    warn!(resource = self.watched.as_str(), "{unreadable}");
                }
            }
        });
    }

    /// Selects a watched Namespace by its name, because a Namespace object is not in a namespace, and pods that have
    /// not finished: a finished one has no gate to open and no address, and comes as deleted.
    fn field_selector(&self) -> Option<String> {
        match self.watched {
            WatchedResource::Pods => Some(UNFINISHED_PODS.to_owned()),
            WatchedResource::Namespaces => {
                let name = self.namespace.as_ref()?;
                Some(format!("metadata.name={name}"))
            }
            WatchedResource::Services
            | WatchedResource::Bindings(_)
            | WatchedResource::EndpointSlices
            | WatchedResource::TargetRecords => None,
        }
    }

    /// Selects the slices that Kubernetes' own controller does not write: those it writes follow the pods, of which
    /// the index knows more.
    fn label_selector(&self) -> Option<String> {
        let slices = self.watched == WatchedResource::EndpointSlices;
        slices.then(|| WRITTEN_BY_OTHERS.to_owned())
    }

    /// Notes that the watch works, and logs it if it did not before.
    fn works(&mut self) {
        self.backoff.reset();
        self.absences = 0;
        self.look.works();
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
        let may_be_absent = matches!(
            self.watched,
            WatchedResource::Bindings(_) | WatchedResource::TargetRecords
        );
        if *failure == Failure::NotServed && may_be_absent {
            self.look.is(InitialList::NotServed);
            if !known {
                info!(resource, namespace, "not watched: {failure}");
            }
            self.absences = self.absences.saturating_add(1);
            return self.backoff.jittered(NOT_SERVED.after(self.absences));
        }
        self.metrics.restarted(resource);
        if !known {
            warn!(resource, namespace, "not watched: {failure}");
        }
        self.backoff.next()
    }
}
