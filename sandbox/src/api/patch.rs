//! The four kinds of patches, applied to JSON.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::status::Status;

/// A patch, read from a request.
#[derive(Clone, Debug)]
pub enum Patch {
    /// RFC 6902.
    Json(json_patch::Patch),
    /// RFC 7386.
    Merge(Value),
    /// Kubernetes' strategic merge, which merges lists of objects by their keys. Built-in kinds
    /// only.
    Strategic(Value),
    /// Server-side apply without field ownership. What is applied is merged as by a strategic
    /// merge, except that `null` deletes nothing, and a field that is no longer applied stays.
    Apply(Value),
}

impl Patch {
    /// Reads a patch by its content type; `custom` says that it is for a custom resource.
    pub fn read(content_type: &str, body: &[u8], custom: bool) -> Result<Patch, Status> {
        let bad = |error: &dyn std::fmt::Display| {
            Status::bad_request(format!("error decoding patch: {error}"))
        };
        let json = || serde_json::from_slice::<Value>(body).map_err(|e| bad(&e));
        let object = |value: Value| match value.is_object() {
            true => Ok(value),
            false => Err(bad(&"the patch is not a JSON object")),
        };
        match content_type.split(';').next().unwrap_or_default().trim() {
            "application/json-patch+json" => serde_json::from_slice(body)
                .map(Patch::Json)
                .map_err(|e| bad(&e)),
            "application/merge-patch+json" => Ok(Patch::Merge(object(json()?)?)),
            "application/strategic-merge-patch+json" if !custom => {
                Ok(Patch::Strategic(object(json()?)?))
            }
            "application/apply-patch+yaml" => {
                let value: Value = serde_saphyr::from_slice(body).map_err(|e| bad(&e))?;
                Ok(Patch::Apply(object(value)?))
            }
            other => Err(unsupported(other, custom)),
        }
    }

    /// Applies the patch. The result can be any JSON, so the caller must check it as an object.
    pub fn apply(&self, current: &Value) -> Result<Value, Status> {
        let mut next = current.clone();
        match self {
            Patch::Json(patch) => json_patch::patch(&mut next, patch)
                .map_err(|error| Status::new(422, "Invalid", error.to_string()))?,
            Patch::Merge(patch) => json_patch::merge(&mut next, patch),
            Patch::Strategic(patch) => strategic(&mut next, patch),
            Patch::Apply(patch) => strategic(&mut next, &without_nulls(patch)),
        }
        Ok(next)
    }
}

fn unsupported(content_type: &str, custom: bool) -> Status {
    let strategic = if custom {
        ""
    } else {
        ", application/strategic-merge-patch+json"
    };
    Status::new(
        415,
        "UnsupportedMediaType",
        format!(
            "the body of the request was in an unknown format ({content_type}) - accepted media \
             types include: application/json-patch+json, application/merge-patch+json{strategic}, \
             application/apply-patch+yaml"
        ),
    )
}

fn without_nulls(value: &Value) -> Value {
    match value {
        Value::Object(map) => map
            .iter()
            .filter(|(_, value)| !value.is_null())
            .map(|(key, value)| (key.clone(), without_nulls(value)))
            .collect::<Map<_, _>>()
            .into(),
        other => other.clone(),
    }
}

/// How a strategic merge treats a list, by the name of its field.
enum ListRule {
    /// Merged by the first of these fields that the patch's entries have.
    By(&'static [&'static str]),
    /// Joined, as a set of plain values.
    Set,
    /// Replaced as a whole, as `readinessGates` is.
    Whole,
}

