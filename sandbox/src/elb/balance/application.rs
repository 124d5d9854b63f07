//! An Application Load Balancer: a reverse proxy for HTTP/1.1.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Request, Response, StatusCode, Uri};
use http_body_util::{Either, Full};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::{Client, Error as ClientError};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tokio::net::TcpListener;
use tokio::time::Sleep;

use super::{CONNECT_TIMEOUT, Route};
use crate::elb::Elb;
use crate::elb::log::Cause;
use crate::elb::serve::serve_http;

/// At most this many idle connections are kept to one target. Chosen.
const IDLE_PER_TARGET: usize = 64;

/// The hop-by-hop headers of RFC 9110, 7.6.1, which apply to one connection only.
const HOP_BY_HOP: [HeaderName; 8] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

type ProxyBody = Either<Relayed, Full<Bytes>>;

pub(super) async fn balance(
    elb: Elb,
    load_balancer: String,
    listener: TcpListener,
    shutdown: impl Future<Output = ()> + Send,
) {
    let proxy = Proxy {
        elb,
        load_balancer,
        client: client(),
    };
    serve_http(listener, shutdown, |stream| {
        let proxy = proxy.clone();
        let peer = stream.peer_addr().ok();
        tower::service_fn(move |request| {
            let proxy = proxy.clone();
            async move { Ok::<_, std::convert::Infallible>(proxy.relay(request, peer).await) }
        })
    })
    .await;
}

fn client() -> Client<HttpConnector, Incoming> {
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    connector.set_connect_timeout(Some(CONNECT_TIMEOUT));
    Client::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        .pool_max_idle_per_host(IDLE_PER_TARGET)
        .build(connector)
}

#[derive(Clone)]
struct Proxy {
    elb: Elb,
    load_balancer: String,
    client: Client<HttpConnector, Incoming>,
}

impl Proxy {
    async fn relay(
        &self,
        mut request: Request<Incoming>,
        peer: Option<SocketAddr>,
    ) -> Response<ProxyBody> {
        let Some(route) = self.elb.route(&self.load_balancer) else {
            return self.lost(Cause::NoTarget);
        };
        prepare(&mut request, route.target(), peer);
        match self.ask(request, &route).await {
            Err(cause) => self.lost(cause),
            Ok(mut response) => {
                strip_hop_by_hop(response.headers_mut());
                // A target that speaks HTTP/1.0 does not end the client's connection.
                *response.version_mut() = http::Version::HTTP_11;
                response.map(|body| {
                    Either::Left(Relayed::new(body, self.elb.clone(), route.idle_timeout))
                })
            }
        }
    }

    async fn ask(
        &self,
        request: Request<Incoming>,
        route: &Route,
    ) -> Result<Response<Incoming>, Cause> {
        match tokio::time::timeout(route.idle_timeout, self.client.request(request)).await {
            Err(_) => Err(Cause::Timeout),
            Ok(answer) => answer.map_err(|error| cause(&error)),
        }
    }

    /// Counts a lost request, and builds the response that an ALB then gives itself.
    fn lost(&self, cause: Cause) -> Response<ProxyBody> {
        self.elb.count(Some(cause));
        let status = match cause {
            Cause::NoTarget => StatusCode::SERVICE_UNAVAILABLE,
            Cause::Refused | Cause::Reset => StatusCode::BAD_GATEWAY,
            Cause::Timeout => StatusCode::GATEWAY_TIMEOUT,
        };
        let mut response = Response::new(Either::Right(Full::from(format!("{status}\n"))));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(header::SERVER, HeaderValue::from_static("awselb/2.0"));
        headers.insert("x-sandbox-cause", HeaderValue::from_static(cause.as_str()));
        response
    }
}

/// Rewrites the client's request into the one that is sent to the target.
fn prepare(request: &mut Request<Incoming>, target: SocketAddr, peer: Option<SocketAddr>) {
    let path = request.uri().path_and_query().cloned();
    let mut uri = http::uri::Parts::default();
    uri.scheme = Some(http::uri::Scheme::HTTP);
    uri.authority = target.to_string().parse().ok();
    uri.path_and_query = path.or_else(|| Some(http::uri::PathAndQuery::from_static("/")));
    // An address as authority and all three parts make a valid URI.
    *request.uri_mut() = Uri::from_parts(uri).unwrap_or_default();
    *request.version_mut() = http::Version::HTTP_11;
    strip_hop_by_hop(request.headers_mut());
    let forwarded = peer.and_then(|peer| peer.ip().to_string().parse().ok());
    if let Some(forwarded) = forwarded {
        request.headers_mut().append("x-forwarded-for", forwarded);
    }
}

fn strip_hop_by_hop(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    for name in named.iter().chain(&HOP_BY_HOP) {
        headers.remove(name);
    }
}

fn cause(error: &ClientError) -> Cause {
    if !error.is_connect() {
        return Cause::Reset;
    }
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        let io = cause.downcast_ref::<io::Error>();
        if io.is_some_and(|io| io.kind() == io::ErrorKind::TimedOut) {
            return Cause::Timeout;
        }
        source = cause.source();
    }
    Cause::Refused
}

/// A target's body on its way to the client. It counts the request when the body ends, and gives up
/// on a silent target.
struct Relayed {
    body: Incoming,
    elb: Elb,
    idle_timeout: Duration,
    silence: Pin<Box<Sleep>>,
    lost: Option<Cause>,
}

impl Relayed {
    fn new(body: Incoming, elb: Elb, idle_timeout: Duration) -> Self {
        Self {
            body,
            elb,
            idle_timeout,
            silence: Box::pin(tokio::time::sleep(idle_timeout)),
            lost: None,
        }
    }
}

impl Body for Relayed {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(context) {
            let deadline = tokio::time::Instant::now() + self.idle_timeout;
            self.silence.as_mut().reset(deadline);
            if matches!(frame, Some(Err(_))) {
                self.lost = Some(Cause::Reset);
            }
            return Poll::Ready(frame.map(|frame| frame.map_err(io::Error::other)));
        }
        ready!(self.silence.as_mut().poll(context));
        self.lost = Some(Cause::Timeout);
        Poll::Ready(Some(Err(io::ErrorKind::TimedOut.into())))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Relayed {
    fn drop(&mut self) {
        self.elb.count(self.lost);
    }
}
