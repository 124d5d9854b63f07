//! The process of a container: a plain HTTP server on the pod's address.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

/// At most this many connections of one port are open; further ones wait in the backlog. Chosen.
const MAX_CONNECTIONS: usize = 1024;
/// The longest work that a request can ask for. Chosen.
const MAX_WORK: Duration = Duration::from_secs(60);

/// How requests are answered: with 200 and the pod's name.
#[derive(Clone, Debug)]
pub(super) struct Page {
    /// The body of each response, which is the pod's name.
    pub(super) body: Bytes,
    /// The path that is answered at once.
    pub(super) health_path: String,
    /// How long any other request takes, unless it says otherwise by `?work_ms=N`.
    pub(super) work: Duration,
}

/// A server that listens until it is terminated or dropped.
pub(super) struct PodServer {
    terminate: oneshot::Sender<Duration>,
    ports: JoinSet<()>,
}

impl PodServer {
    /// Listens on `address`. The error is that of `bind`, most likely `AddrInUse`.
    pub(super) async fn start(address: SocketAddr, page: Page) -> io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let (terminate, terminated) = oneshot::channel();
        let mut ports = JoinSet::new();
        ports.spawn(serve(listener, Arc::new(page), terminated));
        Ok(Self { terminate, ports })
    }

    /// Does what a plain web server does on SIGTERM, followed by SIGKILL after `grace`. It stops
    /// listening at once, closes idle connections, closes the others after their current response,
    /// and cuts the rest when the grace is over.
    pub(super) async fn terminate(self, grace: Duration) {
        let Self {
            terminate,
            mut ports,
        } = self;
        // An error means that the server has ended already.
        let _ = terminate.send(grace);
        while ports.join_next().await.is_some() {}
    }
}

async fn serve(
    listener: TcpListener,
    page: Arc<Page>,
    mut terminated: oneshot::Receiver<Duration>,
) {
    let graceful = GracefulShutdown::new();
    let mut connections = JoinSet::new();
    let grace = loop {
        tokio::select! {
            grace = &mut terminated => break grace.unwrap_or_default(),
            accepted = listener.accept(), if connections.len() < MAX_CONNECTIONS => match accepted {
                Ok((stream, _)) => {
                    connections.spawn(converse(stream, Arc::clone(&page), &graceful));
                }
                // Accepting fails when file descriptors run out, for instance; closing connections
                // frees some.
                Err(_) => sleep(Duration::from_millis(10)).await,
            },
            Some(_) = connections.join_next() => {}
        }
    };
    drop(listener);
    // After the grace the connections are cut, because dropping the set aborts their tasks.
    let _ = timeout(grace, graceful.shutdown()).await;
}

fn converse(
    stream: TcpStream,
    page: Arc<Page>,
    graceful: &GracefulShutdown,
) -> impl Future<Output = ()> + use<> {
    let service = service_fn(move |request: Request<Incoming>| {
        let page = Arc::clone(&page);
        async move {
            sleep(work(&page, request.uri())).await;
            Ok::<_, Infallible>(Response::new(Full::new(page.body.clone())))
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .serve_connection(TokioIo::new(stream), service);
    let connection = graceful.watch(connection);
    async move {
        // The error of a connection that the client broke off concerns only that client.
        let _ = connection.await;
    }
}

fn work(page: &Page, uri: &http::Uri) -> Duration {
    if uri.path() == page.health_path {
        return Duration::ZERO;
    }
    let asked = uri
        .query()
        .and_then(|query| query.strip_prefix("work_ms="))
        .and_then(|milliseconds| milliseconds.parse().ok())
        .map(Duration::from_millis);
    asked.unwrap_or(page.work).min(MAX_WORK)
}

#[cfg(test)]
pub(super) mod tests {
    use std::net::Ipv4Addr;

    use rstest::rstest;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    /// The deadline of every wait here. Chosen, far above what any of them takes.
    const ENOUGH: Duration = Duration::from_secs(60);

    fn page(work: Duration) -> Page {
        Page {
            body: Bytes::from_static(b"web-1"),
            health_path: "/healthz".to_owned(),
            work,
        }
    }

    #[rstest]
    #[case::as_configured("/", 20)]
    #[case::health("/healthz", 0)]
    #[case::asked("/?work_ms=500", 500)]
    #[case::asked_too_much("/?work_ms=99999999", 60_000)]
    #[case::not_a_number("/?work_ms=-1", 20)]
    fn a_request_takes_as_long_as_its_path_says(#[case] uri: &str, #[case] milliseconds: u64) {
        let page = page(Duration::from_millis(20));
        assert_eq!(
            work(&page, &uri.parse().unwrap()),
            Duration::from_millis(milliseconds)
        );
    }

    /// A server, and a connection whose request it has begun to work on.
    async fn busy_server(work: Duration) -> (PodServer, SocketAddr, TcpStream) {
        let probe = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = probe.local_addr().unwrap();
        drop(probe);
        let server = PodServer::start(address, page(work)).await.unwrap();
        let stream = in_flight(address, "/").await;
        (server, address, stream)
    }

    /// A connection with a request that the server works on.
    pub(crate) async fn in_flight(address: SocketAddr, path: &str) -> TcpStream {
        let mut stream = TcpStream::connect(address).await.unwrap();
        // The requests are pipelined: on the one thread of this test, the first answer arrives only
        // after the server has read the second request as well.
        let requests =
            ["/healthz", path].map(|path| format!("GET {path} HTTP/1.1\r\nhost: a\r\n\r\n"));
        stream
            .write_all(requests.concat().as_bytes())
            .await
            .unwrap();
        let mut answer = vec![0; 512];
        let length = timeout(ENOUGH, stream.read(&mut answer)).await.unwrap();
        assert!(answer[..length.unwrap()].starts_with(b"HTTP/1.1 200"));
        stream
    }

    #[tokio::test]
    async fn a_terminated_server_refuses_new_connections_and_finishes_the_request_under_way() {
        let (server, address, mut stream) = busy_server(Duration::from_millis(400)).await;
        timeout(ENOUGH, server.terminate(ENOUGH)).await.unwrap();
        assert!(TcpStream::connect(address).await.is_err());
        let mut rest = String::new();
        stream.read_to_string(&mut rest).await.unwrap();
        assert!(
            rest.starts_with("HTTP/1.1 200") && rest.ends_with("web-1"),
            "{rest}"
        );
    }

    #[tokio::test]
    async fn a_request_that_outlives_the_grace_is_cut() {
        let (server, _, mut stream) = busy_server(Duration::from_secs(50)).await;
        timeout(ENOUGH, server.terminate(Duration::from_millis(10)))
            .await
            .unwrap();
        let mut rest = Vec::new();
        let read = timeout(ENOUGH, stream.read_to_end(&mut rest))
            .await
            .unwrap();
        assert!(rest.is_empty(), "{read:?} {rest:?}");
    }
}
