//! The `AdmissionReview` of the API server, borrowed from the request's body.
//!
//! Source: <https://kubernetes.io/docs/reference/access-authn-authz/extensible-admission-controllers/#request>

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use serde::de::value::MapAccessDeserializer;
use serde::de::{DeserializeSeed, IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::error::Category;
use targetgate_core::text::cut;

/// The only version of the review for which the hooks are registered.
pub const API_VERSION: &str = "admission.k8s.io/v1";
/// The kind of the envelope.
pub const KIND: &str = "AdmissionReview";

/// Maximum length of a uid, in bytes, because answers and lines of the log repeat it. Chosen: kube-apiserver sends
/// UUIDs of 36.
const MAX_UID: usize = 128;
/// Maximum length of the name of a namespace, in bytes: that of a DNS label.
pub(super) const MAX_NAMESPACE: usize = 63;
/// Maximum length of the text about an unreadable review in a warning or refusal, in bytes. Chosen.
const MAX_PROBLEM: usize = 200;

/// The envelope; `O` is the type of the object, `Old` that of the old object.
#[derive(Debug, Deserialize)]
#[serde(
    rename_all = "camelCase",
    bound = "O: Deserialize<'de>, Old: Deserialize<'de>"
)]
pub struct Review<'a, O, Old = O> {
    #[serde(borrow)]
    pub api_version: Cow<'a, str>,
    #[serde(borrow)]
    pub kind: Cow<'a, str>,
    #[serde(default = "Option::default", deserialize_with = "object_or_null")]
    pub request: Option<Request<'a, O, Old>>,
}

/// The request of a review, about one operation.
#[derive(Debug, Deserialize)]
#[serde(
    rename_all = "camelCase",
    bound = "O: Deserialize<'de>, Old: Deserialize<'de>"
)]
pub struct Request<'a, O, Old = O> {
    /// Identifies the request; the answer repeats it.
    #[serde(borrow)]
    pub uid: Cow<'a, str>,
    /// `CREATE`, `UPDATE`, `DELETE` or `CONNECT`.
    #[serde(borrow)]
    pub operation: Cow<'a, str>,
    /// The namespace of the request; that of the object may be empty.
    #[serde(borrow, default)]
    pub namespace: Cow<'a, str>,
    /// The object's name; empty if the API server will generate it.
    #[serde(borrow, default)]
    pub name: Cow<'a, str>,
    /// The resource for which the hook was registered.
    #[serde(deserialize_with = "object")]
    pub resource: Resource<'a>,
    /// The subresource, such as `status`; empty for the resource itself.
    #[serde(borrow, default)]
    pub sub_resource: Cow<'a, str>,
    /// The new object; absent on `DELETE`.
    #[serde(default = "Option::default")]
    pub object: Option<O>,
    /// The old object; absent on `CREATE`.
    #[serde(default = "Option::default")]
    pub old_object: Option<Old>,
}

impl<O, Old> Request<'_, O, Old> {
    /// Whether the request has a uid, which the answer must repeat.
    pub fn has_uid(&self) -> bool {
        is_uid(&self.uid)
    }

    /// The namespace for the log, which is bounded, unlike the value in a body.
    pub fn logged_namespace(&self) -> &str {
        cut(&self.namespace, MAX_NAMESPACE)
    }
}

fn is_uid(text: &str) -> bool {
    (1..=MAX_UID).contains(&text.len())
}

/// The text about a request without a uid.
pub fn without_uid() -> String {
    format!("it has no request with a uid of 1 to {MAX_UID} bytes")
}

/// Group, version and plural name of a resource.
#[derive(Debug, Deserialize)]
pub struct Resource<'a> {
    /// The API group; empty for the core group.
    #[serde(borrow, default)]
    pub group: Cow<'a, str>,
    #[serde(borrow)]
    pub version: Cow<'a, str>,
    #[serde(borrow)]
    pub resource: Cow<'a, str>,
}

/// Reads a review.
///
/// Fields that `O` and `Old` do not have are skipped, however deep they are.
pub fn decode<'a, O, Old>(body: &'a [u8]) -> Result<Review<'a, O, Old>, serde_json::Error>
where
    O: Deserialize<'a>,
    Old: Deserialize<'a>,
{
    serde_json::from_slice::<Object<Review<'a, O, Old>>>(body).map(|Object(review)| review)
}

/// Describes a parse error without quoting the text.
///
/// serde's own message quotes the value that it found, which may be a secret. The expected type comes from our code.
pub fn problem(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let said = match (error.classify(), text.rsplit_once(", expected ")) {
        (Category::Data, Some((_, expected))) => format!("expected {expected}"),
        _ => text,
    };
    cut(&said, MAX_PROBLEM).to_owned()
}

/// Finds `request.uid` in a body that is truncated, or broken after it.
pub fn uid(body: &[u8]) -> Option<String> {
    let mut found = None;
    let mut json = serde_json::Deserializer::from_slice(body);
    // The parser stores the uid when it passes it: an error after it does not matter here.
    let _ = FindUid(&["request", "uid"], &mut found).deserialize(&mut json);
    found.filter(|uid| is_uid(uid))
}

/// A JSON object: serde's derived structs would accept a list of their fields as well.
#[derive(Debug)]
pub(super) struct Object<T>(pub(super) T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        object(deserializer).map(Self)
    }
}

fn object_or_null<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    Ok(Option::<Object<T>>::deserialize(deserializer)?.map(|Object(read)| read))
}

fn object<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    deserializer.deserialize_map(ObjectVisitor(PhantomData))
}

struct ObjectVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for ObjectVisitor<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<T, A::Error> {
        T::deserialize(MapAccessDeserializer::new(map))
    }
}

/// Stores the string at a path.
struct FindUid<'p, 'f>(&'p [&'p str], &'f mut Option<String>);

impl<'de> DeserializeSeed<'de> for FindUid<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        match self.0 {
            [] => *self.1 = Some(String::deserialize(deserializer)?),
            _ => deserializer.deserialize_map(self)?,
        }
        Ok(())
    }
}

impl<'de> Visitor<'de> for FindUid<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key::<Cow<'_, str>>()? {
            match self.0 {
                [next, rest @ ..] if key == *next => map.next_value_seed(FindUid(rest, self.1))?,
                _ => map.next_value::<IgnoredAny>().map(drop)?,
            }
        }
        Ok(())
    }
}
