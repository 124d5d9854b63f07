//! The flags of the serving certificate and of client certificates.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use rustls_pki_types::DnsName;
use targetgate_core::client_names::ClientName;
use targetgate_core::rotation::{Lifetimes, LifetimesError, Share};
use thiserror::Error;

use crate::args::CERTIFICATE;

/// Settings of the serving certificate and of client certificates.
#[derive(Debug, Clone, Args)]
pub struct TlsSettings {
    /// Source of the serving certificate: `self` is a Secret that targetgate writes, `files` are --tls-cert and --tls-key [default: files if those are given, else self].
    #[arg(long, env = "TARGETGATE_TLS", value_name = "SOURCE", value_enum, help_heading = CERTIFICATE)]
    pub tls: Option<Source>,
    /// PEM file with the serving certificate, then its issuers; reloaded when it changes.
    #[arg(long, env = "TARGETGATE_TLS_CERT", value_name = "FILE", requires = "tls_key", help_heading = CERTIFICATE)]
    pub tls_cert: Option<PathBuf>,
    /// PEM file with the certificate's private key; reloaded when it changes.
    #[arg(long, env = "TARGETGATE_TLS_KEY", value_name = "FILE", requires = "tls_cert", help_heading = CERTIFICATE)]
    pub tls_key: Option<PathBuf>,
    /// Secret for the CA and the certificate, in the namespace of this pod.
    #[arg(long, env = "TARGETGATE_TLS_SECRET", value_name = "NAME", default_value = "targetgate-tls", help_heading = CERTIFICATE)]
    pub tls_secret: String,
    /// Deployment set as owner of the Secret, so that uninstalling deletes both.
    #[arg(long, env = "TARGETGATE_TLS_OWNER", value_name = "NAME", default_value = "targetgate", help_heading = CERTIFICATE)]
    pub tls_owner: String,
    /// Service of the webhooks, whose DNS names the certificate is for.
    #[arg(long, env = "TARGETGATE_TLS_SERVICE", value_name = "NAME", default_value = "targetgate", help_heading = CERTIFICATE)]
    pub tls_service: String,
    /// Additional DNS names and IP addresses of the certificate, separated by commas.
    #[arg(long, env = "TARGETGATE_TLS_NAMES", value_name = "NAMES", value_delimiter = ',', value_parser = subject, help_heading = CERTIFICATE)]
    pub tls_names: Vec<String>,
    /// MutatingWebhookConfigurations whose caBundle is written, or with `files` compared, separated by commas.
    #[arg(long, env = "TARGETGATE_TLS_MUTATING", value_name = "NAMES", value_delimiter = ',', default_value = "targetgate", help_heading = CERTIFICATE)]
    pub tls_mutating: Vec<String>,
    /// ValidatingWebhookConfigurations whose caBundle is written, or with `files` compared, separated by commas.
    #[arg(long, env = "TARGETGATE_TLS_VALIDATING", value_name = "NAMES", value_delimiter = ',', default_value = "targetgate", help_heading = CERTIFICATE)]
    pub tls_validating: Vec<String>,
    /// Validity of a serving certificate.
    #[arg(long, env = "TARGETGATE_TLS_LIFETIME", value_name = "DURATION", default_value = "30d", value_parser = humantime::parse_duration, help_heading = CERTIFICATE)]
    pub tls_lifetime: Duration,
    /// Validity of a CA.
    #[arg(long, env = "TARGETGATE_TLS_CA_LIFETIME", value_name = "DURATION", default_value = "365d", value_parser = humantime::parse_duration, help_heading = CERTIFICATE)]
    pub tls_ca_lifetime: Duration,
    /// Fraction of the validity after which a certificate or CA is renewed.
    #[arg(long, env = "TARGETGATE_TLS_RENEW_AFTER", value_name = "FRACTION", default_value = "2/3", help_heading = CERTIFICATE)]
    pub tls_renew_after: Share,
    /// Tolerated difference between clocks: certificates are backdated by it.
    #[arg(long, env = "TARGETGATE_TLS_CLOCK_SKEW", value_name = "DURATION", default_value = "5m", value_parser = humantime::parse_duration, help_heading = CERTIFICATE)]
    pub tls_clock_skew: Duration,
    /// How long API servers have to see a new CA, before its certificate is served.
    #[arg(long, env = "TARGETGATE_TLS_CA_WAIT", value_name = "DURATION", default_value = "30s", value_parser = humantime::parse_duration, help_heading = CERTIFICATE)]
    pub tls_ca_wait: Duration,
    /// PEM file with the CAs of clients: the HTTPS port accepts only clients with a certificate of these; reloaded when it changes [default: any client].
    #[arg(long, env = "TARGETGATE_CLIENT_CA", value_name = "FILE", help_heading = CERTIFICATE)]
    pub client_ca: Option<PathBuf>,
    /// Names of the accepted clients, separated by commas: a DNS name of the certificate, or its common name if it has no DNS name [default: any name].
    #[arg(long, env = "TARGETGATE_CLIENT_NAMES", value_name = "NAMES", value_delimiter = ',', requires = "client_ca", help_heading = CERTIFICATE)]
    pub client_names: Vec<ClientName>,
}

/// Source of the serving certificate, as the flag names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Source {
    /// A Secret that targetgate writes.
    #[value(name = "self")]
    Own,
    /// The files of --tls-cert and --tls-key.
    Files,
}

/// Why the settings contradict each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum TlsSettingsError {
    #[error("--tls files needs --tls-cert and --tls-key")]
    NoFiles,
    #[error("--tls self needs no --tls-cert and no --tls-key: leave them out, or give --tls files")]
    Files,
    #[error(
        "--tls-lifetime, --tls-ca-lifetime, --tls-renew-after and --tls-ca-wait do not go together"
    )]
    Lifetimes(#[source] LifetimesError),
}

/// Source of the serving certificate, with what it needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tls {
    /// A Secret that targetgate writes.
    Own(Lifetimes),
    /// The files of `--tls-cert` and `--tls-key`.
    Files { certificate: PathBuf, key: PathBuf },
}

impl TlsSettings {
    /// The source that these settings ask for.
    ///
    /// # Errors
    /// The settings contradict each other.
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

/// Parses a DNS name or IP address that a certificate can be for.
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
