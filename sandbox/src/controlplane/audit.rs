//! The audit log: the requests that the API server has received, with their users.

use std::{collections::BTreeMap, fs, path::Path};

use serde::Deserialize;

use super::ControlPlaneError;

/// The fields of an `audit.k8s.io/v1` Event that tests read.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AuditEvent {
    /// `get`, `list`, `watch`, `create`, `update`, `patch`, `delete` or `deletecollection`; for a
    /// request that is not for a resource, the method in lower case.
    pub verb: String,
    #[serde(rename = "requestURI")]
    pub request_uri: String,
    /// The user that sent the request.
    pub user: AuditUser,
    /// The object that the request is about; `None` for a request that is not for a resource, such
    /// as discovery.
    pub object_ref: Option<AuditObject>,
    pub response_status: Option<AuditStatus>,
    /// The annotations, among others those of webhooks, under `patch.webhook.admission.k8s.io/…`
    /// and under the webhooks' own names.
    #[serde(default)]
    pub annotations: BTreeMap<String, String>,
}

/// The user that sent a request.
#[derive(Clone, Debug, Deserialize)]
pub struct AuditUser {
    /// The name; that of a service account is `system:serviceaccount:NAMESPACE:NAME`.
    pub username: String,
}

/// The response to a request.
#[derive(Clone, Debug, Deserialize)]
pub struct AuditStatus {
    /// The HTTP status code.
    pub code: u16,
}

/// The object that a request is about; fields that the request does not name are empty.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct AuditObject {
    /// The API group; empty for the core group.
    pub api_group: String,
    pub resource: String,
    /// The subresource, such as `status`.
    pub subresource: String,
    pub namespace: String,
    /// The object's name; for `generateName`, the generated name.
    pub name: String,
}

pub(super) fn read(path: &Path) -> Result<Vec<AuditEvent>, ControlPlaneError> {
    let text = fs::read_to_string(path);
    let text = text.map_err(|error| ControlPlaneError::Read(path.to_owned(), error))?;
    parse(&text)
}

fn parse(text: &str) -> Result<Vec<AuditEvent>, ControlPlaneError> {
    // The last line may be incomplete, because the API server may still be writing it.
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    let event = |line: &str| {
        serde_json::from_str(line).map_err(|source| ControlPlaneError::Audit {
            line: line.to_owned(),
            source,
        })
    };
    whole.lines().map(event).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_that_is_being_written_is_left_for_the_next_time() {
        let line = r#"{"verb":"get","requestURI":"/x","user":{"username":"u"},"stage":"Panic"}"#;
        let events = parse(&format!("{line}\n{}", &line[..20])).unwrap();
        assert_eq!(events.len(), 1);
        assert!(events[0].object_ref.is_none());
        assert!(parse(&format!("{}\n", &line[..20])).is_err());
    }
}
