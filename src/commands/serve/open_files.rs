//! The limit of open files, which bounds connections.

use tracing::{info, warn};

/// The limit where it cannot be read: the soft limit that Linux sets by default.
const ASSUMED: u64 = 1024;

/// Raises the soft limit of open files to the hard one, as programs in Go do, and returns it. Some container runtimes
/// start a process with a soft limit of 1024.
pub(super) fn raise_limit() -> u64 {
    let before = rlimit::Resource::NOFILE.get_soft();
    let raised = rlimit::increase_nofile_limit(u64::MAX);
    match (before, raised) {
        (Ok(before), Ok(limit)) => {
            info!(before, limit, "open files");
            limit
        }
        (Ok(before), Err(error)) => {
            warn!(
                %error,
                limit = before, "cannot raise the limit of open files; fewer connections are accepted"
            );
            before
        }
        (Err(error), _) => {
            warn!(%error, assumed = ASSUMED, "cannot read the limit of open files");
            ASSUMED
        }
    }
}
