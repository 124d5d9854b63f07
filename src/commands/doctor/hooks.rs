//! The webhook configurations of an installation, the certificate that they should trust, and the Services behind them.

use std::collections::{BTreeMap, BTreeSet};

use futures::future::join_all;
use jiff::Timestamp;
use k8s_openapi::api::admissionregistration::v1::{MutatingWebhook, RuleWithOperations};
use k8s_openapi::api::core::v1::{Secret, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::Client;
use kube::api::{Api, DynamicObject};
use kube::core::{Selector, SelectorExt as _};
use rustls_pki_types::CertificateDer;
use targetgate_core::doctor::{Bundle, Hook, HookKind, HookService, Known, Validity};
use targetgate_core::names::ObjectKey;
use targetgate_core::rotation;

use crate::args::Settings;
use crate::commands::doctor::installed::Installed;
use crate::commands::doctor::read;
use crate::kubernetes::admission_resource;
use crate::pki;

pub(super) const KINDS: [&str; 2] = [
    "MutatingWebhookConfiguration",
    "ValidatingWebhookConfiguration",
];

/// What the configurations of an installation register.
pub(super) struct Registered {
    hooks: Vec<Hook>,
    /// The Services that they name.
    services: BTreeSet<ObjectKey>,
    /// Which namespaces each hook for pods selects.
    selectors: Vec<Selector>,
}

impl Registered {
    pub(super) fn facts(self) -> Vec<Hook> {
        self.hooks
    }

    /// Whether a hook for pods selects a namespace with these labels.
    pub(super) fn selects(&self, labels: &BTreeMap<String, String>) -> Known<bool> {
        let mut selectors = self.selectors.iter();
        match self.selectors.is_empty() {
            true => Err("No hook for pods is registered.".to_owned()),
            false => Ok(selectors.any(|selector| selector.matches(labels))),
        }
    }
}

/// The names of the installation's configurations of a kind.
pub(super) fn own_names<'a>(kind: &str, settings: &'a Settings) -> &'a [String] {
    match kind {
        "MutatingWebhookConfiguration" => &settings.tls.tls_mutating,
        _ => &settings.tls.tls_validating,
    }
}

/// The webhooks of a configuration. A validating one has no field that a mutating one lacks.
pub(super) fn webhooks(found: &DynamicObject, place: &str) -> Known<Vec<MutatingWebhook>> {
    let webhooks = found.data.get("webhooks").cloned().unwrap_or_default();
    let webhooks: Option<Vec<MutatingWebhook>> =
        serde_json::from_value(webhooks).map_err(|error| format!("{place}: {error}"))?;
    Ok(webhooks.unwrap_or_default())
}

/// Reads the configurations of the installation.
pub(super) async fn read(
    client: &Client,
    settings: &Settings,
    certificate: &Known<Certificate>,
) -> Known<Registered> {
    let mut registered = Registered {
        hooks: vec![],
        services: BTreeSet::new(),
        selectors: vec![],
    };
    for kind in KINDS {
        let api: Api<DynamicObject> = Api::all_with(client.clone(), &admission_resource(kind));
        for name in own_names(kind, settings) {
            let Some(found) = read::get(&api, kind, name).await? else {
                continue;
            };
            let place = format!("{}/{name}", kind.to_lowercase());
            for webhook in webhooks(&found, &place)? {
                registered.take(&place, webhook, certificate)?;
            }
        }
    }
    Ok(registered)
}

impl Registered {
    fn take(
        &mut self,
        place: &str,
        webhook: MutatingWebhook,
        certificate: &Known<Certificate>,
    ) -> Known<()> {
        let Some(kind) = HookKind::of(&webhook.name) else {
            return Ok(());
        };
        let client = webhook.client_config;
        self.hooks.push(Hook {
            configuration: place.to_owned(),
            kind,
            fails: webhook.failure_policy.as_deref() != Some("Ignore"),
            // The default of the API server, which fills it in.
            seconds: webhook.timeout_seconds.unwrap_or(10),
            updates: asks_about_updates(&webhook.rules.unwrap_or_default()),
            bundle: bundle(&client.ca_bundle.unwrap_or_default().0, certificate),
            name: webhook.name,
        });
        let service = client.service;
        let service = service.map(|service| ObjectKey::new(service.namespace, service.name));
        self.services.extend(service);
        if kind == HookKind::Pods {
            let selector = webhook.namespace_selector.unwrap_or_default();
            let selector = Selector::try_from(selector);
            let selector = selector.map_err(|error| format!("{place}: {error}"))?;
            self.selectors.push(selector);
        }
        Ok(())
    }
}

