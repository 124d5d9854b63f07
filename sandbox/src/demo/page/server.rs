//! The server of the page: files, and the stream of server-sent events.

use std::convert::Infallible;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use bytes::Bytes;
use futures::{Stream, stream};
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::uri::Authority;
use http::{Method, Request, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::Frame;
use tokio::net::TcpListener;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::{Edition, Page};
use crate::elb::serve::serve_http;

/// At most this many clients follow the demo at a time. Chosen.
const STREAMS: usize = 16;
/// A stream without a change has a comment this often, so that a client that went away is noticed.
/// Chosen.
const COMMENT_EVERY: Duration = Duration::from_secs(15);
/// An event that clients skip.
const COMMENT: &str = ":\n\n";
/// How long the end of the demo waits until the clients have taken the last picture. Chosen.
const LAST_WITHIN: Duration = Duration::from_secs(1);
/// Milliseconds after which a browser connects again, as an event stream says it. Chosen.
const RETRY: &str = "retry: 1000\n";

/// The answers' security headers. Nothing may come from elsewhere, and nobody may frame the page.
const HEADERS: [(HeaderName, &str); 5] = [
    (
        header::CONTENT_SECURITY_POLICY,
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
         connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::REFERRER_POLICY, "no-referrer"),
    (
        HeaderName::from_static("cross-origin-resource-policy"),
        "same-origin",
    ),
    (header::CACHE_CONTROL, "no-store"),
];

/// The files of the page: path, type and content.
const FILES: [(&str, &str, &str); 4] = [
    ("/", "text/html; charset=utf-8", include_str!("page.html")),
    (
        "/page.css",
        "text/css; charset=utf-8",
        include_str!("page.css"),
    ),
    (
        "/page.js",
        "text/javascript; charset=utf-8",
        include_str!("page.js"),
    ),
    ("/icon.svg", "image/svg+xml", include_str!("icon.svg")),
];

type Body = UnsyncBoxBody<Bytes, Infallible>;

/// The running server, which ends when this is dropped.
pub(in super::super) struct Server {
    page: Page,
    address: SocketAddr,
    shutdown: oneshot::Sender<()>,
    task: JoinSet<()>,
}

impl Server {
    /// Serves the page on this port of loopback; 0 means a free one.
    ///
    /// # Errors
    ///
    /// When the port cannot be listened on.
    pub(in super::super) async fn start(page: Page, port: u16) -> anyhow::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))
            .await
            .with_context(|| {
                format!("--page-port: cannot listen on 127.0.0.1:{port}; 0 takes a free port")
            })?;
        let address = listener.local_addr()?;
        let (shutdown, ended) = oneshot::channel();
        let site = Site {
            page: page.clone(),
            streams: Arc::new(Semaphore::new(STREAMS)),
        };
        let mut task = JoinSet::new();
        task.spawn(async move {
            let ended = async {
                let _ = ended.await;
            };
            serve_http(listener, ended, |_| {
                let site = site.clone();
                tower::service_fn(move |request| {
                    let answer = site.answer(&request);
                    async { Ok::<_, Infallible>(answer) }
                })
            })
            .await;
        });
        Ok(Self {
            page,
            address,
            shutdown,
            task,
        })
    }

    pub(in super::super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Ends every stream after the last picture, and the server with them.
    pub(in super::super) async fn close(mut self) {
        self.page.end();
        // An error means that the server has ended already.
        let _ = self.shutdown.send(());
        // A client that does not read is cut.
        let _ = timeout(LAST_WITHIN, self.task.join_next()).await;
    }
}

#[derive(Clone)]
struct Site {
    page: Page,
    streams: Arc<Semaphore>,
}

impl Site {
    fn answer<B>(&self, request: &Request<B>) -> Response<Body> {
        if !is_for_loopback(request.headers()) {
            // A name that an attacker's DNS leads here would let its pages read this one.
            return text(
                StatusCode::MISDIRECTED_REQUEST,
                "Only requests to a loopback address or to localhost are answered.\n",
            );
        }
        if request.method() != Method::GET {
            let mut answer = text(StatusCode::METHOD_NOT_ALLOWED, "Only GET is answered.\n");
            let get = HeaderValue::from_static("GET");
            answer.headers_mut().insert(header::ALLOW, get);
            return answer;
        }
        let path = request.uri().path();
        if path == "/events" {
            return self.follow();
        }
        match FILES.iter().find(|(known, ..)| *known == path) {
            Some((_, media_type, content)) => file(StatusCode::OK, media_type, content),
            None => text(StatusCode::NOT_FOUND, "There is nothing here but /.\n"),
        }
    }

