//! The answer of a hook, and its form on the wire.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use json_patch::Patch;
use serde::Serialize;
use serde_json::value::RawValue;
use targetgate_core::model::UnreadableAnnotation;
use targetgate_core::reason::Reason;

/// Initial capacity of an answer, in bytes. Chosen: it suffices for most.
const USUAL: usize = 1536;
/// The same of a patch, before it is encoded.
const USUAL_PATCH: usize = 512;

/// The decision of a hook about one request.
#[derive(Debug)]
pub struct Answer {
    /// Why the request is denied; `None` allows it.
    pub denied: Option<String>,
    /// Changes to the raw object; may be empty.
    pub patch: Patch,
    /// Warnings for the client that made the request, as `Warning` headers.
    pub warnings: Vec<String>,
    /// Annotations for the API server's audit log, which prefixes them with the webhook's name.
    pub audit: BTreeMap<&'static str, String>,
    /// The reason, which labels the metric.
    pub reason: Reason,
}

impl Answer {
    /// Allows the request without changes.
    pub fn allowed(reason: Reason) -> Self {
        Self {
            reason,
            denied: None,
            patch: Patch::default(),
            warnings: vec![],
            audit: BTreeMap::new(),
        }
    }

    /// Denies the request; `message` tells the client why and what to do.
    pub fn denied(reason: Reason, message: impl Into<String>) -> Self {
        Self {
            denied: Some(message.into()),
            ..Self::allowed(reason)
        }
    }

    /// Names the decision in the audit log as well.
    #[must_use]
    pub fn audited(mut self) -> Self {
        let reason = self.reason.as_str();
        self.audit.insert("decision", reason.to_owned());
        self
    }

    /// Adds a warning for the client that made the request.
    #[must_use]
    pub fn warn(mut self, warning: impl Into<String>) -> Self {
        self.warnings.push(warning.into());
        self
    }

    /// Warns of annotations of ours that cannot be read, and therefore count as absent (contract 5.6).
    #[must_use]
    pub fn warn_of_unreadable(mut self, annotations: &[UnreadableAnnotation]) -> Self {
        self.warnings
            .extend(annotations.iter().map(ToString::to_string));
        self
    }

    /// The `AdmissionReview` to send back, for the request of this `uid`.
    ///
    /// kube's own response type writes `patch` as an array of numbers where the API server expects
    /// base64 (kube-rs #1781), hence this one.
    /// Source: <https://kubernetes.io/docs/reference/access-authn-authz/extensible-admission-controllers/#response>
    pub fn to_json(&self, uid: &str) -> Vec<u8> {
        let patch = Some(&self.patch).filter(|patch| !patch.is_empty());
        let patch = patch.and_then(in_base64);
        let review = Review {
            api_version: "admission.k8s.io/v1",
            kind: "AdmissionReview",
            response: Response {
                uid,
                allowed: self.denied.is_none(),
                status: self
                    .denied
                    .as_deref()
                    .map(|message| Status { code: 403, message }),
                patch_type: patch.is_some().then_some("JSONPatch"),
                patch,
                warnings: &self.warnings,
                audit_annotations: &self.audit,
            },
        };
        let mut json = Vec::with_capacity(USUAL);
        // All fields have a JSON form, and writing to a `Vec` does not fail.
        let _ = serde_json::to_writer(&mut json, &review);
        json
    }
}

/// A JSON string of the patch. Base64 has nothing to escape, so that it need not be looked through for that.
fn in_base64(patch: &Patch) -> Option<Box<RawValue>> {
    let mut json = Vec::with_capacity(USUAL_PATCH);
    // A patch consists of strings and numbers, so it always has a JSON form.
    serde_json::to_writer(&mut json, patch).ok()?;
    let mut text = String::with_capacity(2 + json.len().div_ceil(3) * 4);
    text.push('"');
    STANDARD.encode_string(json, &mut text);
    text.push('"');
    RawValue::from_string(text).ok()
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Review<'a> {
    api_version: &'static str,
    kind: &'static str,
    response: Response<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Response<'a> {
    uid: &'a str,
    allowed: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<Status<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    patch_type: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    patch: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    warnings: &'a [String],
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    audit_annotations: &'a BTreeMap<&'static str, String>,
}

#[derive(Serialize)]
struct Status<'a> {
    code: u16,
    message: &'a str,
}
