//! The webhook configurations of an installation, the certificate that they should trust, and the Services behind them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures::future::join_all;
use jiff::Timestamp;
use k8s_openapi::api::admissionregistration::v1::MutatingWebhook;
use k8s_openapi::api::core::v1::{Secret, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::Client;
use kube::api::{Api, ApiResource, DynamicObject};
use kube::core::{GroupVersionKind, Selector, SelectorExt as _};
use rustls::sign::CertifiedKey;
use targetgate_core::doctor::{Bundle, Hook, HookKind, HookService, Known};
use targetgate_core::names::ObjectKey;

use crate::commands::doctor::read;
use crate::pki;

const KINDS: [&str; 2] = [
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

/// Reads the configurations that have the name of the installation.
pub(super) async fn read(client: &Client, installation: &ObjectKey) -> Known<Registered> {
    let certificate = certificate(client, installation).await;
    let mut registered = Registered {
        hooks: vec![],
        services: BTreeSet::new(),
        selectors: vec![],
    };
    for kind in KINDS {
        let group = "admissionregistration.k8s.io";
        let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, "v1", kind));
        let api: Api<DynamicObject> = Api::all_with(client.clone(), &resource);
        let Some(found) = read::get(&api, kind, &installation.name).await? else {
            continue;
        };
        let place = format!("{}/{}", kind.to_lowercase(), installation.name);
        // A validating webhook has no field that a mutating one lacks.
        let webhooks = found.data.get("webhooks").cloned().unwrap_or_default();
        let webhooks: Option<Vec<MutatingWebhook>> =
            serde_json::from_value(webhooks).map_err(|error| format!("{place}: {error}"))?;
        for webhook in webhooks.into_iter().flatten() {
            registered.take(&place, webhook, &certificate)?;
        }
    }
    Ok(registered)
}

impl Registered {
    fn take(
        &mut self,
        place: &str,
        webhook: MutatingWebhook,
        certificate: &Known<Arc<CertifiedKey>>,
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

fn bundle(text: &[u8], certificate: &Known<Arc<CertifiedKey>>) -> Bundle {
    if text.is_empty() {
        return Bundle::Empty;
    }
    let read = pki::read::bundle(text);
    let last = read.cas.iter().map(|ca| ca.validity.not_after).max();
    match last.filter(|_| read.sound) {
        None => Bundle::Unsound,
        Some(expires) => Bundle::Cas {
            expires,
            verifies: certificate
                .as_ref()
                .map(|chain| pki::read::verifies(chain, &read.cas, Timestamp::now()))
                .map_err(Clone::clone),
        },
    }
}

/// The certificate of the Secret of the installation, from which it is served.
async fn certificate(client: &Client, installation: &ObjectKey) -> Known<Arc<CertifiedKey>> {
    let secrets: Api<Secret> = Api::namespaced(client.clone(), &installation.namespace);
    let name = format!("{}-tls", installation.name);
    let secret = read::get(&secrets, "Secret", &name).await?;
    let secret = secret.ok_or_else(|| format!("Secret {name} does not exist."))?;
    let data = secret.data.unwrap_or_default();
    let text = |key: &str| {
        let text = data.get(key).map(|bytes| String::from_utf8_lossy(&bytes.0));
        text.ok_or_else(|| format!("Secret {name} has no {key}."))
    };
    let chain = pki::read::chain(&text("tls.crt")?, &text("tls.key")?);
    let chain = chain.map_err(|error| format!("Secret {name}: {error}."))?;
    Ok(chain.key)
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

async fn ready(client: &Client, service: &ObjectKey) -> Known<Option<usize>> {
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