fn asks_about_updates(rules: &[RuleWithOperations]) -> bool {
    let operations = rules.iter().flat_map(|rule| &rule.operations);
    let mut operations = operations.flatten();
    operations.any(|operation| matches!(operation.as_str(), "UPDATE" | "*"))
}

fn bundle(text: &[u8], certificate: &Known<Certificate>) -> Bundle {
    if text.is_empty() {
        return Bundle::Empty;
    }
    let read = pki::read::bundle(text);
    let last = read.cas.iter().map(|ca| ca.validity);
    let last = last.max_by_key(|validity| validity.not_after);
    match last.filter(|_| read.sound) {
        None => Bundle::Unsound,
        Some(last) => Bundle::Cas {
            validity: validity(last),
            verifies: certificate
                .as_ref()
                .map(|served| pki::read::verifies(&served.chain, &read.cas, Timestamp::now()))
                .map_err(Clone::clone),
        },
    }
}

fn validity(of: rotation::Validity) -> Validity {
    Validity {
        begins: of.not_before,
        expires: of.not_after,
    }
}

/// The certificate that is served, and its issuers.
pub(super) struct Certificate {
    chain: Vec<CertificateDer<'static>>,
    pub(super) validity: Validity,
}

/// Reads the certificate out of the Secret from which it is served. The key beside it is not looked at.
pub(super) async fn certificate(client: &Client, installed: &Installed) -> Known<Certificate> {
    let namespace = &installed.deployment.namespace;
    let secrets: Api<Secret> = Api::namespaced(client.clone(), namespace);
    let name = installed.secret()?;
    let secret = read::get(&secrets, "Secret", &name).await?;
    let secret = secret.ok_or_else(|| format!("Secret {name} does not exist."))?;
    let mut data = secret.data.unwrap_or_default();
    let text = data.remove("tls.crt");
    let text = text.ok_or_else(|| format!("Secret {name} has no tls.crt."))?;
    let unreadable = |error| format!("Secret {name}: {error}.");
    let chain = pki::read::certificates(&text.0).map_err(unreadable)?;
    // A chain has one certificate at least.
    let valid = pki::read::valid(&chain[0]).map_err(unreadable)?;
    let validity = validity(valid);
    Ok(Certificate { chain, validity })
}

/// The Services that the hooks name, with how many endpoints of each are ready.
pub(super) async fn services(client: &Client, registered: Option<&Registered>) -> Vec<HookService> {
    let keys = registered.into_iter().flat_map(|hooks| &hooks.services);
    let read = keys.map(async |key| HookService {
        key: key.clone(),
        ready: ready(client, key).await,
    });
    join_all(read).await
}

pub(super) async fn ready(client: &Client, service: &ObjectKey) -> Known<Option<usize>> {
    let services: Api<Service> = Api::namespaced(client.clone(), &service.namespace);
    if read::get(&services, "Service", &service.name)
        .await?
        .is_none()
    {
        return Ok(None);
    }
    let slices: Api<EndpointSlice> = Api::namespaced(client.clone(), &service.namespace);
    let labels = format!("kubernetes.io/service-name={}", service.name);
    let slices = read::list(&slices, "endpointslices", &labels).await?;
    let endpoints = slices
        .into_iter()
        .flatten()
        .flat_map(|slice| slice.endpoints);
    let ready = endpoints.filter(|endpoint| {
        let conditions = endpoint.conditions.as_ref();
        // Absent means ready.
        conditions.and_then(|conditions| conditions.ready) != Some(false)
    });
    Ok(Some(ready.count()))
}
