//! The audit log: who asked the API server for what.

use std::{collections::BTreeMap, fs, path::Path};

use serde::Deserialize;

use super::ControlPlaneError;

/// What a test reads of an `audit.k8s.io/v1` Event.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AuditEvent {
    /// `get`, `list`, `watch`, `create`, `update`, `patch`, `delete` or `deletecollection`; for
    /// what is no resource the method in lower case.
    pub verb: String,
    /// The path and the query.
    #[serde(rename = "requestURI")]
    pub request_uri: String,
    /// Who asked.
    pub user: AuditUser,
    /// What was asked for; `None` is what is no resource, such as discovery.
    pub object_ref: Option<AuditObject>,
    /// How it was answered.
    pub response_status: Option<AuditStatus>,
    /// Of webhooks, under `patch.webhook.admission.k8s.io/…` and the webhooks' own names, among
    /// others.
    #[serde(default)]
    pub annotations: BTreeMap<String, String>,
}

/// Who asked.
#[derive(Clone, Debug, Deserialize)]
pub struct AuditUser {
    /// A service account is `system:serviceaccount:NAMESPACE:NAME`.
    pub username: String,
}

/// How a request was answered.
#[derive(Clone, Debug, Deserialize)]
pub struct AuditStatus {
    /// The HTTP status.
    pub code: u16,
}

/// What was asked for; empty is what the request did not name.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct AuditObject {
    /// Empty for the core group.
    pub api_group: String,
    /// The plural.
    pub resource: String,
    /// Such as `status`.
    pub subresource: String,
    /// Where the object is.
    pub namespace: String,
    /// The object; of `generateName` the name that was generated.
    pub name: String,
}

pub(super) fn read(path: &Path) -> Result<Vec<AuditEvent>, ControlPlaneError> {
    let text = fs::read_to_string(path);
    let text = text.map_err(|error| ControlPlaneError::Read(path.to_owned(), error))?;
    parse(&text)
}

fn parse(text: &str) -> Result<Vec<AuditEvent>, ControlPlaneError> {
    // The last line may be half written.
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
