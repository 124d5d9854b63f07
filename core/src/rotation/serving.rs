//! Which leaf a replica serves.

use std::time::Duration;

/// Whether API servers accept a leaf.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    pub expired: bool,
    /// For how long every bundle has been known to verify the leaf; `None` while one does not.
    pub trusted_for: Option<Duration>,
}

/// Whether a replica that serves one leaf takes another, which the Secret offers.
///
/// A replica gives up a trusted leaf only for one that has been trusted for `seen_after`, so that every API
/// server knows it. A Secret that another client has overwritten therefore does no harm before a leader has
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