/// The `patchMergeKey`s of the kinds that are served, from `k8s.io/api`'s types.
fn list_rule(field: &str) -> ListRule {
    match field {
        "conditions" | "hostAliases" => ListRule::By(&["type", "ip"]),
        "containers"
        | "initContainers"
        | "ephemeralContainers"
        | "env"
        | "imagePullSecrets"
        | "secrets"
        | "webhooks"
        | "volumes" => ListRule::By(&["name"]),
        "ports" => ListRule::By(&["containerPort", "port"]),
        "volumeMounts" => ListRule::By(&["mountPath"]),
        "volumeDevices" => ListRule::By(&["devicePath"]),
        "ownerReferences" => ListRule::By(&["uid"]),
        "topologySpreadConstraints" => ListRule::By(&["topologyKey"]),
        "podIPs" | "hostIPs" => ListRule::By(&["ip"]),
        "addresses" => ListRule::By(&["type"]),
        "taints" => ListRule::By(&["key"]),
        "finalizers" => ListRule::Set,
        _ => ListRule::Whole,
    }
}

fn strategic(target: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *target = patch.clone();
        return;
    };
    if patch.get("$patch").and_then(Value::as_str) == Some("replace") {
        *target = Value::Object(without_directives(patch));
        return;
    }
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    let Value::Object(target) = target else {
        return;
    };
    delete_from_lists(target, patch);
    for (field, value) in patch.iter().filter(|(field, _)| !field.starts_with('$')) {
        merge_field(target, field, value);
    }
    if let Some(Value::Array(keys)) = patch.get("$retainKeys") {
        target.retain(|field, _| keys.iter().any(|key| key.as_str() == Some(field)));
    }
}

fn merge_field(target: &mut Map<String, Value>, field: &str, value: &Value) {
    match value {
        Value::Null => {
            target.remove(field);
        }
        Value::Object(map) if map.get("$patch").and_then(Value::as_str) == Some("delete") => {
            target.remove(field);
        }
        Value::Array(entries) => {
            let current = target.entry(field).or_insert_with(|| Value::Array(vec![]));
            if !current.is_array() {
                *current = Value::Array(vec![]);
            }
            if let Value::Array(current) = current {
                merge_list(current, field, entries);
            }
        }
        value => strategic(target.entry(field).or_insert(Value::Null), value),
    }
}

fn merge_list(current: &mut Vec<Value>, field: &str, entries: &[Value]) {
    let replaces = |entry: &Value| entry["$patch"].as_str() == Some("replace");
    if entries.iter().any(replaces) {
        *current = entries.iter().filter(|e| !replaces(e)).cloned().collect();
        return;
    }
    match list_rule(field) {
        ListRule::By(keys) => {
            for entry in entries {
                merge_entry(current, keys, entry);
            }
        }
        ListRule::Set => {
            for entry in entries {
                if !current.contains(entry) {
                    current.push(entry.clone());
                }
            }
        }
        ListRule::Whole => *current = entries.to_vec(),
    }
}

fn merge_entry(current: &mut Vec<Value>, keys: &[&str], entry: &Value) {
    let key = keys.iter().find(|key| !entry[**key].is_null());
    let at = key.and_then(|key| current.iter().position(|have| have[*key] == entry[*key]));
    let deletes = entry["$patch"].as_str() == Some("delete");
    match at {
        Some(at) if deletes => {
            current.remove(at);
        }
        Some(at) => strategic(&mut current[at], entry),
        None if deletes => {}
        None => {
            let mut new = Value::Null;
            strategic(&mut new, entry);
            current.push(new);
        }
    }
}

fn delete_from_lists(target: &mut Map<String, Value>, patch: &Map<String, Value>) {
    for (directive, gone) in patch {
        let Some(field) = directive.strip_prefix("$deleteFromPrimitiveList/") else {
            continue;
        };
        let gone: BTreeSet<String> = gone
            .as_array()
            .into_iter()
            .flatten()
            .map(Value::to_string)
            .collect();
        if let Some(Value::Array(list)) = target.get_mut(field) {
            list.retain(|entry| !gone.contains(&entry.to_string()));
        }
    }
}

