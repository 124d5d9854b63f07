//! Reads, watches and writes `GateRules` objects, by which the API server itself injects gates (contract 11).
//!
//! Needs the verb `create` on `gaterules.targetgate.dev`, and `list`, `watch`, `patch` and `delete` on those of our
//! name.

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures::TryStreamExt as _;
use kube::api::{
    Api, ApiResource, DeleteParams, DynamicObject, ListParams, Patch, PatchParams, WatchEvent,
    WatchParams,
};
use kube::core::{GroupVersionKind, Status};
use kube::{Client, ResourceExt as _};
use serde_json::json;
use targetgate_core::gate_rules::GateRules;
use targetgate_core::gate_rules::reconcile::{Object, Step};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout, timeout_at};

use crate::kubernetes::{CALL_TIMEOUT, MANAGER, is_absence, why};

/// The name of each object, as the policy's binding names it.
const NAME: &str = "targetgate";
/// The API whose policies inject, and their resource.
const POLICIES: (&str, &str) = (
    "admissionregistration.k8s.io/v1",
    "mutatingadmissionpolicies",
);
/// Most objects in one page of a list. Chosen: a page of the largest ones is 5 MB.
const PAGE_SIZE: u32 = 10;
/// How long we ask the API server to keep a watch open (`timeoutSeconds`). client-go draws 5 to 10 minutes.
const WATCH_SECONDS: u32 = 290;
/// How long a watch may be silent. Chosen: API servers send a bookmark about each minute.
const SILENCE: Duration = Duration::from_secs(150);

/// Why objects cannot be read or written.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The API server serves no such objects, or no policies that read them.
    NotServed(&'static str),
    /// The namespace is being deleted, or is not there.
    NamespaceGoes,
    Other(String),
}

/// What a watch says of the object of a namespace; `None` once it is gone.
pub(crate) type Seen = (Arc<str>, Option<Object>);

/// All objects, and the version to watch from.
pub(crate) struct Listed {
    pub(crate) objects: BTreeMap<Arc<str>, Object>,
    pub(crate) version: String,
}

/// The objects of all namespaces.
#[derive(Clone)]
pub(crate) struct Store {
    client: Client,
    resource: ApiResource,
}

/// The kind of gate rules.
pub(crate) fn resource() -> ApiResource {
    let kind = GroupVersionKind::gvk("targetgate.dev", "v1", "GateRules");
    ApiResource::from_gvk_with_plural(&kind, "gaterules")
}

impl Store {
    pub(crate) fn new(client: Client) -> Self {
        let resource = resource();
        Self { client, resource }
    }

    /// Whether the API server can inject gates itself: it serves policies (1.36) and the CRD is there.
    pub(crate) async fn is_served(&self) -> Result<(), Failure> {
        let (group, policies) = POLICIES;
        let served = bounded(self.client.list_api_group_resources(group)).await?;
        if !served.resources.iter().any(|r| r.name == policies) {
            return Err(Failure::NotServed(
                "MutatingAdmissionPolicy, which is served from Kubernetes 1.36 on",
            ));
        }
        let params = ListParams::default().limit(1).fields(&by_name());
        bounded(self.all().list(&params)).await.map(drop)
    }

    /// Reads all objects of our name.
    pub(crate) async fn list(&self) -> Result<Listed, Failure> {
        let mut params = ListParams::default().limit(PAGE_SIZE).fields(&by_name());
        let mut objects = BTreeMap::new();
        loop {
            let page = bounded(self.all().list(&params)).await?;
            let token = page.metadata.continue_.filter(|token| !token.is_empty());
            objects.extend(page.items.into_iter().map(read));
            if token.is_none() {
                let version = page.metadata.resource_version.unwrap_or_default();
                return Ok(Listed { objects, version });
            }
            params.continue_token = token;
        }
    }

