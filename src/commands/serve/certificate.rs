//! Where the served certificate comes from, and who may connect, by the settings.

use std::sync::Arc;

use targetgate_core::rotation::Lifetimes;

use crate::args::{Settings, Tls, TlsSettings};
use crate::clock;
use crate::compose::Source;
use crate::controllers::certificates::make::Maker;
use crate::controllers::certificates::{Kind, ManagedObjects};
use crate::metrics::Metrics;
use crate::pki::make::service_names;
use crate::serve::certificates::PemFiles;
use crate::serve::clients::Clients;

/// The source of the served certificate.
pub(super) fn source(settings: &Settings, namespace: &str) -> anyhow::Result<Source> {
    Ok(match settings.tls.source()? {
        Tls::Own(lifetimes) => Source::Own(
            place(&settings.tls, namespace),
            maker(&settings.tls, namespace, lifetimes),
            clock::system(),
        ),
        Tls::Files { certificate, key } => Source::Files(PemFiles { certificate, key }),
    })
}

/// Who may connect; `None` is anybody. The file is read at once, so that a start without it fails.
pub(super) fn clients(
    settings: &TlsSettings,
    metrics: &Arc<Metrics>,
) -> anyhow::Result<Option<Arc<Clients>>> {
    let Some(file) = settings.client_ca.clone() else {
        return Ok(None);
    };
    let clients = Clients::read(file, settings.client_names.clone(), metrics.clone())?;
    Ok(Some(Arc::new(clients)))
}

fn place(tls: &TlsSettings, namespace: &str) -> ManagedObjects {
    let of = |kind, names: &[String]| names.iter().map(move |n| (kind, n.clone())).collect();
    let mutating: Vec<_> = of(Kind::Mutating, &tls.tls_mutating);
    let validating: Vec<_> = of(Kind::Validating, &tls.tls_validating);
    ManagedObjects {
        namespace: namespace.to_owned(),
        secret: tls.tls_secret.clone(),
        deployment: tls.tls_owner.clone(),
        configurations: [mutating, validating].concat(),
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
