//! An `AdmissionReview` as the API server sends it, borrowed from the request's body.
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

/// The only version of the review that the hooks are registered for.
pub const API_VERSION: &str = "admission.k8s.io/v1";
/// The kind of the envelope.
pub const KIND: &str = "AdmissionReview";

/// The longest uid that is answered to, in bytes: answers and lines of the log carry it. It is chosen;
/// kube-apiserver's are UUIDs of 36.
const MAX_UID: usize = 128;
/// The longest name of a namespace, in bytes: a DNS label.
const MAX_NAMESPACE: usize = 63;
/// The longest text that a warning or a refusal says of a review that cannot be read, in bytes.
const MAX_PROBLEM: usize = 200;

/// The envelope; `O` is what is read of the object, `Old` of the object as it was.
#[derive(Debug, Deserialize)]
#[serde(
    rename_all = "camelCase",
    bound = "O: Deserialize<'de>, Old: Deserialize<'de>"
)]
pub struct Review<'a, O, Old = O> {
    /// [`API_VERSION`].
    #[serde(borrow)]
    pub api_version: Cow<'a, str>,
    /// [`KIND`].
    #[serde(borrow)]
    pub kind: Cow<'a, str>,
    /// What is asked.
    #[serde(default = "Option::default", deserialize_with = "object_or_null")]
    pub request: Option<Request<'a, O, Old>>,
}

/// What the API server asks about one operation.
#[derive(Debug, Deserialize)]
#[serde(
    rename_all = "camelCase",
    bound = "O: Deserialize<'de>, Old: Deserialize<'de>"
)]
pub struct Request<'a, O, Old = O> {
    /// Names the request; the answer carries it back.
    #[serde(borrow)]
    pub uid: Cow<'a, str>,
    /// `CREATE`, `UPDATE`, `DELETE` or `CONNECT`.
    #[serde(borrow)]
    pub operation: Cow<'a, str>,
    /// The namespace of the request; the object's own may be empty.
    #[serde(borrow, default)]
    pub namespace: Cow<'a, str>,
    /// The object's name; empty where the server will make one up.
    #[serde(borrow, default)]
    pub name: Cow<'a, str>,
    /// The resource that the hook was registered for.
    #[serde(deserialize_with = "object")]
    pub resource: Resource<'a>,
    /// `status` and the like; empty for the resource itself.
    #[serde(borrow, default)]
    pub sub_resource: Cow<'a, str>,
    /// The object as it would become; absent on `DELETE`.
    #[serde(default = "Option::default")]
    pub object: Option<O>,
    /// The object as it was; absent on `CREATE`.
    #[serde(default = "Option::default")]
    pub old_object: Option<Old>,
}

impl<O, Old> Request<'_, O, Old> {
    /// Whether there is a uid to answer to.
    pub fn has_uid(&self) -> bool {
        is_uid(&self.uid)
    }

    /// The namespace for the log: nothing bounds what a body has there.
    pub fn logged_namespace(&self) -> &str {
        cut(&self.namespace, MAX_NAMESPACE)
    }
}

fn is_uid(text: &str) -> bool {
    (1..=MAX_UID).contains(&text.len())
}

/// What is said of a request without a uid to answer to.
pub fn without_uid() -> String {
    format!("it has no request with a uid of 1 to {MAX_UID} bytes")
}

/// Group, version and plural name of a resource.
#[derive(Debug, Deserialize)]
pub struct Resource<'a> {
    /// The API group; empty for the core group.
    #[serde(borrow, default)]
    pub group: Cow<'a, str>,
    /// The API version.
    #[serde(borrow)]
    pub version: Cow<'a, str>,
    /// The plural name.
    #[serde(borrow)]
    pub resource: Cow<'a, str>,
}

/// Reads a review.
///
/// What `O` and `Old` do not read is skipped, however deep it is.
pub fn decode<'a, O, Old>(body: &'a [u8]) -> Result<Review<'a, O, Old>, serde_json::Error>
where
    O: Deserialize<'a>,
    Old: Deserialize<'a>,
{
    serde_json::from_slice::<Object<Review<'a, O, Old>>>(body).map(|Object(review)| review)
}

/// What is wrong with a text that could not be read, without any of its content.
///
/// serde's own message quotes what it found, which may be a secret. What it expected is ours.
pub fn problem(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let said = match (error.classify(), text.rsplit_once(", expected ")) {
        (Category::Data, Some((_, expected))) => format!("expected {expected}"),
        _ => text,
    };
    cut(&said, MAX_PROBLEM).to_owned()
}

/// Finds `request.uid` in a body that is broken further on, or cut off.
pub fn uid(body: &[u8]) -> Option<String> {
    let mut found = None;
    let mut json = serde_json::Deserializer::from_slice(body);
    // The uid is noted in passing: what is wrong behind it does not matter here.
    let _ = FindUid(&["request", "uid"], &mut found).deserialize(&mut json);
    found.filter(|uid| is_uid(uid))
}

/// A JSON object. serde's derived structs take a list of their fields as well.
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

/// Notes the string at a path.
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