    /// Watches all objects of our name from `version` on, which follows what is seen, until the watch ends.
    pub(crate) async fn watch(
        &self,
        version: &mut String,
        seen: &mpsc::Sender<Seen>,
    ) -> Result<(), Failure> {
        let params = WatchParams::default()
            .fields(&by_name())
            .timeout(WATCH_SECONDS);
        let (api, from) = (self.all(), version.clone());
        let mut events = pin!(bounded(api.watch(&params, &from)).await?);
        loop {
            let event = timeout(SILENCE, events.try_next()).await;
            let event = event.map_err(|_| Failure::Other(format!("silent for {SILENCE:?}")))?;
            let (object, gone) = match event.map_err(|error| Failure::of(&error))? {
                Some(WatchEvent::Added(object) | WatchEvent::Modified(object)) => (object, false),
                Some(WatchEvent::Deleted(object)) => (object, true),
                Some(WatchEvent::Bookmark(bookmark)) => {
                    *version = bookmark.metadata.resource_version;
                    continue;
                }
                Some(WatchEvent::Error(status)) => return Err(Failure::of_status(&status)),
                None => return Ok(()),
            };
            *version = object.resource_version().unwrap_or_default();
            let (namespace, object) = read(object);
            // The receiver ends together with this future.
            let _ = seen.send((namespace, (!gone).then_some(object))).await;
        }
    }

    /// Writes or removes the object of a namespace. Waits for the response until `by`.
    pub(crate) async fn carry_out(&self, step: &Step, by: Instant) -> Result<(), Failure> {
        let by = by.min(Instant::now() + CALL_TIMEOUT);
        let api = self.within(step.namespace());
        let call = async {
            match step {
                Step::Write(namespace, rules) => {
                    let params = PatchParams::apply(MANAGER).force();
                    let object = self.object(namespace, rules);
                    api.patch_metadata(NAME, &params, &Patch::Apply(object))
                        .await
                        .map(drop)
                }
                Step::Remove(_) => match api.delete(NAME, &DeleteParams::default()).await {
                    Err(kube::Error::Api(status)) if is_absence(&status) => Ok(()),
                    deleted => deleted.map(drop),
                },
            }
        };
        match timeout_at(by, call).await {
            Ok(done) => done.map_err(|error| Failure::of(&error)),
            Err(_) => Err(Failure::Other("no answer in time".to_owned())),
        }
    }

    fn object(&self, namespace: &str, rules: &GateRules) -> serde_json::Value {
        json!({
            "apiVersion": self.resource.api_version,
            "kind": self.resource.kind,
            "metadata": { "name": NAME, "namespace": namespace },
            "spec": rules,
        })
    }

    fn all(&self) -> Api<DynamicObject> {
        Api::all_with(self.client.clone(), &self.resource)
    }

    fn within(&self, namespace: &str) -> Api<DynamicObject> {
        Api::namespaced_with(self.client.clone(), namespace, &self.resource)
    }
}

fn by_name() -> String {
    format!("metadata.name={NAME}")
}

fn read(object: DynamicObject) -> (Arc<str>, Object) {
    let namespace = object.namespace().unwrap_or_default().into();
    let spec = object.data.get("spec").cloned().unwrap_or_default();
    let rules = serde_json::from_value(spec);
    (namespace, rules.map_or(Object::Unreadable, Object::Rules))
}

async fn bounded<T>(call: impl Future<Output = kube::Result<T>>) -> Result<T, Failure> {
    let answer = timeout(CALL_TIMEOUT, call).await;
    let answer = answer.map_err(|_| Failure::Other("no answer in time".to_owned()))?;
    answer.map_err(|error| Failure::of(&error))
}

impl Failure {
    fn of(error: &kube::Error) -> Self {
        match error {
            kube::Error::Api(status) => Self::of_status(status),
            other => Self::Other(why(other)),
        }
    }

    fn of_status(status: &Status) -> Self {
        let goes = || status.message.contains("it is being terminated");
        match status.code {
            // It names the namespace.
            404 if is_absence(status) => Self::NamespaceGoes,
            404 => Self::NotServed("GateRules, whose CRD is not installed"),
            403 if goes() => Self::NamespaceGoes,
            code => Self::Other(format!("{} ({code})", status.message)),
        }
    }
}
