//! The only reader of PEM and X.509, also of files that another program has written.

use std::sync::Arc;

use jiff::Timestamp;
use rcgen::{KeyPair, PublicKeyData as _};
use rustls::RootCertStore;
use rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::aws_lc_rs;
use rustls::server::ParsedCertificate;
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::{self, PemObject as _};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use sha2::{Digest as _, Sha256};
use targetgate_core::client_names::Called;
use targetgate_core::rotation::{Bundle, Ca, Fingerprint, Leaf, PrivateKey, Validity};
use thiserror::Error;
use x509_parser::certificate::X509Certificate;
use x509_parser::error::X509Error;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer as _;

/// Why a certificate or a key cannot be used.
#[derive(Debug, Error)]
pub enum ReadError {
    /// The text is empty, or does not hold a PEM block of the expected kind.
    #[error("it holds no PEM block of its kind")]
    Empty,
    #[error("it is not PEM")]
    Pem(#[source] pem::Error),
    #[error("it is no X.509 certificate")]
    Parse(#[source] x509_parser::nom::Err<X509Error>),
    /// The key is broken, or belongs to another certificate.
    #[error("its private key is broken or another certificate's")]
    Key(#[source] rustls::Error),
    /// The CA's key is broken, or belongs to another CA.
    #[error("its private key is broken or another CA's")]
    CaKey,
    /// API servers do not accept certificates that it signs.
    #[error("it is no CA, or one that may not sign any serving certificate")]
    NoCa,
}

/// A chain with its matching private key.
#[derive(Debug, Clone)]
pub struct Chain {
    /// Chain and key in the form of rustls.
    pub key: Arc<CertifiedKey>,
    /// The leaf's validity.
    pub validity: Validity,
}

/// Reads a serving certificate, its issuers, and its key.
pub fn chain(chain: &str, key: &str) -> Result<Chain, ReadError> {
    let chain = certificates(chain.as_bytes())?;
    let validity = validity(&parse(&chain[0])?);
    let key = private_key(key.as_bytes())?;
    let key = CertifiedKey::from_der(chain, key, &aws_lc_rs::default_provider());
    Ok(Chain {
        key: Arc::new(key.map_err(ReadError::Key)?),
        validity,
    })
}

/// Reads the serving certificate into the input of the rotation rules. The certificate must be for all of `names`;
/// `signer` is the CA that should have signed it.
pub fn leaf(
    chain_text: &str,
    key: &str,
    signer: Option<&Ca>,
    names: &[String],
) -> Result<Leaf, ReadError> {
    let chain = chain(chain_text, key)?;
    let end = &chain.key.cert[0];
    let fits = ParsedCertificate::try_from(end).is_ok_and(|parsed| {
        let mut names = names.iter().map(|name| ServerName::try_from(name.as_str()));
        names.all(|name| name.is_ok_and(|name| verify_server_name(&parsed, &name).is_ok()))
    });
    let within = chain.validity.not_after;
    Ok(Leaf {
        id: fingerprint(end),
        validity: chain.validity,
        fits,
        signed: verifies(&chain.key.cert, signer, within),
        chain: chain_text.into(),
        key: PrivateKey(key.into()),
    })
}

/// Reads a CA's certificate: the first one of the text, whatever else that holds. A bundle that is made of what is read
/// then holds what it should.
pub fn ca(text: &str) -> Result<Ca, ReadError> {
    let certificate = &certificates(text.as_bytes())?[0];
    trusted(certificate, &pem_of(certificate))
}

/// Checks that this key belongs to this CA, and that API servers accept certificates that it signs.
pub fn ca_key(ca: &str, key: &str) -> Result<PrivateKey, ReadError> {
    let certificates = certificates(ca.as_bytes())?;
    let certificate = parse(&certificates[0])?;
    let key_usage = certificate.key_usage().ok().flatten();
    let signs = key_usage.is_some_and(|usage| usage.value.key_cert_sign());
    let unbounded = matches!(certificate.name_constraints(), Ok(None));
    if !(certificate.is_ca() && signs && unbounded) {
        return Err(ReadError::NoCa);
    }
    let pair = KeyPair::from_pem(key).map_err(|_| ReadError::CaKey)?;
    let fits = pair.subject_public_key_info() == certificate.public_key().raw;
    let key = PrivateKey(key.into());
    fits.then_some(key).ok_or(ReadError::CaKey)
}

/// Reads a `caBundle`. Unreadable certificates make it unsound; the others count.
pub fn bundle(text: &[u8]) -> Bundle {
    let mut sound = true;
    let mut cas = vec![];
    for certificate in CertificateDer::pem_slice_iter(text) {
        let ca = certificate.ok().and_then(|certificate| {
            let pem = pem_of(&certificate);
            trusted(&certificate, &pem).ok()
        });
        match ca {
            Some(ca) => cas.push(ca),
            None => sound = false,
        }
    }
    sound &= !cas.is_empty() || text.is_empty();
    Bundle { cas, sound }
}

/// Whether an API server that trusts these CAs accepts the chain at this time, which begins with the leaf.
pub fn verifies<'a>(
    chain: &[CertificateDer<'_>],
    cas: impl IntoIterator<Item = &'a Ca>,
    at: Timestamp,
) -> bool {
    let mut roots = RootCertStore::empty();
    for ca in cas {
        let certificates = certificates(ca.pem.as_bytes()).unwrap_or_default();
        // A certificate that cannot be a trust anchor does not verify a chain.
        certificates
            .into_iter()
            .for_each(|root| drop(roots.add(root)));
    }
    let Some((end, issuers)) = chain.split_first() else {
        return false;
    };
    let seconds = u64::try_from(at.as_second()).unwrap_or(0);
    let at = UnixTime::since_unix_epoch(std::time::Duration::from_secs(seconds));
    let algorithms = aws_lc_rs::default_provider().signature_verification_algorithms;
    ParsedCertificate::try_from(end).is_ok_and(|end| {
        verify_server_cert_signed_by_trust_anchor(&end, &roots, issuers, at, algorithms.all).is_ok()
    })
}

/// Reads the certificates of a PEM file, at least one.
///
/// # Errors
/// The file does not hold one, or is not PEM.
pub fn certificates(text: &[u8]) -> Result<Vec<CertificateDer<'static>>, ReadError> {
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(text).collect();
    match certificates.map_err(not_pem)? {
        none if none.is_empty() => Err(ReadError::Empty),
        some => Ok(some),
    }
}

/// Reads the first private key of a PEM file.
///
/// # Errors
/// The file does not hold one, or is not PEM.
pub fn private_key(text: &[u8]) -> Result<PrivateKeyDer<'static>, ReadError> {
    PrivateKeyDer::from_pem_slice(text).map_err(not_pem)
}

/// When a certificate expires.
///
/// # Errors
/// It is not an X.509 certificate.
pub fn expiry(certificate: &CertificateDer<'_>) -> Result<Timestamp, ReadError> {
    Ok(valid(certificate)?.not_after)
}

/// When a certificate is valid.
///
/// # Errors
/// It is not an X.509 certificate.
pub fn valid(certificate: &CertificateDer<'_>) -> Result<Validity, ReadError> {
    Ok(validity(&parse(certificate)?))
}

/// Whether it is a CA's certificate.
pub fn is_ca(certificate: &CertificateDer<'_>) -> bool {
    parse(certificate).is_ok_and(|parsed| parsed.is_ca())
}

/// Calls `read` with the names of a certificate. Names that cannot be read are left out.
///
/// # Errors
/// It is not an X.509 certificate.
pub fn called<T>(
    certificate: &CertificateDer<'_>,
    read: impl FnOnce(&Called<'_>) -> T,
) -> Result<T, ReadError> {
    let parsed = parse(certificate)?;
    let Ok(alternatives) = parsed.subject_alternative_name() else {
        return Ok(read(&Called::default()));
    };
    let alternatives = alternatives
        .iter()
        .flat_map(|extension| &extension.value.general_names);
    let dns_names = alternatives.filter_map(|name| match name {
        GeneralName::DNSName(name) => Some(*name),
        _ => None,
    });
    let mut common_names = parsed.subject().iter_common_name();
    let common_name = match (common_names.next(), common_names.next()) {
        (Some(only), None) => only.as_str().ok(),
        _ => None,
    };
    Ok(read(&Called {
        dns_names: dns_names.collect(),
        common_name,
    }))
}

fn not_pem(error: pem::Error) -> ReadError {
    match error {
        pem::Error::NoItemsFound => ReadError::Empty,
        other => ReadError::Pem(other),
    }
}

fn trusted(certificate: &CertificateDer<'_>, pem: &str) -> Result<Ca, ReadError> {
    Ok(Ca {
        id: fingerprint(certificate),
        validity: validity(&parse(certificate)?),
        pem: pem.into(),
    })
}

fn parse<'a>(certificate: &'a CertificateDer<'_>) -> Result<X509Certificate<'a>, ReadError> {
    let parsed = X509Certificate::from_der(certificate);
    parsed.map(|(_, parsed)| parsed).map_err(ReadError::Parse)
}

fn validity(certificate: &X509Certificate<'_>) -> Validity {
    // X.509 and jiff both end with the year 9999.
    let at = |seconds| Timestamp::from_second(seconds).unwrap_or(Timestamp::MAX);
    let validity = certificate.validity();
    Validity {
        not_before: at(validity.not_before.timestamp()),
        not_after: at(validity.not_after.timestamp()),
    }
}

fn fingerprint(certificate: &CertificateDer<'_>) -> Fingerprint {
    Fingerprint(Sha256::digest(certificate).into())
}

/// RFC 7468: base64 in lines of 64 characters.
fn pem_of(certificate: &CertificateDer<'_>) -> String {
    use base64::Engine as _;
    let encoded = base64::engine::general_purpose::STANDARD.encode(certificate);
    let mut text = String::from("-----BEGIN CERTIFICATE-----\n");
    for line in encoded.as_bytes().chunks(64) {
        // Base64 is ASCII.
        text.push_str(&String::from_utf8_lossy(line));
        text.push('\n');
    }
    text + "-----END CERTIFICATE-----\n"
}
