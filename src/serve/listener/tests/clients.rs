//! Clients that are accepted where a certificate is required.

use std::fs;

use rstest::rstest;
use rustls::version::{TLS12, TLS13};
use tempfile::TempDir;
use tokio_rustls::client::TlsStream;

use super::*;
use crate::pki::make::Made;
use crate::serve::clients::Clients;
use crate::serve::clients::testing::{NOW, Shown, ca, client, expired, server};

/// A listener that accepts clients of the CAs in a file.
struct Door {
    folder: TempDir,
    clients: Arc<Clients>,
    ca: CertificateDer<'static>,
    acceptor: TlsAcceptor,
    metrics: Arc<Metrics>,
}

impl Door {
    fn new(cas: &[&Made], names: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("ca.crt"), bundle(cas)).unwrap();
        let names = names.iter().map(|name| name.parse().unwrap()).collect();
        let metrics = Arc::new(Metrics::default());
        let clients = Clients::read(folder.path().join("ca.crt"), names, &metrics);
        let clients = Arc::new(clients.unwrap());
        let (ca, certificate) = certificate();
        let acceptor = mutual_tls(certificate, clients.clone(), Arc::new(|| NOW)).unwrap();
        Self {
            folder,
            clients,
            ca,
            acceptor,
            metrics,
        }
    }

    /// Replaces the file.
    fn put(&self, text: &str) {
        let beside = self.folder.path().join("ca.new");
        fs::write(&beside, text).unwrap();
        fs::rename(beside, self.folder.path().join("ca.crt")).unwrap();
    }

    /// A connection of a client with this TLS version and this certificate.
    async fn connect(
        &self,
        version: &'static SupportedProtocolVersion,
        shown: Option<&Shown>,
    ) -> io::Result<TlsStream<DuplexStream>> {
        let edge = Listener::https(
            router(),
            self.acceptor.clone(),
            Limits::default(),
            &self.metrics,
        );
        let (peer, stream) = duplex(64 * 1024);
        tokio::spawn(async move {
            let (_phase, phases) = phases();
            edge.connection(stream, phases).await;
        });
        let connector = client_of(&self.ca, version, shown);
        connector.connect(name("localhost"), peer).await
    }

    /// Whether a client of TLS 1.3 with this certificate is answered.
    async fn lets_in(&self, shown: &Shown) -> bool {
        match self.connect(&TLS13, Some(shown)).await {
            Ok(mut stream) => asks(&mut stream).await.is_ok(),
            Err(_) => false,
        }
    }

    /// Waits until new handshakes use the new file.
    async fn until(&self, shown: &Shown, let_in: bool) {
        let changed = async {
            while self.lets_in(shown).await != let_in {
                sleep(Duration::from_millis(10)).await;
            }
        };
        timeout(LONG, changed).await.unwrap();
    }

    fn counts(&self, line: &str) -> bool {
        self.metrics.encode().lines().any(|known| known == line)
    }
}

fn client_of(
    ca: &CertificateDer<'static>,
    version: &'static SupportedProtocolVersion,
    shown: Option<&Shown>,
) -> TlsConnector {
    let config = trusting(ca.clone(), &[version]);
    let config = match shown {
        Some((chain, key)) => config.with_client_auth_cert(chain.clone(), key.clone_key()),
        None => Ok(config.with_no_client_auth()),
    };
    Arc::new(config.unwrap()).into()
}

fn bundle(cas: &[&Made]) -> String {
    cas.iter().map(|ca| ca.certificate.as_str()).collect()
}

/// Sends a request, and reads the answer.
async fn asks(stream: &mut (impl AsyncRead + AsyncWrite + Unpin)) -> io::Result<()> {
    stream.write_all(GET).await?;
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).await?;
    assert_eq!(&answer, b"HTTP/1.1 200");
    let mut rest = vec![];
    while !rest.ends_with(b"here") {
        rest.push(stream.read_u8().await?);
    }
    Ok(())
}

/// The alert in a client's error.
fn alert(error: &io::Error) -> rustls::AlertDescription {
    match error.get_ref().and_then(|error| error.downcast_ref()) {
        Some(rustls::Error::AlertReceived(alert)) => *alert,
        _ => panic!("no alert: {error:?}"),
    }
}

