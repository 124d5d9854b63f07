//! The source of the served certificate and the accepted clients, according to the settings.

use std::sync::Arc;

use targetgate_core::rotation::Lifetimes;

use crate::args::{Tls, TlsSettings};
use crate::clock;
use crate::compose::Source;
use crate::controllers::certificates::make::Maker;
use crate::controllers::certificates::{Kind, ManagedObjects};
use crate::metrics::Metrics;
use crate::pki::make::service_names;
use crate::serve::certificates::{Certificate, PemFiles};
use crate::serve::clients::Clients;

/// What the settings say of the served certificate, before the API server is known.
pub(super) enum Served {
    Own(Lifetimes),
    Files(PemFiles, Certificate),
}

impl Served {
    /// Files are read at once, so that a start without them fails.
    pub(super) fn read(settings: &TlsSettings) -> anyhow::Result<Self> {
        Ok(match settings.source()? {
            Tls::Own(lifetimes) => Self::Own(lifetimes),
            Tls::Files { certificate, key } => {
                let files = PemFiles { certificate, key };
                let certificate = files.load()?;
                Self::Files(files, certificate)
            }
        })
    }

    /// Its source in this namespace.
    pub(super) fn source(self, settings: &TlsSettings, namespace: &str) -> Source {
        match self {
            Self::Own(lifetimes) => Source::Own(
                place(settings, namespace),
                maker(settings, namespace, lifetimes),
                clock::system(),
            ),
            Self::Files(files, certificate) => {
                Source::Files(files, certificate, configurations(settings))
            }
        }
    }
}

/// The accepted clients; `None` accepts any. The file is read at once, so that a start without it fails.
pub(super) fn clients(
    settings: &TlsSettings,
    metrics: &Metrics,
) -> anyhow::Result<Option<Arc<Clients>>> {
    let Some(file) = settings.client_ca.clone() else {
        return Ok(None);
    };
    let clients = Clients::read(file, settings.client_names.clone(), metrics)?;
    Ok(Some(Arc::new(clients)))
}

/// The webhook configurations whose bundles are ours, or should verify what we serve.
fn configurations(tls: &TlsSettings) -> Vec<(Kind, String)> {
    let of = |kind, names: &[String]| names.iter().map(move |n| (kind, n.clone())).collect();
    let mutating: Vec<_> = of(Kind::Mutating, &tls.tls_mutating);
    let validating: Vec<_> = of(Kind::Validating, &tls.tls_validating);
    [mutating, validating].concat()
}

fn place(tls: &TlsSettings, namespace: &str) -> ManagedObjects {
    ManagedObjects {
        namespace: namespace.to_owned(),
        secret: tls.tls_secret.clone(),
        deployment: tls.tls_owner.clone(),
        configurations: configurations(tls),
    }
}

fn maker(tls: &TlsSettings, namespace: &str, lifetimes: Lifetimes) -> Maker {
    let mut names = service_names(&tls.tls_service, namespace);
    names.extend_from_slice(&tls.tls_names);
    Maker {
        service: tls.tls_service.clone(),
        names,
        lifetimes,
    }
}
