//! Where the served certificate comes from, and who keeps it.

use std::sync::Arc;

use futures::future::BoxFuture;
use kube::Client;
use targetgate_core::rotation::Lifetimes;

use crate::args::{Settings, Tls, TlsSettings};
use crate::clock;
use crate::compose::{Shared, namespace};
use crate::controllers::certificates::make::Maker;
use crate::controllers::certificates::{Keeper, Kind, Place};
use crate::metrics::Metrics;
use crate::pki::make::service_names;
use crate::serve::certificates;
use crate::serve::certificates::{Certificates, PemFiles};
use crate::serve::clients::Clients;

/// The source, from the settings.
pub(super) enum Source {
    /// A Secret that is ours.
    Own(Lifetimes),
    /// Files that somebody else writes.
    Files(PemFiles),
}

impl Source {
    pub(super) fn new(settings: &TlsSettings) -> anyhow::Result<Self> {
        Ok(match settings.source()? {
            Tls::Own(lifetimes) => Self::Own(lifetimes),
            Tls::Files { certificate, key } => Self::Files(PemFiles { certificate, key }),
        })
    }

    /// What is served to begin with: files are read at once, so that a start without them fails.
    pub(super) fn certificates(&self, metrics: &Arc<Metrics>) -> anyhow::Result<Certificates> {
        let metrics = metrics.clone();
        Ok(match self {
            Self::Own(_) => Certificates::none(metrics),
            Self::Files(files) => Certificates::new(files.load()?, metrics),
        })
    }

    /// What keeps it up to date, by its name.
    pub(super) fn keeper(
        self,
        settings: &Settings,
        shared: &Shared,
    ) -> (&'static str, BoxFuture<'static, ()>) {
        let certificates = shared.certificates.clone();
        match self {
            Self::Files(files) => {
                let follow = certificates::follow(files, certificates);
                ("certificate reload", Box::pin(follow))
            }
            Self::Own(lifetimes) => {
                let keeper = Keeper {
                    place: place(settings, &shared.kube),
                    maker: maker(settings, &shared.kube, lifetimes),
                    kube: shared.kube.clone(),
                    certificates,
                    leadership: shared.leadership.clone(),
                    events: shared.events.clone(),
                    metrics: shared.metrics.clone(),
                    now: clock::system(),
                };
                ("certificate keeper", Box::pin(keeper.run()))
            }
        }
    }
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

fn place(settings: &Settings, kube: &Client) -> Place {
    let tls = &settings.tls;
    let of = |kind, names: &[String]| names.iter().map(move |n| (kind, n.clone())).collect();
    let mutating: Vec<_> = of(Kind::Mutating, &tls.tls_mutating);
    let validating: Vec<_> = of(Kind::Validating, &tls.tls_validating);
    Place {
        namespace: namespace(settings, kube).to_owned(),
        secret: tls.tls_secret.clone(),
        deployment: tls.tls_owner.clone(),
        configurations: [mutating, validating].concat(),
    }
}

fn maker(settings: &Settings, kube: &Client, lifetimes: Lifetimes) -> Maker {
    let tls = &settings.tls;
    let mut names = service_names(&tls.tls_service, namespace(settings, kube));
    names.extend_from_slice(&tls.tls_names);
    Maker {
        service: tls.tls_service.clone(),
        names,
        lifetimes,
    }
}
