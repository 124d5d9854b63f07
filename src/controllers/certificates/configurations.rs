//! The webhook configurations: the content of their bundles, since when, and which client has changed them.

use std::fmt;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ManagedFieldsEntry;
use kube::api::{Api, ApiResource, DynamicObject, Patch, PatchParams};
use kube::{Client, ResourceExt as _};
use rustls::sign::CertifiedKey;
use serde_json::{Value, json};
use targetgate_core::rotation;
use targetgate_core::rotation::{Bundle, Ca, Configuration};
use tokio::time::Instant;

use crate::kubernetes::{MANAGER, admission_resource};
use crate::pki::read;

/// The two kinds of webhook configurations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Mutating,
    Validating,
}

impl Kind {
    fn as_str(self) -> &'static str {
        match self {
            Self::Mutating => "MutatingWebhookConfiguration",
            Self::Validating => "ValidatingWebhookConfiguration",
        }
    }

    fn resource(self) -> ApiResource {
        admission_resource(self.as_str())
    }
}

/// The client that changed a bundle, according to `metadata.managedFields`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Culprit {
    /// A client owns the bundle.
    Owner(String),
    /// The bundle was removed, which leaves the field without owner: the last other client to write the object.
    LastWriter(String),
    /// `managedFields` does not name a client.
    Nobody,
}

impl fmt::Display for Culprit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Owner(manager) => f.write_str(manager),
            Self::LastWriter(manager) => write!(f, "an unnamed client, perhaps {manager}"),
            Self::Nobody => f.write_str("an unnamed client"),
        }
    }
}

/// One webhook configuration, and its last known state.
pub(super) struct Hooks {
    kind: Kind,
    name: String,
    api: Api<DynamicObject>,
    /// Its state as we last read or wrote it.
    known: Option<Known>,
    /// The client that has changed a bundle since then.
    culprit: Option<Culprit>,
}

struct Known {
    /// `None` while it is absent. The generation changes with every webhook, but not with labels.
    identity: Option<Identity>,
    /// When it was first and last seen in this state.
    since: Instant,
    read_at: Instant,
    /// The `resourceVersion` on which a write is based.
    version: String,
    webhooks: Vec<Webhook>,
}

#[derive(PartialEq, Eq)]
struct Identity {
    uid: String,
    generation: i64,
}

struct Webhook {
    name: String,
    bundle: Bundle,
}

impl Hooks {
    pub(super) fn new(client: &Client, kind: Kind, name: &str) -> Self {
        Self {
            kind,
            name: name.to_owned(),
            api: Api::all_with(client.clone(), &kind.resource()),
            known: None,
            culprit: None,
        }
    }

    /// Its kind and name in the form of `kubectl`.
    pub(super) fn title(&self) -> String {
        format!("{}/{}", self.kind.as_str().to_lowercase(), self.name)
    }

    pub(super) fn api(&self) -> Api<DynamicObject> {
        self.api.clone()
    }

    /// Reads it from the API server.
    pub(super) async fn read(&mut self) -> Result<(), kube::Error> {
        let object = self.api.get_opt(&self.name).await?;
        let next = Known::of(object.as_ref());
        if let Some(object) = &object {
            let entries = object.metadata.managed_fields.as_deref().unwrap_or(&[]);
            let changed = match &self.known {
                Some(known) if known.uid() == next.uid() => known.bundles() != next.bundles(),
                // A configuration that we have not seen before starts without a bundle.
                _ => owner_of_bundles(entries).is_some(),
            };
            if changed {
                self.culprit = culprit(entries, next.webhooks.len());
            }
        }
        self.keep(next);
        Ok(())
    }

    fn keep(&mut self, mut next: Known) {
        if let Some(known) = &self.known
            && known.identity == next.identity
        {
            next.since = known.since;
        }
        self.known = Some(next);
    }

    /// The input of the rules; `None` before the first read.
    pub(super) fn configuration(&self) -> Option<Configuration> {
        let known = self.known.as_ref()?;
        Some(Configuration {
            bundles: known.bundles(),
            unchanged_for: known.unchanged_for(),
        })
    }

    /// Whether each bundle verifies this chain, as far as it is known.
    pub(super) fn verify(&self, chain: &CertifiedKey, now: Timestamp) -> bool {
        let mut webhooks = self.known.iter().flat_map(|known| &known.webhooks);
        webhooks.all(|webhook| read::verifies(&chain.cert, &webhook.bundle.cas, now))
    }

    /// Writes these CAs into every bundle of it, unless another client has written in between.
    pub(super) async fn trust(&mut self, cas: &[&Ca]) -> Result<(), kube::Error> {
        let Some(known) = &self.known else {
            return Ok(());
        };
        let bundle = STANDARD.encode(&*rotation::pem(cas));
        let webhook = |webhook: &Webhook| json!({ "name": webhook.name, "clientConfig": { "caBundle": bundle } });
        let webhooks: Vec<Value> = known.webhooks.iter().map(webhook).collect();
        // The API server merges webhooks by name, and keeps those that the patch does not name.
        let patch = Patch::Strategic(json!({
            "metadata": { "resourceVersion": known.version },
            "webhooks": webhooks,
        }));
        let params = PatchParams {
            field_manager: Some(MANAGER.to_owned()),
            ..PatchParams::default()
        };
        let written = self.api.patch(&self.name, &params, &patch).await?;
        self.keep(Known::of(Some(&written)));
        Ok(())
    }

