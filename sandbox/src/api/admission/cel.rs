//! The CEL conditions of a webhook, `matchConditions`.

use std::collections::HashMap;

use cel::{Context, Program, Value as Cel};
use serde_json::Value;

use super::rules::MatchCondition;

/// The result of all conditions together.
#[derive(Debug, PartialEq, Eq)]
pub enum Verdict {
    /// All conditions are true.
    Match,
    /// At least one condition is false, whatever the others are.
    NoMatch,
    /// No condition is false, but at least one could not be evaluated.
    Failed(String),
}

/// Evaluates the conditions over the request (without its objects), the object and the old object.
pub fn evaluate(conditions: &[MatchCondition], review: &Value) -> Verdict {
    let mut failed = None;
    for condition in conditions {
        match holds(&condition.expression, review) {
            Ok(true) => {}
            Ok(false) => return Verdict::NoMatch,
            Err(why) => {
                failed.get_or_insert(format!(
                    "expression '{}' resulted in error: {why}",
                    condition.expression
                ));
            }
        }
    }
    failed.map_or(Verdict::Match, Verdict::Failed)
}

fn holds(expression: &str, review: &Value) -> Result<bool, String> {
    let program = Program::compile(expression).map_err(|error| error.to_string())?;
    let mut context = Context::default();
    for (name, field) in [("object", "object"), ("oldObject", "oldObject")] {
        context.add_variable_from_value(name, value(&review[field]));
    }
    let mut request = review.clone();
    for field in ["object", "oldObject"] {
        if let Some(map) = request.as_object_mut() {
            map.remove(field);
        }
    }
    context.add_variable_from_value("request", value(&request));
    match program.execute(&context) {
        Ok(Cel::Bool(holds)) => Ok(holds),
        Ok(_) => Err("the result is not a boolean".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

/// Converts JSON to the CEL value that Kubernetes makes of it: whole numbers are `int`.
fn value(json: &Value) -> Cel {
    match json {
        Value::Null => Cel::Null,
        Value::Bool(bool) => Cel::Bool(*bool),
        Value::Number(number) => match number.as_i64() {
            Some(whole) => Cel::Int(whole),
            None => Cel::Float(number.as_f64().unwrap_or(f64::NAN)),
        },
        Value::String(text) => Cel::from(text.as_str()),
        Value::Array(list) => Cel::from(list.iter().map(value).collect::<Vec<_>>()),
        Value::Object(map) => {
            let entries = map.iter().map(|(key, entry)| (key.clone(), value(entry)));
            Cel::from(entries.collect::<HashMap<String, Cel>>())
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn verdict(expressions: &[&str], review: &Value) -> Verdict {
        let conditions: Vec<_> = expressions
            .iter()
            .map(|expression| MatchCondition {
                expression: (*expression).to_owned(),
            })
            .collect();
        evaluate(&conditions, review)
    }

    #[test]
    fn a_condition_sees_the_request_and_both_objects() {
        let changed = "request.operation == 'CREATE' || object.spec != oldObject.spec";
        let review = |operation, old: Value| {
            json!({
                "operation": operation,
                "object": {"spec": {"port": 80}},
                "oldObject": old,
            })
        };
        let same = review("UPDATE", json!({"spec": {"port": 80}}));
        let other = review("UPDATE", json!({"spec": {"port": 81}}));
        assert_eq!(verdict(&[changed], &same), Verdict::NoMatch);
        assert_eq!(verdict(&[changed], &other), Verdict::Match);
        assert_eq!(
            verdict(&[changed], &review("CREATE", Value::Null)),
            Verdict::Match
        );
        assert_eq!(verdict(&["object.spec.port == 80"], &same), Verdict::Match);
        assert_eq!(verdict(&["has(object.metadata)"], &same), Verdict::NoMatch);
    }

    #[test]
    fn a_false_condition_outweighs_a_failed_one() {
        let review = json!({"object": {}});
        assert_eq!(
            verdict(&["object.no.such", "false"], &review),
            Verdict::NoMatch
        );
        for bad in ["object.no.such", "1 +", "'text'"] {
            let verdict = verdict(&[bad, "true"], &review);
            assert!(matches!(verdict, Verdict::Failed(_)), "{bad}");
        }
        assert_eq!(verdict(&[], &review), Verdict::Match);
    }
}
