//! An `AdmissionReview` as the API server sends it, borrowed from the request's body.
//!
//! Source: <https://kubernetes.io/docs/reference/access-authn-authz/extensible-admission-controllers/#request>

use std::borrow::Cow;

use serde::Deserialize;

/// The envelope; `O` is what is read of the object.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", bound = "O: Deserialize<'de>")]
pub struct Review<'a, O> {
    /// `admission.k8s.io/v1`, the only version that we register for.
    #[serde(borrow)]
    pub api_version: Cow<'a, str>,
    /// `AdmissionReview`.
    #[serde(borrow)]
    pub kind: Cow<'a, str>,
    /// What is asked.
    #[serde(default = "Option::default")]
    pub request: Option<Request<'a, O>>,
}

/// What the API server asks about one operation.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", bound = "O: Deserialize<'de>")]
pub struct Request<'a, O> {
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
    pub resource: Resource<'a>,
    /// `status` and the like; empty for the resource itself.
    #[serde(borrow, default)]
    pub sub_resource: Cow<'a, str>,
    /// The object as it would become; absent on `DELETE`.
    #[serde(default = "Option::default")]
    pub object: Option<O>,
    /// The object as it was; absent on `CREATE`.
    #[serde(default = "Option::default")]
    pub old_object: Option<O>,
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
