//! A listening socket and its connections: TLS and HTTP, everything within a bound.

use std::convert::Infallible;
use std::error::Error;
use std::io;
use std::pin::pin;
use std::sync::Arc;
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
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tokio_rustls::TlsAcceptor;
use tower::Service as _;
use tracing::{debug, info, warn};

use self::failure::{TlsFailure, is_close};
use super::deadlines::{Deadlines, Timed, Turns};
use super::{Phase, PhaseReceiver, reached};
use crate::logging::Said;
use crate::metrics::Metrics;

pub use self::acceptor::{mutual_tls, tls};

mod acceptor;
mod failure;

/// Bytes of one request's head, and of what is read of a body at a time.
const READ_BUFFER: usize = 64 * 1024;
/// Rest after an accept that failed for want of something, such as file descriptors.
const ACCEPT_REST: Duration = Duration::from_millis(200);
/// What Go's HTTPS server says to a client that speaks plain HTTP.
const PLAIN_HTTP: &[u8] =
    b"HTTP/1.0 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\n\
    Connection: close\r\n\r\nclient sent an HTTP request to an HTTPS server\n";

/// The bounds of an [`Edge`].
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Connections at once; further ones wait in the socket's backlog.
    pub connections: usize,
    /// For the whole TLS handshake.
    pub handshake: Duration,
    /// From the first byte of a request's head to its last.
    pub head: Duration,
    /// Without a byte from the peer. client-go keeps idle connections for 90 s: ours must live
    /// longer, or a review is sent on a connection that is just being closed.
    pub idle: Duration,
    /// For the peer to take what was written.
    pub write: Duration,
    /// From [`Phase::Closing`] to the end of the last connection; then they are cut.
    pub drain: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 2048,
            handshake: Duration::from_secs(5),
            head: Duration::from_secs(10),
            idle: Duration::from_secs(200),
            write: Duration::from_secs(20),
            drain: Duration::from_secs(20),
        }
    }
}

/// Serves one router, over TLS or plainly.
pub struct Edge {
    router: Router,
    tls: Option<TlsAcceptor>,
    limits: Limits,
    metrics: Arc<Metrics>,
    said: Said,
}

impl Edge {
    /// An edge that speaks HTTP within TLS.
    pub fn https(router: Router, tls: TlsAcceptor, limits: Limits, metrics: Arc<Metrics>) -> Self {
        Self {
            tls: Some(tls),
            ..Self::http(router, limits, metrics)
        }
    }

    /// An edge that speaks plain HTTP.
    pub fn http(router: Router, limits: Limits, metrics: Arc<Metrics>) -> Self {
        Self {
            router,
            tls: None,
            limits,
            metrics,
            said: Said::default(),
        }
    }

    /// Accepts until [`Phase::Closing`], then returns once every connection has ended, at the latest
    /// after [`Limits::drain`].
    pub async fn serve(self: Arc<Self>, listener: TcpListener, mut phases: PhaseReceiver) {
        let places = Arc::new(Semaphore::new(self.limits.connections));
        let mut connections = JoinSet::new();
        let watched = phases.clone();
        let mut closing = pin!(reached(&mut phases, Phase::Closing));
        loop {
            tokio::select! {
                biased;
                () = &mut closing => break,
                Some(_) = connections.join_next() => {}
                (stream, place) = accept(&listener, &places, &self.said) => {
                    let (edge, phases) = (self.clone(), watched.clone());
                    connections.spawn(async move {
                        edge.accepted(stream, phases).await;
                        drop(place);
                    });
                }
            }
        }
        drop(listener);
        let all_ended = async { while connections.join_next().await.is_some() {} };
        if timeout(self.limits.drain, all_ended).await.is_err() {
            warn!(
                connections = connections.len(),
                "cutting connections that did not end in time"
            );
        }
    }

    async fn accepted(&self, stream: TcpStream, phases: PhaseReceiver) {
        // Without it small answers may wait for the peer's acknowledgement of earlier ones.
        let _ = stream.set_nodelay(true);
        let deadline = Instant::now() + self.limits.handshake;
        if self.tls.is_some() && starts_as_http(&stream, deadline).await {
            self.tls_failed(&TlsFailure::PlainHttp);
            refuse_plain_http(stream, deadline).await;
        } else {
            self.connection_by(stream, phases, deadline).await;
        }
    }

