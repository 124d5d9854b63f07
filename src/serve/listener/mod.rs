//! A listening socket and its connections: TLS and HTTP, everything bounded.

use std::convert::Infallible;
use std::error::Error;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use http::header::CONNECTION;
use http::{HeaderValue, Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tokio_rustls::TlsAcceptor;
use tower::Service as _;
use tracing::{debug, info, warn};

use crate::metrics::{Metrics, RefusalMetrics};
use crate::serve::deadlines::{Answered, Deadlines, Timed, Turns};
use crate::serve::listener::connections::{Connections, Ended, spare};
use crate::serve::listener::failure::{TlsFailure, is_close};
use crate::serve::metrics::ListenerMetrics;
use crate::serve::places::Places;
use crate::serve::{Phase, PhaseReceiver, reached};
use crate::telemetry::LogThrottle;

pub use crate::serve::listener::acceptor::{mutual_tls, tls};

mod acceptor;
mod connections;
mod failure;

/// Maximum length of a request's head, and size of the read buffer of a body, in bytes. Chosen.
const READ_BUFFER: usize = 64 * 1024;
/// Pause after an accept that failed for lack of a resource, such as file descriptors. Chosen.
const ACCEPT_REST: Duration = Duration::from_millis(200);
/// The answer of Go's HTTPS server to a client that speaks plain HTTP.
const PLAIN_HTTP: &[u8] =
    b"HTTP/1.0 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\n\
    Connection: close\r\n\r\nclient sent an HTTP request to an HTTPS server\n";

/// The bounds of a [`Listener`]. The defaults are chosen, except where a field names its source.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Maximum number of connections; a further one displaces another.
    pub connections: usize,
    /// Whether a connection may carry several requests.
    pub keep_alive: bool,
    /// Of the whole TLS handshake.
    pub handshake: Duration,
    /// From the first byte of a request's head to its last.
    pub head: Duration,
    /// Without a byte from the peer. client-go keeps idle connections for 90 s: ours must live
    /// longer, or an API server sends a review on a connection that we are just closing.
    pub idle: Duration,
    /// For the peer to accept written bytes.
    pub write: Duration,
    /// From [`Phase::Closing`] until the remaining connections are cut.
    pub drain: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: Places::default().hooks,
            keep_alive: true,
            handshake: Duration::from_secs(5),
            head: Duration::from_secs(10),
            idle: Duration::from_secs(200),
            write: Duration::from_secs(20),
            drain: Duration::from_secs(20),
        }
    }
}

/// Serves one router, over TLS or plain HTTP.
pub struct Listener {
    router: Router,
    tls: Option<TlsAcceptor>,
    limits: Limits,
    metrics: ListenerMetrics,
    refusals: RefusalMetrics,
    said: LogThrottle,
    answered: Answered,
}

impl Listener {
    /// A listener of HTTPS.
    pub fn https(router: Router, tls: TlsAcceptor, limits: Limits, metrics: &Metrics) -> Self {
        Self {
            tls: Some(tls),
            ..Self::http(router, limits, metrics)
        }
    }

    /// A listener of plain HTTP.
    pub fn http(router: Router, limits: Limits, metrics: &Metrics) -> Self {
        Self {
            router,
            tls: None,
            limits,
            metrics: metrics.of(),
            refusals: metrics.of(),
            said: LogThrottle::default(),
            answered: Answered::default(),
        }
    }

    /// Accepts until [`Phase::Closing`], then returns once every connection has ended, at the latest
    /// after [`Limits::drain`].
    pub async fn serve(self: Arc<Self>, listener: TcpListener, mut phases: PhaseReceiver) {
        let mut connections = Connections::new(self.limits.connections);
        let watched = phases.clone();
        let mut closing = pin!(reached(&mut phases, Phase::Closing));
        loop {
            tokio::select! {
                biased;
                () = &mut closing => break,
                Some(()) = connections.next_end() => {}
                stream = self.accept(&listener) => {
                    if self.has_room(&mut connections) {
                        let turns = Arc::new(Turns::new(&self.answered));
                        let accepted = self.clone().accepted(stream, turns.clone(), watched.clone());
                        connections.start(turns, accepted);
                    }
                }
            }
        }
        drop(listener);
        let all_ended = async { while connections.next_end().await.is_some() {} };
        if timeout(self.limits.drain, all_ended).await.is_err() {
            warn!(
                connections = connections.len(),
                "cutting connections that did not end in time"
            );
        }
    }

