//! Calls one webhook as kube-apiserver calls a Service: over HTTPS that trusts only the webhook's
//! `caBundle`, in HTTP/1.1 by ALPN, on kept connections.

use std::{collections::HashMap, fmt, sync::Arc, time::Duration};

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http::{Request, Uri, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use rustls::{
    ClientConfig, RootCertStore,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject},
    time_provider::TimeProvider,
};
use serde_json::Value;
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsConnector;

use super::rules::Webhook;
use crate::{api::dial::Dial, clock::Now};

/// At most this many idle connections are kept for one host. client-go's `idleConnsPerHost`.
const IDLE_PER_HOST: usize = 25;
/// An idle connection is kept for this long. client-go's value.
const IDLE_FOR: Duration = Duration::from_secs(90);
/// The largest answer that is read, in bytes. Chosen.
const LARGEST: usize = 8 << 20;

type Sender = SendRequest<Full<Bytes>>;

pub struct Caller {
    dial: Arc<dyn Dial>,
    now: Now,
    idle: Mutex<HashMap<Host, Vec<(Sender, Instant)>>>,
}

/// The key of the kept connections: a host and the trust with which a connection to it was opened.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Host {
    name: String,
    port: u16,
    ca_bundle: String,
}

impl Caller {
    pub fn new(dial: Arc<dyn Dial>, now: Now) -> Caller {
        Caller {
            dial,
            now,
            idle: Mutex::default(),
        }
    }

    /// Sends a review and returns the JSON of the answer. The error is one text, worded as
    /// kube-apiserver words it.
    pub async fn call(&self, webhook: &Webhook, review: &Value) -> Result<Value, String> {
        let place = Place::of(webhook)?;
        let within = Duration::from_secs(webhook.timeout_seconds);
        let url = format!("https://{}{}", place.authority(), place.path);
        let failed = |why: String| format!("failed to call webhook: Post \"{url}\": {why}");
        match timeout(within, self.exchange(&place, review)).await {
            Ok(answer) => answer.map_err(failed),
            Err(_) => Err(failed("context deadline exceeded".to_owned())),
        }
    }

