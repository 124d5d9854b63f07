//! CAs of clients, and certificates of clients.

use std::time::Duration;

use jiff::Timestamp;
use rcgen::{
    CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, Issuer, KeyPair,
};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use targetgate_core::rotation::Lifetimes;

use crate::pki::make;
use crate::pki::make::Made;

/// The time at which these certificates are valid, independent of the machine's clock.
pub(crate) const NOW: Timestamp = Timestamp::constant(4_000_000_000, 0);

const MINUTE: Duration = Duration::from_secs(60);

/// The certificate and key of a client.
pub(crate) type Shown = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

/// A new CA.
pub(crate) fn ca() -> Made {
    make::ca("clients", Lifetimes::default().of_ca(NOW)).unwrap()
}

/// A client of this CA.
pub(crate) fn client(ca: &Made, common_name: &str, dns_names: &[&str]) -> Shown {
    client_until(ca, common_name, dns_names, NOW + MINUTE)
}

/// A client whose certificate expired a minute ago.
pub(crate) fn expired(ca: &Made) -> Shown {
    client_until(ca, "kube-apiserver", &[], NOW - MINUTE)
}

/// A client whose certificate is for servers.
pub(crate) fn server(ca: &Made) -> Shown {
    let validity = Lifetimes::default().of_ca(NOW);
    let made = make::leaf(&ca.certificate, &ca.key, "kube-apiserver", &[], validity).unwrap();
    let certificate = CertificateDer::from_pem_slice(made.certificate.as_bytes()).unwrap();
    let key = PrivateKeyDer::from_pem_slice(made.key.as_bytes()).unwrap();
    (vec![certificate], key)
}

fn client_until(ca: &Made, common_name: &str, dns_names: &[&str], until: Timestamp) -> Shown {
    let names: Vec<String> = dns_names.iter().map(ToString::to_string).collect();
    let mut params = CertificateParams::new(names).unwrap();
    params.distinguished_name = DistinguishedName::new();
    params
        .distinguished_name
        .push(DnType::CommonName, common_name);
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    let since_1970 = |at: Timestamp| Duration::from_secs(at.as_second().unsigned_abs());
    params.not_before = rcgen::date_time_ymd(1970, 1, 1) + since_1970(NOW - 2 * MINUTE);
    params.not_after = rcgen::date_time_ymd(1970, 1, 1) + since_1970(until);
    let issuer = KeyPair::from_pem(&ca.key).unwrap();
    let issuer = Issuer::from_ca_cert_pem(&ca.certificate, issuer).unwrap();
    let key = KeyPair::generate().unwrap();
    let certificate = params.signed_by(&key, &issuer).unwrap();
    let key = PrivatePkcs8KeyDer::from(key.serialize_der());
    (vec![certificate.der().clone()], key.into())
}
