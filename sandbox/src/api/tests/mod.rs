//! Tests the server through a `kube::Client` in this process.

mod custom;
mod deletion;
mod edge;
mod objects;
mod patches;
mod watches;

use std::time::Duration;

use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Pod, Service};
use kube::{
    Client, ResourceExt,
    api::{
        Api as Kube, DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams,
        Preconditions, WatchEvent, WatchParams,
    },
    core::{ApiResource, GroupVersionKind},
    runtime::watcher,
};
use serde_json::{Value, json};

use super::{Api, Away, Match, Options, Status, Verb, When};

fn simulated() -> Api {
    Api::new(Options {
        now: crate::clock::simulated("2026-11-21T12:00:00Z".parse().unwrap()),
        ..Options::default()
    })
}

fn pod(name: &str) -> Pod {
    from(json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {"app": "web"}},
        "spec": {"nodeName": "n", "containers": [{"name": "c", "image": "i"}]},
    }))
}

fn config(name: &str) -> ConfigMap {
    from(json!({"metadata": {"name": name}, "data": {"a": "1"}}))
}

fn from<T: serde::de::DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).unwrap()
}

fn code<T: std::fmt::Debug>(result: Result<T, kube::Error>) -> (u16, String) {
    match result {
        Err(kube::Error::Api(status)) => (status.code, status.reason.clone()),
        other => panic!("not an API error: {other:?}"),
    }
}

fn gone(code: u16, reason: &str) -> (u16, String) {
    (code, reason.to_owned())
}

fn pods(client: &Client) -> Kube<Pod> {
    Kube::namespaced(client.clone(), "default")
}

async fn create(client: &Client, name: &str) -> Pod {
    let made = pods(client)
        .create(&PostParams::default(), &pod(name))
        .await;
    made.unwrap()
}

/// Patches a pod's status by a strategic merge.
async fn strategic(client: &Client, name: &str, patch: Value) -> Result<Pod, kube::Error> {
    let params = PatchParams::default();
    pods(client)
        .patch_status(name, &params, &Patch::Strategic(patch))
        .await
}

pub(in crate::api) fn resource(group: &str, version: &str, kind: &str) -> ApiResource {
    ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind))
}
