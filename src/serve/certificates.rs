//! The served certificate: read from PEM files, checked, and read again when they change.

use std::error::Error;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use jiff::Timestamp;
use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use rustls::crypto::aws_lc_rs;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::{self, PemObject};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use thiserror::Error;
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};
use tracing::{info, warn};
use x509_parser::certificate::X509Certificate;
use x509_parser::error::X509Error;
use x509_parser::prelude::FromDer;

use crate::metrics::Metrics;

/// The files are read this often even if nothing tells of a change.
const POLL: Duration = Duration::from_secs(60);
/// Two files are replaced one after the other: they are read so long after the first sign of it.
const SETTLE: Duration = Duration::from_millis(300);

/// One of the two files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PemFile {
    /// `--tls-cert`: the leaf first, then its issuers.
    Certificate,
    /// `--tls-key`: the leaf's private key.
    Key,
}

impl PemFile {
    fn flag(self) -> &'static str {
        match self {
            Self::Certificate => "--tls-cert",
            Self::Key => "--tls-key",
        }
    }

    fn wanted(self) -> &'static str {
        match self {
            Self::Certificate => "a PEM certificate chain (-----BEGIN CERTIFICATE-----)",
            Self::Key => "a PEM private key (-----BEGIN PRIVATE KEY-----)",
        }
    }
}

/// Why a certificate cannot be served.
#[derive(Debug, Error)]
pub enum CertificateError {
    /// A file cannot be read.
    #[error("{}: cannot read {}; give {}", file.flag(), path.display(), file.wanted())]
    Read {
        /// Which of the two.
        file: PemFile,
        /// Its path.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file holds nothing of its kind.
    #[error("{}: {} does not hold {}", file.flag(), path.display(), file.wanted())]
    Pem {
        /// Which of the two.
        file: PemFile,
        /// Its path.
        path: PathBuf,
        /// What is wrong with it.
        source: pem::Error,
    },
    /// The first certificate is no X.509 certificate.
    #[error("--tls-cert: the first certificate of {} cannot be parsed", path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: x509_parser::nom::Err<X509Error>,
    },
    /// The key cannot be used, or belongs to another certificate.
    #[error(
        "--tls-key: {} does not fit {}; give the private key of the first certificate there",
        key.display(), certificate.display()
    )]
    Key {
        /// The key's file.
        key: PathBuf,
        /// The certificate's file.
        certificate: PathBuf,
        /// What is wrong with it.
        source: rustls::Error,
    },
}

/// A chain and its private key, known to belong together.
#[derive(Debug, Clone)]
pub struct Certificate {
    key: Arc<CertifiedKey>,
    expiry: Timestamp,
}

/// Where a certificate chain and its key are.
#[derive(Debug, Clone)]
pub struct PemFiles {
    /// The path of [`PemFile::Certificate`].
    pub certificate: PathBuf,
    /// The path of [`PemFile::Key`].
    pub key: PathBuf,
}

impl PemFiles {
    /// Reads and checks both files. Blocks on the file system.
    pub fn load(&self) -> Result<Certificate, CertificateError> {
        let chain = self.chain()?;
        let expiry = self.expiry(&chain)?;
        let key = self.private_key()?;
        let key = CertifiedKey::from_der(chain, key, &aws_lc_rs::default_provider()).map_err(
            |source| CertificateError::Key {
                key: self.key.clone(),
                certificate: self.certificate.clone(),
                source,
            },
        )?;
        Ok(Certificate {
            key: Arc::new(key),
            expiry,
        })
    }

