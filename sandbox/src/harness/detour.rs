//! A proxy that a process calls instead of the API server, and that fails its reads of one resource
//! on request: as a slow server, a lost right, or a compaction of etcd does.

use std::convert::Infallible;
use std::future::pending;

use bytes::Bytes;
use futures::StreamExt as _;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, BodyStream, Full, StreamBody};
use hyper::body::Incoming;
use kube::Client;
use kube::client::Body;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::watch;
use tower::service_fn;

use super::cluster::kubeconfig_without_tls;
use super::{Cluster, Parts, listen};
use crate::elb::serve::serve_http;

type Answer = Response<UnsyncBoxBody<Bytes, kube::Error>>;

/// How reads fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadFault {
    /// Lists and watches are not answered.
    Late,
    /// Lists and watches are refused with 403.
    Forbidden,
    /// Lists work, and each watch ends with 410 at once.
    Expired,
}

/// The resource whose reads fail, such as `pods`, and how.
#[derive(Clone, Copy, Debug)]
struct Failing {
    resource: &'static str,
    fault: ReadFault,
    /// Whether watches that run end.
    cuts: bool,
}

/// The proxy, which ends when this is dropped.
pub struct Detour {
    /// The cluster as it is reached through the proxy.
    pub cluster: Cluster,
    failing: watch::Sender<Option<Failing>>,
    #[expect(dead_code, reason = "held until dropped")]
    parts: Parts,
    #[expect(dead_code, reason = "held until dropped")]
    directory: TempDir,
}

impl Detour {
    /// Starts a proxy to this cluster, which forwards everything.
    ///
    /// # Errors
    ///
    /// When it cannot listen, or its kubeconfig cannot be written.
    pub async fn to(cluster: &Cluster) -> anyhow::Result<Self> {
        let (listener, address) = listen().await?;
        let (failing, fails) = watch::channel(None);
        let client = cluster.client.clone();
        let mut parts = Parts::default();
        parts.spawn(async move {
            let service = |_: &_| {
                let (client, fails) = (client.clone(), fails.clone());
                service_fn(move |request| answer(client.clone(), fails.clone(), request))
            };
            serve_http(listener, pending(), service).await;
        });
        let directory = tempfile::tempdir()?;
        let kubeconfig = directory.path().join("kubeconfig");
        std::fs::write(&kubeconfig, kubeconfig_without_tls(address))?;
        Ok(Self {
            cluster: Cluster {
                kubeconfig,
                ..cluster.clone()
            },
            failing,
            parts,
            directory,
        })
    }

    /// Lets reads of a resource fail from now on. Watches that run go on.
    pub fn fail(&self, resource: &'static str, fault: ReadFault) {
        self.begin(resource, fault, false);
    }

    /// Lets reads of a resource fail from now on, and ends the watches that run.
    pub fn cut(&self, resource: &'static str, fault: ReadFault) {
        self.begin(resource, fault, true);
    }

    fn begin(&self, resource: &'static str, fault: ReadFault, cuts: bool) {
        let failing = Failing {
            resource,
            fault,
            cuts,
        };
        self.failing.send_replace(Some(failing));
    }

    /// Ends the faults; what waits is forwarded.
    pub fn mend(&self) {
        self.failing.send_replace(None);
    }
}

async fn answer(
    client: Client,
    mut fails: watch::Receiver<Option<Failing>>,
    request: Request<Incoming>,
) -> Result<Answer, Infallible> {
    let failing = *fails.borrow_and_update();
    let failing = failing.filter(|failing| reads(&request, failing.resource));
    let watched = is_watch(&request).then(|| request.uri().path().to_owned());
    let answered = match failing.map(|failing| failing.fault) {
        Some(ReadFault::Late) => {
            // An error means that the test is over.
            let _ = fails.wait_for(Option::is_none).await;
            forward(client, request).await
        }
        Some(ReadFault::Forbidden) => Ok(whole(StatusCode::FORBIDDEN, &forbidden())),
        Some(ReadFault::Expired) if is_watch(&request) => {
            let event = json!({ "type": "ERROR", "object": expired() });
            Ok(whole(StatusCode::OK, &event))
        }
        _ => forward(client, request).await,
    };
    let answered = match watched {
        Some(path) => answered.map(|answer| answer.map(|body| until_cut(body, path, fails))),
        None => answered,
    };
    Ok(answered.unwrap_or_else(|error| {
        let status = json!({ "kind": "Status", "apiVersion": "v1", "status": "Failure",
            "message": format!("{error:#}"), "code": 502 });
        whole(StatusCode::BAD_GATEWAY, &status)
    }))
}

/// The body of a watch, which ends when it is cut.
fn until_cut(
    body: UnsyncBoxBody<Bytes, kube::Error>,
    path: String,
    mut fails: watch::Receiver<Option<Failing>>,
) -> UnsyncBoxBody<Bytes, kube::Error> {
    let cut = async move {
        let cuts = |failing: &Option<Failing>| {
            failing.is_some_and(|failing| failing.cuts && names(&path, failing.resource))
        };
        if fails.wait_for(cuts).await.is_err() {
            // The test is over.
            pending::<()>().await;
        }
    };
    let frames = BodyStream::new(body).take_until(Box::pin(cut));
    StreamBody::new(frames).boxed_unsync()
}

fn reads(request: &Request<Incoming>, resource: &str) -> bool {
    request.method() == Method::GET && names(request.uri().path(), resource)
}

/// Whether a path is that of all objects of a resource.
fn names(path: &str, resource: &str) -> bool {
    path.rsplit('/').next() == Some(resource)
}

fn is_watch(request: &Request<Incoming>) -> bool {
    let words = request.uri().query().unwrap_or_default().split('&');
    words
        .into_iter()
        .any(|word| matches!(word, "watch=true" | "watch=1"))
}

fn forbidden() -> Value {
    json!({ "kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "Forbidden",
        "message": "forbidden, on the test's request", "code": 403 })
}

fn expired() -> Value {
    json!({ "kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "Expired",
        "message": "too old resource version, on the test's request", "code": 410 })
}

fn whole(status: StatusCode, object: &Value) -> Answer {
    let body = Full::from(format!("{object}\n")).map_err(|never| match never {});
    let mut answer = Response::new(body.boxed_unsync());
    *answer.status_mut() = status;
    let json = header::HeaderValue::from_static("application/json");
    answer.headers_mut().insert(header::CONTENT_TYPE, json);
    answer
}

async fn forward(client: Client, request: Request<Incoming>) -> anyhow::Result<Answer> {
    let (mut head, body) = request.into_parts();
    let body = body.collect().await?.to_bytes();
    for name in [header::HOST, header::CONNECTION, header::CONTENT_LENGTH] {
        head.headers.remove(name);
    }
    let request = Request::from_parts(head, Body::from(body.to_vec()));
    let (mut head, body) = client.send(request).await?.into_parts();
    for name in [header::CONNECTION, header::TRANSFER_ENCODING] {
        head.headers.remove(name);
    }
    let body = body.boxed_unsync();
    Ok(Response::from_parts(head, body))
}
