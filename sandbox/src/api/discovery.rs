//! The discovery endpoints that `kubectl` and other clients read before they ask for objects.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{
    Inner,
    kinds::{Resource, Version},
};
use crate::versions;

/// Answers a path that names no resource; returns `None` if the path is not served.
pub fn answer(api: &Inner, path: &[&str]) -> Option<Value> {
    match path {
        ["version"] => Some(version()),
        ["api"] => Some(json!({
            "kind": "APIVersions",
            "versions": ["v1"],
            "serverAddressByClientCIDRs": [],
        })),
        ["apis"] => Some(json!({
            "kind": "APIGroupList",
            "apiVersion": "v1",
            "groups": groups(api),
        })),
        ["apis", group] => groups(api).into_iter().find(|have| have["name"] == **group),
        ["api", version] => resources(api, "", version),
        ["apis", group, version] => resources(api, group, version),
        _ => None,
    }
}

/// The version of the types by which the sandbox decodes objects.
fn version() -> Value {
    let minor = versions::Version::compiled_for().minor;
    json!({
        "major": "1",
        "minor": minor.to_string(),
        "gitVersion": format!("v1.{minor}.0+sandbox"),
        "gitCommit": "",
        "gitTreeState": "clean",
        "buildDate": "1970-01-01T00:00:00Z",
        "goVersion": "",
        "compiler": "",
        "platform": "",
    })
}

fn groups(api: &Inner) -> Vec<Value> {
    let mut versions: BTreeMap<String, Vec<String>> = BTreeMap::new();
    api.store.catalog(|catalog| {
        for resource in catalog.all().filter(|r| !r.group.is_empty()) {
            let known = versions.entry(resource.group.clone()).or_default();
            for version in resource.versions.iter().filter(|v| v.served) {
                if !known.contains(&version.name) {
                    known.push(version.name.clone());
                }
            }
        }
    });
    let groups = versions.into_iter().filter(|(_, known)| !known.is_empty());
    groups
        .map(|(group, known)| {
            let entry = |version: &String| {
                json!({"groupVersion": format!("{group}/{version}"), "version": version})
            };
            json!({
                "kind": "APIGroup",
                "apiVersion": "v1",
                "name": group,
                "versions": known.iter().map(entry).collect::<Vec<_>>(),
                "preferredVersion": entry(&known[0]),
            })
        })
        .collect()
}

fn resources(api: &Inner, group: &str, version: &str) -> Option<Value> {
    let resources: Vec<Value> = api.store.catalog(|catalog| {
        let all = catalog.all().filter(|resource| resource.group == group);
        all.filter_map(|resource| {
            let served = resource.versions.iter().find(|v| v.name == version)?;
            served.served.then(|| entries(resource, served))
        })
        .flatten()
        .collect()
    });
    let group_version = match group {
        "" => version.to_owned(),
        group => format!("{group}/{version}"),
    };
    (!resources.is_empty()).then(|| {
        json!({
            "kind": "APIResourceList",
            "apiVersion": "v1",
            "groupVersion": group_version,
            "resources": resources,
        })
    })
}

fn entries(resource: &Resource, version: &Version) -> Vec<Value> {
    let in_all = matches!(
        (resource.group.as_str(), resource.plural.as_str()),
        ("", "pods" | "services") | ("apps", "deployments" | "replicasets")
    );
    let categories: &[&str] = if in_all { &["all"] } else { &[] };
    let mut entries = vec![json!({
        "name": resource.plural,
        "singularName": resource.singular,
        "namespaced": resource.namespaced,
        "kind": resource.kind,
        "shortNames": resource.short_names,
        "categories": categories,
        "verbs": [
            "create", "delete", "deletecollection", "get", "list", "patch", "update", "watch",
        ],
    })];
    if version.status {
        entries.push(json!({
            "name": format!("{}/status", resource.plural),
            "singularName": "",
            "namespaced": resource.namespaced,
            "kind": resource.kind,
            "verbs": ["get", "patch", "update"],
        }));
    }
    if resource.group.is_empty() && resource.plural == "pods" {
        entries.push(json!({
            "name": "pods/binding",
            "singularName": "",
            "namespaced": true,
            "kind": "Binding",
            "verbs": ["create"],
        }));
    }
    entries
}
