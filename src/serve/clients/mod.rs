//! Accepts clients whose certificate a CA of `--client-ca` has signed.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::aws_lc_rs;
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, OtherError, RootCertStore,
    SignatureScheme,
};
use rustls_pki_types::{CertificateDer, UnixTime};
use targetgate_core::client_names::{Called, ClientName};
use thiserror::Error;
use tracing::info;

use crate::files;
use crate::files::{FileMetrics, LastError, WatchedFile};
use crate::metrics::Metrics;
use crate::pki::read::{self as pki, ReadError};

/// Maximum length of the file, in bytes: the limit of Kubernetes on a ConfigMap or Secret.
const MAX_FILE: u64 = 1 << 20;

/// Why the CAs of a file cannot be used.
#[derive(Debug, Error)]
pub enum ClientCaError {
    #[error(
        "--client-ca: cannot read {}; give a PEM file with the CA of kube-apiserver's client certificate",
        path.display()
    )]
    Read { path: PathBuf, source: io::Error },
    #[error("--client-ca: {} is longer than {MAX_FILE} bytes", path.display())]
    TooLong { path: PathBuf },
    /// The file does not hold a certificate, or a broken one.
    #[error(
        "--client-ca: {} does not hold PEM certificates (-----BEGIN CERTIFICATE-----)",
        path.display()
    )]
    Pem { path: PathBuf, source: ReadError },
    /// A PEM block is not an X.509 certificate.
    #[error("--client-ca: certificate {number} of {} cannot be parsed", path.display())]
    Parse {
        path: PathBuf,
        /// Which of its certificates, from 1.
        number: usize,
        source: rustls::Error,
    },
    /// A certificate cannot be a trust anchor.
    #[error(
        "--client-ca: certificate {number} of {} is no CA's; give the CA that signed the client's \
         certificate, not that certificate itself",
        path.display()
    )]
    NoCa {
        path: PathBuf,
        /// Which of its certificates, from 1.
        number: usize,
    },
}

/// A certificate that verifies, but whose name is not accepted.
#[derive(Debug, Error)]
#[error("it is for {0}")]
pub(super) struct NotNamed(String);

/// Accepts clients with a certificate for client authentication that one of the CAs has signed and that, if names
/// are configured, is for one of them. The CAs can be replaced at any time.
///
/// According to RFC 5280 (6.1.1), a trust anchor is a name and a key: the expiry of a CA is not checked.
/// Remove a CA from the file to reject its clients.
pub struct Clients {
    file: PathBuf,
    names: Vec<ClientName>,
    cas: ArcSwap<Cas>,
    metrics: FileMetrics,
}

/// The CAs of the file, with their verifier.
struct Cas {
    certificates: Vec<CertificateDer<'static>>,
    verifier: Arc<dyn ClientCertVerifier>,
}

impl Clients {
    /// Reads the CAs; if `names` is empty, all of their clients are accepted. Blocks on the file system.
    ///
    /// # Errors
    /// The file or one of its certificates cannot be used. A file is never used in part.
    pub fn read(
        file: PathBuf,
        names: Vec<ClientName>,
        metrics: &Metrics,
    ) -> Result<Self, ClientCaError> {
        let cas = ArcSwap::from_pointee(load(&file)?);
        Ok(Self {
            file,
            names,
            cas,
            metrics: metrics.of(),
        })
    }

    /// Reloads the file when it changes, for ever. New handshakes use the new CAs; open connections
    /// stay. An unusable file is logged once, and the previous CAs stay in force.
    pub async fn follow(self: Arc<Self>) {
        files::follow([self.file.as_path()], |complaint| self.reload(complaint)).await;
    }

    pub(super) async fn reload(&self, complaint: LastError) -> LastError {
        let file = self.file.clone();
        let take = |cas: Cas| {
            if self.cas.load().certificates != cas.certificates {
                info!(cas = cas.certificates.len(), "going by new client CAs");
                self.cas.store(Arc::new(cas));
            }
        };
        let followed = WatchedFile {
            what: "client CAs",
            flag: "client-ca",
            metrics: &self.metrics,
        };
        followed.reload(move || load(&file), take, complaint).await
    }

    fn check_name(&self, certificate: &CertificateDer<'_>) -> Result<(), rustls::Error> {
        if self.names.is_empty() {
            return Ok(());
        }
        let check = |called: &Called<'_>| match called.is_one_of(&self.names) {
            true => Ok(()),
            false => Err(NotNamed(called.to_string())),
        };
        let checked = pki::called(certificate, check).map_err(|_| CertificateError::BadEncoding)?;
        checked.map_err(|why| CertificateError::Other(OtherError(Arc::new(why))).into())
    }
}

fn load(path: &Path) -> Result<Cas, ClientCaError> {
    let path = path.to_owned();
    let text = match files::read(&path, MAX_FILE) {
        Ok(Some(text)) => text,
        Ok(None) => return Err(ClientCaError::TooLong { path }),
        Err(source) => return Err(ClientCaError::Read { path, source }),
    };
    let certificates = match pki::certificates(&text) {
        Ok(certificates) => certificates,
        Err(source) => return Err(ClientCaError::Pem { path, source }),
    };
    let mut roots = RootCertStore::empty();
    for (certificate, number) in certificates.iter().zip(1..) {
        if let Err(source) = roots.add(certificate.clone()) {
            return Err(ClientCaError::Parse {
                path,
                number,
                source,
            });
        }
        if !pki::is_ca(certificate) {
            return Err(ClientCaError::NoCa { path, number });
        }
    }
    Ok(Cas {
        verifier: verifier(roots),
        certificates,
    })
}

/// Does not send the names of the CAs to clients: a client that selects its certificate by them would send none,
/// and we could not log what is wrong with its certificate.
fn verifier(roots: RootCertStore) -> Arc<dyn ClientCertVerifier> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    WebPkiClientVerifier::builder_with_provider(roots.into(), provider)
        .clear_root_hint_subjects()
        .build()
        .expect("a file without a certificate is refused, and there is no revocation list")
}

/// [`ClientCertVerifier`] requires it.
impl fmt::Debug for Clients {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Clients")
            .field("file", &self.file)
            .field("names", &self.names)
            .finish_non_exhaustive()
    }
}

impl ClientCertVerifier for Clients {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        let cas = self.cas.load();
        let verified = cas
            .verifier
            .verify_client_cert(end_entity, intermediates, now)?;
        self.check_name(end_entity)?;
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let cas = self.cas.load();
        cas.verifier.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let cas = self.cas.load();
        cas.verifier.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.cas.load().verifier.supported_verify_schemes()
    }
}

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
