//! Refusals as `metav1.Status`, in the words of a Kubernetes API server.

use serde_json::{Value, json};

use super::kinds::Resource;

/// An error response: an HTTP code and the `Status` object that explains it.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{message}")]
pub struct Status {
    /// The HTTP status code, repeated in the body.
    pub code: u16,
    /// The machine-readable reason, such as `NotFound`; empty where Kubernetes leaves it empty.
    pub reason: String,
    /// The explanation for people.
    pub message: String,
    /// `details`, or null.
    pub details: Value,
    /// `metadata.continue`: the token by which an expired list can go on; empty in other refusals.
    pub continue_token: String,
}

/// One cause of an `Invalid` refusal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cause {
    /// A reason such as `FieldValueInvalid` or `FieldValueRequired`.
    pub reason: &'static str,
    /// The path of the field, such as `spec.readinessGates[0].conditionType`.
    pub field: String,
    /// The explanation, without the field.
    pub message: String,
}

impl Cause {
    /// The cause for a value that is not allowed; `value` is shown as JSON.
    pub fn invalid(field: impl Into<String>, value: &Value, why: &str) -> Cause {
        Cause {
            reason: "FieldValueInvalid",
            field: field.into(),
            message: format!("Invalid value: {value}: {why}"),
        }
    }

    /// The cause for a required field that is absent.
    pub fn required(field: impl Into<String>, why: &str) -> Cause {
        let colon = if why.is_empty() { "" } else { ": " };
        Cause {
            reason: "FieldValueRequired",
            field: field.into(),
            message: format!("Required value{colon}{why}"),
        }
    }

    /// The cause for a value outside its enumeration.
    pub fn unsupported(field: impl Into<String>, value: &Value, allowed: &[Value]) -> Cause {
        let allowed: Vec<String> = allowed.iter().map(Value::to_string).collect();
        Cause {
            reason: "FieldValueNotSupported",
            field: field.into(),
            message: format!(
                "Unsupported value: {value}: supported values: {}",
                allowed.join(", ")
            ),
        }
    }

    /// The cause for a change that is not allowed.
    pub fn forbidden(field: impl Into<String>, why: &str) -> Cause {
        Cause {
            reason: "FieldValueForbidden",
            field: field.into(),
            message: format!("Forbidden: {why}"),
        }
    }
}

impl Status {
    /// A refusal without details.
    pub fn new(code: u16, reason: &str, message: impl Into<String>) -> Status {
        Status {
            code,
            reason: reason.to_owned(),
            message: message.into(),
            details: Value::Null,
            continue_token: String::new(),
        }
    }

    /// 400, for a malformed request.
    pub fn bad_request(message: impl Into<String>) -> Status {
        Status::new(400, "BadRequest", message)
    }

    /// 403, without details.
    pub fn forbidden(message: impl Into<String>) -> Status {
        Status::new(403, "Forbidden", message)
    }

    /// 405, for a method that the resource does not allow.
    pub fn method_not_allowed() -> Status {
        Status::new(
            405,
            "MethodNotAllowed",
            "the server does not allow this method on the requested resource",
        )
    }

    /// 404, for an object that does not exist of a resource that is served.
    pub fn not_found(resource: &Resource, name: &str) -> Status {
        Status {
            details: details(resource, &resource.plural, name),
            ..Status::new(
                404,
                "NotFound",
                format!("{} \"{name}\" not found", resource.qualified()),
            )
        }
    }

    /// 409, for the creation of an object that exists.
    pub fn already_exists(resource: &Resource, name: &str) -> Status {
        Status {
            details: details(resource, &resource.plural, name),
            ..Status::new(
                409,
                "AlreadyExists",
                format!("{} \"{name}\" already exists", resource.qualified()),
            )
        }
    }

    /// 409, for a write that is based on an old state; `why` ends the message.
    pub fn conflict(resource: &Resource, name: &str, why: &str) -> Status {
        Status {
            details: details(resource, &resource.plural, name),
            ..Status::new(
                409,
                "Conflict",
                format!(
                    "Operation cannot be fulfilled on {} \"{name}\": {why}",
                    resource.qualified()
                ),
            )
        }
    }

    /// 409, for a write whose `resourceVersion` is not the stored one.
    pub fn modified(resource: &Resource, name: &str) -> Status {
        let why = "the object has been modified; please apply your changes to the latest version \
                   and try again";
        Status::conflict(resource, name, why)
    }

    /// 422, with its causes.
    pub fn invalid(resource: &Resource, name: &str, causes: &[Cause]) -> Status {
        let texts: Vec<String> = causes
            .iter()
            .map(|cause| format!("{}: {}", cause.field, cause.message))
            .collect();
        let text = match texts.as_slice() {
            [one] => one.clone(),
            many => format!("[{}]", many.join(", ")),
        };
        let mut details = details(resource, &resource.kind, name);
        details["causes"] = causes
            .iter()
            .map(|c| json!({"reason": c.reason, "message": c.message, "field": c.field}))
            .collect();
        let kind = match resource.group.as_str() {
            "" => resource.kind.clone(),
            group => format!("{}.{group}", resource.kind),
        };
        Status {
            details,
            ..Status::new(
                422,
                "Invalid",
                format!("{kind} \"{name}\" is invalid: {text}"),
            )
        }
    }

    /// 410, for a watch or a page that starts before the kept history.
    pub fn expired(message: impl Into<String>) -> Status {
        Status::new(410, "Expired", message)
    }

    /// 500, with the cause that Kubernetes repeats in the details.
    pub fn internal(message: impl Into<String>) -> Status {
        let message = message.into();
        Status {
            details: json!({"causes": [{"message": message}]}),
            ..Status::new(
                500,
                "InternalError",
                format!("Internal error occurred: {message}"),
            )
        }
    }

    /// The body of the response, as a `Status` object.
    pub fn body(&self) -> Value {
        let mut body = json!({
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": self.message,
            "code": self.code,
        });
        if !self.reason.is_empty() {
            body["reason"] = json!(self.reason);
        }
        if !self.details.is_null() {
            body["details"] = self.details.clone();
        }
        if !self.continue_token.is_empty() {
            body["metadata"]["continue"] = json!(self.continue_token);
        }
        body
    }
}

fn details(resource: &Resource, kind: &str, name: &str) -> Value {
    let mut details = json!({"name": name, "kind": kind});
    if !resource.group.is_empty() {
        details["group"] = json!(resource.group);
    }
    details
}