    fn chain(&self) -> Result<Vec<CertificateDer<'static>>, CertificateError> {
        let text = self.read(PemFile::Certificate)?;
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
        match chain {
            Ok(chain) if chain.is_empty() => Err(pem::Error::NoItemsFound),
            chain => chain,
        }
        .map_err(|source| self.not_pem(PemFile::Certificate, source))
    }

    fn private_key(&self) -> Result<PrivateKeyDer<'static>, CertificateError> {
        let text = self.read(PemFile::Key)?;
        PrivateKeyDer::from_pem_slice(&text).map_err(|source| self.not_pem(PemFile::Key, source))
    }

    /// When the leaf expires.
    fn expiry(&self, chain: &[CertificateDer<'_>]) -> Result<Timestamp, CertificateError> {
        let leaf = chain.first().map_or(&[][..], |leaf| leaf.as_ref());
        let (_, leaf) =
            X509Certificate::from_der(leaf).map_err(|source| CertificateError::Parse {
                path: self.certificate.clone(),
                source,
            })?;
        let not_after = leaf.validity().not_after.timestamp();
        // X.509 and jiff both end with the year 9999.
        Ok(Timestamp::from_second(not_after).unwrap_or(Timestamp::MAX))
    }

    fn read(&self, file: PemFile) -> Result<Vec<u8>, CertificateError> {
        let path = self.path(file);
        std::fs::read(path).map_err(|source| CertificateError::Read {
            file,
            path: path.to_owned(),
            source,
        })
    }

    fn not_pem(&self, file: PemFile, source: pem::Error) -> CertificateError {
        CertificateError::Pem {
            file,
            path: self.path(file).to_owned(),
            source,
        }
    }

    fn path(&self, file: PemFile) -> &Path {
        match file {
            PemFile::Certificate => &self.certificate,
            PemFile::Key => &self.key,
        }
    }

    /// The folders whose changes matter. A Secret volume swaps a link *beside* the files, so a watch
    /// on a file itself would go dead.
    fn folders(&self) -> [&Path; 2] {
        [&self.certificate, &self.key].map(|file| match file.parent() {
            Some(folder) if folder != Path::new("") => folder,
            _ => Path::new("."),
        })
    }
}

/// The certificate that new connections are given; it can be replaced at any time.
pub struct Certificates {
    current: ArcSwap<Certificate>,
    metrics: Arc<Metrics>,
}

impl Certificates {
    /// Serves this one for now.
    pub fn new(certificate: Certificate, metrics: Arc<Metrics>) -> Self {
        metrics.certificate_expiry(certificate.expiry);
        Self {
            current: ArcSwap::from_pointee(certificate),
            metrics,
        }
    }

    /// Serves this one from now on; established connections keep theirs.
    pub fn replace(&self, certificate: Certificate) {
        self.metrics.certificate_expiry(certificate.expiry);
        self.current.store(Arc::new(certificate));
    }

    /// When the served leaf expires.
    pub fn expiry(&self) -> Timestamp {
        self.current.load().expiry
    }

    fn serves(&self, certificate: &Certificate) -> bool {
        self.current.load().key.cert == certificate.key.cert
    }
}

/// [`ResolvesServerCert`] asks for it.
impl fmt::Debug for Certificates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificates")
            .field("expiry", &self.expiry())
            .finish_non_exhaustive()
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.current.load().key.clone())
    }
}

/// Reads the files again when they change, for ever. What cannot be served is logged once, and the
/// former certificate stays.
pub async fn follow(files: PemFiles, certificates: Arc<Certificates>) {
    let changed = Arc::new(Notify::new());
    let _watcher = match watch(&files, &changed) {
        Ok(watcher) => Some(watcher),
        Err(error) => {
            warn!(
                source = &error as &dyn Error,
                "cannot watch the certificate's folder; its files are read every {POLL:?} instead"
            );
            None
        }
    };
    let mut complaint = None;
    loop {
        // First of all: the files may have changed before the watch began.
        complaint = reload(&files, &certificates, complaint).await;
        // The poll finds what the watch does not tell.
        if timeout(POLL, changed.notified()).await.is_ok() {
            sleep(SETTLE).await;
        }
    }
}

/// Reads the files and serves what is new in them. Returns what is wrong with them; the same twice
/// is logged once.
async fn reload(
    files: &PemFiles,
    certificates: &Certificates,
    complaint: Option<String>,
) -> Option<String> {
    let files = files.clone();
    // A load that panicked would say so itself; the former certificate stays all the same.
    let loaded = tokio::task::spawn_blocking(move || files.load())
        .await
        .ok()?;
    match loaded {
        Ok(certificate) if certificates.serves(&certificate) => None,
        Ok(certificate) => {
            info!(expiry = %certificate.expiry, "serving a new certificate");
            certificates.replace(certificate);
            None
        }
        Err(error) => {
            let now = Some(error.to_string());
            if now != complaint {
                warn!(
                    source = error.source(),
                    "keeping the former certificate: {error}"
                );
            }
            now
        }
    }
}

fn watch(files: &PemFiles, changed: &Arc<Notify>) -> notify::Result<RecommendedWatcher> {
    let changed = changed.clone();
    let mut watcher = notify::recommended_watcher(move |_| changed.notify_one())?;
    for folder in files.folders() {
        watcher.watch(folder, RecursiveMode::NonRecursive)?;
    }
    Ok(watcher)
}

#[cfg(test)]
mod tests;
