//! A scripted API server, in memory.

use std::collections::{HashMap, VecDeque};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::{self, BoxStream};
use http::{Request, Response};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use kube::Client;
use kube::client::Body;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::time::{sleep, timeout};
use tower::BoxError;

/// One scripted response.
pub(super) enum Answer {
    /// This status and JSON body.
    Json(u16, Value),
    /// This status and text, as for a path that is not served.
    Text(u16, &'static str),
    /// 429 in the form of an API server, with this `Retry-After`.
    TooManyRequests(Option<&'static str>),
    /// An empty object with this `Date`.
    Dated(&'static str),
    /// A watch of these events that stays open.
    Events(Vec<Value>),
    /// A watch of these events that ends.
    EventsThenEnd(Vec<Value>),
    /// The API server never responds.
    Silence,
    /// The connection is refused.
    Refused,
}

/// A received request.
#[derive(Debug, Clone)]
pub(super) struct Seen {
    pub(super) method: String,
    pub(super) uri: String,
    pub(super) content_type: String,
    pub(super) body: Value,
}

/// The scripted API server. It gives the responses of each path in turn; `?watch` is a path of its own.
#[derive(Clone, Default)]
pub(super) struct Scripted {
    script: Arc<Mutex<HashMap<String, VecDeque<Answer>>>>,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Scripted {
    pub(super) fn answer(&self, path: &str, answer: Answer) -> &Self {
        let mut script = self.script.lock();
        script.entry(path.to_owned()).or_default().push_back(answer);
        self
    }

    pub(super) fn seen(&self, path: &str) -> Vec<Seen> {
        let seen = self.seen.lock();
        let of_path = |seen: &&Seen| script_path(&seen.uri) == path;
        seen.iter().filter(of_path).cloned().collect()
    }

    pub(super) fn client(&self) -> Client {
        let api = self.clone();
        let service = tower::service_fn(move |request| api.clone().serve(request));
        Client::new(service, "default")
    }

    async fn serve(
        self,
        request: Request<Body>,
    ) -> Result<Response<StreamBody<BoxStream<'static, Result<Frame<Bytes>, Infallible>>>>, BoxError>
    {
        let (parts, body) = request.into_parts();
        let body = body.collect().await?.to_bytes();
        let content_type = parts.headers.get("content-type");
        let content_type = content_type.map(|value| value.to_str().unwrap().to_owned());
        let uri = parts.uri.to_string();
        let path = script_path(&uri);
        self.seen.lock().push(Seen {
            method: parts.method.to_string(),
            uri,
            content_type: content_type.unwrap_or_default(),
            body: serde_json::from_slice(&body).unwrap_or_default(),
        });
        let next = self
            .script
            .lock()
            .get_mut(&path)
            .and_then(VecDeque::pop_front);
        let otherwise = || match path.ends_with("?watch") {
            true => Answer::Events(vec![]),
            false => Answer::Json(200, list(&[], "1")),
        };
        let mut response = Response::builder();
        let (status, chunks, open) = match next.unwrap_or_else(otherwise) {
            Answer::Json(status, body) => (status, vec![body.to_string()], false),
            Answer::Text(status, body) => (status, vec![body.to_owned()], false),
            Answer::TooManyRequests(after) => {
                if let Some(after) = after {
                    response = response.header("retry-after", after);
                }
                let said = "Too many requests, please try again later.\n";
                (429, vec![said.to_owned()], false)
            }
            Answer::Dated(date) => {
                response = response.header("date", date);
                (200, vec!["{}".to_owned()], false)
            }
            Answer::Events(events) => (200, lines(&events), true),
            Answer::EventsThenEnd(events) => (200, lines(&events), false),
            Answer::Silence => std::future::pending().await,
            Answer::Refused => return Err("Connection refused".into()),
        };
        let frames = stream::iter(chunks).map(|chunk| Ok(Frame::data(Bytes::from(chunk))));
        let body = match open {
            true => frames.chain(stream::pending()).boxed(),
            false => frames.boxed(),
        };
        Ok(response.status(status).body(StreamBody::new(body))?)
    }
}

fn script_path(uri: &str) -> String {
    let (path, query) = uri.split_once('?').unwrap_or((uri, ""));
    match query.contains("watch=true") {
        true => format!("{path}?watch"),
        false => path.to_owned(),
    }
}

fn lines(events: &[Value]) -> Vec<String> {
    events.iter().map(|event| format!("{event}\n")).collect()
}

/// A list of these objects at this version.
pub(super) fn list(items: &[Value], version: &str) -> Value {
    page(items, version, "")
}

/// One page of a list.
pub(super) fn page(items: &[Value], version: &str, token: &str) -> Value {
    json!({ "kind": "List", "apiVersion": "v1", "items": items,
        "metadata": { "resourceVersion": version, "continue": token } })
}

/// One event of a watch.
pub(super) fn event(kind: &str, object: Value) -> Value {
    json!({ "type": kind, "object": object })
}

/// A `Status` of failure in the form of the API server.
pub(super) fn status(code: u16, reason: &str, message: &str, details: Value) -> Value {
    json!({ "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": message, "reason": reason, "details": details, "code": code })
}

/// Waits until a condition holds, for at most an hour of the paused clock.
pub(super) async fn until(what: &str, so: impl Fn() -> bool) {
    let wait = async {
        while !so() {
            sleep(Duration::from_millis(50)).await;
        }
    };
    let waited = timeout(Duration::from_secs(3600), wait).await;
    waited.unwrap_or_else(|_| panic!("never so: {what}"));
}
