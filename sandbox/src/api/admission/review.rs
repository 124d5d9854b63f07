//! The request and the response of an `admission.k8s.io/v1` AdmissionReview.

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

use super::{Operation, Review, rules::Webhook};
use crate::api::{kinds::Served, object::Object, status::Status};

/// The request of a review, with the object in the version that the webhook registered for.
pub fn request(review: &Review<'_>, served: &Served, uid: &str) -> Value {
    let kind_in = |served: &Served| {
        json!({
            "group": served.resource.group,
            "version": served.version().name,
            "kind": served.resource.kind,
        })
    };
    let resource_in = |served: &Served| {
        json!({
            "group": served.resource.group,
            "version": served.version().name,
            "resource": served.resource.plural,
        })
    };
    let shown = |object: Option<&Object>| {
        object.map_or(Value::Null, |object| served.present(object).into_value())
    };
    let target = review.target;
    let options = match review.operation {
        Operation::Create => "CreateOptions",
        Operation::Update => "UpdateOptions",
        Operation::Delete => "DeleteOptions",
    };
    let mut request = json!({
        "uid": uid,
        "kind": kind_in(served),
        "resource": resource_in(served),
        "requestKind": kind_in(&target.served),
        "requestResource": resource_in(&target.served),
        "operation": review.operation.as_str(),
        "userInfo": {
            "username": "sandbox-admin",
            "groups": ["system:masters", "system:authenticated"],
        },
        "object": shown(review.object.as_ref()),
        "oldObject": shown(review.old),
        "dryRun": review.dry_run,
        "options": {"kind": options, "apiVersion": "meta.k8s.io/v1"},
    });
    for (field, text) in [
        ("name", &target.name),
        ("namespace", &target.namespace),
        ("subResource", &target.subresource),
        ("requestSubResource", &target.subresource),
    ] {
        if !text.is_empty() {
            request[field] = json!(text);
        }
    }
    request
}

/// Returns the response of a review after checking that it is an AdmissionReview that answers this
/// request.
pub fn checked<'a>(review: &'a Value, uid: &Value) -> Result<&'a Value, String> {
    let is = (review["apiVersion"].as_str(), review["kind"].as_str());
    if is != (Some("admission.k8s.io/v1"), Some("AdmissionReview")) {
        return Err(format!(
            "expected webhook response of admission.k8s.io/v1, Kind=AdmissionReview, got {}, \
             Kind={}",
            is.0.unwrap_or_default(),
            is.1.unwrap_or_default()
        ));
    }
    let response = &review["response"];
    if !response.is_object() {
        return Err("webhook response was absent".to_owned());
    }
    if response["uid"] != *uid {
        return Err(format!(
            "expected response.uid={uid}, got {}",
            response["uid"]
        ));
    }
    Ok(response)
}

/// The patch of a response; `None` if the webhook wants no change.
pub fn patch(response: &Value) -> Result<Option<json_patch::Patch>, String> {
    let Some(encoded) = response["patch"].as_str().filter(|patch| !patch.is_empty()) else {
        return match &response["patch"] {
            Value::Null | Value::String(_) => Ok(None),
            _ => Err("webhook response.patch is not a base64 string".to_owned()),
        };
    };
    if response["patchType"] != "JSONPatch" {
        return Err(format!(
            "webhook returned response.patch with response.patchType {}, not \"JSONPatch\"",
            response["patchType"]
        ));
    }
    let decoded = STANDARD
        .decode(encoded)
        .map_err(|error| format!("webhook response.patch is not base64: {error}"))?;
    serde_json::from_slice(&decoded)
        .map(Some)
        .map_err(|error| format!("webhook response.patch is not a JSON Patch: {error}"))
}

/// The refusal that a response with `allowed: false` leads to.
pub fn denial(webhook: &Webhook, status: &Value) -> Status {
    let name = &webhook.name;
    let text = |field: &str| status[field].as_str().unwrap_or_default();
    let message = match (text("message"), text("reason")) {
        ("", "") => format!("admission webhook \"{name}\" denied the request without explanation"),
        ("", reason) => format!("admission webhook \"{name}\" denied the request: {reason}"),
        (message, _) => format!("admission webhook \"{name}\" denied the request: {message}"),
    };
    let code = status["code"]
        .as_u64()
        .and_then(|code| u16::try_from(code).ok());
    // The webhook's own reason and code are passed on unchanged: those of controller-runtime are
    // 403 and Forbidden already.
    let code = code.filter(|code| *code >= 400).unwrap_or(400);
    Status {
        details: status["details"].clone(),
        ..Status::new(code, text("reason"), message)
    }
}
