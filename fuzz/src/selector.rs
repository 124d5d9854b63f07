//! Selectors agree with Kubernetes' documentation.
//!
//! The product implements a Service's selector. The sandbox's API also implements `LabelSelector`s and the text
//! of `labelSelector=`, on which the tests rely.
//! Source: <https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/#label-selectors>

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Deserialize;
use serde_json::Value;
use targetgate_core::model::Labels;
use targetgate_core::selector::selects;
use targetgate_sandbox::api::Selector;

type Pairs = BTreeMap<String, String>;

/// Parses the bytes as `{"labels": …, "selector": …}`, with the selector of a Deployment.
///
/// # Panics
///
/// If an implementation selects other labels than the documentation says.
pub fn holds(bytes: &[u8]) {
    let Ok(Case { labels, selector }) = serde_json::from_slice(bytes) else {
        return;
    };
    let Ok(read) = LabelSelector::deserialize(&selector) else {
        return;
    };
    if !read.is_valid() {
        return;
    }
    let expected = read.matches(&labels);
    let borrowed = labels.iter().map(|(k, v)| (k.as_str(), v.as_str()));
    let borrowed = borrowed.collect();
    let object = Selector::from_object(&selector).map(|selector| selector.matches(&borrowed));
    assert_eq!(object, Ok(expected), "as an object, {labels:?}: {selector}");
    let text = read.text();
    let parsed = Selector::parse(&text).map(|selector| selector.matches(&borrowed));
    assert_eq!(parsed, Ok(expected), "as a text, {labels:?}: {text}");
    if read.match_expressions.is_empty() {
        let ours = selects(&known(&read.match_labels), &known(&labels));
        let expected = selected(&read.match_labels, &labels);
        assert_eq!(ours, expected, "as a Service's, {labels:?}: {selector}");
    }
}

/// Whether a Service with this selector selects a pod with these labels. A Service without a selector does not
/// select anything.
pub(crate) fn selected(selector: &Pairs, labels: &Pairs) -> bool {
    let as_object = LabelSelector {
        match_labels: selector.clone(),
        match_expressions: vec![],
    };
    !selector.is_empty() && as_object.matches(labels)
}

#[derive(Deserialize)]
struct Case {
    labels: Pairs,
    selector: Value,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct LabelSelector {
    #[serde(default)]
    match_labels: Pairs,
    #[serde(default)]
    match_expressions: Vec<Expression>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Expression {
    key: String,
    operator: Operator,
    #[serde(default)]
    values: Vec<String>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
enum Operator {
    In,
    NotIn,
    Exists,
    DoesNotExist,
}

impl LabelSelector {
    /// "All of the requirements, from both matchLabels and matchExpressions, must be satisfied". Without
    /// requirements, this is always so.
    fn matches(&self, labels: &Pairs) -> bool {
        let mut pairs = self.match_labels.iter();
        pairs.all(|(key, value)| labels.get(key) == Some(value))
            && self.match_expressions.iter().all(|e| e.matches(labels))
    }

    /// Whether the API server accepts the selector. What an invalid one selects is not documented.
    fn is_valid(&self) -> bool {
        let mut pairs = self.match_labels.iter();
        pairs.all(|(key, value)| is_key(key) && is_value(value))
            && self.match_expressions.iter().all(Expression::is_valid)
    }

    /// The selector as kubectl writes it.
    fn text(&self) -> String {
        let pairs = self.match_labels.iter();
        let pairs = pairs.map(|(key, value)| format!("{key}={value}"));
        let expressions = self.match_expressions.iter().map(Expression::text);
        pairs.chain(expressions).collect::<Vec<_>>().join(",")
    }
}

impl Expression {
    fn matches(&self, labels: &Pairs) -> bool {
        let value = labels.get(&self.key);
        let listed = value.is_some_and(|value| self.values.contains(value));
        match self.operator {
            Operator::In => listed,
            // An object without the label is selected, too.
            Operator::NotIn => !listed,
            Operator::Exists => value.is_some(),
            Operator::DoesNotExist => value.is_none(),
        }
    }

    fn is_valid(&self) -> bool {
        let wants_values = matches!(self.operator, Operator::In | Operator::NotIn);
        is_key(&self.key)
            && self.values.iter().all(|value| is_value(value))
            && wants_values != self.values.is_empty()
    }

    fn text(&self) -> String {
        let (key, values) = (&self.key, self.values.join(","));
        match self.operator {
            Operator::In => format!("{key} in ({values})"),
            Operator::NotIn => format!("{key} notin ({values})"),
            Operator::Exists => key.clone(),
            Operator::DoesNotExist => format!("!{key}"),
        }
    }
}

/// A qualified name: an optional DNS subdomain and `/`, then a value that is not empty.
fn is_key(key: &str) -> bool {
    let (prefix, name) = match key.split_once('/') {
        Some((prefix, name)) => (Some(prefix), name),
        None => (None, key),
    };
    let lower = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let label = |label: &str| {
        label.starts_with(lower)
            && label.ends_with(lower)
            && label.chars().all(|c| lower(c) || c == '-')
    };
    let domain = |prefix: &str| prefix.len() <= 253 && prefix.split('.').all(label);
    prefix.is_none_or(domain) && !name.is_empty() && is_value(name)
}

fn is_value(value: &str) -> bool {
    let alphanumeric = |c: char| c.is_ascii_alphanumeric();
    let inner = |c: char| alphanumeric(c) || "-_.".contains(c);
    value.is_empty()
        || value.len() <= 63
            && value.starts_with(alphanumeric)
            && value.ends_with(alphanumeric)
            && value.chars().all(inner)
}

fn known(pairs: &Pairs) -> Labels {
    let pairs = pairs.iter();
    pairs
        .map(|(key, value)| (Arc::from(&**key), Arc::from(&**value)))
        .collect()
}
