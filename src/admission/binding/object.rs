//! A binding as a review carries it, read as far as the hooks need it.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;
use targetgate_core::binding::spec::TargetGroupBindingSpec;
use thiserror::Error;

/// Characters of a foreign message that are kept: it may repeat what was written.
const MAX_PROBLEM: usize = 200;

/// Why an object is no binding.
#[derive(Debug, Error, PartialEq, Eq)]
pub(super) enum Malformed {
    /// The review has no object.
    #[error(
        "the review carries no object to decide on; check that the webhook is registered for targetgroupbindings of elbv2.k8s.aws"
    )]
    Absent,
    /// The object is something else.
    #[error("the object is no TargetGroupBinding: {0}")]
    NoBinding(String),
    /// A field holds what it cannot hold.
    #[error("{field}: {problem}; write it as `kubectl explain targetgroupbinding.spec` says")]
    Field {
        /// The field, such as `spec.targetType`.
        field: String,
        /// What is wrong with it.
        problem: String,
    },
}

#[derive(Deserialize)]
struct Object<'a> {
    #[serde(borrow)]
    kind: Cow<'a, str>,
    #[serde(borrow, default)]
    spec: Option<&'a RawValue>,
}

/// The spec of a review's object; an absent one as if all its fields were absent.
pub(super) fn spec(object: Option<&RawValue>) -> Result<TargetGroupBindingSpec, Malformed> {
    match raw_spec(object)? {
        Some(spec) => parse(spec),
        None => Ok(TargetGroupBindingSpec::default()),
    }
}

/// Whether two objects have the same spec, however it is spelled.
pub(super) fn same_spec(old: Option<&RawValue>, new: Option<&RawValue>) -> bool {
    let (Ok(old), Ok(new)) = (raw_spec(old), raw_spec(new)) else {
        return false;
    };
    let value = |spec: Option<&RawValue>| {
        let text = spec.map_or("null", RawValue::get);
        serde_json::from_str::<Value>(text).ok()
    };
    old.map(RawValue::get) == new.map(RawValue::get)
        || value(old).is_some_and(|old| value(new) == Some(old))
}

fn raw_spec(object: Option<&RawValue>) -> Result<Option<&RawValue>, Malformed> {
    let object = object.ok_or(Malformed::Absent)?;
    // serde would read a list as the fields in their order.
    if !is_map(object) {
        return Err(Malformed::NoBinding("it is no JSON object".to_owned()));
    }
    let read: Object<'_> = serde_json::from_str(object.get())
        .map_err(|error| Malformed::NoBinding(bounded(&error.to_string())))?;
    if read.kind != "TargetGroupBinding" {
        let kind = bounded(&read.kind);
        return Err(Malformed::NoBinding(format!("its kind is {kind:?}")));
    }
    Ok(read.spec)
}

fn parse(spec: &RawValue) -> Result<TargetGroupBindingSpec, Malformed> {
    let wrong = |field: String, problem: String| Malformed::Field { field, problem };
    if !is_map(spec) {
        return Err(wrong("spec".to_owned(), "it is no JSON object".to_owned()));
    }
    let mut json = serde_json::Deserializer::from_str(spec.get());
    serde_path_to_error::deserialize(&mut json).map_err(|error| {
        let field = bounded(&format!("spec.{}", error.path()));
        wrong(field, bounded(&error.inner().to_string()))
    })
}

fn is_map(json: &RawValue) -> bool {
    json.get().starts_with('{')
}

fn bounded(text: &str) -> String {
    text.chars().take(MAX_PROBLEM).collect()
}
