//! Requests to the API server that parse only the needed parts of its answers.

use anyhow::Context as _;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use http::Request;
use http::header::CONTENT_TYPE;
use kube::Client;
use serde::Deserialize;
use serde_json::Value;

/// The prefix of the names of gates.
pub(crate) const GATE: &str = "target-health.elbv2.k8s.aws/";

/// An object in an answer of the API server.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Made {
    pub(crate) metadata: Metadata,
    #[serde(default)]
    pub(crate) spec: Spec,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Metadata {
    pub(crate) name: String,
    pub(crate) uid: String,
    /// It is empty in the answer to a dry run, which stores nothing.
    #[serde(default)]
    pub(crate) resource_version: String,
}

/// The spec of a pod.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Spec {
    pub(crate) readiness_gates: Vec<Value>,
}

/// Creates an object in the collection at `path`.
pub(crate) async fn create(client: &Client, path: &str, object: &Value) -> anyhow::Result<Made> {
    let request = Request::post(path)
        .header(CONTENT_TYPE, "application/json")
        .body(serde_json::to_vec(object)?)?;
    let made = client.request(request).await;
    made.with_context(|| format!("POST {path} of {}", object["metadata"]["name"]))
}

/// Patches the status of the object at `path`.
pub(crate) async fn patch_status(
    client: &Client,
    path: &str,
    patch: &Value,
) -> anyhow::Result<Made> {
    let path = format!("{path}/status");
    let request = Request::patch(&path)
        .header(CONTENT_TYPE, "application/strategic-merge-patch+json")
        .body(serde_json::to_vec(patch)?)?;
    let patched = client.request(request).await;
    patched.with_context(|| format!("PATCH {path}"))
}

/// Runs `act` on each item, `in_flight` at a time and in the order of the list. The first error ends it.
pub(crate) async fn each<I, T, F>(
    in_flight: usize,
    items: I,
    act: impl FnMut(I::Item) -> F,
) -> anyhow::Result<Vec<T>>
where
    I: IntoIterator,
    F: Future<Output = anyhow::Result<T>>,
{
    let started = stream::iter(items).map(act);
    started.buffered(in_flight).try_collect().await
}