    /// The client that has changed a bundle since the last call.
    pub(super) fn take_culprit(&mut self) -> Option<Culprit> {
        self.culprit.take()
    }

    /// The subject of an Event.
    pub(super) fn reference(&self) -> ObjectReference {
        let uid = self.known.as_ref().and_then(Known::uid);
        let resource = self.kind.resource();
        ObjectReference {
            api_version: Some(resource.api_version),
            kind: Some(resource.kind),
            name: Some(self.name.clone()),
            uid: uid.map(str::to_owned),
            ..ObjectReference::default()
        }
    }
}

impl Known {
    fn of(object: Option<&DynamicObject>) -> Self {
        let webhooks = object.and_then(|object| object.data["webhooks"].as_array());
        let now = Instant::now();
        Self {
            identity: object.map(|object| Identity {
                uid: object.uid().unwrap_or_default(),
                generation: object.metadata.generation.unwrap_or(0),
            }),
            since: now,
            read_at: now,
            version: object
                .and_then(|object| object.resource_version())
                .unwrap_or_default(),
            webhooks: webhooks.into_iter().flatten().map(Webhook::of).collect(),
        }
    }

    fn uid(&self) -> Option<&str> {
        let identity = self.identity.as_ref();
        identity.map(|identity| identity.uid.as_str())
    }

    fn bundles(&self) -> Vec<Bundle> {
        self.webhooks.iter().map(|w| w.bundle.clone()).collect()
    }

    /// Counted up to the last read, not up to now: a process that was stopped does not know what happened since.
    fn unchanged_for(&self) -> Duration {
        self.read_at - self.since
    }
}

impl Webhook {
    fn of(webhook: &Value) -> Self {
        let text = webhook["clientConfig"]["caBundle"].as_str().unwrap_or("");
        // The API server always writes base64.
        let bundle = STANDARD.decode(text).unwrap_or_default();
        Self {
            name: webhook["name"].as_str().unwrap_or("").to_owned(),
            bundle: read::bundle(&bundle),
        }
    }
}

/// For how long all of these are known to have been unchanged, at least.
pub(super) fn unchanged_for(all: &[Hooks]) -> Option<Duration> {
    let each = all.iter().map(|hooks| hooks.known.as_ref());
    let each: Option<Vec<_>> = each.map(|known| known.map(Known::unchanged_for)).collect();
    Some(each?.into_iter().min().unwrap_or(Duration::MAX))
}

/// The client to name when the bundles of so many webhooks have changed; `None` if we own all of them.
fn culprit(entries: &[ManagedFieldsEntry], webhooks: usize) -> Option<Culprit> {
    let name = |entry: &ManagedFieldsEntry| entry.manager.clone().unwrap_or_default();
    if let Some(owner) = owner_of_bundles(entries) {
        return Some(Culprit::Owner(name(owner)));
    }
    let ours = entries.iter().filter(|entry| is_ours(entry)).map(bundles);
    if ours.sum::<usize>() >= webhooks {
        return None;
    }
    let others = entries.iter().filter(|entry| !is_ours(entry));
    let last = others.max_by_key(|entry| entry.time.as_ref().map(|time| time.0));
    Some(last.map_or(Culprit::Nobody, |last| Culprit::LastWriter(name(last))))
}

fn owner_of_bundles(entries: &[ManagedFieldsEntry]) -> Option<&ManagedFieldsEntry> {
    entries
        .iter()
        .find(|entry| !is_ours(entry) && bundles(entry) > 0)
}

/// The number of bundles that a client owns.
fn bundles(entry: &ManagedFieldsEntry) -> usize {
    let fields = entry.fields_v1.as_ref().map(|fields| &fields.0);
    let webhooks = fields.and_then(|fields| fields["f:webhooks"].as_object());
    let webhooks = webhooks.into_iter().flat_map(|webhooks| webhooks.values());
    let owned = webhooks.filter(|webhook| webhook["f:clientConfig"]["f:caBundle"].is_object());
    owned.count()
}

fn is_ours(entry: &ManagedFieldsEntry) -> bool {
    entry.manager.as_deref() == Some(MANAGER)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(entries: Value) -> Vec<ManagedFieldsEntry> {
        serde_json::from_value(entries).unwrap()
    }

    fn fields(field: &str) -> Value {
        json!({ "f:webhooks": {
            ".": {},
            "k:{\"name\":\"mpod.elbv2.k8s.aws\"}": { "f:clientConfig": { field: {} } },
        } })
    }

    #[test]
    fn who_owns_a_bundle_is_named_else_who_wrote_last_and_never_we() {
        let all = entries(json!([
            { "manager": "targetgate", "time": "2026-01-03T00:00:00Z", "fieldsV1": fields("f:caBundle") },
            { "manager": "argocd", "time": "2026-01-01T00:00:00Z", "fieldsV1": fields("f:caBundle") },
            { "manager": "helm", "time": "2026-01-02T00:00:00Z", "fieldsV1": fields("f:service") },
        ]));
        assert_eq!(culprit(&all, 1), Some(Culprit::Owner("argocd".into())));
        let without = [all[0].clone(), all[2].clone()];
        let last = Some(Culprit::LastWriter("helm".into()));
        assert_eq!(culprit(&without, 2), last);
        assert_eq!(
            culprit(&without, 1),
            None,
            "another replica of ours wrote it"
        );
        assert_eq!(culprit(&all[..1], 2), Some(Culprit::Nobody));
    }
}
