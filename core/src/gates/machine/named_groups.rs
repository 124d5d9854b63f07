//! Groups that bindings name without an ARN, while gates wait for them (contract 5.3).

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use crate::backoff::Backoff;
use crate::gates::requirements::Resolution;
use crate::names::{NamedGroup, ObjectKey, TargetGroupArn};

/// Backoff of attempts that fail, and of names that AWS does not know: somebody may yet create the group. Chosen.
const BACKOFF: Backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(300));
/// A name is resolved anew after this time, because a group can be replaced under its name. Chosen.
const REFRESH: Duration = Duration::from_secs(300);
/// The same where AWS does not have the group that the name stood for. Chosen.
const REFRESH_MISSING: Duration = Duration::from_secs(30);

/// The names that gates wait for.
#[derive(Debug, Default)]
pub(crate) struct NamedGroups(BTreeMap<NamedGroup, Name>);

#[derive(Debug)]
struct Name {
    resolution: Resolution,
    /// The pods with a gate that waits for it.
    pods: BTreeSet<ObjectKey>,
    /// When AWS is asked next; `None` while a call is in flight.
    next: Option<Instant>,
    asked: Option<Instant>,
    /// Attempts in a row that did not find a group.
    failures: u32,
}

impl NamedGroups {
    /// What is known of a group.
    pub(crate) fn resolution(&self, group: &NamedGroup) -> Resolution {
        let name = self.0.get(group);
        name.map_or(Resolution::Unresolved, |name| name.resolution.clone())
    }

    /// Sets the names that a pod's gates wait for. A name for which no gate waits is forgotten.
    pub(crate) fn set(&mut self, pod: &ObjectKey, groups: &BTreeSet<NamedGroup>, now: Instant) {
        self.0.retain(|group, name| {
            if !groups.contains(group) {
                name.pods.remove(pod);
            }
            // A call in flight has to find its name, so that the next one is not begun beside it.
            !name.pods.is_empty() || name.next.is_none()
        });
        for group in groups {
            let name = self.0.entry(group.clone()).or_insert_with(|| Name {
                resolution: Resolution::Unresolved,
                pods: BTreeSet::new(),
                next: Some(now),
                asked: None,
                failures: 0,
            });
            name.pods.insert(pod.clone());
        }
    }

    /// When the next name has to be resolved.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.0.values().filter_map(|name| name.next).min()
    }

    /// The names that have to be resolved now; they count as in flight.
    pub(crate) fn start(&mut self, now: Instant) -> Vec<NamedGroup> {
        let due = |name: &Name| name.next.is_some_and(|next| next <= now);
        let due = self.0.iter_mut().filter(|(_, name)| due(name));
        let start = |(group, name): (&NamedGroup, &mut Name)| {
            (name.next, name.asked) = (None, Some(now));
            group.clone()
        };
        due.map(start).collect()
    }

    /// AWS does not have the group of this ARN: if a name stood for it, another group may have it now.
    pub(crate) fn is_missing(&mut self, arn: &TargetGroupArn) {
        for name in self.0.values_mut() {
            let its = matches!(&name.resolution, Resolution::Found(found) if found == arn);
            if let (true, Some(next), Some(asked)) = (its, name.next, name.asked) {
                name.next = Some(next.min(asked + REFRESH_MISSING));
            }
        }
    }

    /// Takes in the group that has a name, `None` if AWS has none; the error is that AWS did not tell. Returns
    /// the pods for which that is news.
    pub(crate) fn resolved(
        &mut self,
        group: &NamedGroup,
        found: Result<Option<TargetGroupArn>, ()>,
        now: Instant,
    ) -> BTreeSet<ObjectKey> {
        let Some(name) = self.0.get_mut(group) else {
            return BTreeSet::new();
        };
        let pause = match &found {
            Ok(Some(_)) => {
                name.failures = 0;
                REFRESH
            }
            Ok(None) | Err(()) => {
                name.failures = name.failures.saturating_add(1);
                BACKOFF.after(name.failures)
            }
        };
        let resolution = match found {
            Ok(Some(arn)) => Resolution::Found(arn),
            Ok(None) => Resolution::NotFound,
            Err(()) => name.resolution.clone(),
        };
        name.next = Some(now + pause);
        let is_news = name.resolution != resolution;
        name.resolution = resolution;
        match is_news {
            true => name.pods.clone(),
            false => BTreeSet::new(),
        }
    }
}
