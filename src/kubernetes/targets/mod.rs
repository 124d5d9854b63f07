//! What the registrar reads and writes beside the index (contract 8): its records, what it puts on bindings, and the
//! incumbent's Lease.

use std::sync::Arc;

use http::HeaderValue;
use http::Request;
use http::header::CONTENT_TYPE;
use kube::Client;
use kube::Error::BuildRequest;
use kube::api::{Patch, PatchParams};
use kube::core::Request as Requests;
use serde::de::DeserializeOwned;
use serde_json::Value;
use targetgate_core::targets::machine::action::Written;
use tokio::time::{Instant, timeout_at};

use crate::kubernetes::{CALL_TIMEOUT, MANAGER, is_absence, why};

pub mod bindings;
pub mod incumbent;
pub mod records;
pub mod release;

const JSON_PATCH: HeaderValue = HeaderValue::from_static("application/json-patch+json");

/// Why a call has no answer that can be used.
#[derive(Debug)]
enum Failure {
    Call(kube::Error),
    Timeout,
}

impl Failure {
    fn code(&self) -> u16 {
        match self {
            Self::Call(kube::Error::Api(status)) => status.code,
            _ => 0,
        }
    }

    /// Whether the object does not exist.
    fn is_absence(&self) -> bool {
        matches!(self, Self::Call(kube::Error::Api(status)) if is_absence(status))
    }

    /// Whether trying again is of no use, because the account may not do it.
    fn is_denied(&self) -> bool {
        matches!(self.code(), 401 | 403)
    }

    /// What was tried, on what, and why it failed. A hook that refuses is named in the API server's own words.
    fn told(&self, verb: &str, what: &str) -> Arc<str> {
        let why = match self {
            Self::Call(error) => why(error),
            Self::Timeout => "no answer in time".to_owned(),
        };
        format!("cannot {verb} {what}: {why}").into()
    }

    fn written(&self, verb: &str, what: &str) -> Written {
        match self.code() {
            409 => Written::Conflict,
            _ if self.is_absence() => Written::Conflict,
            _ => Written::Failed(self.told(verb, what)),
        }
    }
}

/// Makes one call, whose answer is waited for until `by`, and for [`CALL_TIMEOUT`] at most.
async fn send<T: DeserializeOwned>(
    client: &Client,
    request: Result<Request<Vec<u8>>, kube::core::request::Error>,
    by: Instant,
) -> Result<T, Failure> {
    let request = request.map_err(|error| Failure::Call(BuildRequest(error)))?;
    let by = by.min(Instant::now() + CALL_TIMEOUT);
    match timeout_at(by, client.request(request)).await {
        Ok(answer) => answer.map_err(Failure::Call),
        Err(_) => Err(Failure::Timeout),
    }
}

/// A JSON patch of an object, or of its subresource.
fn json_patch(
    requests: &Requests,
    name: &str,
    subresource: Option<&str>,
    patch: &Value,
) -> Result<Request<Vec<u8>>, kube::core::request::Error> {
    let params = PatchParams {
        field_manager: Some(MANAGER.to_owned()),
        ..PatchParams::default()
    };
    // kube's own `Patch::Json` needs a feature, and parses the patch before it is sent.
    let patch = Patch::Merge(patch);
    let mut request = match subresource {
        Some(subresource) => requests.patch_subresource(subresource, name, &params, &patch)?,
        None => requests.patch(name, &params, &patch)?,
    };
    request.headers_mut().insert(CONTENT_TYPE, JSON_PATCH);
    Ok(request)
}