#[rstest]
#[case::a_client_of_the_ca(|ca: &Made| Some(client(ca, "kube-apiserver", &[])), None)]
#[case::by_a_dns_name(|ca: &Made| Some(client(ca, "x", &["x.example.com", "api.example.com"])), None)]
#[case::nobody(|_: &Made| None, Some("NoClientCertificate"))]
#[case::a_client_of_another_ca(|_: &Made| Some(client(&ca(), "kube-apiserver", &[])), Some("ClientRefused"))]
#[case::an_expired_one(|ca: &Made| Some(expired(ca)), Some("ClientRefused"))]
#[case::a_server(|ca: &Made| Some(server(ca)), Some("ClientRefused"))]
#[case::another_client(|ca: &Made| Some(client(ca, "kubernetes-admin", &[])), Some("ClientNotNamed"))]
#[tokio::test]
async fn only_a_named_client_of_the_ca_gets_in_and_any_other_hears_an_alert_and_is_counted(
    #[case] shown: fn(&Made) -> Option<Shown>,
    #[case] refused: Option<&str>,
    #[values(&TLS12, &TLS13)] version: &'static SupportedProtocolVersion,
) {
    let own = ca();
    let door = Door::new(&[&ca(), &own], &["kube-apiserver", "api.example.com"]);
    let asked = match door.connect(version, shown(&own).as_ref()).await {
        Ok(mut stream) => asks(&mut stream).await,
        Err(error) => Err(error),
    };
    let Some(cause) = refused else {
        asked.unwrap();
        assert!(!door.metrics.encode().contains("tls_failures_total{"));
        return;
    };
    alert(&asked.unwrap_err());
    let counted = format!("targetgate_tls_failures_total{{cause=\"{cause}\"}} 1");
    assert!(door.counts(&counted), "{}", door.metrics.encode());
}

#[tokio::test]
async fn new_cas_count_for_new_handshakes_and_what_is_open_stays() {
    let (old, new) = (ca(), ca());
    let [old_client, new_client] = [&old, &new].map(|ca| client(ca, "kube-apiserver", &[]));
    let door = Door::new(&[&old], &[]);
    let following = tokio::spawn(door.clients.clone().follow());
    let mut open = door.connect(&TLS13, Some(&old_client)).await.unwrap();
    asks(&mut open).await.unwrap();
    assert!(!door.lets_in(&new_client).await);

    door.put(&bundle(&[&old, &new]));
    door.until(&new_client, true).await;
    assert!(door.lets_in(&old_client).await);

    door.put(&bundle(&[&new]));
    door.until(&old_client, false).await;
    asks(&mut open).await.unwrap();

    following.abort();
    let broken = "targetgate_file_broken{flag=\"client-ca\"} 1";
    for text in ["", "nonsense"] {
        door.put(text);
        assert!(door.clients.reload(None).await.is_some());
        assert!(door.counts(broken) && door.lets_in(&new_client).await);
    }
    door.put(&bundle(&[&new]));
    assert!(door.clients.reload(None).await.is_none() && !door.counts(broken));
}

/// In TLS 1.3 the client's handshake is complete before our refusal arrives, so its request may be in flight.
#[tokio::test]
async fn a_refused_client_hears_why_though_it_has_sent_its_request() {
    let door = Door::new(&[&ca()], &[]);
    let limits = Limits {
        handshake: LONG,
        ..Limits::default()
    };
    let edge = Listener::https(router(), door.acceptor, limits, &door.metrics);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (_phase, phases) = phases();
    let _edge = tokio::spawn(Arc::new(edge).serve(listener, phases));
    for _ in 0..3 {
        let stream = TcpStream::connect(address).await.unwrap();
        let connector = client_of(&door.ca, &TLS13, None);
        let mut stream = connector.connect(name("localhost"), stream).await.unwrap();
        for _ in 0..10 {
            // The write fails on a connection that was reset.
            stream.write_all(&[b'a'; 1024]).await.unwrap();
            sleep(Duration::from_millis(1)).await;
        }
        let error = stream.read(&mut [0]).await.unwrap_err();
        assert_eq!(alert(&error), rustls::AlertDescription::CertificateRequired);
    }
}
