//! The accept loop, which the Query API, the data plane and the page of the demo share.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use hyper::body::{Body, Incoming};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tower::Service;

use super::Elb;

/// At most this many connections of one listener are open; more wait in the system's backlog.
/// Chosen.
pub(super) const MAX_CONNECTIONS: usize = 4_096;
/// A client may take this long to send a request's head, idle time before it included. An ALB's
/// default idle timeout.
const HEADER_TIMEOUT: Duration = Duration::from_secs(60);
/// Requests in flight may take this long after a shutdown. Chosen.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(5);
/// The pause after a failed accept, for instance when file descriptors run out. Chosen.
const ACCEPT_RETRY: Duration = Duration::from_millis(50);

impl Elb {
    /// Serves the Query API over HTTP/1.1 until `shutdown`, then lets requests in flight finish for
    /// up to five seconds. `AWS_ENDPOINT_URL_ELASTIC_LOAD_BALANCING_V2` may point here.
    pub async fn serve(self, listener: TcpListener, shutdown: impl Future<Output = ()> + Send) {
        serve_http(listener, shutdown, |_| self.service()).await;
    }
}

/// Serves HTTP/1.1 with a service that is made for each connection.
pub(crate) async fn serve_http<S, B>(
    listener: TcpListener,
    shutdown: impl Future<Output = ()> + Send,
    make_service: impl Fn(&TcpStream) -> S,
) where
    S: Service<Request<Incoming>, Response = Response<B>> + Clone + Send + 'static,
    S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    S::Future: Send,
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT);
    let graceful = GracefulShutdown::new();
    let mut connections = JoinSet::new();
    accept(&listener, shutdown, |stream, permit| {
        let service = hyper_util::service::TowerToHyperService::new(make_service(&stream));
        let connection = http.serve_connection(TokioIo::new(stream), service);
        let connection = graceful.watch(connection);
        while connections.try_join_next().is_some() {}
        connections.spawn(async move {
            // The error of a connection whose client went away concerns only that client.
            let _ = connection.await;
            drop(permit);
        });
    })
    .await;
    drop(listener);
    // Connections that are still open then are cut, as all are when the caller drops this future.
    let _ = tokio::time::timeout(SHUTDOWN_GRACE, graceful.shutdown()).await;
}

/// Hands each connection to `handle` until `shutdown`. The handler must keep the permit for as long
/// as the connection is open.
pub(crate) async fn accept(
    listener: &TcpListener,
    shutdown: impl Future<Output = ()> + Send,
    mut handle: impl FnMut(TcpStream, OwnedSemaphorePermit),
) {
    let permits = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    tokio::pin!(shutdown);
    loop {
        let accepted = tokio::select! {
            () = &mut shutdown => return,
            accepted = accept_one(listener, &permits) => accepted,
        };
        match accepted {
            Ok((stream, permit)) => handle(stream, permit),
            Err(error) => {
                tracing::warn!(%error, "could not accept a connection, trying again");
                tokio::time::sleep(ACCEPT_RETRY).await;
            }
        }
    }
}

async fn accept_one(
    listener: &TcpListener,
    permits: &Arc<Semaphore>,
) -> io::Result<(TcpStream, OwnedSemaphorePermit)> {
    let permit = Arc::clone(permits)
        .acquire_owned()
        .await
        .map_err(io::Error::other)?;
    let (stream, _) = listener.accept().await?;
    stream.set_nodelay(true)?;
    Ok((stream, permit))
}
