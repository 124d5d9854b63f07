//! A Kubernetes object as JSON, with the invariants that the rest of the server relies on.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

/// A JSON object whose `metadata` is an object with well-typed fields.
#[derive(Clone, Debug, PartialEq)]
pub struct Object(Map<String, Value>);

impl Object {
    /// Checks JSON and takes it in. The error names the field that has the wrong type.
    pub fn new(value: Value) -> Result<Object, String> {
        let Value::Object(mut map) = value else {
            return Err("the body is not a JSON object".to_owned());
        };
        if map.get("metadata").is_none_or(Value::is_null) {
            map.insert("metadata".to_owned(), Value::Object(Map::new()));
        }
        let Some(Value::Object(metadata)) = map.get_mut("metadata") else {
            return Err("metadata is not an object".to_owned());
        };
        metadata.retain(|_, value| !value.is_null());
        // The server does not keep field ownership.
        metadata.remove("managedFields");
        check_metadata(metadata)?;
        for field in ["apiVersion", "kind"] {
            if map.get(field).is_some_and(|value| !value.is_string()) {
                return Err(format!("{field} is not a string"));
            }
        }
        Ok(Object(map))
    }

    /// The whole object as JSON.
    pub fn into_value(self) -> Value {
        Value::Object(self.0)
    }

    /// A copy of the whole object as JSON.
    pub fn to_value(&self) -> Value {
        Value::Object(self.0.clone())
    }

    /// A top-level field, such as `spec`; null if it is absent.
    pub fn field(&self, name: &str) -> &Value {
        self.0.get(name).unwrap_or(&Value::Null)
    }

    /// Sets a top-level field; null removes it.
    pub fn set(&mut self, name: &str, value: Value) {
        assert_ne!(name, "metadata", "metadata is changed field by field");
        if value.is_null() {
            self.0.remove(name);
        } else {
            self.0.insert(name.to_owned(), value);
        }
    }

    /// The field at a JSON pointer.
    pub fn at(&self, pointer: &str) -> Option<&Value> {
        let (first, rest) = pointer.strip_prefix('/')?.split_once('/')?;
        self.0.get(first)?.pointer(&format!("/{rest}"))
    }

    /// The string at a JSON pointer of two steps or more.
    pub fn text(&self, pointer: &str) -> Option<&str> {
        self.at(pointer)?.as_str()
    }

    /// A field of `metadata`; null if it is absent.
    pub fn meta(&self, name: &str) -> &Value {
        &self.0["metadata"][name]
    }

    /// A string field of `metadata`; empty if it is absent.
    pub fn meta_text(&self, name: &str) -> &str {
        self.meta(name).as_str().unwrap_or_default()
    }

    /// Sets a field of `metadata`; null removes it. The value must have the field's type.
    pub fn set_meta(&mut self, name: &str, value: Value) {
        // `new` requires `metadata` to be an object, and no method removes it.
        let Some(Value::Object(metadata)) = self.0.get_mut("metadata") else {
            return;
        };
        if value.is_null() {
            metadata.remove(name);
        } else {
            metadata.insert(name.to_owned(), value);
        }
    }

    /// The whole `metadata`.
    pub fn metadata(&self) -> &Value {
        &self.0["metadata"]
    }

    /// Replaces `metadata` by that of another state of this object.
    pub fn set_metadata_of(&mut self, other: &Object) {
        self.0
            .insert("metadata".to_owned(), other.metadata().clone());
    }

    /// `metadata.name`.
    pub fn name(&self) -> &str {
        self.meta_text("name")
    }

    /// `metadata.namespace`; empty for an object that has no namespace.
    pub fn namespace(&self) -> &str {
        self.meta_text("namespace")
    }

    /// `metadata.uid`.
    pub fn uid(&self) -> &str {
        self.meta_text("uid")
    }

    /// `metadata.resourceVersion`.
    pub fn version(&self) -> &str {
        self.meta_text("resourceVersion")
    }

    /// Whether the object has a deletion timestamp.
    pub fn is_terminating(&self) -> bool {
        !self.meta("deletionTimestamp").is_null()
    }

    /// Whether the object has any finalizer.
    pub fn has_finalizers(&self) -> bool {
        self.meta("finalizers")
            .as_array()
            .is_some_and(|list| !list.is_empty())
    }

    pub fn labels(&self) -> BTreeMap<&str, &str> {
        let labels = self.meta("labels").as_object();
        labels
            .into_iter()
            .flatten()
            .filter_map(|(key, value)| Some((key.as_str(), value.as_str()?)))
            .collect()
    }
}

fn check_metadata(metadata: &Map<String, Value>) -> Result<(), String> {
    const TEXTS: [&str; 6] = [
        "name",
        "generateName",
        "namespace",
        "uid",
        "resourceVersion",
        "deletionTimestamp",
    ];
    let text = TEXTS
        .iter()
        .find(|field| metadata.get(**field).is_some_and(|v| !v.is_string()));
    if let Some(field) = text {
        return Err(format!("metadata.{field} is not a string"));
    }
    for field in ["labels", "annotations"] {
        let fine = match metadata.get(field) {
            None => true,
            Some(Value::Object(map)) => map.values().all(Value::is_string),
            Some(_) => false,
        };
        if !fine {
            return Err(format!("metadata.{field} is not a map of strings"));
        }
    }
    let finalizers = metadata.get("finalizers");
    let fine = finalizers.is_none_or(|v| {
        v.as_array()
            .is_some_and(|list| list.iter().all(Value::is_string))
    });
    if fine {
        Ok(())
    } else {
        Err("metadata.finalizers is not a list of strings".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_object_of_the_wrong_shape_is_refused_by_the_field_that_is_wrong() {
        for (value, words) in [
            (json!([]), "not a JSON object"),
            (json!({"metadata": 1}), "metadata is not an object"),
            (json!({"metadata": {"name": 1}}), "metadata.name"),
            (json!({"metadata": {"labels": {"a": 1}}}), "metadata.labels"),
            (json!({"metadata": {"finalizers": "x"}}), "finalizers"),
            (json!({"kind": 3}), "kind"),
        ] {
            let error = Object::new(value).unwrap_err();
            assert!(error.contains(words), "{error}");
        }
    }

    #[test]
    fn a_field_is_read_by_its_pointer_and_absent_ones_are_none() {
        let object = Object::new(json!({"spec": {"nodeName": "n"}})).unwrap();
        assert_eq!(object.text("/spec/nodeName"), Some("n"));
        assert_eq!(object.text("/status/phase"), None);
    }
}
