//! Label and field selectors: the text of a query parameter, and the `LabelSelector` of an object.

use std::collections::BTreeMap;

use serde_json::Value;

use super::object::Object;

/// A list of requirements, all of which must be met.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selector(Vec<Requirement>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Requirement {
    key: String,
    test: Test,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Test {
    In(Vec<String>),
    NotIn(Vec<String>),
    Exists,
    DoesNotExist,
}

impl Selector {
    /// Parses `a=b,c!=d,e in (f,g),h notin (i),j,!k`. An empty text selects all objects.
    pub fn parse(text: &str) -> Result<Selector, String> {
        let parts = split_outside_parentheses(text);
        let requirements = parts
            .into_iter()
            .map(str::trim)
            .filter(|part| !part.is_empty())
            .map(requirement);
        Ok(Selector(requirements.collect::<Result<_, _>>()?))
    }

    /// Reads a `metav1.LabelSelector`. Null selects all objects, as the empty selector does.
    pub fn from_object(value: &Value) -> Result<Selector, String> {
        let mut requirements = Vec::new();
        for (key, wanted) in value["matchLabels"].as_object().into_iter().flatten() {
            let wanted = wanted.as_str().ok_or("not a string in matchLabels")?;
            requirements.push(Requirement {
                key: key.clone(),
                test: Test::In(vec![wanted.to_owned()]),
            });
        }
        for expression in value["matchExpressions"].as_array().into_iter().flatten() {
            requirements.push(Requirement {
                key: expression["key"].as_str().unwrap_or_default().to_owned(),
                test: expression_test(expression)?,
            });
        }
        Ok(Selector(requirements))
    }

    /// Whether these labels meet every requirement.
    pub fn matches(&self, labels: &BTreeMap<&str, &str>) -> bool {
        self.0.iter().all(|requirement| {
            let value = labels.get(requirement.key.as_str()).copied();
            requirement.test.holds(value)
        })
    }

    /// Whether an object's fields meet every requirement of a field selector.
    pub fn matches_fields(&self, object: &Object) -> bool {
        self.0.iter().all(|requirement| {
            let pointer = format!("/{}", requirement.key.replace('.', "/"));
            // An absent field is the empty string to a field selector.
            let value = object.text(&pointer).unwrap_or_default();
            requirement.test.holds(Some(value))
        })
    }

    /// The keys of the requirements, so that the caller can refuse fields that cannot be selected.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|requirement| requirement.key.as_str())
    }
}

impl Test {
    fn holds(&self, value: Option<&str>) -> bool {
        match self {
            Test::In(wanted) => value.is_some_and(|v| wanted.iter().any(|w| w == v)),
            Test::NotIn(unwanted) => !value.is_some_and(|v| unwanted.iter().any(|w| w == v)),
            Test::Exists => value.is_some(),
            Test::DoesNotExist => value.is_none(),
        }
    }
}

fn expression_test(expression: &Value) -> Result<Test, String> {
    let values = expression["values"].as_array().into_iter().flatten();
    let values = values.filter_map(|v| v.as_str().map(str::to_owned));
    match expression["operator"].as_str() {
        Some("In") => Ok(Test::In(values.collect())),
        Some("NotIn") => Ok(Test::NotIn(values.collect())),
        Some("Exists") => Ok(Test::Exists),
        Some("DoesNotExist") => Ok(Test::DoesNotExist),
        other => Err(format!("{other:?} is not a valid label selector operator")),
    }
}

fn split_outside_parentheses(text: &str) -> Vec<&str> {
    let mut depth = 0_usize;
    text.split(move |c: char| {
        match c {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            _ => {}
        }
        c == ',' && depth == 0
    })
    .collect()
}

fn requirement(part: &str) -> Result<Requirement, String> {
    let make = |key: &str, test| Requirement {
        key: key.trim().to_owned(),
        test,
    };
    let one = |value: &str| vec![value.trim().to_owned()];
    if let Some(list) = part.strip_suffix(')') {
        let (head, list) = list
            .split_once('(')
            .ok_or_else(|| format!("unable to parse requirement: {part}"))?;
        let values = list.split(',').map(|v| v.trim().to_owned()).collect();
        let mut words = head.split_whitespace();
        return match (words.next(), words.next(), words.next()) {
            (Some(key), Some("in"), None) => Ok(make(key, Test::In(values))),
            (Some(key), Some("notin"), None) => Ok(make(key, Test::NotIn(values))),
            _ => Err(format!("unable to parse requirement: {part}")),
        };
    }
    if let Some(key) = part.strip_prefix('!') {
        return Ok(make(key, Test::DoesNotExist));
    }
    if let Some((key, value)) = part.split_once("!=") {
        return Ok(make(key, Test::NotIn(one(value))));
    }
    if let Some((key, value)) = part.split_once("==").or_else(|| part.split_once('=')) {
        return Ok(make(key, Test::In(one(value))));
    }
    if part.contains(char::is_whitespace) {
        return Err(format!("unable to parse requirement: {part}"));
    }
    Ok(make(part, Test::Exists))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_selector_in_text_selects_as_kubectl_says_it_does() {
        let labels = BTreeMap::from([("app", "web"), ("tier", "front")]);
        for (text, expected) in [
            ("", true),
            ("app=web", true),
            ("app==web,tier=front", true),
            ("app!=web", false),
            ("other!=web", true),
            ("app in (api, web),tier", true),
            ("app notin (api,web)", false),
            ("other notin (a)", true),
            ("!app", false),
            ("!other", true),
        ] {
            let selector = Selector::parse(text).unwrap();
            assert_eq!(selector.matches(&labels), expected, "{text}");
        }
        assert!(Selector::parse("a b").is_err());
        assert!(Selector::parse("a within (b)").is_err());
    }

    #[test]
    fn a_label_selector_object_joins_both_lists() {
        let selector = json!({
            "matchLabels": {"app": "web"},
            "matchExpressions": [{"key": "tier", "operator": "NotIn", "values": ["back"]}],
        });
        let selector = Selector::from_object(&selector).unwrap();
        assert!(selector.matches(&BTreeMap::from([("app", "web")])));
        assert!(!selector.matches(&BTreeMap::from([("app", "web"), ("tier", "back")])));
        assert!(!selector.matches(&BTreeMap::new()));
        let bad = json!({"matchExpressions": [{"key": "a", "operator": "Near"}]});
        assert!(Selector::from_object(&bad).is_err());
    }

    #[test]
    fn an_absent_field_is_empty_to_a_field_selector() {
        let pod = Object::new(json!({"spec": {"nodeName": "n1"}})).unwrap();
        let selects = |text| Selector::parse(text).unwrap().matches_fields(&pod);
        assert!(selects("spec.nodeName=n1"));
        assert!(selects("status.phase="));
        assert!(selects("status.phase!=Running"));
        assert!(!selects("spec.nodeName!=n1"));
    }
}
