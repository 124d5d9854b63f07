//! Serves the API on a socket, in plain HTTP/1.1, for `kubectl` and the real binary.

use std::{future::Future, time::Duration};

use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{net::TcpListener, task::JoinSet};

use super::{Api, http};

/// A client may take this long to send a request's head. Chosen.
const HEAD_WITHIN: Duration = Duration::from_secs(10);
/// The pause after a failed accept, for instance when file descriptors run out. Chosen.
const AFTER_FAILURE: Duration = Duration::from_millis(50);

/// Serves until `shutdown`, then drops every connection.
pub async fn serve(api: Api, listener: TcpListener, shutdown: impl Future<Output = ()>) {
    let mut connections = JoinSet::new();
    tokio::pin!(shutdown);
    loop {
        let accepted = tokio::select! {
            () = &mut shutdown => return,
            Some(_) = connections.join_next() => continue,
            accepted = listener.accept() => accepted,
        };
        let Ok((stream, _)) = accepted else {
            tokio::time::sleep(AFTER_FAILURE).await;
            continue;
        };
        let api = api.clone();
        connections.spawn(async move {
            let service =
                service_fn(|request: hyper::Request<Incoming>| http::handle(api.inner(), request));
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEAD_WITHIN)
                .serve_connection(TokioIo::new(stream), service);
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection to the sandbox's API ended early");
            }
        });
    }
}
