//! Where the serving certificate comes from.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use rustls_pki_types::DnsName;
use targetgate_core::client_names::ClientName;
use targetgate_core::rotation::{Lifetimes, LifetimesError, Share};
use thiserror::Error;

use crate::args::CERTIFICATE;

/// The settings about certificates.
#[derive(Debug, Clone, Args)]
pub struct TlsSettings {
    /// Where the certificate comes from: `self` is a Secret that only this writes, `files` are --tls-cert and --tls-key [default: files where those are given, else self].
    #[arg(long, env = "TARGETGATE_TLS", value_name = "SOURCE", value_enum, help_heading = CERTIFICATE)]
    pub tls: Option<Source>,
    /// PEM file with the serving certificate, then its issuers; read again when it changes.
    #[arg(long, env = "TARGETGATE_TLS_CERT", value_name = "FILE", requires = "tls_key", help_heading = CERTIFICATE)]
    pub tls_cert: Option<PathBuf>,
    /// PEM file with the certificate's private key; read again when it changes.
    #[arg(long, env = "TARGETGATE_TLS_KEY", value_name = "FILE", requires = "tls_cert", help_heading = CERTIFICATE)]
    pub tls_key: Option<PathBuf>,
    /// Secret for the CA and the certificate, in our own namespace.
    #[arg(long, env = "TARGETGATE_TLS_SECRET", value_name = "NAME", default_value = "targetgate-tls", help_heading = CERTIFICATE)]
    pub tls_secret: String,
    /// Deployment that owns the Secret: the one ends with the other.
    #[arg(long, env = "TARGETGATE_TLS_OWNER", value_name = "NAME", default_value = "targetgate", help_heading = CERTIFICATE)]
    pub tls_owner: String,
    /// Service in front of this, whose names the certificate gets.
    #[arg(long, env = "TARGETGATE_TLS_SERVICE", value_name = "NAME", default_value = "targetgate", help_heading = CERTIFICATE)]
    pub tls_service: String,
    /// Further DNS names and IP addresses of the certificate, separated by commas.
    #[arg(long, env = "TARGETGATE_TLS_NAMES", value_name = "NAMES", value_delimiter = ',', value_parser = subject, help_heading = CERTIFICATE)]
    pub tls_names: Vec<String>,
    /// MutatingWebhookConfigurations, separated by commas, whose caBundle is kept.
    #[arg(long, env = "TARGETGATE_TLS_MUTATING", value_name = "NAMES", value_delimiter = ',', default_value = "targetgate", help_heading = CERTIFICATE)]
    pub tls_mutating: Vec<String>,
    /// ValidatingWebhookConfigurations, separated by commas, whose caBundle is kept.
    #[arg(long, env = "TARGETGATE_TLS_VALIDATING", value_name = "NAMES", value_delimiter = ',', default_value = "targetgate", help_heading = CERTIFICATE)]
    pub tls_validating: Vec<String>,
    /// How long a certificate is valid.
    #[arg(long, env = "TARGETGATE_TLS_LIFETIME", value_name = "DURATION", default_value = "30d", value_parser = humantime::parse_duration, help_heading = CERTIFICATE)]
    pub tls_lifetime: Duration,
    /// How long a CA is valid.
    #[arg(long, env = "TARGETGATE_TLS_CA_LIFETIME", value_name = "DURATION", default_value = "365d", value_parser = humantime::parse_duration, help_heading = CERTIFICATE)]
    pub tls_ca_lifetime: Duration,
    /// Share of their life after which both are renewed.
    #[arg(long, env = "TARGETGATE_TLS_RENEW_AFTER", value_name = "FRACTION", default_value = "2/3", help_heading = CERTIFICATE)]
    pub tls_renew_after: Share,
    /// How far clocks may be apart: by this much certificates are dated back.
    #[arg(long, env = "TARGETGATE_TLS_CLOCK_SKEW", value_name = "DURATION", default_value = "5m", value_parser = humantime::parse_duration, help_heading = CERTIFICATE)]
    pub tls_clock_skew: Duration,
    /// How long API servers are given to see a new CA before it serves.
    #[arg(long, env = "TARGETGATE_TLS_CA_WAIT", value_name = "DURATION", default_value = "30s", value_parser = humantime::parse_duration, help_heading = CERTIFICATE)]
    pub tls_ca_wait: Duration,
    /// PEM file with the CAs of clients: only whoever shows a certificate of theirs may ask for reviews; read again when it changes [default: anybody may].
    #[arg(long, env = "TARGETGATE_CLIENT_CA", value_name = "FILE", help_heading = CERTIFICATE)]
    pub client_ca: Option<PathBuf>,
    /// Names, separated by commas, of the clients that may: DNS names of the certificate, or else its common name [default: all of the CAs].
    #[arg(long, env = "TARGETGATE_CLIENT_NAMES", value_name = "NAMES", value_delimiter = ',', requires = "client_ca", help_heading = CERTIFICATE)]
    pub client_names: Vec<ClientName>,
}