    fn follow(&self) -> Response<Body> {
        let Ok(permit) = Arc::clone(&self.streams).try_acquire_owned() else {
            return text(
                StatusCode::SERVICE_UNAVAILABLE,
                "Too many clients follow the demo; close another one.\n",
            );
        };
        let events = Follower::new(self.page.clone(), permit).events();
        let body = StreamBody::new(events).boxed_unsync();
        answer(StatusCode::OK, "text/event-stream", body)
    }
}

/// Whether the one `Host` of a request is a loopback address or `localhost`.
fn is_for_loopback(headers: &HeaderMap) -> bool {
    let mut hosts = headers.get_all(header::HOST).iter();
    let (Some(host), None) = (hosts.next(), hosts.next()) else {
        return false;
    };
    let Ok(authority) = Authority::try_from(host.as_bytes()) else {
        return false;
    };
    let name = authority.host();
    let address = name.trim_start_matches('[').trim_end_matches(']');
    let address = address.parse::<IpAddr>();
    name.eq_ignore_ascii_case("localhost") || address.is_ok_and(|address| address.is_loopback())
}

fn text(status: StatusCode, content: &'static str) -> Response<Body> {
    file(status, "text/plain; charset=utf-8", content)
}

fn file(status: StatusCode, media_type: &'static str, content: &'static str) -> Response<Body> {
    let body = Full::new(Bytes::from_static(content.as_bytes())).boxed_unsync();
    answer(status, media_type, body)
}

fn answer(status: StatusCode, media_type: &'static str, body: Body) -> Response<Body> {
    let mut answer = Response::new(body);
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type));
    for (name, value) in HEADERS {
        headers.insert(name, HeaderValue::from_static(value));
    }
    answer
}

/// A client that follows the demo. It has no queue: while it does not read, changes are not
/// written, and the next event it gets is the newest state.
struct Follower {
    page: Page,
    editions: watch::Receiver<Edition>,
    /// What it has been sent; `None` before the first event.
    sent: Option<Edition>,
    over: bool,
    _permit: OwnedSemaphorePermit,
}

impl Follower {
    fn new(page: Page, permit: OwnedSemaphorePermit) -> Self {
        Self {
            editions: page.0.edition.subscribe(),
            page,
            sent: None,
            over: false,
            _permit: permit,
        }
    }

    fn events(self) -> impl Stream<Item = Result<Frame<Bytes>, Infallible>> + Send {
        stream::unfold(self, async |mut follower| {
            let event = follower.next().await?;
            Some((Ok(Frame::data(Bytes::from(event))), follower))
        })
    }

    /// The next event: the whole picture first and whenever it is needed, else the present rollout.
    async fn next(&mut self) -> Option<String> {
        if self.over {
            return None;
        }
        if self.sent.is_some() {
            match timeout(COMMENT_EVERY, self.editions.changed()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return None,
                Err(_) => return Some(COMMENT.to_owned()),
            }
        }
        let edition = *self.editions.borrow_and_update();
        let sent = self.sent.replace(edition);
        let mut event = match sent {
            None => RETRY.to_owned() + &written("picture", &self.page.whole()),
            Some(sent) if sent.whole != edition.whole => written("picture", &self.page.whole()),
            Some(sent) if sent.change != edition.change => written("rollout", &self.page.present()),
            Some(_) => COMMENT.to_owned(),
        };
        if edition.last {
            self.over = true;
            event.push_str(&written("end", "{}"));
        }
        Some(event)
    }
}

/// An event with data of one line, as JSON is.
fn written(name: &str, data: &str) -> String {
    format!("event: {name}\ndata: {data}\n\n")
}

#[cfg(test)]
mod tests;
