//! The client of the API server, whose watches notice a half-open connection.
//!
//! An API server, a firewall or a load balancer can vanish without closing its connections. A call notices by its
//! timeout, and takes its connection with it: calls use HTTP/1.1, each on a connection of its own. A watch is silent
//! most of the time, so watches use HTTP/2, whose pings are answered by the API server itself, as those of client-go.
//! Where only HTTP/1.1 is offered, by a proxy, the keepalive of TCP is left, which the proxy answers.
//!
//! kube's own client uses HTTP/1.1 without a keepalive.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use http::{Request, Response, Uri};
use hyper::body::Incoming;
use hyper_rustls::{FixedServerNameResolver, HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::{Builder, Client as HttpClient, Error as HttpError};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use kube::client::{Body, ClientBuilder, ConfigExt as _};
use kube::{Client, Config};
use rustls_pki_types::ServerName;
use tower::{BoxError, Service, ServiceBuilder, ServiceExt as _};

/// A connection that is silent for this long is pinged. Chosen, so that with [`PING_TIMEOUT`] a half-open connection is
/// noticed sooner than by client-go, which pings after 30 s and waits 15 s.
const PING_AFTER: Duration = Duration::from_secs(15);
/// How long the answer to a ping may take. Chosen: an API server under load answers within a second.
const PING_TIMEOUT: Duration = Duration::from_secs(10);
/// Interval of the probes of TCP. Chosen, see [`PROBES`].
const PROBE_EVERY: Duration = Duration::from_secs(5);
/// The probes without an answer after which a connection has failed: 30 s after it fell silent.
const PROBES: u32 = 3;
/// How long sent data may go without an acknowledgement: as long as the probes take together.
const UNACKNOWLEDGED: Duration = Duration::from_secs(30);

type Http = HttpClient<HttpsConnector<HttpConnector>, Body>;

/// The client for this configuration.
///
/// # Errors
/// The configuration has a CA, a certificate, a token or a header that cannot be used, or asks for a proxy.
pub fn client(config: Config) -> kube::Result<Client> {
    if config.proxy_url.is_some() {
        // kube knows the proxies that its features allow, and names the missing feature.
        return Client::try_from(config);
    }
    let transport = Transport {
        calls: http(calls(&config)?),
        watches: http(watches(&config)?),
    };
    let layers = ServiceBuilder::new()
        .layer(config.base_uri_layer())
        .option_layer(config.auth_layer()?)
        .layer(config.extra_headers_layer()?);
    let service = layers.service(transport.map_err(BoxError::from));
    let service = service.map_err(BoxError::from);
    Ok(ClientBuilder::new(service, config.default_namespace).build())
}

/// Connections of calls, as kube makes them.
fn calls(config: &Config) -> kube::Result<HttpsConnector<HttpConnector>> {
    config.rustls_https_connector_with_connector(tcp(config))
}

/// Connections of watches, which offer HTTP/2 too.
fn watches(config: &Config) -> kube::Result<HttpsConnector<HttpConnector>> {
    let tls = HttpsConnectorBuilder::new().with_tls_config(config.rustls_client_config()?);
    let mut tls = tls.https_or_http();
    // `calls` has refused a name that is none.
    let name = config.tls_server_name.clone().map(ServerName::try_from);
    if let Some(Ok(name)) = name {
        tls = tls.with_server_name_resolver(FixedServerNameResolver::new(name));
    }
    Ok(tls.enable_all_versions().wrap_connector(tcp(config)))
}

fn tcp(config: &Config) -> HttpConnector {
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_connect_timeout(config.connect_timeout);
    tcp.set_keepalive(Some(PING_AFTER));
    tcp.set_keepalive_interval(Some(PROBE_EVERY));
    tcp.set_keepalive_retries(Some(PROBES));
    tcp.set_tcp_user_timeout(Some(UNACKNOWLEDGED));
    tcp
}

fn http(connector: HttpsConnector<HttpConnector>) -> Http {
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .http2_keep_alive_interval(PING_AFTER)
        .http2_keep_alive_timeout(PING_TIMEOUT);
    builder.build(connector)
}

/// Sends watches over HTTP/2 and all other requests over HTTP/1.1.
#[derive(Clone)]
struct Transport {
    watches: Http,
    calls: Http,
}

impl Service<Request<Body>> for Transport {
    type Response = Response<Incoming>;
    type Error = HttpError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, HttpError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), HttpError>> {
        // A hyper client is always ready.
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let http = match is_watch(request.uri()) {
            true => &self.watches,
            false => &self.calls,
        };
        Box::pin(http.request(request))
    }
}

fn is_watch(uri: &Uri) -> bool {
    let mut parameters = uri.query().unwrap_or_default().split('&');
    parameters.any(|parameter| parameter == "watch=true")
}
