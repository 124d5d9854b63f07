//! A targetgate process with `--tls self`.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;

use parking_lot::Mutex;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::{ClientConfig, DigitallySignedStruct, Error, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use serde_json::Value;
use targetgate_sandbox::harness::process::{Process, isolated, serve};
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use x509_parser::prelude::FromDer as _;

use crate::world::{NAME, World, control_plane};

/// Short lifetimes with a large margin: a leaf is renewed after a twentieth of its lifetime, so a process that
/// is late by many seconds breaks nothing. Chosen.
const SHRUNK: [&str; 3] = [
    "--tls-lifetime=30s",
    "--tls-renew-after=1/20",
    "--tls-clock-skew=1s",
];

/// A running process, which is killed when dropped.
pub(crate) struct Replica {
    process: Process,
    pub(crate) listen: SocketAddr,
    #[expect(dead_code, reason = "held until dropped")]
    folder: TempDir,
}

impl Replica {
    /// Starts a replica with short lifetimes, which rotates leaf and CA continually while it leads.
    pub(crate) async fn rotating(world: &World, flags: &[&str]) -> Self {
        let cas = ["--tls-ca-lifetime=40s"];
        Self::start(world, &[&SHRUNK[..], &cas, flags].concat()).await
    }

    /// Starts a replica that rotates its leaf continually, and its CA after half a minute.
    pub(crate) async fn rotating_leaves(world: &World, flags: &[&str]) -> Self {
        let cas = ["--tls-ca-lifetime=10m"];
        Self::start(world, &[&SHRUNK[..], &cas, flags].concat()).await
    }

    /// Starts a replica, and waits until it listens.
    pub(crate) async fn start(world: &World, flags: &[&str]) -> Self {
        let kubeconfig = control_plane().await.kubeconfig();
        let has = |flag: &str| flags.iter().any(|given| given.starts_with(flag));
        let source = (!has("--tls=")).then_some("--tls=self");
        let wait = (!has("--tls-ca-wait=")).then_some("--tls-ca-wait=300ms");
        let mut command = isolated(Path::new(env!("CARGO_BIN_EXE_targetgate")));
        serve(&mut command, Ipv4Addr::LOCALHOST.into())
            .args(source)
            .args(wait)
            .arg(format!("--tls-mutating={}", world.namespace))
            .arg(format!("--tls-validating={}", world.namespace))
            .arg("--kubeconfig")
            .arg(kubeconfig)
            .args(flags)
            .env("POD_NAMESPACE", &world.namespace);
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("log");
        let process = Process::start(&mut command, &log).await.unwrap();
        Self {
            listen: process.hooks,
            process,
            folder,
        }
    }

    pub(crate) async fn ready(&self) {
        self.process.ready().await.unwrap();
    }

    /// Its metrics as text.
    pub(crate) async fn metrics(&self) -> String {
        self.process.metrics().await.unwrap()
    }

    /// The value of a metric without labels.
    pub(crate) async fn metric(&self, name: &str) -> Option<f64> {
        let text = self.metrics().await;
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        line.map(|value| value.trim().parse().unwrap())
    }

    /// The next line of its log for which `is` holds.
    pub(crate) async fn logs(&mut self, is: impl Fn(&Value) -> bool) -> Value {
        self.process.logs(is).await.unwrap()
    }

    /// All of its log so far.
    pub(crate) fn log(&self) -> String {
        self.process.log()
    }

    /// Kills the process, as the death of its node would.
    pub(crate) fn kill(&mut self) {
        self.process.kill();
    }

    /// The issuer of the leaf that it serves.
    pub(crate) async fn issuer(&self, world: &World) -> Option<String> {
        self.leaf(world).await.as_ref().map(issuer)
    }

    /// The leaf that it shows in a new handshake, or `None` while it has none.
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

/// The name of the CA that signed the leaf. Each CA of ours has a name of its own.
pub(crate) fn issuer(leaf: &CertificateDer<'_>) -> String {
    let (_, parsed) = x509_parser::certificate::X509Certificate::from_der(leaf).unwrap();
    parsed.issuer().to_string()
}

/// A verifier that accepts any certificate, and keeps it.
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
