//! The settings of TLS.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, ResolvesServerCert, WebPkiClientVerifier};
use rustls::time_provider::TimeProvider;
use rustls::{ServerConfig, SupportedProtocolVersion};
use rustls_pki_types::UnixTime;
use tokio_rustls::TlsAcceptor;

use crate::clock::Now;
use crate::serve::clients::Clients;

/// An acceptor of TLS for kube-apiserver, with the current certificate of the resolver; it accepts any
/// client.
///
/// Sessions are not resumed, because kube-apiserver never requests it: we neither send tickets nor store sessions.
pub fn tls(resolver: Arc<dyn ResolvesServerCert>) -> Result<TlsAcceptor, rustls::Error> {
    let config = config(WebPkiClientVerifier::no_client_auth(), resolver)?;
    Ok(Arc::new(config).into())
}

/// The same, but accepts only these clients: each handshake requires a certificate, which is
/// verified as of `now`.
pub fn mutual_tls(
    resolver: Arc<dyn ResolvesServerCert>,
    clients: Arc<Clients>,
    now: Now,
) -> Result<TlsAcceptor, rustls::Error> {
    let mut config = config(clients, resolver)?;
    config.time_provider = Arc::new(Clock(now));
    Ok(Arc::new(config).into())
}

fn config(
    clients: Arc<dyn ClientCertVerifier>,
    resolver: Arc<dyn ResolvesServerCert>,
) -> Result<ServerConfig, rustls::Error> {
    const VERSIONS: [&SupportedProtocolVersion; 2] =
        [&rustls::version::TLS13, &rustls::version::TLS12];
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&VERSIONS)?
        .with_client_cert_verifier(clients)
        .with_cert_resolver(resolver);
    // kube-apiserver uses only HTTP/1.1 with a Service, and our deadlines do not cover single streams of HTTP/2.
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config.send_tls13_tickets = 0;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    Ok(config)
}

/// Our wall clock, in the form of rustls.
struct Clock(Now);

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Clock")
    }
}

impl TimeProvider for Clock {
    /// `None`, with which no certificate verifies, before 1970.
    fn current_time(&self) -> Option<UnixTime> {
        let seconds = u64::try_from((self.0)().as_second()).ok()?;
        Some(UnixTime::since_unix_epoch(Duration::from_secs(seconds)))
    }
}
