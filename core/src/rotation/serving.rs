//! Which leaf a replica serves.

use std::time::Duration;

/// How a leaf stands with the API servers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// Whether it has expired.
    pub expired: bool,
    /// For how long every bundle has been known to verify it; `None` where one does not.
    pub trusted_for: Option<Duration>,
}

/// Whether a replica that serves one leaf goes over to another, which the Secret has for it.
///
/// What is trusted is given up only for what has been trusted so long that every API server knows
/// (`seen_after`). So a Secret that somebody else has written harms nobody before a leader has
/// mended it.
pub fn takes(serves: Option<Standing>, offered: Standing, seen_after: Duration) -> bool {
    if offered.expired {
        return false;
    }
    match serves {
        None => true,
        Some(Standing { expired: true, .. }) => true,
        Some(Standing {
            trusted_for: None, ..
        }) => offered.trusted_for.is_some(),
        Some(_) => offered.trusted_for.is_some_and(|time| time >= seen_after),
    }
}
