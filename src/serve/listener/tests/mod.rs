use axum::routing::{get, post};
use rustls::client::WantsClientCert;
use rustls::server::ResolvesServerCert;
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, ConfigBuilder, RootCertStore, SupportedProtocolVersion};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::io::{DuplexStream, duplex};
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;

use super::*;
use crate::commands::certs;
use crate::serve::{PhaseSender, phases};

mod clients;
mod places;
mod suites;

const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";
const LONG: Duration = Duration::from_secs(60);

#[derive(Debug)]
struct Fixed(Arc<CertifiedKey>);

impl ResolvesServerCert for Fixed {
    fn resolve(&self, _: rustls::server::ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.clone())
    }
}

/// A listener, one connection to it, and its metrics.
struct Served {
    peer: DuplexStream,
    phase: PhaseSender,
    metrics: Arc<Metrics>,
    connection: JoinHandle<()>,
}

fn router() -> Router {
    Router::new()
        .route("/", get(|| async { "here" }))
        .route(
            "/slow",
            get(|| async {
                sleep(LONG).await;
                "late"
            }),
        )
        .route(
            "/body",
            post(|body: String| async move { body.len().to_string() }),
        )
}

fn serve(tls: Option<TlsAcceptor>) -> Served {
    let metrics = Arc::new(Metrics::default());
    let limits = Limits::default();
    let edge = match tls {
        Some(tls) => Listener::https(router(), tls, limits, &metrics),
        None => Listener::http(router(), limits, &metrics),
    };
    let (phase, phases) = phases();
    let (peer, stream) = duplex(64 * 1024);
    let connection = tokio::spawn(async move { edge.connection(stream, phases).await });
    Served {
        peer,
        phase,
        metrics,
        connection,
    }
}

/// A CA and an acceptor whose certificate that CA signed.
fn acceptor() -> (CertificateDer<'static>, TlsAcceptor) {
    let (ca, certificate) = certificate();
    (ca, tls(certificate).unwrap())
}

/// A CA and a certificate that it signed.
fn certificate() -> (CertificateDer<'static>, Arc<Fixed>) {
    let made = certs::make("shop", &[], jiff::Timestamp::now()).unwrap();
    let leaf = CertificateDer::from_pem_slice(made.certificate.as_bytes()).unwrap();
    let key = PrivateKeyDer::from_pem_slice(made.key.as_bytes()).unwrap();
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    let key = CertifiedKey::from_der(vec![leaf], key, &provider).unwrap();
    let ca = CertificateDer::from_pem_slice(made.ca.as_bytes()).unwrap();
    (ca, Arc::new(Fixed(Arc::new(key))))
}

fn connector(ca: CertificateDer<'static>, alpn: &[&[u8]]) -> TlsConnector {
    let mut config = trusting(ca, rustls::ALL_VERSIONS).with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|p| p.to_vec()).collect();
    Arc::new(config).into()
}

/// A client that trusts this CA, and offers these versions.
fn trusting(
    ca: CertificateDer<'static>,
    versions: &[&'static SupportedProtocolVersion],
) -> ConfigBuilder<ClientConfig, WantsClientCert> {
    let mut roots = RootCertStore::empty();
    roots.add(ca).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)
        .unwrap()
        .with_root_certificates(roots)
}

