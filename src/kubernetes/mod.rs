//! Kubernetes: what is read from it and written to it.
//!
//! Every call has a timeout. What is read is slim and lenient ([`decode`]): one bad object never
//! stops a watch.

use std::error::Error;
use std::time::Duration;

use targetgate_core::text::cut;

pub mod decode;
pub mod events;
pub mod lease;
pub mod live_read;
pub mod pod_status;
#[cfg(test)]
mod testing;
pub mod watch;

/// How long one request of a single object may take.
pub(crate) const CALL_TIMEOUT: Duration = Duration::from_secs(10);
/// Our name as a field manager and a reporter of Events.
pub(crate) const MANAGER: &str = "targetgate";
/// Bytes of an error's text that are kept: chosen, a line that a terminal shows whole.
const MAX_WHY: usize = 400;

/// What went wrong in a call of the API server, in one line.
///
/// `kube::Error` prints its sources itself, some twice, and leaves out others ("Connection refused");
/// each part stands here once.
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