/// Where the serving certificate comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Source {
    /// A Secret that only we write.
    #[value(name = "self")]
    Own,
    /// Two files.
    Files,
}

/// Why the settings do not go together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum TlsSettingsError {
    /// There are no files.
    #[error("--tls files needs --tls-cert and --tls-key")]
    NoFiles,
    /// There are files for nothing.
    #[error("--tls self needs no --tls-cert and no --tls-key: leave them out, or give --tls files")]
    Files,
    /// The lifetimes cannot work.
    #[error(
        "--tls-lifetime, --tls-ca-lifetime, --tls-renew-after and --tls-ca-wait do not go together"
    )]
    Lifetimes(#[source] LifetimesError),
}

/// The certificate's source, with what it needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tls {
    /// A Secret that only we write.
    Own(Lifetimes),
    /// Two files.
    Files {
        /// The chain.
        certificate: PathBuf,
        /// The key.
        key: PathBuf,
    },
}

impl TlsSettings {
    /// Where the certificate comes from.
    ///
    /// # Errors
    /// When the settings contradict each other.
    pub fn source(&self) -> Result<Tls, TlsSettingsError> {
        match (self.tls, &self.tls_cert, &self.tls_key) {
            (None | Some(Source::Files), Some(certificate), Some(key)) => Ok(Tls::Files {
                certificate: certificate.clone(),
                key: key.clone(),
            }),
            (Some(Source::Files), ..) => Err(TlsSettingsError::NoFiles),
            (Some(Source::Own), Some(_), _) => Err(TlsSettingsError::Files),
            _ => self.lifetimes().map(Tls::Own),
        }
    }

    fn lifetimes(&self) -> Result<Lifetimes, TlsSettingsError> {
        let lifetimes = Lifetimes {
            leaf: self.tls_lifetime,
            ca: self.tls_ca_lifetime,
            renew_after: self.tls_renew_after,
            skew: self.tls_clock_skew,
            seen_after: self.tls_ca_wait,
        };
        lifetimes.check().map_err(TlsSettingsError::Lifetimes)?;
        Ok(lifetimes)
    }
}

/// What a certificate can be for.
fn subject(text: &str) -> Result<String, String> {
    let valid = text.parse::<IpAddr>().is_ok() || DnsName::try_from(text).is_ok();
    match valid {
        true => Ok(text.to_owned()),
        false => Err("neither a DNS name nor an IP address".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;
    use rstest::rstest;

    use super::*;

    #[derive(clap::Parser)]
    struct Command {
        #[command(flatten)]
        tls: TlsSettings,
    }

    fn source(words: &[&str]) -> Result<Tls, String> {
        let words = ["serve"].iter().chain(words);
        let command = Command::try_parse_from(words).map_err(|error| error.to_string())?;
        command.tls.source().map_err(|error| error.to_string())
    }

    #[test]
    fn the_certificate_is_our_own_unless_files_are_given() {
        assert_eq!(source(&[]), Ok(Tls::Own(Lifetimes::default())));
        let files = ["--tls-cert", "crt", "--tls-key", "key"];
        let given = Tls::Files {
            certificate: "crt".into(),
            key: "key".into(),
        };
        assert_eq!(source(&files), Ok(given.clone()));
        let said = [&["--tls", "files"], &files[..]].concat();
        assert_eq!(source(&said), Ok(given));
    }

    #[rstest]
    #[case(&["--tls", "files"], "--tls-cert and --tls-key")]
    #[case(&["--tls", "self", "--tls-cert", "a", "--tls-key", "b"], "--tls self")]
    #[case(&["--tls-cert", "a"], "--tls-key")]
    #[case(&["--tls-key", "a"], "--tls-cert")]
    #[case(&["--tls-lifetime", "400d"], "--tls-lifetime")]
    #[case(&["--tls-ca-wait", "11d"], "--tls-ca-wait")]
    #[case(&["--tls-renew-after", "1.5"], "--tls-renew-after")]
    #[case(&["--tls-names", "a.b,under score"], "--tls-names")]
    #[case(&["--tls-clock-skew", "soon"], "--tls-clock-skew")]
    #[case(&["--client-names", "a"], "--client-ca")]
    #[case(&["--client-ca", "a", "--client-names", "a,,b"], "--client-names")]
    fn what_does_not_go_together_is_refused(#[case] words: &[&str], #[case] named: &str) {
        let error = source(words).unwrap_err();
        assert!(error.contains(named), "{error}");
    }
}
