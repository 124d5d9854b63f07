//! The load, in a process of its own: eight kept connections, and orders from standard input.

use std::io::BufRead as _;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep_until};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// The argument that makes a process this one.
pub(crate) const MODE: &str = "load";
const CONNECTIONS: usize = 8;

/// The review of this name.
pub(crate) fn body(review: &str) -> &'static [u8] {
    match review {
        "small" => include_bytes!("../reviews/small.json"),
        "typical" => include_bytes!("../reviews/typical.json"),
        "large" => include_bytes!("../reviews/large.json"),
        other => panic!("no review is called {other}"),
    }
}

/// Carries out orders, `ROUTE REVIEW REQUESTS RATE` a line, until there are none. Each is answered by
/// a line with its 99th percentile in nanoseconds; rate 0 means as fast as it goes.
pub(crate) fn run(address: SocketAddr, ca: &Path) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let connections = (0..CONNECTIONS).map(|_| connect(address, ca));
    let mut connections = runtime.block_on(join_all(connections));
    for order in std::io::stdin().lock().lines() {
        let order = order.unwrap();
        let words: Vec<&str> = order.split(' ').collect();
        let [route, review, requests, rate] = words[..] else {
            panic!("no order: {order}");
        };
        let plan = Plan::new(
            route,
            review,
            requests.parse().unwrap(),
            rate.parse().unwrap(),
        );
        let senders = connections.iter_mut().enumerate();
        let senders = senders.map(|(first, connection)| plan.send(connection, first));
        let took = runtime.block_on(join_all(senders));
        let mut took: Vec<Duration> = took.into_iter().flatten().collect();
        took.sort();
        println!("{}", took[took.len() * 99 / 100].as_nanos());
    }
}

async fn connect(address: SocketAddr, ca: &Path) -> TlsStream<TcpStream> {
    let mut roots = RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_file(ca).unwrap())
        .unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    let stream = TcpStream::connect(address).await.unwrap();
    stream.set_nodelay(true).unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    let connector = TlsConnector::from(Arc::new(config));
    connector.connect(name, stream).await.unwrap()
}

/// What all connections send, taking turns.
struct Plan {
    request: Vec<u8>,
    requests: usize,
    /// Between one request and the next, of whichever connection; none for as fast as it goes.
    gap: Option<Duration>,
    start: Instant,
}

impl Plan {
    fn new(route: &str, review: &str, requests: usize, rate: u32) -> Self {
        let body = body(review);
        let path = match route {
            "/no-op" => format!("/no-op/{review}"),
            hook => hook.to_owned(),
        };
        let length = body.len();
        let head = format!(
            "POST {path}?timeout=2s HTTP/1.1\r\nHost: targetgate.targetgate-system.svc:443\r\n\
             User-Agent: kube-apiserver-admission\r\nContent-Length: {length}\r\n\
             Accept: application/json, */*\r\nContent-Type: application/json\r\n\
             Accept-Encoding: gzip\r\n\r\n"
        );
        Self {
            request: [head.as_bytes(), body].concat(),
            requests,
            gap: (rate > 0).then(|| Duration::from_secs(1) / rate),
            start: Instant::now(),
        }
    }

    /// Sends every eighth request, and tells how long each took. Whatever the answer before it has
    /// held up counts from when it was due.
    async fn send(&self, connection: &mut TlsStream<TcpStream>, first: usize) -> Vec<Duration> {
        let mut took = Vec::new();
        for number in (first..self.requests).step_by(CONNECTIONS) {
            let began = self.turn(number).await;
            connection.write_all(&self.request).await.unwrap();
            connection.flush().await.unwrap();
            read_answer(connection).await;
            took.push(began.elapsed());
        }
        took
    }

    /// Waits for a request's turn, and tells from when it counts.
    async fn turn(&self, number: usize) -> Instant {
        let now = Instant::now();
        let due = match (self.gap, u32::try_from(number)) {
            (Some(gap), Ok(number)) => self.start + gap * number,
            _ => now,
        };
        if due <= now {
            return due;
        }
        // The timer's own rounding up to a millisecond is not the server's.
        sleep_until(due).await;
        Instant::now()
    }
}

/// Reads one answer with a `Content-Length`, and sees that it is `200`.
async fn read_answer(connection: &mut TlsStream<TcpStream>) {
    let mut buffer = [0; 16 * 1024];
    let mut filled = 0;
    loop {
        let read = connection.read(&mut buffer[filled..]).await.unwrap();
        assert!(read > 0, "the server closed the connection");
        filled += read;
        let text = std::str::from_utf8(&buffer[..filled]).unwrap();
        let Some((head, body)) = text.split_once("\r\n\r\n") else {
            continue;
        };
        assert!(head.starts_with("HTTP/1.1 200"), "{head}");
        let length = head
            .lines()
            .find_map(|line| line.strip_prefix("content-length: "));
        if body.len() == length.unwrap().parse::<usize>().unwrap() {
            return;
        }
    }
}
