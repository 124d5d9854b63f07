//! A load generator in a process of its own, with eight kept connections, which reads orders from
//! standard input.
#![allow(
    clippy::unwrap_used,
    reason = "helpers of tests fail as the tests themselves do"
)]

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use rustls::client::Resumption;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep_until};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// The argument that makes a process the load generator.
const MODE: &str = "load";
/// The number of kept connections. Chosen.
const CONNECTIONS: usize = 8;

/// The body of the review of this name.
pub fn body(review: &str) -> &'static [u8] {
    match review {
        "small" => include_bytes!("../../benches/reviews/small.json"),
        "typical" => include_bytes!("../../benches/reviews/typical.json"),
        "large" => include_bytes!("../../benches/reviews/large.json"),
        other => panic!("there is no review named {other}"),
    }
}

/// Runs the load generator if the arguments of the process ask for it. Returns whether they did.
pub fn is_asked_for(arguments: &[String]) -> bool {
    let [_, mode, address, ca] = arguments else {
        return false;
    };
    let asked = mode == MODE;
    if asked {
        run(address.parse().unwrap(), Path::new(ca));
    }
    asked
}

/// Carries out orders, one `ROUTE REVIEW REQUESTS RATE` per line, until the input ends. It answers
/// each with a line that has the 99th percentile in nanoseconds. Rate 0 means as fast as possible;
/// `new` means a new connection for each request, all at once.
fn run(address: SocketAddr, ca: &Path) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let connector = connector(ca);
    let connections = (0..CONNECTIONS).map(|_| connect(address, &connector));
    let mut connections = runtime.block_on(join_all(connections));
    for order in std::io::stdin().lock().lines() {
        let order = order.unwrap();
        let words: Vec<&str> = order.split(' ').collect();
        let [route, review, requests, rate] = words[..] else {
            panic!("not an order: {order}");
        };
        let requests = requests.parse().unwrap();
        let mut took: Vec<Duration> = if rate == "new" {
            let request = request(route, review);
            let senders = (0..requests).map(|_| send_alone(address, &connector, &request));
            runtime.block_on(join_all(senders))
        } else {
            let plan = Plan::new(route, review, requests, rate.parse().unwrap());
            let senders = connections.iter_mut().enumerate();
            let senders = senders.map(|(first, connection)| plan.send(connection, first));
            let took = runtime.block_on(join_all(senders));
            took.into_iter().flatten().collect()
        };
        took.sort();
        println!("{}", took[took.len() * 99 / 100].as_nanos());
    }
}

fn connector(ca: &Path) -> TlsConnector {
    let mut config = client_config(ca);
    // kube-apiserver does not resume TLS sessions either.
    config.resumption = Resumption::disabled();
    TlsConnector::from(Arc::new(config))
}

/// The TLS configuration of a webhook's client that trusts the CA in this file.
pub fn client_config(ca: &Path) -> ClientConfig {
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
    // kube-apiserver offers HTTP/1.1 to a webhook's Service.
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config
}

async fn connect(address: SocketAddr, connector: &TlsConnector) -> TlsStream<TcpStream> {
    let stream = TcpStream::connect(address).await.unwrap();
    stream.set_nodelay(true).unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    connector.connect(name, stream).await.unwrap()
}

/// Sends a request on a new connection, and returns how long both took.
async fn send_alone(address: SocketAddr, connector: &TlsConnector, request: &[u8]) -> Duration {
    let began = Instant::now();
    let mut connection = connect(address, connector).await;
    connection.write_all(request).await.unwrap();
    connection.flush().await.unwrap();
    read_answer(&mut connection).await;
    began.elapsed()
}

/// The bytes of a request as kube-apiserver sends it.
fn request(route: &str, review: &str) -> Vec<u8> {
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
    [head.as_bytes(), body].concat()
}

/// The requests of one order, which the connections send in turn.
struct Plan {
    request: Vec<u8>,
    requests: usize,
    /// The time from one request to the next, over all connections; `None` means as fast as
    /// possible.
    gap: Option<Duration>,
    start: Instant,
}

impl Plan {
    fn new(route: &str, review: &str, requests: usize, rate: u32) -> Self {
        Self {
            request: request(route, review),
            requests,
            gap: (rate > 0).then(|| Duration::from_secs(1) / rate),
            start: Instant::now(),
        }
    }

    /// Sends every eighth request, and returns how long each took. A request that had to wait for
    /// the previous answer is measured from when it was due.
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

    /// Waits until a request is due, and returns the time from which it is measured.
    async fn turn(&self, number: usize) -> Instant {
        let now = Instant::now();
        let due = match (self.gap, u32::try_from(number)) {
            (Some(gap), Ok(number)) => self.start + gap * number,
            _ => now,
        };
        if due <= now {
            return due;
        }
        // The timer rounds up to a millisecond, which must not count as the server's time.
        sleep_until(due).await;
        Instant::now()
    }
}

/// Reads one answer with a `Content-Length`, and checks that its status is 200.
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

/// The process that sends the requests, which takes its orders line by line.
pub struct Load {
    child: Child,
    orders: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Load {
    /// Starts the process, with requests to this server.
    pub fn start(address: SocketAddr, ca: &Path) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .arg(MODE)
            .arg(address.to_string())
            .arg(ca)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        Self {
            orders: child.stdin.take().unwrap(),
            answers: BufReader::new(child.stdout.take().unwrap()),
            child,
        }
    }

    /// Sends this many requests as fast as they are answered.
    pub fn burst(&mut self, route: &str, review: &str, requests: usize) {
        self.order(&format!("{route} {review} {requests} 0"));
    }

    /// The 99th percentile at a fixed rate, in nanoseconds.
    pub fn p99(&mut self, route: &str, review: &str, (rate, requests): (usize, usize)) -> f64 {
        self.order(&format!("{route} {review} {requests} {rate}"))
    }

    /// Sends this many requests at once, each on a new connection.
    pub fn connect(&mut self, route: &str, review: &str, requests: usize) {
        self.order(&format!("{route} {review} {requests} new"));
    }

    fn order(&mut self, order: &str) -> f64 {
        writeln!(self.orders, "{order}").unwrap();
        let mut answer = String::new();
        self.answers.read_line(&mut answer).unwrap();
        answer.trim().parse().unwrap()
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
