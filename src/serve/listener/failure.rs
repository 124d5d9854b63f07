//! The causes of failed TLS handshakes.

use std::io;
use std::time::Duration;

use rustls::{AlertDescription as Alert, CertificateError};
use thiserror::Error;

use crate::serve::clients::NotNamed;

/// Why a TLS handshake failed.
#[derive(Debug, Error)]
pub(super) enum TlsFailure {
    #[error("it speaks plain HTTP on the HTTPS port")]
    PlainHttp,
    #[error("its handshake was not done within {0:?}")]
    Timeout(Duration),
    #[error("it closed the connection during the handshake")]
    Closed,
    #[error("it refuses our certificate; does the webhook's caBundle hold the CA that signed it?")]
    CertificateRefused(#[source] io::Error),
    #[error(
        "it shares no TLS version, cipher, key exchange or protocol with us, which is http/1.1"
    )]
    Incompatible(#[source] io::Error),
    #[error(
        "it shows no client certificate; kube-apiserver shows one where the file of its \
         --admission-control-config-file names one for our Service"
    )]
    NoClientCertificate,
    #[error("its client certificate does not verify by --client-ca")]
    ClientRefused(#[source] io::Error),
    #[error("its client certificate verifies by --client-ca, but {0}, not one of --client-names")]
    ClientNotNamed(String),
    #[error("the handshake failed")]
    Other(#[source] io::Error),
}

impl TlsFailure {
    pub(super) fn of(error: io::Error) -> Self {
        let tls = error.get_ref().and_then(|e| e.downcast_ref());
        match tls {
            Some(rustls::Error::AlertReceived(
                Alert::UnknownCA
                | Alert::BadCertificate
                | Alert::CertificateExpired
                | Alert::CertificateUnknown
                | Alert::CertificateRevoked
                | Alert::UnsupportedCertificate
                // The client's CA has our CA's name and another key.
                | Alert::DecryptError,
            )) => Self::CertificateRefused(error),
            Some(rustls::Error::PeerIncompatible(_) | rustls::Error::NoApplicationProtocol) => {
                Self::Incompatible(error)
            }
            Some(rustls::Error::NoCertificatesPresented) => Self::NoClientCertificate,
            Some(rustls::Error::InvalidCertificate(why)) => match not_named(why) {
                Some(why) => Self::ClientNotNamed(why),
                None => Self::ClientRefused(error),
            },
            None if is_close(error.kind()) => Self::Closed,
            _ => Self::Other(error),
        }
    }

    /// The metric's label.
    pub(super) fn cause(&self) -> &'static str {
        match self {
            Self::PlainHttp => "PlainHttp",
            Self::Timeout(_) => "Timeout",
            Self::Closed => "Closed",
            Self::CertificateRefused(_) => "CertificateRefused",
            Self::Incompatible(_) => "Incompatible",
            Self::NoClientCertificate => "NoClientCertificate",
            Self::ClientRefused(_) => "ClientRefused",
            Self::ClientNotNamed(_) => "ClientNotNamed",
            Self::Other(_) => "Other",
        }
    }

    /// Whether the client may have sent a request before it receives our refusal: in TLS 1.3 its handshake
    /// is complete by then.
    pub(super) fn may_have_sent_more(&self) -> bool {
        use TlsFailure::{ClientNotNamed, ClientRefused, NoClientCertificate};
        matches!(
            self,
            NoClientCertificate | ClientRefused(_) | ClientNotNamed(_)
        )
    }
}

fn not_named(why: &CertificateError) -> Option<String> {
    match why {
        CertificateError::Other(other) => {
            other.0.downcast_ref::<NotNamed>().map(ToString::to_string)
        }
        _ => None,
    }
}

/// Whether the peer has closed the connection.
pub(super) fn is_close(kind: io::ErrorKind) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
    matches!(
        kind,
        BrokenPipe | ConnectionAborted | ConnectionReset | UnexpectedEof
    )
}
