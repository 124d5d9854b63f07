//! Refusals in the shape of `metav1.Status`, worded as a Kubernetes API server words them.

use serde_json::{Value, json};

use super::kinds::Resource;

/// An answer that is an error: an HTTP code and the `Status` object that explains it.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{message}")]
pub struct Status {
    /// The HTTP status code, repeated in the body.
    pub code: u16,
    /// The machine-readable reason, such as `NotFound`; empty where Kubernetes leaves it empty.
    pub reason: String,
    /// What a person reads.
    pub message: String,
    /// `details`, or null.
    pub details: Value,
    /// `metadata.continue`: from where a list can go on all the same; empty elsewhere.
    pub continue_token: String,
}

/// One cause of an `Invalid` refusal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cause {
    /// `FieldValueInvalid`, `FieldValueRequired` and the like.
    pub reason: &'static str,
    /// The path of the field, such as `spec.readinessGates[0].conditionType`.
    pub field: String,
    /// What is wrong, without the field.
    pub message: String,
}

impl Cause {
    /// A value that is not allowed; `value` is shown as JSON.
    pub fn invalid(field: impl Into<String>, value: &Value, why: &str) -> Cause {
        Cause {
            reason: "FieldValueInvalid",
            field: field.into(),
            message: format!("Invalid value: {value}: {why}"),
        }
    }

    /// A field that must be there.
    pub fn required(field: impl Into<String>, why: &str) -> Cause {
        let colon = if why.is_empty() { "" } else { ": " };
        Cause {
            reason: "FieldValueRequired",
            field: field.into(),
            message: format!("Required value{colon}{why}"),
        }
    }

    /// A value outside its enumeration.
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

    /// A change that is not allowed.
    pub fn forbidden(field: impl Into<String>, why: &str) -> Cause {
        Cause {
            reason: "FieldValueForbidden",
            field: field.into(),
            message: format!("Forbidden: {why}"),
        }
    }
}

impl Status {
    /// Any refusal without details.
    pub fn new(code: u16, reason: &str, message: impl Into<String>) -> Status {
        Status {
            code,
            reason: reason.to_owned(),
            message: message.into(),
            details: Value::Null,
            continue_token: String::new(),
        }
    }

    /// 400: the request makes no sense.
    pub fn bad_request(message: impl Into<String>) -> Status {
        Status::new(400, "BadRequest", message)
    }

    /// 403, without details.
    pub fn forbidden(message: impl Into<String>) -> Status {
        Status::new(403, "Forbidden", message)
    }

    /// 405.
    pub fn method_not_allowed() -> Status {
        Status::new(
            405,
            "MethodNotAllowed",
            "the server does not allow this method on the requested resource",
        )
    }

    /// 404 of an object of a resource that is served.
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

    /// 409 of a creation.
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

    /// 409 of a write that rests on an old state; `why` ends the sentence.
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

    /// 409 of a write whose `resourceVersion` is not the stored one.
    pub fn modified(resource: &Resource, name: &str) -> Status {
        let why = "the object has been modified; please apply your changes to the latest version \
                   and try again";
        Status::conflict(resource, name, why)
    }

    /// 422 with its causes.
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

    /// 410 of a watch or a page that starts before the kept history.
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

    /// The `Status` object.
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