    /// Serves one connection to its end: for streams that no listener here accepted, such as a
    /// test's.
    pub async fn connection<IO>(&self, stream: IO, phases: PhaseReceiver)
    where
        IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let deadline = Instant::now() + self.limits.handshake;
        self.connection_by(stream, phases, deadline).await;
    }

    async fn connection_by<IO>(&self, stream: IO, phases: PhaseReceiver, handshake: Instant)
    where
        IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let Some(acceptor) = &self.tls else {
            return self.requests(stream, phases).await;
        };
        let accepting = acceptor.accept(stream).into_fallible();
        match timeout_at(handshake, accepting).await {
            Ok(Ok(stream)) => self.requests(stream, phases).await,
            Ok(Err((error, mut stream))) => {
                let failure = TlsFailure::of(error);
                self.tls_failed(&failure);
                if failure.may_have_sent_more() {
                    // It may have gone already.
                    let _ = timeout_at(handshake, part(&mut stream)).await;
                }
            }
            Err(_) => self.tls_failed(&TlsFailure::Timeout(self.limits.handshake)),
        }
    }

    fn tls_failed(&self, failure: &TlsFailure) {
        self.metrics.tls_failure(failure.cause());
        let said = match failure {
            // TCP probes and port scans come and go.
            TlsFailure::Closed => None,
            _ => self.said.now(failure.cause()),
        };
        let source = failure.source();
        match said {
            Some(unsaid) => warn!(source, unsaid, "client dropped: {failure}"),
            None => debug!(source, "client dropped: {failure}"),
        }
    }

    async fn requests<IO>(&self, stream: IO, phases: PhaseReceiver)
    where
        IO: AsyncRead + AsyncWrite + Unpin + 'static,
    {
        let turns = Arc::new(Turns::default());
        let deadlines = Deadlines {
            head: self.limits.head,
            idle: self.limits.idle,
            write: self.limits.write,
        };
        let service = service_fn(|request| {
            answer(self.router.clone(), request, turns.clone(), phases.clone())
        });
        let stream = TokioIo::new(Timed::new(stream, deadlines, turns.clone()));
        let connection = http1::Builder::new()
            .header_read_timeout(None)
            .max_buf_size(READ_BUFFER)
            .serve_connection(stream, service);
        let mut connection = pin!(connection);
        let mut phase = phases.clone();
        let ended = tokio::select! {
            biased;
            ended = connection.as_mut() => ended,
            () = reached(&mut phase, Phase::Closing) => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if turns.ended_by_slow_head() {
            self.metrics.refusal("HeadTimeout");
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
}

async fn answer(
    mut router: Router,
    request: Request<Incoming>,
    turns: Arc<Turns>,
    phases: PhaseReceiver,
) -> Result<Response<Body>, Infallible> {
    turns.next();
    let mut response = router.call(request.map(Body::new)).await?;
    if *phases.borrow() >= Phase::Lingering {
        let close = HeaderValue::from_static("close");
        response.headers_mut().insert(CONNECTION, close);
    }
    turns.next();
    Ok(response)
}

/// The next connection, once there is a place for it.
async fn accept(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
    said: &Said,
) -> (TcpStream, OwnedSemaphorePermit) {
    let place = match places.clone().acquire_owned().await {
        Ok(place) => place,
        // The semaphore is never closed.
        Err(_) => std::future::pending().await,
    };
    loop {
        match listener.accept().await {
            Ok((stream, _)) => return (stream, place),
            // That client has gone again.
            Err(error) if is_close(error.kind()) => {}
            Err(error) => {
                if let Some(unsaid) = said.now("Accept") {
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

/// Whether the peer begins with a capital letter, as every HTTP method does and no TLS record.
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

/// Says that nothing more will come, and waits for the peer's end: a close with unread bytes resets the
/// connection, and our last word is lost on the way.
async fn part(stream: &mut (impl AsyncRead + AsyncWrite + Unpin)) -> io::Result<()> {
    stream.shutdown().await?;
    let mut rest = stream.take(READ_BUFFER as u64);
    tokio::io::copy(&mut rest, &mut tokio::io::sink()).await?;
    Ok(())
}

#[cfg(test)]
mod tests;
