//! Which repairs of bundles are told: a tool that empties a bundle every few seconds must not fill the log.

use std::collections::BTreeMap;
use std::mem;

use tokio::time::Instant;

use crate::controllers::certificates::TELL_AGAIN;

/// At most so many clients of one configuration are named in [`TELL_AGAIN`], because a client chooses its own name.
/// Chosen.
const CLIENTS: usize = 3;

/// The repairs of each configuration.
#[derive(Default)]
pub(super) struct Repairs(BTreeMap<String, Repaired>);

#[derive(Default)]
struct Repaired {
    /// The clients that were named, and when.
    named: Vec<(String, Instant)>,
    /// The repairs since.
    untold: u32,
}

impl Repairs {
    /// Counts a repair of this configuration after a change by this client. Returns the number of repairs to tell,
    /// unless it is told later.
    pub(super) fn repaired(&mut self, object: &str, by: &str, now: Instant) -> Option<u32> {
        let Repaired { named, untold } = self.0.entry(object.to_owned()).or_default();
        *untold += 1;
        named.retain(|(_, told)| now < *told + TELL_AGAIN);
        if named.len() >= CLIENTS || named.iter().any(|(client, _)| client == by) {
            return None;
        }
        named.push((by.to_owned(), now));
        Some(mem::take(untold))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn clients_that_change_a_bundle_in_turn_are_told_once_each_and_only_a_few_of_many() {
        let mut repairs = Repairs::default();
        let begun = Instant::now();
        let mut at = |seconds, by: &str| {
            let now = begun + Duration::from_secs(seconds);
            repairs.repaired("mutating", by, now)
        };
        assert_eq!([at(0, "argocd"), at(1, "flux")], [Some(1), Some(1)]);
        assert_eq!([at(2, "argocd"), at(3, "flux")], [None, None]);
        let told = (4..100).filter_map(|second| at(second, &format!("script-{second}")));
        assert_eq!(told.collect::<Vec<_>>(), [3]);
        assert_eq!(at(600, "argocd"), Some(96));
    }

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