fn without_directives(patch: &Map<String, Value>) -> Map<String, Value> {
    let kept = patch.iter().filter(|(field, _)| !field.starts_with('$'));
    kept.map(|(field, value)| (field.clone(), value.clone()))
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn applied(content_type: &str, current: &Value, patch: &Value) -> Value {
        let body = serde_json::to_vec(patch).unwrap();
        let patch = Patch::read(content_type, &body, false).unwrap();
        patch.apply(current).unwrap()
    }

    const STRATEGIC: &str = "application/strategic-merge-patch+json";

    #[test]
    fn a_strategic_merge_keeps_the_conditions_that_it_does_not_name() {
        let pod = json!({"status": {"conditions": [
            {"type": "Ready", "status": "False"},
            {"type": "Gate", "status": "False", "reason": "Wait"},
        ]}});
        let patch = json!({"status": {"conditions": [{"type": "Gate", "status": "True"}]}});
        let kept = json!({"status": {"conditions": [
            {"type": "Ready", "status": "False"},
            {"type": "Gate", "status": "True", "reason": "Wait"},
        ]}});
        assert_eq!(applied(STRATEGIC, &pod, &patch), kept);
        assert_eq!(applied("application/apply-patch+yaml", &pod, &patch), kept);
        let lost = json!({"status": {"conditions": [{"type": "Gate", "status": "True"}]}});
        assert_eq!(applied("application/merge-patch+json", &pod, &patch), lost);
    }

    #[test]
    fn readiness_gates_are_replaced_as_a_whole() {
        let pod = json!({"spec": {"readinessGates": [{"conditionType": "a"}]}});
        let patch = json!({"spec": {"readinessGates": [{"conditionType": "b"}]}});
        assert_eq!(applied(STRATEGIC, &pod, &patch), patch);
    }

    #[test]
    fn directives_delete_replace_and_order_as_kubectl_sends_them() {
        let service = json!({
            "metadata": {"finalizers": ["a", "b"], "labels": {"x": "1", "y": "2"}},
            "spec": {"ports": [{"port": 80}, {"port": 443}], "selector": {"app": "web"}},
        });
        let patch = json!({
            "metadata": {
                "$deleteFromPrimitiveList/finalizers": ["a"],
                "finalizers": ["c"],
                "labels": {"x": null},
            },
            "spec": {
                "$setElementOrder/ports": [{"port": 443}],
                "ports": [{"port": 80, "$patch": "delete"}],
                "selector": {"$patch": "replace", "app": "api"},
            },
        });
        let expected = json!({
            "metadata": {"finalizers": ["b", "c"], "labels": {"y": "2"}},
            "spec": {"ports": [{"port": 443}], "selector": {"app": "api"}},
        });
        assert_eq!(applied(STRATEGIC, &service, &patch), expected);
    }

    #[test]
    fn a_patch_that_is_not_understood_is_refused_with_its_code() {
        let code = |content_type, body: &[u8], custom| {
            Patch::read(content_type, body, custom).unwrap_err().code
        };
        assert_eq!(code("text/plain", b"{}", false), 415);
        assert_eq!(code(STRATEGIC, b"{}", true), 415);
        assert_eq!(code("application/merge-patch+json", b"[]", false), 400);
        assert_eq!(code("application/json-patch+json", b"{", false), 400);
    }

    #[test]
    fn a_json_patch_whose_test_fails_is_invalid() {
        let body = br#"[{"op": "test", "path": "/a", "value": 1}]"#;
        let patch = Patch::read("application/json-patch+json", body, false).unwrap();
        assert_eq!(patch.apply(&json!({"a": 2})).unwrap_err().code, 422);
    }

    #[test]
    fn apply_reads_yaml() {
        let body = b"metadata:\n  labels:\n    a: b\n";
        let patch = Patch::read("application/apply-patch+yaml", body, false).unwrap();
        let expected = json!({"metadata": {"labels": {"a": "b"}}});
        assert_eq!(patch.apply(&json!({})).unwrap(), expected);
    }
}