fn name(name: &'static str) -> ServerName<'static> {
    ServerName::try_from(name).unwrap()
}

/// Reads until the text ends with `end`.
async fn read_until(stream: &mut (impl AsyncRead + Unpin), end: &str) -> String {
    let mut text = String::new();
    while !text.ends_with(end) {
        let mut byte = [0];
        assert_eq!(stream.read(&mut byte).await.unwrap(), 1, "{text}");
        text.push(char::from(byte[0]));
    }
    text
}

async fn read_to_end(stream: &mut (impl AsyncRead + Unpin)) -> String {
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    text
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_rests_outlives_the_api_servers_own_90_seconds() {
    let mut served = serve(None);
    for _ in 0..3 {
        served.peer.write_all(GET).await.unwrap();
        read_until(&mut served.peer, "here").await;
        sleep(Duration::from_secs(180)).await;
    }
    assert!(!served.connection.is_finished());
    let rested = Instant::now();
    assert_eq!(read_to_end(&mut served.peer).await, "");
    assert_eq!(rested.elapsed().as_secs(), 20);
}

#[tokio::test(start_paused = true)]
async fn a_head_that_trickles_is_ended_at_its_deadline() {
    let mut served = serve(None);
    served.peer.write_all(GET).await.unwrap();
    read_until(&mut served.peer, "here").await;
    sleep(LONG).await;
    let begun = Instant::now();
    let (_rest, mut peer) = tokio::io::split(served.peer);
    // The request line alone takes 14 seconds at this pace.
    let trickle = tokio::spawn(async move {
        for byte in GET {
            peer.write_all(&[*byte]).await.unwrap();
            sleep(Duration::from_secs(1)).await;
        }
    });
    served.connection.await.unwrap();
    assert_eq!(begun.elapsed().as_secs(), 10);
    trickle.abort();
    let text = served.metrics.encode();
    assert!(
        text.contains(r#"refusals_total{cause="HeadTimeout"} 1"#),
        "{text}"
    );
}

#[tokio::test(start_paused = true)]
async fn neither_a_slow_answer_nor_a_slow_body_is_a_slow_head() {
    let mut served = serve(None);
    let slow = b"GET /slow HTTP/1.1\r\nHost: localhost\r\n\r\n";
    served.peer.write_all(slow).await.unwrap();
    read_until(&mut served.peer, "late").await;
    let head = b"POST /body HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n";
    served.peer.write_all(head).await.unwrap();
    for _ in 0..2 {
        sleep(LONG).await;
        served.peer.write_all(b"x").await.unwrap();
    }
    read_until(&mut served.peer, "\r\n\r\n2").await;
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_takes_no_answer_is_dropped() {
    let metrics = Arc::new(Metrics::default());
    let edge = Listener::http(router(), Limits::default(), &metrics);
    let (_phase, phases) = phases();
    let (mut peer, stream) = duplex(64);
    let connection = tokio::spawn(async move { edge.connection(stream, phases).await });
    peer.write_all(GET).await.unwrap();
    let begun = Instant::now();
    connection.await.unwrap();
    assert_eq!(begun.elapsed(), Limits::default().write);
}

#[tokio::test(start_paused = true)]
async fn while_lingering_an_idle_connection_is_closed_only_by_its_next_answer() {
    let mut served = serve(None);
    served.peer.write_all(GET).await.unwrap();
    let answer = read_until(&mut served.peer, "here").await;
    assert!(!answer.contains("connection:"), "{answer}");
    served.phase.send(Phase::Lingering).unwrap();
    sleep(LONG).await;
    served.peer.write_all(GET).await.unwrap();
    let answer = read_to_end(&mut served.peer).await;
    assert!(answer.contains("connection: close"), "{answer}");
    assert!(answer.ends_with("here"), "{answer}");
}

#[tokio::test(start_paused = true)]
async fn closing_ends_idle_connections_and_answers_what_is_in_flight() {
    let (mut idle, mut busy) = (serve(None), serve(None));
    idle.peer.write_all(GET).await.unwrap();
    read_until(&mut idle.peer, "here").await;
    let slow = b"GET /slow HTTP/1.1\r\nHost: localhost\r\n\r\n";
    busy.peer.write_all(slow).await.unwrap();
    sleep(Duration::from_secs(1)).await;
    let begun = Instant::now();
    for phase in [&idle.phase, &busy.phase] {
        phase.send(Phase::Closing).unwrap();
    }
    assert_eq!(read_to_end(&mut idle.peer).await, "");
    assert_eq!(begun.elapsed(), Duration::ZERO);
    let answer = read_to_end(&mut busy.peer).await;
    assert!(answer.contains("connection: close"), "{answer}");
    assert!(answer.ends_with("late"), "{answer}");
}

#[tokio::test(start_paused = true)]
async fn a_handshake_that_does_not_come_is_not_awaited_for_ever() {
    let (_, tls) = acceptor();
    let mut served = serve(Some(tls));
    let begun = Instant::now();
    assert_eq!(served.peer.read(&mut [0]).await.unwrap(), 0);
    assert_eq!(begun.elapsed(), Limits::default().handshake);
    let text = served.metrics.encode();
    assert!(
        text.contains(r#"tls_failures_total{cause="Timeout"} 1"#),
        "{text}"
    );
}

#[tokio::test]
async fn whoever_offers_http_1_1_or_nothing_is_served_within_tls() {
    let (ca, tls) = acceptor();
    let http = &b"http/1.1"[..];
    for (offered, agreed) in [
        (&[][..], None),
        (&[http], Some(http)),
        (&[b"h2", http], Some(http)),
    ] {
        let served = serve(Some(tls.clone()));
        let connector = connector(ca.clone(), offered);
        let mut stream = connector
            .connect(name("localhost"), served.peer)
            .await
            .unwrap();
        assert_eq!(stream.get_ref().1.alpn_protocol(), agreed);
        stream.write_all(GET).await.unwrap();
        read_until(&mut stream, "here").await;
    }
}

#[tokio::test]
async fn a_client_that_offers_http_2_only_hears_an_alert_and_is_counted() {
    let (ca, tls) = acceptor();
    let served = serve(Some(tls));
    let connector = connector(ca, &[b"h2"]);
    let error = connector.connect(name("localhost"), served.peer).await;
    let error = error.unwrap_err().to_string();
    assert!(error.contains("NoApplicationProtocol"), "{error}");
    served.connection.await.unwrap();
    let text = served.metrics.encode();
    let counted = r#"tls_failures_total{cause="Incompatible"} 1"#;
    assert!(text.contains(counted), "{text}");
}

#[tokio::test]
async fn a_client_that_trusts_another_ca_is_counted() {
    let (_, tls) = acceptor();
    let (other_ca, _) = acceptor();
    let served = serve(Some(tls));
    let connector = connector(other_ca, &[b"http/1.1"]);
    assert!(
        connector
            .connect(name("localhost"), served.peer)
            .await
            .is_err()
    );
    served.connection.await.unwrap();
    let text = served.metrics.encode();
    let counted = r#"tls_failures_total{cause="CertificateRefused"} 1"#;
    assert!(text.contains(counted), "{text}");
}

#[tokio::test]
async fn what_is_neither_tls_nor_http_is_counted() {
    let (_, tls) = acceptor();
    let mut served = serve(Some(tls));
    served.peer.write_all(&[0; 64]).await.unwrap();
    served.connection.await.unwrap();
    let text = served.metrics.encode();
    assert!(
        text.contains(r#"tls_failures_total{cause="Other"} 1"#),
        "{text}"
    );
}

/// Listens on loopback with these bounds.
async fn listen(limits: Limits) -> (std::net::SocketAddr, PhaseSender, JoinHandle<()>) {
    let (_, tls) = acceptor();
    let edge = Arc::new(Listener::https(router(), tls, limits, &Metrics::default()));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (phase, phases) = phases();
    (address, phase, tokio::spawn(edge.serve(listener, phases)))
}

#[tokio::test]
async fn plain_http_on_the_https_port_is_told_so() {
    let (address, _phase, _edge) = listen(Limits::default()).await;
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(GET).await.unwrap();
    let answer = read_to_end(&mut stream).await;
    assert!(
        answer.starts_with("HTTP/1.0 400 Bad Request\r\n"),
        "{answer}"
    );
    assert!(
        answer.ends_with("client sent an HTTP request to an HTTPS server\n"),
        "{answer}"
    );
}

#[tokio::test]
async fn closing_ends_the_listener_and_cuts_what_does_not_end_in_time() {
    let limits = Limits {
        drain: Duration::from_millis(50),
        ..Limits::default()
    };
    let (address, phase, edge) = listen(limits).await;
    // This client never begins its handshake, and the listener must not wait for it.
    let _silent = TcpStream::connect(address).await.unwrap();
    phase.send(Phase::Closing).unwrap();
    timeout(LONG, edge).await.unwrap().unwrap();
    assert!(TcpStream::connect(address).await.is_err());
}
