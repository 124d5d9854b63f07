//! Structural schemas of custom resources: pruning, defaults and validation.
//!
//! Not implemented: `x-kubernetes-validations`, `format`, `multipleOf` and the `allOf` family,
//! which the CRDs in use here do not need.

use regex::Regex;
use serde_json::{Map, Value};

use super::{object::Object, status::Cause};

/// Prunes the fields that the schema does not know, and fills in its defaults.
pub fn prune(schema: &Value, object: &mut Object) {
    for field in top_fields(object) {
        let mut value = object.field(&field).clone();
        let known = &schema["properties"][&field];
        if known.is_null() && !preserves(schema) {
            value = Value::Null;
        } else {
            prune_value(known, &mut value);
        }
        object.set(&field, value);
    }
    for (field, known) in schema["properties"].as_object().into_iter().flatten() {
        if object.field(field).is_null() && !is_envelope(field) && !known["default"].is_null() {
            object.set(field, known["default"].clone());
        }
    }
}

/// Validates an object, and returns a cause for each violation of the schema.
pub fn check(schema: &Value, object: &Object) -> Vec<Cause> {
    let mut causes = Vec::new();
    for field in schema["required"].as_array().into_iter().flatten() {
        let field = field.as_str().unwrap_or_default();
        if object.field(field).is_null() && !is_envelope(field) {
            causes.push(Cause::required(field, ""));
        }
    }
    for field in top_fields(object) {
        let known = &schema["properties"][&field];
        check_value(known, object.field(&field), &field, &mut causes);
    }
    causes
}

fn top_fields(object: &Object) -> Vec<String> {
    let value = object.to_value();
    let fields = value.as_object().into_iter().flatten();
    fields
        .map(|(field, _)| field.clone())
        .filter(|field| !is_envelope(field))
        .collect()
}

fn is_envelope(field: &str) -> bool {
    matches!(field, "apiVersion" | "kind" | "metadata")
}

fn preserves(schema: &Value) -> bool {
    schema["x-kubernetes-preserve-unknown-fields"] == true
}

fn prune_value(schema: &Value, value: &mut Value) {
    match value {
        Value::Object(map) => prune_map(schema, map),
        Value::Array(list) => {
            for entry in list {
                prune_value(&schema["items"], entry);
            }
        }
        _ => {}
    }
}

fn prune_map(schema: &Value, map: &mut Map<String, Value>) {
    let additional = &schema["additionalProperties"];
    let properties = &schema["properties"];
    if !preserves(schema) && additional.is_null() {
        map.retain(|field, _| !properties[field].is_null());
    }
    for (field, value) in map.iter_mut() {
        let known = &properties[field];
        // Below a preserved unknown field the schema knows no fields, so that everything stays.
        if !known.is_null() {
            prune_value(known, value);
        } else if additional.is_object() {
            prune_value(additional, value);
        }
    }
    for (field, known) in properties.as_object().into_iter().flatten() {
        let default = &known["default"];
        let missing = map.get(field).is_none_or(Value::is_null);
        if missing && !default.is_null() {
            map.insert(field.clone(), default.clone());
        }
    }
}

fn check_value(schema: &Value, value: &Value, path: &str, causes: &mut Vec<Cause>) {
    if schema.is_null() || (value.is_null() && schema["nullable"] == true) {
        return;
    }
    if let Some(wanted) = wrong_type(schema, value) {
        let have = type_of(value);
        let why = format!("{path} in body must be of type {wanted}: \"{have}\"");
        causes.push(Cause::invalid(path, &Value::from(have), &why));
        return;
    }
    if let Some(allowed) = schema["enum"].as_array()
        && !allowed.contains(value)
    {
        causes.push(Cause::unsupported(path, value, allowed));
    }
    match value {
        Value::String(text) => check_text(schema, text, path, causes),
        Value::Number(_) => check_number(schema, value, path, causes),
        Value::Array(list) => check_list(schema, list, path, causes),
        Value::Object(map) => check_map(schema, map, path, causes),
        Value::Null | Value::Bool(_) => {}
    }
}

fn wrong_type<'a>(schema: &'a Value, value: &Value) -> Option<&'a str> {
    if schema["x-kubernetes-int-or-string"] == true {
        let fits = value.is_i64() || value.is_u64() || value.is_string();
        return (!fits).then_some("integer,string");
    }
    let wanted = schema["type"].as_str()?;
    let fits = match wanted {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        _ => true,
    };
    (!fits).then_some(wanted)
}

fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

fn check_text(schema: &Value, text: &str, path: &str, causes: &mut Vec<Cause>) {
    let length = text.chars().count() as u64;
    let value = Value::from(text);
    let mut refuse = |why: String| causes.push(Cause::invalid(path, &value, &why));
    if let Some(least) = schema["minLength"].as_u64()
        && length < least
    {
        refuse(format!(
            "{path} in body should be at least {least} chars long"
        ));
    }
    if let Some(most) = schema["maxLength"].as_u64()
        && length > most
    {
        refuse(format!(
            "{path} in body should be at most {most} chars long"
        ));
    }
    if let Some(pattern) = schema["pattern"].as_str() {
        match Regex::new(pattern) {
            Ok(regex) if regex.is_match(text) => {}
            Ok(_) => refuse(format!("{path} in body should match '{pattern}'")),
            Err(error) => refuse(format!("the schema's pattern cannot be read: {error}")),
        }
    }
}