    /// Whether the listener can take a new connection, for which it may displace another.
    fn has_room(&self, connections: &mut Connections) -> bool {
        let Some(ended) = connections.make_room() else {
            return true;
        };
        let (listener, state) = (self.listener(), ended.as_str());
        self.metrics.connection_ended(listener, state);
        let places = self.limits.connections;
        match self.said.now(state) {
            Some(unsaid) => warn!(
                listener,
                state, places, unsaid, "all places are taken: a connection was ended for a new one"
            ),
            None => debug!(listener, state, "connection ended for a new one"),
        }
        ended != Ended::New
    }

    /// The metric label of this listener.
    fn listener(&self) -> &'static str {
        match self.tls {
            Some(_) => "https",
            None => "http",
        }
    }

    /// Accepts the next connection.
    async fn accept(&self, listener: &TcpListener) -> TcpStream {
        loop {
            match listener.accept().await {
                Ok((stream, _)) => return stream,
                // The client has closed the connection already.
                Err(error) if is_close(error.kind()) => {}
                Err(error) => {
                    if let Some(unsaid) = self.said.now("Accept") {
                        warn!(
                            source = &error as &dyn Error,
                            unsaid, "cannot accept a connection; trying again"
                        );
                    }
                    sleep(ACCEPT_REST).await;
                }
            }
        }
    }

    async fn accepted(
        self: Arc<Self>,
        stream: TcpStream,
        turns: Arc<Turns>,
        phases: PhaseReceiver,
    ) {
        // Nagle's algorithm would delay small answers until the peer acknowledges earlier ones.
        let _ = stream.set_nodelay(true);
        let deadline = Instant::now() + self.limits.handshake;
        if self.tls.is_some() && starts_as_http(&stream, deadline).await {
            self.tls_failed(&TlsFailure::PlainHttp);
            refuse_plain_http(stream, deadline).await;
        } else {
            self.connection_by(stream, turns, phases, deadline).await;
        }
    }

    /// Serves one connection to its end, for streams that this listener has not accepted, such as those of
    /// tests.
    pub async fn connection<IO>(&self, stream: IO, phases: PhaseReceiver)
    where
        IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let deadline = Instant::now() + self.limits.handshake;
        let turns = Arc::new(Turns::new(&self.answered));
        self.connection_by(stream, turns, phases, deadline).await;
    }

    async fn connection_by<IO>(
        &self,
        stream: IO,
        turns: Arc<Turns>,
        phases: PhaseReceiver,
        handshake: Instant,
    ) where
        IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let Some(acceptor) = &self.tls else {
            return self.requests(stream, turns, phases).await;
        };
        let accepting = acceptor.accept(stream).into_fallible();
        match timeout_at(handshake, accepting).await {
            Ok(Ok(stream)) => self.requests(stream, turns, phases).await,
            Ok(Err((error, mut stream))) => {
                let failure = TlsFailure::of(error);
                self.tls_failed(&failure);
                if failure.may_have_sent_more() {
                    // The peer may have closed the connection already.
                    let _ = timeout_at(handshake, part(&mut stream)).await;
                }
            }
            Err(_) => self.tls_failed(&TlsFailure::Timeout(self.limits.handshake)),
        }
    }

    fn tls_failed(&self, failure: &TlsFailure) {
        self.metrics.tls_failed(failure.cause());
        let said = match failure {
            // TCP probes and port scans are not worth a log line.
            TlsFailure::Closed => None,
            _ => self.said.now(failure.cause()),
        };
        let source = failure.source();
        match said {
            Some(unsaid) => warn!(source, unsaid, "client dropped: {failure}"),
            None => debug!(source, "client dropped: {failure}"),
        }
    }

    async fn requests<IO>(&self, stream: IO, turns: Arc<Turns>, phases: PhaseReceiver)
    where
        IO: AsyncRead + AsyncWrite + Unpin + 'static,
    {
        let deadlines = Deadlines {
            head: self.limits.head,
            idle: self.limits.idle,
            write: self.limits.write,
        };
        let stream = TokioIo::new(Timed::new(stream, deadlines, turns.clone()));
        let service = service_fn(|request| self.answer(request, &turns, &phases));
        let connection = http1::Builder::new()
            .header_read_timeout(None)
            .max_buf_size(READ_BUFFER)
            .keep_alive(self.limits.keep_alive)
            .serve_connection(stream, service);
        let mut connection = pin!(connection);
        let mut phase = phases.clone();
        let ended = tokio::select! {
            biased;
            ended = connection.as_mut() => ended,
            () = goodbye(&mut phase, &turns) => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if turns.ended_by_slow_head() {
            self.refusals.refused("HeadTimeout");
            let deadline = self.limits.head;
            if let Some(unsaid) = self.said.now("HeadTimeout") {
                info!(
                    ?deadline,
                    unsaid, "client dropped: its request head did not end in time"
                );
            }
        } else if let Err(error) = ended {
            debug!(source = &error as &dyn Error, "connection ended early");
        }
    }

    async fn answer(
        &self,
        request: Request<Incoming>,
        turns: &Turns,
        phases: &PhaseReceiver,
    ) -> Result<Response<Body>, Infallible> {
        turns.begin();
        let mut response = self.router.clone().call(request.map(Body::new)).await?;
        if *phases.borrow() >= Phase::Lingering || self.is_crowded() {
            let close = HeaderValue::from_static("close");
            response.headers_mut().insert(CONNECTION, close);
        }
        turns.end(response.status().is_success());
        Ok(response)
    }

    /// Whether so many connections have carried an answered request that few places are left for new
    /// ones. Then each closes with its next answer: closing idle ones would race with a review that
    /// the API server is just sending.
    fn is_crowded(&self) -> bool {
        let places = self.limits.connections;
        self.answered.load(Ordering::Relaxed) >= places - spare(places)
    }
}

