//! The served certificate: loaded from PEM files, checked, and reloaded when they change.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arc_swap::ArcSwapOption;
use jiff::Timestamp;
use rustls::crypto::aws_lc_rs;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use thiserror::Error;
use tracing::info;

use crate::files;
use crate::files::{FileMetrics, LastError, WatchedFile};
use crate::metrics::Metrics;
use crate::pki::read::{self as pki, ReadError};
use crate::serve::metrics::CertificateMetrics;

/// Maximum length of a file, in bytes: the limit of Kubernetes on a Secret.
const MAX_FILE: u64 = 1 << 20;

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
    #[error("{}: cannot read {}; give {}", file.flag(), path.display(), file.wanted())]
    Read {
        file: PemFile,
        path: PathBuf,
        source: io::Error,
    },
    #[error("{}: {} is longer than {MAX_FILE} bytes", file.flag(), path.display())]
    TooLong { file: PemFile, path: PathBuf },
    /// A file does not hold a PEM block of its kind.
    #[error("{}: {} does not hold {}", file.flag(), path.display(), file.wanted())]
    Pem {
        file: PemFile,
        path: PathBuf,
        source: ReadError,
    },
    /// The first certificate is not an X.509 certificate.
    #[error("--tls-cert: the first certificate of {} cannot be parsed", path.display())]
    Parse { path: PathBuf, source: ReadError },
    /// The key is broken, or belongs to another certificate.
    #[error(
        "--tls-key: {} does not fit {}; give the private key of the first certificate there",
        key.display(), certificate.display()
    )]
    Key {
        key: PathBuf,
        certificate: PathBuf,
        source: rustls::Error,
    },
}

/// A chain with its matching private key.
#[derive(Debug, Clone)]
pub struct Certificate {
    key: Arc<CertifiedKey>,
    expiry: Timestamp,
}

impl Certificate {
    /// A chain and key that rustls has found to match, with the expiry of its leaf.
    pub fn new(key: Arc<CertifiedKey>, expiry: Timestamp) -> Self {
        Self { key, expiry }
    }
}

/// The paths of a certificate chain and its key.
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
        // A chain holds at least one certificate, and the leaf comes first.
        let expiry = pki::expiry(&chain[0]).map_err(|source| CertificateError::Parse {
            path: self.certificate.clone(),
            source,
        })?;
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
        pki::certificates(&text).map_err(|source| self.not_pem(PemFile::Certificate, source))
    }

    fn private_key(&self) -> Result<PrivateKeyDer<'static>, CertificateError> {
        let text = self.read(PemFile::Key)?;
        pki::private_key(&text).map_err(|source| self.not_pem(PemFile::Key, source))
    }

    fn read(&self, file: PemFile) -> Result<Vec<u8>, CertificateError> {
        let path = self.path(file);
        match files::read(path, MAX_FILE) {
            Ok(Some(text)) => Ok(text),
            Ok(None) => Err(CertificateError::TooLong {
                file,
                path: path.to_owned(),
            }),
            Err(source) => Err(CertificateError::Read {
                file,
                path: path.to_owned(),
                source,
            }),
        }
    }

    fn not_pem(&self, file: PemFile, source: ReadError) -> CertificateError {
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
}

/// The certificate of new connections, which can be replaced at any time. Without one, every handshake
/// fails.
pub struct Certificates {
    current: ArcSwapOption<Certificate>,
    trust: Trust,
    metrics: CertificateMetrics,
    files: FileMetrics,
}

/// Whether API servers trust the served leaf, as far as we know. With `--tls files` the operator is responsible for
/// that, and it is taken for granted until a `caBundle` that we read says otherwise.
#[derive(Debug)]
struct Trust {
    /// At the last read.
    now: AtomicBool,
    /// At any time since we began to serve this leaf.
    proven: AtomicBool,
}

impl Trust {
    fn new(trusted: bool) -> Self {
        Self {
            now: AtomicBool::new(trusted),
            proven: AtomicBool::new(trusted),
        }
    }
}

impl Certificates {
    /// Starts with this certificate.
    pub fn new(certificate: Certificate, metrics: &Metrics) -> Self {
        let served = metrics.of::<CertificateMetrics>();
        served.set_expiry(certificate.expiry);
        served.set_trusted(true);
        Self {
            current: ArcSwapOption::from_pointee(certificate),
            trust: Trust::new(true),
            metrics: served,
            files: metrics.of(),
        }
    }

    /// Starts without a certificate, and without trust until [`Self::trusted`] is called.
    pub fn none(metrics: &Metrics) -> Self {
        Self {
            current: ArcSwapOption::empty(),
            trust: Trust::new(false),
            metrics: metrics.of(),
            files: metrics.of(),
        }
    }

    /// Serves this certificate from now on; established connections keep theirs.
    pub fn replace(&self, certificate: Certificate) {
        self.metrics.set_expiry(certificate.expiry);
        self.current.store(Some(Arc::new(certificate)));
    }

    /// Sets whether every `caBundle` verifies the served leaf; `anew` if the served leaf has changed since the last
    /// call.
    pub fn trusted(&self, trusted: bool, anew: bool) {
        self.metrics.set_trusted(trusted);
        self.trust.now.store(trusted, Ordering::Relaxed);
        let proven = &self.trust.proven;
        if anew || trusted {
            proven.store(trusted, Ordering::Relaxed);
        }
    }

    /// Whether every `caBundle` has verified the served leaf at some time; and whether each does now.
    pub fn trust(&self) -> (bool, bool) {
        let load = |bool: &AtomicBool| bool.load(Ordering::Relaxed);
        (load(&self.trust.proven), load(&self.trust.now))
    }

    /// When the served leaf expires; `None` without a leaf.
    pub fn expiry(&self) -> Option<Timestamp> {
        self.current.load().as_ref().map(|current| current.expiry)
    }

    /// The served chain with its key; `None` without one.
    pub fn served(&self) -> Option<Arc<CertifiedKey>> {
        let current = self.current.load();
        current.as_ref().map(|current| current.key.clone())
    }

    fn serves(&self, certificate: &Certificate) -> bool {
        let current = self.current.load();
        current
            .as_ref()
            .is_some_and(|current| current.key.cert == certificate.key.cert)
    }
}

/// [`ResolvesServerCert`] requires it.
impl fmt::Debug for Certificates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificates")
            .field("expiry", &self.expiry())
            .finish_non_exhaustive()
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.served()
    }
}

/// Reloads the files when they change, for ever. An unusable file is logged once, and the
/// previous certificate stays in force.
pub async fn follow(files: PemFiles, certificates: Arc<Certificates>) {
    let paths = [files.certificate.as_path(), files.key.as_path()];
    files::follow(paths, |complaint| reload(&files, &certificates, complaint)).await;
}

/// Reads the files and serves a new certificate. Returns the error, if any; an equal error is logged
/// once.
async fn reload(files: &PemFiles, certificates: &Certificates, complaint: LastError) -> LastError {
    let files = files.clone();
    let take = |certificate: Certificate| {
        if !certificates.serves(&certificate) {
            info!(expiry = %certificate.expiry, "serving a new certificate");
            certificates.replace(certificate);
        }
    };
    let followed = WatchedFile {
        what: "certificate",
        flag: "tls-cert",
        metrics: &certificates.files,
    };
    followed.reload(move || files.load(), take, complaint).await
}

#[cfg(test)]
mod tests;
