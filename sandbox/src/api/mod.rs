//! A model of the Kubernetes API server: only the parts that targetgate and the actors use.
//!
//! One store (`store`) holds the objects of all kinds, under one counter of versions. A request
//! (`http`) becomes a verb on a resource (`kinds`): `list` and `watch` read, and `write` writes
//! after asking the webhooks of `admission`. [`Api::client`] is a `kube::Client` in this process,
//! without a socket; [`Api::serve`] serves the same server to `kubectl`.
//!
//! Not modelled: authentication and RBAC, field ownership of server-side apply, conversion between
//! versions, the garbage collector (owner references are not followed), and resources that
//! targetgate and the actors do not use.

mod admission;
mod admit;
mod builtin;
mod calls;
mod crd;
mod delete;
mod dial;
mod discovery;
mod faults;
mod generated;
mod holders;
mod http;
mod kinds;
mod list;
mod object;
mod patch;
mod selector;
mod serve;
mod shape;
mod status;
mod store;
mod target;
mod view;
mod watch;
mod write;

#[cfg(test)]
mod tests;

use std::{
    future::Future,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use jiff::{Timestamp, Unit};
use kube::client::Body;
use serde_json::json;
use tokio::net::TcpListener;

use self::{
    admission::Admission,
    kinds::{Resource, Served},
    object::Object,
    store::{Key, Store},
};
pub use self::{
    admission::{Audit, Counts},
    calls::{Call, Calls, Verb},
    dial::{Dial, Io, Switchboard, Tcp},
    faults::{Away, Faults, Match, When},
    http::Body as ResponseBody,
    selector::Selector,
    status::Status,
};
use crate::clock::{self, Now};

pub struct Options {
    /// The wall clock, for `creationTimestamp` and other times.
    pub now: Now,
    /// Connects to the hosts of webhooks.
    pub dial: Arc<dyn Dial>,
    /// The number of changes that are kept for watches. A watch from an older version gets 410.
    pub history: usize,
    /// The seed of UIDs and generated names.
    pub seed: u64,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            now: clock::system(),
            dial: Arc::new(Tcp),
            history: 10_000,
            seed: 0,
        }
    }
}

/// The server. Clones share its state.
#[derive(Clone)]
pub struct Api(Arc<Inner>);

struct Inner {
    store: Store,
    now: Now,
    calls: Calls,
    faults: Faults,
    admission: Admission,
}

impl Api {
    /// A server with the Namespaces `default` and `kube-system` and no other object.
    pub fn new(options: Options) -> Api {
        let api = Inner {
            store: Store::new(options.history, options.seed),
            admission: Admission::new(options.dial, Arc::clone(&options.now)),
            now: options.now,
            calls: Calls::default(),
            faults: Faults::default(),
        };
        for name in ["default", "kube-system"] {
            api.put_namespace(name);
        }
        Api(Arc::new(api))
    }

    pub fn service(&self) -> Service {
        Service(self.clone())
    }

    /// A client in this process, whose default namespace is `default`. It needs a tokio runtime.
    pub fn client(&self) -> kube::Client {
        kube::Client::new(self.service(), "default")
    }

    /// Serves plain HTTP/1.1 until `shutdown`, then drops every connection.
    pub async fn serve(self, listener: TcpListener, shutdown: impl Future<Output = ()>) {
        serve::serve(self, listener, shutdown).await;
    }

    /// The log of the requests that the server has received.
    pub fn calls(&self) -> &Calls {
        &self.0.calls
    }

    /// The faults of this server.
    pub fn faults(&self) -> &Faults {
        &self.0.faults
    }

    /// Forgets the history: every open watch, and every later watch from a version before now, gets
    /// 410. An open watch gets it even when it is up to date.
    pub fn forget_history(&self) {
        self.0.store.forget_history();
    }

    /// The audit annotations that webhooks returned, the newest last.
    pub fn audit(&self) -> Vec<Audit> {
        self.0.admission.audit()
    }

    /// The counts of a webhook, by the webhook's name.
    pub fn webhook_counts(&self, webhook: &str) -> Counts {
        self.0.admission.counts(webhook)
    }

    fn inner(&self) -> Arc<Inner> {
        Arc::clone(&self.0)
    }
}

impl Inner {
    /// Finds a resource in a version that is served.
    fn served(&self, group: &str, version: &str, plural: &str) -> Option<Served> {
        self.store
            .catalog(|catalog| catalog.find(group, version, plural))
    }

    fn namespaces(&self) -> Arc<Resource> {
        self.served("", "v1", "namespaces")
            // The built-in table has it.
            .expect("namespaces are always served")
            .resource
    }

    fn namespace(&self, name: &str) -> Option<Arc<Object>> {
        self.store.read(&Key::new(&self.namespaces(), "", name))
    }

    /// Stores a Namespace in a new store, which has no other writer yet.
    fn put_namespace(&self, name: &str) {
        let namespaces = self.namespaces();
        let namespace = json!({
            "apiVersion": "v1",
            "kind": "Namespace",
            "metadata": {
                "name": name,
                "uid": self.store.uid(),
                "creationTimestamp": stamp((self.now)()),
            },
            "status": {"phase": "Active"},
        });
        if let (Ok(mut namespace), Some(served)) =
            (Object::new(namespace), namespaces.in_version("v1"))
        {
            builtin::set_defaults(&served, &mut namespace);
            let key = Key::new(&namespaces, "", name);
            let _ = self.store.commit(&key, None, Some(namespace));
        }
    }
}

/// The server as a `tower` service, for [`kube::Client::new`].
#[derive(Clone)]
pub struct Service(Api);

impl tower::Service<::http::Request<Body>> for Service {
    type Response = ::http::Response<ResponseBody>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: ::http::Request<Body>) -> Self::Future {
        Box::pin(http::handle(self.0.inner(), request))
    }
}

/// Formats a time as `metav1.Time` does, in whole seconds.
fn stamp(time: Timestamp) -> String {
    // Rounding down cannot overflow.
    let seconds = jiff::TimestampRound::new()
        .smallest(Unit::Second)
        .mode(jiff::RoundMode::Floor);
    time.round(seconds).unwrap_or(time).to_string()
}
