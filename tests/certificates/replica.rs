//! A targetgate process that keeps its own certificate.

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use parking_lot::Mutex;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::{ClientConfig, DigitallySignedStruct, Error, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use x509_parser::prelude::FromDer as _;

use crate::waiting::{DEADLINE, until};
use crate::world::{NAME, World, control_plane};

/// Short lives that leave much time: a leaf is renewed after a twentieth of its life, and a process
/// that is late by many seconds breaks nothing.
const SHRUNK: [&str; 3] = [
    "--tls-lifetime=30s",
    "--tls-renew-after=1/20",
    "--tls-clock-skew=1s",
];

/// The running process; killed when dropped.
pub(crate) struct Replica {
    child: Child,
    pub(crate) listen: SocketAddr,
    pub(crate) admin: SocketAddr,
    lines: mpsc::UnboundedReceiver<Value>,
    log: Arc<Mutex<String>>,
}

impl Replica {
    /// Starts one with shrunk lifetimes, which replaces leaf and CA all the time when it leads.
    pub(crate) async fn rotating(world: &World, flags: &[&str]) -> Self {
        let cas = ["--tls-ca-lifetime=40s"];
        Self::start(world, &[&SHRUNK[..], &cas, flags].concat()).await
    }

    /// The same, but for the CA, which it keeps for half a minute.
    pub(crate) async fn rotating_leaves(world: &World, flags: &[&str]) -> Self {
        let cas = ["--tls-ca-lifetime=10m"];
        Self::start(world, &[&SHRUNK[..], &cas, flags].concat()).await
    }

    /// Starts one, and waits until it listens.
    pub(crate) async fn start(world: &World, flags: &[&str]) -> Self {
        let kubeconfig = control_plane().await.kubeconfig();
        let mut child = Command::new(env!("CARGO_BIN_EXE_targetgate"))
            .args([
                "serve",
                "--listen=127.0.0.1:0",
                "--admin-listen=127.0.0.1:0",
            ])
            .args(["--log-format=json", "--tls=self"])
            .args(["--tls-ca-wait=300ms"])
            .arg(format!("--tls-mutating={}", world.namespace))
            .arg(format!("--tls-validating={}", world.namespace))
            .arg("--kubeconfig")
            .arg(kubeconfig)
            .args(flags)
            .env_clear()
            .env("POD_NAMESPACE", &world.namespace)
            .env("AWS_REGION", "eu-west-1")
            .env("AWS_EC2_METADATA_DISABLED", "true")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let log = Arc::new(Mutex::new(String::new()));
        let mut lines = follow(child.stderr.take().unwrap(), log.clone());
        let started = next(&mut lines, &log, |line| line["message"] == "started").await;
        let address = |name: &str| started[name].as_str().unwrap().parse().unwrap();
        Self {
            child,
            listen: address("listen"),
            admin: address("admin"),
            lines,
            log,
        }
    }

    /// Waits until it is ready.
    pub(crate) async fn ready(&self) {
        until("a replica is ready", async || {
            let answer = self.admin("/readyz").await;
            answer.starts_with("HTTP/1.1 200").then_some(())
        })
        .await;
    }

    /// The whole of what its admin listener answers.
    pub(crate) async fn admin(&self, path: &str) -> String {
        let mut stream = TcpStream::connect(self.admin).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    /// A metric without labels.
    pub(crate) async fn metric(&self, name: &str) -> Option<f64> {
        let text = self.admin("/metrics").await;
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        line.map(|value| value.trim().parse().unwrap())
    }

    /// The next line of its log that is as asked for.
    pub(crate) async fn logs(&mut self, is: impl Fn(&Value) -> bool) -> Value {
        next(&mut self.lines, &self.log, is).await
    }

    /// All of its log so far.
    pub(crate) fn log(&self) -> String {
        self.log.lock().clone()
    }

    /// Kills it, as a node that dies.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// The issuer of that.
    pub(crate) async fn issuer(&self, world: &World) -> Option<String> {
        self.leaf(world).await.as_ref().map(issuer)
    }

    /// The leaf that it shows in a new handshake; `None` while it has none.
    pub(crate) async fn leaf(&self, world: &World) -> Option<CertificateDer<'static>> {
        let shown = Arc::new(Shown::default());
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(shown.clone())
            .with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        let name = format!("{NAME}.{}.svc", world.namespace);
        let name = ServerName::try_from(name).unwrap();
        let stream = TcpStream::connect(self.listen).await.unwrap();
        let connector = TlsConnector::from(Arc::new(config));
        let _ = connector.connect(name, stream).await;
        shown.0.lock().clone()
    }
}

impl Drop for Replica {
    fn drop(&mut self) {
        // One that has been killed already is as good.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn follow(
    stderr: impl std::io::Read + Send + 'static,
    log: Arc<Mutex<String>>,
) -> mpsc::UnboundedReceiver<Value> {
    let (sender, receiver) = mpsc::unbounded_channel();
    std::thread::spawn(move || {
        for line in BufReader::new(stderr).lines().map_while(Result::ok) {
            let mut log = log.lock();
            log.push_str(&line);
            log.push('\n');
            // The test may be over.
            let _ = sender.send(serde_json::from_str(&line).unwrap_or_default());
        }
    });
    receiver
}

async fn next(
    lines: &mut mpsc::UnboundedReceiver<Value>,
    log: &Mutex<String>,
    is: impl Fn(&Value) -> bool,
) -> Value {
    let looking = async {
        loop {
            match lines.recv().await {
                Some(line) if is(&line) => return Some(line),
                Some(_) => {}
                None => return None,
            }
        }
    };
    let found = timeout(DEADLINE, looking).await.ok().flatten();
    found.unwrap_or_else(|| panic!("no such line in\n{}", log.lock()))
}

/// The name of who has signed it: each CA of ours has its own.
pub(crate) fn issuer(leaf: &CertificateDer<'_>) -> String {
    let (_, parsed) = x509_parser::certificate::X509Certificate::from_der(leaf).unwrap();
    parsed.issuer().to_string()
}

/// Takes any certificate, and keeps it.
#[derive(Debug, Default)]
struct Shown(Mutex<Option<CertificateDer<'static>>>);

impl ServerCertVerifier for Shown {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        *self.0.lock() = Some(end_entity.clone().into_owned());
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}
