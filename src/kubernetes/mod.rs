//! Kubernetes: watches, reads and writes.
//!
//! Every call has a timeout. Objects are parsed into slim types, leniently ([`decode`]): one bad object never
//! stops a watch.

use std::error::Error;
use std::time::Duration;

use kube::api::ApiResource;
use kube::core::{GroupVersionKind, Status};
use serde::Deserialize;
use targetgate_core::text::cut;

pub mod client;
pub mod decode;
pub mod events;
pub(crate) mod gate_rules;
pub mod lease;
pub mod live_read;
pub mod metrics;
pub(crate) mod owner;
pub mod pod_status;
pub mod replica;
pub(crate) mod server_clock;
pub mod server_version;
pub mod snapshot;
pub mod targets;
#[cfg(test)]
mod testing;
pub mod watch;

/// Timeout of a request about a single object. Chosen.
pub(crate) const CALL_TIMEOUT: Duration = Duration::from_secs(10);
/// Our name as field manager and as reporter of Events.
pub(crate) const MANAGER: &str = "targetgate";
/// Maximum length of an error's text, in bytes: chosen, so that a terminal shows the line whole.
const MAX_WHY: usize = 400;

/// The fields that are read of an object in the response to its write.
#[derive(Deserialize)]
pub(crate) struct WrittenObject {
    pub(crate) metadata: WrittenMetadata,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct WrittenMetadata {
    pub(crate) resource_version: String,
}

/// A kind of `admissionregistration.k8s.io/v1`.
pub(crate) fn admission_resource(kind: &str) -> ApiResource {
    let group = "admissionregistration.k8s.io";
    ApiResource::from_gvk(&GroupVersionKind::gvk(group, "v1", kind))
}

/// Whether it is a 404 that names the object: the resource is served, and the object does not exist. Any other 404 is
/// about the path, or a proxy's.
pub(crate) fn is_absence(status: &Status) -> bool {
    let named = status.details.as_ref();
    status.code == 404 && named.is_some_and(|details| !details.name.is_empty())
}

/// Why a call of the API server failed, in one line.
///
/// `kube::Error` prints its sources itself, some twice, and leaves out others ("Connection refused");
/// here each part occurs once.
pub(crate) fn why(error: &kube::Error) -> String {
    let mut text = match error {
        kube::Error::Api(status) => {
            return cut(&format!("{} ({})", status.message, status.code), MAX_WHY).to_owned();
        }
        other => other.to_string(),
    };
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    cut(&text, MAX_WHY).to_owned()
}
