//! The pod that a manifest would make: a Pod, or the template of what creates pods.

use std::fs::File;
use std::io;
use std::io::Read as _;
use std::path::Path;

use serde_json::{Value, json};
use targetgate_core::explain::PodFacts;
use targetgate_core::names::ConditionPrefix;
use thiserror::Error;

use crate::kubernetes::snapshot;
use crate::kubernetes::snapshot::PodError;

/// A manifest is at most this long: etcd does not store objects above 1.5 MiB.
const MAX_LENGTH: u64 = 4 << 20;
/// The kinds that create pods, with the place of their template.
const WORKLOADS: [(&str, &str); 8] = [
    ("Deployment", "/spec/template"),
    ("StatefulSet", "/spec/template"),
    ("DaemonSet", "/spec/template"),
    ("ReplicaSet", "/spec/template"),
    ("ReplicationController", "/spec/template"),
    ("Rollout", "/spec/template"),
    ("Job", "/spec/template"),
    ("CronJob", "/spec/jobTemplate/spec/template"),
];

/// A pod that is not created yet.
pub(super) struct Manifest {
    pub(super) file: String,
    pub(super) namespace: Option<String>,
    name: String,
    pod: Value,
}

/// Why a file has no pod to explain.
#[derive(Debug, Error)]
pub enum ManifestError {
    #[error("cannot be read: {0}")]
    Read(#[from] io::Error),
    #[error("is longer than {MAX_LENGTH} bytes")]
    TooLong,
    #[error("is neither YAML nor JSON: {0}")]
    Syntax(String),
    #[error("has no pod, nor anything with a pod template; it has {0}")]
    NoPod(String),
    #[error("has several, of which one can be explained at a time: {0}")]
    Several(String),
    #[error(transparent)]
    Pod(#[from] PodError),
}

/// Reads the one pod of a file, or of standard input for `-`.
///
/// # Errors
/// The file cannot be read, or has no pod or several.
pub(super) fn read(file: &Path) -> Result<Manifest, ManifestError> {
    let text = match file.to_str() {
        Some("-") => text(io::stdin())?,
        _ => text(File::open(file)?)?,
    };
    of_text(&text, file.display().to_string())
}

fn text(from: impl io::Read) -> Result<String, ManifestError> {
    let mut text = String::new();
    from.take(MAX_LENGTH + 1).read_to_string(&mut text)?;
    match u64::try_from(text.len()) {
        Ok(length) if length <= MAX_LENGTH => Ok(text),
        _ => Err(ManifestError::TooLong),
    }
}

fn of_text(text: &str, file: String) -> Result<Manifest, ManifestError> {
    let documents = serde_saphyr::from_multiple::<Value>(text);
    let documents = documents.map_err(|error| ManifestError::Syntax(error.to_string()))?;
    let objects = documents.into_iter().filter(|document| !document.is_null());
    let objects: Vec<Value> = objects.flat_map(items).collect();
    let mut pods = objects
        .iter()
        .filter_map(|object| Some((object, pod(object)?)));
    let Some((object, pod)) = pods.next() else {
        return Err(ManifestError::NoPod(named(&objects)));
    };
    if pods.next().is_some() {
        return Err(ManifestError::Several(named(&objects)));
    }
    let text = |place: &str| object.pointer(place).and_then(Value::as_str);
    let name = text("/metadata/name").or_else(|| text("/metadata/generateName"));
    Ok(Manifest {
        file,
        namespace: text("/metadata/namespace").map(str::to_owned),
        name: name.unwrap_or("unnamed").to_owned(),
        pod,
    })
}

/// The objects of a List, or the object itself.
fn items(document: Value) -> Vec<Value> {
    match (document["kind"].as_str(), document["items"].as_array()) {
        (Some("List"), Some(items)) => items.clone(),
        _ => vec![document],
    }
}

/// The pod that an object is, or creates, with what creates it as its controller.
fn pod(object: &Value) -> Option<Value> {
    let kind = object["kind"].as_str()?;
    if kind == "Pod" {
        return Some(object.clone());
    }
    let (_, place) = WORKLOADS.iter().find(|(workload, _)| *workload == kind)?;
    let mut pod = object.pointer(place)?.clone();
    // A CronJob's pods are a Job's.
    let of_job = matches!(kind, "Job" | "CronJob");
    let (version, kind) = match of_job {
        true => (json!("batch/v1"), "Job"),
        false => (object["apiVersion"].clone(), kind),
    };
    let owner = json!({ "apiVersion": version, "kind": kind, "controller": true,
        "name": object.pointer("/metadata/name"), "uid": "" });
    pod.as_object_mut()?;
    pod["metadata"]["ownerReferences"] = json!([owner]);
    Some(pod)
}

fn named(objects: &[Value]) -> String {
    let names = objects.iter().map(|object| {
        let kind = object["kind"]
            .as_str()
            .unwrap_or("an object without a kind");
        match object.pointer("/metadata/name").and_then(Value::as_str) {
            Some(name) => format!("{kind} {name}"),
            None => kind.to_owned(),
        }
    });
    let names: Vec<String> = names.take(10).collect();
    match names.is_empty() {
        true => "nothing".to_owned(),
        false => names.join(", "),
    }
}

impl Manifest {
    /// The pod, in this namespace.
    pub(super) fn pod(
        &self,
        namespace: &str,
        prefixes: &[ConditionPrefix],
    ) -> Result<PodFacts, PodError> {
        let mut pod = self.pod.clone();
        let own = json!({ "metadata": {
            "name": self.name, "namespace": namespace, "creationTimestamp": null } });
        json_patch::merge(&mut pod, &own);
        let mut facts = snapshot::facts(&pod.to_string(), prefixes)?;
        facts.created = None;
        Ok(facts)
    }
}
