//! Parses the binding of a review, as far as the hooks need it.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;
use targetgate_core::binding::spec::TargetGroupBindingSpec;
use targetgate_core::model::UnreadableAnnotation;
use targetgate_core::object::OwnAnnotations;
use targetgate_core::text::cut;
use thiserror::Error;

/// Maximum length of a parser's message, in characters, because it may quote the binding. Chosen.
const MAX_PROBLEM: usize = 200;

/// Why an object does not parse as a binding.
#[derive(Debug, Error, PartialEq, Eq)]
pub(super) enum Malformed {
    #[error(
        "the review carries no object to decide on; check that the webhook is registered for targetgroupbindings of elbv2.k8s.aws"
    )]
    Absent,
    /// The object is of another kind.
    #[error("the object is no TargetGroupBinding: {0}")]
    NoBinding(String),
    /// A field has an invalid value.
    #[error("{field}: {problem}; write it as `kubectl explain targetgroupbinding.spec` says")]
    Field {
        /// The field, such as `spec.targetType`.
        field: String,
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

#[derive(Default, Deserialize)]
#[serde(default)]
struct Annotated {
    metadata: Option<Metadata>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Metadata {
    annotations: Option<OwnAnnotations>,
}

/// Our annotations on a review's object whose value cannot be read. Metadata that cannot be read has none: the API
/// server refuses it.
pub(super) fn unreadable_annotations(object: Option<&RawValue>) -> Vec<UnreadableAnnotation> {
    let read = object.map(|object| serde_json::from_str::<Annotated>(object.get()));
    let metadata = read.and_then(Result::ok).and_then(|read| read.metadata);
    let annotations = metadata.and_then(|metadata| metadata.annotations);
    annotations.unwrap_or_default().unreadable
}

/// The spec of a review's object; an absent spec counts as one without fields.
pub(super) fn spec(object: Option<&RawValue>) -> Result<TargetGroupBindingSpec, Malformed> {
    match raw_spec(object)? {
        Some(spec) => parse(spec),
        None => Ok(TargetGroupBindingSpec::default()),
    }
}

/// Whether two objects have the same spec, regardless of its JSON formatting.
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
    // serde would accept a list of the fields in their order.
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
    cut(text, MAX_PROBLEM).to_owned()
}
