//! Which repairs of bundles are told: a tool that empties a bundle every few seconds must not fill the log.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

/// Repairs after the same client are told again after this time. Chosen.
const TELL_AGAIN: Duration = Duration::from_secs(600);

/// The repairs of each configuration since they were last told.
#[derive(Default)]
pub(super) struct Repairs(BTreeMap<String, Untold>);

struct Untold {
    by: String,
    told: Instant,
    times: u32,
}

impl Repairs {
    /// Counts a repair of this configuration after a change by this client. Returns the number of repairs to tell,
    /// unless it is told later.
    pub(super) fn repaired(&mut self, object: &str, by: &str, now: Instant) -> Option<u32> {
        let untold = self.0.get_mut(object);
        let same = untold.filter(|untold| untold.by == by && now < untold.told + TELL_AGAIN);
        if let Some(untold) = same {
            untold.times += 1;
            return None;
        }
        let known = Untold {
            by: by.to_owned(),
            told: now,
            times: 0,
        };
        let before = self.0.insert(object.to_owned(), known);
        Some(1 + before.map_or(0, |before| before.times))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repairs_are_told_once_for_each_client_and_then_after_a_while_with_their_number() {
        let mut repairs = Repairs::default();
        let begun = Instant::now();
        let mut at = |seconds, by| {
            let now = begun + Duration::from_secs(seconds);
            repairs.repaired("mutating", by, now)
        };
        assert_eq!(at(0, "argocd"), Some(1));
        assert_eq!(at(3, "argocd"), None);
        assert_eq!(at(6, "argocd"), None);
        assert_eq!(at(600, "argocd"), Some(3));
        assert_eq!(at(601, "flux"), Some(1));
    }
}
