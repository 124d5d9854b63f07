//! What `targetgate release` reads: the bindings, whatever is in them, and the UID of our Deployment.
//!
//! Needs the verbs `get` and `list` on `targetgroupbindings.elbv2.k8s.aws`, and `get` on the Deployment.

use std::sync::Arc;

use kube::Client;
use kube::api::{GetParams, ListParams, ObjectList};
use kube::core::Request;
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;
use targetgate_core::index::BindingKey;
use targetgate_core::names::{BindingApi, FINALIZER, GroupKey, ObjectKey};
use thiserror::Error;
use tokio::time::Instant;

use crate::kubernetes::decode;
use crate::kubernetes::decode::{BindingObject, url_path};
use crate::kubernetes::targets::{Failure, send};
use crate::state::cache::WatchedResource;

const BINDINGS: WatchedResource = WatchedResource::Bindings(BindingApi::Elbv2);
/// The number of bindings in one page of a list, as `kubectl get` asks for.
const PAGE_SIZE: u32 = 500;
/// Maximum number of pages of a list, above which it fails. Chosen: ten times the bindings that a registrar has records
/// of.
const MAX_PAGES: usize = 200;

/// A binding that can be released.
#[derive(Debug, Clone)]
pub struct Held {
    pub key: BindingKey,
    pub uid: Arc<str>,
    pub our_finalizer: bool,
    /// The group that it names; `None` if that cannot be read, and then no registrar takes the binding either.
    pub group: Option<GroupKey>,
}

/// Why bindings or the Deployment could not be read.
#[derive(Debug, Clone, Error)]
#[error("{why}{}", remedy(*.denied))]
pub struct ReadError {
    why: Arc<str>,
    /// Whether trying again is of no use.
    pub denied: bool,
}

fn remedy(denied: bool) -> &'static str {
    match denied {
        true => {
            "; the command needs the rights to get, list and patch targetgroupbindings.elbv2.k8s.aws, to create and patch \
             targetrecords.targetgate.dev, and to get targetgate's Deployment"
        }
        false => "",
    }
}

#[derive(Deserialize)]
struct Shape {
    metadata: Metadata,
}

#[derive(Deserialize)]
struct Metadata {
    namespace: String,
    name: String,
    uid: String,
    #[serde(default)]
    finalizers: Option<Vec<String>>,
}

/// The UID of a Deployment; `None` if there is none.
///
/// # Errors
/// The call fails, takes longer than ten seconds, or does not end in time.
pub async fn deployment(
    client: &Client,
    deployment: &ObjectKey,
    by: Instant,
) -> Result<Option<Arc<str>>, ReadError> {
    let namespace = &deployment.namespace;
    let path = format!("/apis/apps/v1/namespaces/{namespace}/deployments");
    let request = Request::new(path).get(&deployment.name, &GetParams::default());
    match send::<Value>(client, request, by).await {
        Ok(found) => Ok(found["metadata"]["uid"].as_str().map(Into::into)),
        Err(failure) if failure.is_absence() => Ok(None),
        Err(failure) => Err(error(&failure, "get", &format!("Deployment {deployment}"))),
    }
}

/// Reads one binding; `None` if there is none.
///
/// # Errors
/// As of [`deployment`].
pub async fn binding(
    client: &Client,
    binding: &ObjectKey,
    by: Instant,
) -> Result<Option<Held>, ReadError> {
    let requests = Request::new(url_path(BINDINGS, Some(&binding.namespace)));
    let request = requests.get(&binding.name, &GetParams::default());
    let what = format!("TargetGroupBinding {binding}");
    match send::<Box<RawValue>>(client, request, by).await {
        Ok(found) => held(&found)
            .map(Some)
            .map_err(|why| unreadable(&what, &why)),
        Err(failure) if failure.is_absence() => Ok(None),
        Err(failure) => Err(error(&failure, "get", &what)),
    }
}

/// Reads all bindings; none if the API server does not serve them.
///
/// # Errors
/// As of [`deployment`], or there are too many bindings.
pub async fn bindings(client: &Client, by: Instant) -> Result<Vec<Held>, ReadError> {
    const WHAT: &str = "TargetGroupBindings";
    let requests = Request::new(url_path(BINDINGS, None));
    let mut params = ListParams::default().limit(PAGE_SIZE);
    let mut all = vec![];
    for _ in 0..MAX_PAGES {
        let page = send::<ObjectList<Box<RawValue>>>(client, requests.list(&params), by).await;
        let page = match page {
            Ok(page) => page,
            Err(failure) if failure.code() == 404 => return Ok(vec![]),
            Err(failure) => return Err(error(&failure, "list", WHAT)),
        };
        for object in &page.items {
            all.push(held(object).map_err(|why| unreadable(WHAT, &why))?);
        }
        params.continue_token = page.metadata.continue_.filter(|token| !token.is_empty());
        if params.continue_token.is_none() {
            return Ok(all);
        }
    }
    let why = format!("cannot list {WHAT}: there are more than {MAX_PAGES} pages").into();
    Err(ReadError { why, denied: false })
}

fn held(raw: &RawValue) -> Result<Held, serde_json::Error> {
    let Shape { metadata } = serde_json::from_str(raw.get())?;
    let finalizers = metadata.finalizers.unwrap_or_default();
    // What no registrar can read is released as well.
    let object = serde_json::from_str::<BindingObject>(raw.get()).ok();
    let binding = object.and_then(|object| decode::binding(object, BindingApi::Elbv2).ok());
    let group = binding.and_then(|(_, binding)| {
        Some(GroupKey {
            arn: binding.arn?,
            role: binding.role,
        })
    });
    Ok(Held {
        key: BindingKey {
            object: ObjectKey::new(metadata.namespace, metadata.name),
            api: BindingApi::Elbv2,
        },
        uid: metadata.uid.into(),
        our_finalizer: finalizers.iter().any(|finalizer| finalizer == FINALIZER),
        group,
    })
}

fn error(failure: &Failure, verb: &str, what: &str) -> ReadError {
    ReadError {
        why: failure.told(verb, what),
        denied: failure.is_denied(),
    }
}

fn unreadable(what: &str, why: &serde_json::Error) -> ReadError {
    ReadError {
        why: format!("cannot read {what}: {why}").into(),
        denied: false,
    }
}