fn check_number(schema: &Value, value: &Value, path: &str, causes: &mut Vec<Cause>) {
    let number = value.as_f64().unwrap_or_default();
    let mut refuse = |why: String| causes.push(Cause::invalid(path, value, &why));
    if let Some(least) = schema["minimum"].as_f64()
        && number < least
    {
        refuse(format!(
            "{path} in body should be greater than or equal to {least}"
        ));
    }
    if let Some(most) = schema["maximum"].as_f64()
        && number > most
    {
        refuse(format!(
            "{path} in body should be less than or equal to {most}"
        ));
    }
}

fn check_list(schema: &Value, list: &[Value], path: &str, causes: &mut Vec<Cause>) {
    let length = list.len() as u64;
    let value = Value::from(length);
    let mut refuse = |why: String| causes.push(Cause::invalid(path, &value, &why));
    if let Some(least) = schema["minItems"].as_u64()
        && length < least
    {
        refuse(format!("{path} in body should have at least {least} items"));
    }
    if let Some(most) = schema["maxItems"].as_u64()
        && length > most
    {
        refuse(format!("{path} in body should have at most {most} items"));
    }
    for (at, entry) in list.iter().enumerate() {
        check_value(&schema["items"], entry, &format!("{path}[{at}]"), causes);
    }
}

fn check_map(schema: &Value, map: &Map<String, Value>, path: &str, causes: &mut Vec<Cause>) {
    for field in schema["required"].as_array().into_iter().flatten() {
        let field = field.as_str().unwrap_or_default();
        if map.get(field).is_none_or(Value::is_null) {
            causes.push(Cause::required(format!("{path}.{field}"), ""));
        }
    }
    for (field, value) in map {
        let known = match &schema["properties"][field] {
            Value::Null => &schema["additionalProperties"],
            known => known,
        };
        let required = schema["required"].as_array();
        let required = required.is_some_and(|r| r.iter().any(|r| r.as_str() == Some(field)));
        if !(value.is_null() && required) {
            check_value(known, value, &format!("{path}.{field}"), causes);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn schema() -> Value {
        json!({"type": "object", "required": ["spec"], "properties": {"spec": {
            "type": "object",
            "required": ["port"],
            "properties": {
                "port": {"x-kubernetes-int-or-string": true},
                "kind": {"type": "string", "enum": ["ip", "instance"]},
                "vpc": {"type": "string", "pattern": "^vpc-[0-9a-f]+$", "maxLength": 8},
                "name": {"type": "string", "minLength": 1},
                "count": {"type": "integer", "minimum": 1, "default": 3},
                "tags": {"type": "object", "additionalProperties": {"type": "string"}},
                "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
                "list": {"type": "array", "items": {
                    "type": "object", "properties": {"a": {"type": "string"}},
                }},
            },
        }}})
    }

    fn thing(spec: Value) -> Object {
        Object::new(json!({"metadata": {"name": "t"}, "spec": spec})).unwrap()
    }

    #[test]
    fn each_violation_names_its_field() {
        for (spec, field, words) in [
            (json!({}), "spec.port", "Required value"),
            (json!({"port": null}), "spec.port", "Required value"),
            (json!({"port": 1.5}), "spec.port", "integer,string"),
            (
                json!({"port": 1, "kind": "x"}),
                "spec.kind",
                r#"supported values: "ip", "instance""#,
            ),
            (
                json!({"port": 1, "vpc": "vpc-x"}),
                "spec.vpc",
                "should match",
            ),
            (
                json!({"port": 1, "vpc": "vpc-123456"}),
                "spec.vpc",
                "at most 8 chars",
            ),
            (
                json!({"port": 1, "name": ""}),
                "spec.name",
                "at least 1 chars",
            ),
            (
                json!({"port": 1, "count": 0}),
                "spec.count",
                "greater than or equal to 1",
            ),
            (
                json!({"port": 1, "count": "1"}),
                "spec.count",
                "must be of type integer",
            ),
            (
                json!({"port": 1, "tags": {"a": 1}}),
                "spec.tags.a",
                "must be of type string",
            ),
            (
                json!({"port": 1, "list": [{"a": 1}]}),
                "spec.list[0].a",
                "must be of type string",
            ),
        ] {
            let causes = check(&schema(), &thing(spec));
            assert_eq!(causes.len(), 1, "{causes:?}");
            assert_eq!(causes[0].field, field);
            assert!(causes[0].message.contains(words), "{causes:?}");
        }
        assert!(check(&schema(), &thing(json!({"port": "http"}))).is_empty());
        let empty = Object::new(json!({})).unwrap();
        assert_eq!(check(&schema(), &empty)[0].field, "spec");
    }

    #[test]
    fn unknown_fields_go_and_defaults_come() {
        let mut object = thing(json!({
            "port": 1, "unknown": 1, "free": {"any": {"thing": 1}}, "tags": {"a": "b"},
            "list": [{"a": "x", "b": "y"}],
        }));
        object.set("more", json!(1));
        prune(&schema(), &mut object);
        let expected = json!({
            "port": 1, "count": 3, "free": {"any": {"thing": 1}}, "tags": {"a": "b"},
            "list": [{"a": "x"}],
        });
        assert_eq!(object.field("spec"), &expected);
        assert_eq!(object.field("more"), &Value::Null);
    }
}
