//! Holds answers to `docs/explain.schema.json`. It knows the keywords that the schema has, and refuses others.

use serde_json::{Map, Value};

/// Fails unless the answer is what the schema describes.
pub(super) fn hold(answer: &Value) {
    hold_to(include_str!("../../../docs/explain.schema.json"), answer);
}

/// Fails unless the answer is what this schema describes.
pub(crate) fn hold_to(schema: &str, answer: &Value) {
    let schema: Value = serde_json::from_str(schema).unwrap();
    let problem = Schema { root: &schema }.problem(&schema, answer);
    assert_eq!(problem, None, "{answer:#}");
}

struct Schema<'a> {
    root: &'a Value,
}

impl Schema<'_> {
    /// Why a value is not what a schema describes.
    fn problem(&self, schema: &Value, value: &Value) -> Option<String> {
        let schema = match schema {
            Value::Bool(true) => return None,
            schema => schema.as_object().unwrap(),
        };
        schema.iter().find_map(|(keyword, wanted)| {
            let why = self.of_keyword(keyword, wanted, schema, value)?;
            Some(format!("{keyword}: {why}"))
        })
    }

    fn of_keyword(
        &self,
        keyword: &str,
        wanted: &Value,
        schema: &Map<String, Value>,
        value: &Value,
    ) -> Option<String> {
        match keyword {
            "$schema" | "$defs" | "title" | "description" | "format" => None,
            "$ref" => {
                let place = wanted.as_str().unwrap().strip_prefix('#').unwrap();
                self.problem(self.root.pointer(place).unwrap(), value)
            }
            "anyOf" | "oneOf" => {
                let fits = |of: &Value| self.problem(of, value).is_none();
                let fitting = wanted
                    .as_array()
                    .unwrap()
                    .iter()
                    .filter(|of| fits(of))
                    .count();
                let enough = if keyword == "oneOf" {
                    fitting == 1
                } else {
                    fitting > 0
                };
                (!enough).then(|| format!("{fitting} fit {value}"))
            }
            "enum" => (!wanted.as_array().unwrap().contains(value)).then(|| value.to_string()),
            "const" => (wanted != value).then(|| value.to_string()),
            "type" => {
                let types = wanted.as_array().cloned().unwrap_or(vec![wanted.clone()]);
                let fits = types
                    .iter()
                    .any(|wanted| is_of(wanted.as_str().unwrap(), value));
                (!fits).then(|| value.to_string())
            }
            "minimum" => (value.as_f64() < wanted.as_f64()).then(|| value.to_string()),
            "maximum" => (value.as_f64() > wanted.as_f64()).then(|| value.to_string()),
            "items" => {
                let mut items = value.as_array()?.iter();
                items.find_map(|item| self.problem(wanted, item))
            }
            "required" => {
                let mut names = wanted.as_array().unwrap().iter();
                let missing = names.find(|name| value.get(name.as_str().unwrap()).is_none());
                missing.map(ToString::to_string)
            }
            "properties" => wanted
                .as_object()
                .unwrap()
                .iter()
                .find_map(|(name, schema)| {
                    let why = self.problem(schema, value.get(name)?)?;
                    Some(format!("{name}: {why}"))
                }),
            "additionalProperties" => {
                assert_eq!(wanted, &Value::Bool(false));
                let known = schema.get("properties")?.as_object().unwrap();
                let mut names = value.as_object()?.keys();
                names.find(|name| !known.contains_key(*name)).cloned()
            }
            other => panic!("the schema has a keyword that this test does not know: {other}"),
        }
    }
}

fn is_of(wanted: &str, value: &Value) -> bool {
    match wanted {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "number" => value.is_number(),
        "integer" => value.is_i64() || value.is_u64(),
        "null" => value.is_null(),
        other => panic!("a type that this test does not know: {other}"),
    }
}

#[test]
fn an_answer_that_is_not_as_documented_is_noticed() {
    use serde_json::json;
    let schema = json!({ "type": "object", "required": ["a"], "additionalProperties": false,
        "properties": { "a": { "enum": ["x"] }, "b": { "type": ["integer", "null"] } } });
    let problem = |value: Value| Schema { root: &schema }.problem(&schema, &value);
    assert_eq!(problem(json!({ "a": "x", "b": 1 })), None);
    for wrong in [
        json!({}),
        json!({ "a": "y" }),
        json!({ "a": "x", "c": 1 }),
        json!({ "a": "x", "b": "1" }),
    ] {
        assert!(problem(wrong).is_some());
    }
}