    async fn exchange(&self, place: &Place, review: &Value) -> Result<Value, String> {
        let request = Request::post(place.path.as_str())
            .header(header::HOST, place.authority())
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::ACCEPT, "application/json")
            .body(Full::new(Bytes::from(review.to_string())))
            .map_err(|error| error.to_string())?;
        let (mut sender, response) = self.send(place, request).await?;
        let code = response.status();
        let body = Limited::new(response.into_body(), LARGEST);
        let body = body.collect().await.map_err(|error| error.to_string())?;
        let body = body.to_bytes();
        // The connection takes the next request once the body of its answer has been read.
        if sender.ready().await.is_ok() {
            self.keep(&place.host, sender);
        }
        if !code.is_success() {
            let text: String = String::from_utf8_lossy(&body).chars().take(512).collect();
            return Err(format!(
                "an error on the server ({text:?}) has prevented the request from succeeding \
                 ({code})"
            ));
        }
        serde_json::from_slice(&body).map_err(|error| format!("the answer is not JSON: {error}"))
    }

    /// Sends on a kept connection if there is one. A request that a closed connection did not take
    /// is sent on the next connection.
    async fn send(
        &self,
        place: &Place,
        mut request: Request<Full<Bytes>>,
    ) -> Result<(Sender, http::Response<hyper::body::Incoming>), String> {
        loop {
            let kept = self.take(&place.host);
            let is_new = kept.is_none();
            let mut sender = match kept {
                Some(sender) => sender,
                None => self.connect(&place.host).await?,
            };
            match sender.try_send_request(request).await {
                Ok(response) => return Ok((sender, response)),
                Err(mut error) => match error.take_message() {
                    Some(unsent) if !is_new => request = unsent,
                    _ => return Err(chain(error.error())),
                },
            }
        }
    }

    async fn connect(&self, host: &Host) -> Result<Sender, String> {
        let config = self.trust(&host.ca_bundle)?;
        let name = ServerName::try_from(host.name.clone()).map_err(|error| error.to_string())?;
        let stream = self.dial.dial(&host.name, host.port).await;
        let stream = stream.map_err(|error| {
            // Go prints the kind of the error alone, such as "connection refused".
            let (host, port, why) = (&host.name, host.port, error.kind());
            format!("dial tcp {host}:{port}: connect: {why}")
        })?;
        let connector = TlsConnector::from(Arc::new(config));
        let stream = connector.connect(name, stream).await;
        let stream = stream.map_err(|error| chain(&error))?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|error| chain(&error))?;
        // The task ends with the connection: when the peer closes it, or when the sender is
        // dropped.
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection to a webhook ended early");
            }
        });
        Ok(sender)
    }

    fn trust(&self, ca_bundle: &str) -> Result<ClientConfig, String> {
        if ca_bundle.is_empty() {
            // A real server would trust the system's roots, but these sign no certificate in a
            // sandbox.
            return Err("tls: failed to verify certificate: there is no caBundle".to_owned());
        }
        let pem = STANDARD
            .decode(ca_bundle)
            .map_err(|error| format!("caBundle is not base64: {error}"))?;
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(&pem) {
            let added = certificate
                .map_err(|error| error.to_string())
                .and_then(|root| roots.add(root).map_err(|error| error.to_string()));
            added.map_err(|error| format!("unable to load root certificates: {error}"))?;
        }
        let provider = Arc::new(aws_lc_rs::default_provider());
        let clock = Arc::new(Clock(Arc::clone(&self.now)));
        let mut config = ClientConfig::builder_with_details(provider, clock)
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(config)
    }

    fn take(&self, host: &Host) -> Option<Sender> {
        let mut idle = self.idle.lock();
        let kept = idle.get_mut(host)?;
        kept.retain(|(sender, since)| sender.is_ready() && since.elapsed() < IDLE_FOR);
        kept.pop().map(|(sender, _)| sender)
    }

    fn keep(&self, host: &Host, sender: Sender) {
        let mut idle = self.idle.lock();
        let kept = idle.entry(host.clone()).or_default();
        if kept.len() < IDLE_PER_HOST {
            kept.push((sender, Instant::now()));
        }
    }
}

/// The address and the path of a webhook.
struct Place {
    host: Host,
    /// The path ends in the timeout as a query, which a real server adds.
    path: String,
}

impl Place {
    fn of(webhook: &Webhook) -> Result<Place, String> {
        let config = &webhook.client_config;
        let place = |name: String, port, path: &str| Place {
            host: Host {
                name,
                port,
                ca_bundle: config.ca_bundle.clone(),
            },
            path: format!(
                "/{}?timeout={}s",
                path.trim_start_matches('/'),
                webhook.timeout_seconds
            ),
        };
        if let Some(service) = &config.service {
            let name = format!("{}.{}.svc", service.name, service.namespace);
            return Ok(place(name, service.port, &service.path));
        }
        let url = config.url.as_deref().unwrap_or_default();
        let uri: Uri = url
            .parse()
            .map_err(|error| format!("url {url:?}: {error}"))?;
        if uri.scheme_str() != Some("https") {
            return Err(format!(
                "url {url:?}: 'https' is the only allowed URL scheme"
            ));
        }
        let name = uri.host().unwrap_or_default();
        let name = name
            .trim_start_matches('[')
            .trim_end_matches(']')
            .to_owned();
        Ok(place(name, uri.port_u16().unwrap_or(443), uri.path()))
    }

    fn authority(&self) -> String {
        match self.host.name.contains(':') {
            true => format!("[{}]:{}", self.host.name, self.host.port),
            false => format!("{}:{}", self.host.name, self.host.port),
        }
    }
}

/// An error and its sources in one line, because the text ends up in a `Status`.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.ends_with(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}

/// The sandbox's wall clock, by which rustls checks the validity of certificates.
struct Clock(Now);

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Clock")
    }
}

impl TimeProvider for Clock {
    fn current_time(&self) -> Option<UnixTime> {
        let seconds = u64::try_from((self.0)().as_second()).ok()?;
        Some(UnixTime::since_unix_epoch(Duration::from_secs(seconds)))
    }
}
