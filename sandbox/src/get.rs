//! A GET on a connection of its own, for preStop hooks and for waiting in the demo and the harness.

use std::io;
use std::net::SocketAddr;

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Empty, Limited};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

/// The largest answer that is read, in bytes. Chosen.
const MAX_BODY: usize = 1024 * 1024;

/// Why a GET failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum GetError {
    #[error("http://{0} cannot be reached")]
    Connect(SocketAddr, #[source] io::Error),
    #[error("http://{0} did not answer the request")]
    Http(SocketAddr, #[source] hyper::Error),
    #[error("'{0}' is not the path of a URL")]
    Path(String, #[source] http::Error),
    #[error("the answer of http://{0} cannot be read, or is larger than {MAX_BODY} bytes")]
    Body(
        SocketAddr,
        #[source] Box<dyn std::error::Error + Send + Sync>,
    ),
}

/// Sends a GET, and returns the status and body of the answer. It has no deadline of its own.
pub(crate) async fn get(address: SocketAddr, path: &str) -> Result<(StatusCode, Bytes), GetError> {
    let request = Request::get(path)
        .header(http::header::HOST, address.to_string())
        .body(Empty::<Bytes>::new())
        .map_err(|error| GetError::Path(path.to_owned(), error))?;
    let stream = TcpStream::connect(address)
        .await
        .map_err(|error| GetError::Connect(address, error))?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|error| GetError::Http(address, error))?;
    let exchange = async move {
        let answer = sender.send_request(request).await;
        let answer = answer.map_err(|error| GetError::Http(address, error))?;
        let status = answer.status();
        let body = Limited::new(answer.into_body(), MAX_BODY).collect().await;
        let body = body.map_err(|error| GetError::Body(address, error))?;
        Ok((status, body.to_bytes()))
    };
    // The exchange fails with the connection's error, too.
    let (answer, _) = tokio::join!(exchange, connection);
    answer
}