/// Returns once a connection must not take further requests.
async fn goodbye(phases: &mut PhaseReceiver, turns: &Turns) {
    tokio::select! {
        () = reached(phases, Phase::Closing) => {}
        () = turns.told_to_leave() => {}
    }
}

/// Whether the first byte of the peer is a capital letter, as in every HTTP method, unlike in a TLS record.
async fn starts_as_http(stream: &TcpStream, deadline: Instant) -> bool {
    let mut first = [0];
    let peeked = timeout_at(deadline, stream.peek(&mut first)).await;
    matches!(peeked, Ok(Ok(1))) && first[0].is_ascii_uppercase()
}

async fn refuse_plain_http(mut stream: TcpStream, deadline: Instant) {
    let answer = async {
        stream.write_all(PLAIN_HTTP).await?;
        part(&mut stream).await
    };
    if let Ok(Err(error)) = timeout_at(deadline, answer).await {
        debug!(
            source = &error as &dyn Error,
            "the refusal of plain HTTP was not read"
        );
    }
}

/// Shuts down our side, and waits for the peer to close: closing with unread bytes resets the
/// connection, and the peer may not receive our last bytes.
async fn part(stream: &mut (impl AsyncRead + AsyncWrite + Unpin)) -> io::Result<()> {
    stream.shutdown().await?;
    let mut rest = stream.take(READ_BUFFER as u64);
    tokio::io::copy(&mut rest, &mut tokio::io::sink()).await?;
    Ok(())
}

#[cfg(test)]
mod tests;
