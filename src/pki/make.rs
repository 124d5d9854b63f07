//! Makes CAs and serving certificates, all of them ECDSA P-256: a handshake with an RSA certificate costs
//! three times as much.

use std::time::Duration;

use jiff::Timestamp;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PublicKeyData,
};
use sha2::{Digest as _, Sha256};
use targetgate_core::rotation::Validity;

/// A certificate and its private key, both as PEM.
pub struct Made {
    pub certificate: String,
    pub key: String,
}

/// Makes a CA. Its name ends with the beginning of its key's hash, which distinguishes two CAs in one bundle.
pub fn ca(name: &str, validity: Validity) -> Result<Made, rcgen::Error> {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let hash = Sha256::digest(key.subject_public_key_info());
    let suffix: String = hash[..4].iter().map(|byte| format!("{byte:02x}")).collect();
    let mut params = params(vec![], format!("{name} {suffix}"), validity)?;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    Ok(Made {
        certificate: params.self_signed(&key)?.pem(),
        key: key.serialize_pem(),
    })
}

/// Makes a serving certificate for these DNS names and IP addresses, signed by this CA directly, so that the chain does
/// not need an intermediate.
pub fn leaf(
    ca: &str,
    ca_key: &str,
    name: &str,
    sans: &[String],
    validity: Validity,
) -> Result<Made, rcgen::Error> {
    let issuer = Issuer::from_ca_cert_pem(ca, KeyPair::from_pem(ca_key)?)?;
    let mut params = params(sans.to_vec(), name.to_owned(), validity)?;
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.use_authority_key_identifier_extension = true;
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    Ok(Made {
        certificate: params.signed_by(&key, &issuer)?.pem(),
        key: key.serialize_pem(),
    })
}

/// The DNS names of a Service that API servers and users call.
pub fn service_names(service: &str, namespace: &str) -> Vec<String> {
    ["", ".svc", ".svc.cluster.local"]
        .map(|suffix| format!("{service}.{namespace}{suffix}"))
        .into()
}

fn params(
    sans: Vec<String>,
    name: String,
    validity: Validity,
) -> Result<CertificateParams, rcgen::Error> {
    let mut params = CertificateParams::new(sans)?;
    params.not_before = rcgen::date_time_ymd(1970, 1, 1) + since_1970(validity.not_before);
    params.not_after = rcgen::date_time_ymd(1970, 1, 1) + since_1970(validity.not_after);
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    Ok(params)
}

fn since_1970(at: Timestamp) -> Duration {
    Duration::from_secs(u64::try_from(at.as_second()).unwrap_or(0))
}
