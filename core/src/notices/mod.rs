//! Notices: which Events the owners of pods, bindings and Namespaces get, once an hour for each object and reason
//! (contract 2), and no more of them together than a token bucket grants (contract 10). Time is passed in.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::mem;
use std::time::{Duration, Instant};

use jiff::Timestamp;

use crate::reason::Reason;

mod bindings;
mod found;
mod lost;
#[cfg(test)]
mod tests;
mod topic;
mod ungated;
mod waits;

pub use crate::notices::found::{found, rules_too_large};
pub use crate::notices::lost::LostBindings;
pub use crate::notices::topic::{AllFound, Finding, Found, Of, Regarded, Topic, add_pod};
pub use crate::notices::waits::{healthy, waits};

/// An object is told a reason once in this time. Contract 2.
const ONCE_IN: Duration = Duration::from_secs(3600);
/// What may be over soon is told once it has lasted so long. Contract 10 says it of `WaitingForTarget`.
pub const LASTING: Duration = Duration::from_secs(60);
/// The index is asked again after this time. Chosen: it costs a walk over all bindings, and nobody waits for it.
const EVERY: Duration = Duration::from_secs(10);
/// Events that can be sent at once. Contract 10.
const BURST: u32 = 25;
/// After this time there is room for one more. Contract 10.
const REFILL: Duration = Duration::from_secs(1);
/// At most so many notices are remembered, as many as the bucket grants in the hour, and the burst.
const MOST: usize = 3625;

/// Decides which of what is found is told.
#[derive(Debug)]
pub struct Notices {
    told: BTreeMap<Topic, Instant>,
    /// Since when each topic is found that is told only once it has lasted.
    since: BTreeMap<Topic, Instant>,
    /// The pods that waited, and do not any more, of topics of which others still wait.
    recovered: AllFound,
    /// What was found last and exceeded the rate.
    late: BTreeSet<Topic>,
    /// What of that happened, so that no later look finds it.
    unsent: AllFound,
    tokens: u32,
    refilled: Instant,
    looked: Option<Instant>,
}

/// A decision about what is found.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Due {
    pub told: Vec<(Topic, Found)>,
    /// The topics that exceed the rate, and did not before. They are due again: what is still found later, and what
    /// happened once.
    pub dropped: Vec<Topic>,
}

impl Notices {
    /// Nothing was told yet.
    pub fn new(now: Instant) -> Self {
        Self {
            told: BTreeMap::new(),
            since: BTreeMap::new(),
            recovered: AllFound::new(),
            late: BTreeSet::new(),
            unsent: AllFound::new(),
            tokens: BURST,
            refilled: now,
            looked: None,
        }
    }

    /// Whether it is time to ask the index again; if so, the next time is counted from now.
    pub fn looks(&mut self, now: Instant) -> bool {
        let due = self.looks_at().is_none_or(|at| at <= now);
        if due {
            self.looked = Some(now);
        }
        due
    }

    /// When the index is asked next; `None` if it never was.
    pub fn looks_at(&self) -> Option<Instant> {
        self.looked.map(|looked| looked + EVERY)
    }

    /// Another replica tells now: what has lasted here, or was late, says nothing about what it tells.
    pub fn rest(&mut self) {
        self.look_away();
        self.late.clear();
        self.unsent.clear();
    }

    /// For now it cannot be seen what lasts.
    pub fn look_away(&mut self) {
        self.since.clear();
        self.recovered.clear();
    }

    /// Decides what is told now, and takes it for told. What concerns most pods goes first.
    pub fn due(&mut self, mut found: AllFound, now: Instant) -> Due {
        self.refill(now);
        for (topic, more) in mem::take(&mut self.unsent) {
            add(&mut found, topic, more);
        }
        self.told.retain(|_, at| now.duration_since(*at) < ONCE_IN);
        let is_healthy = |topic: &Topic| topic.reason == Reason::TargetHealthy;
        let (healthy, found) = found.into_iter().partition(|(topic, _)| is_healthy(topic));
        let mut found = self.lasting(found, now);
        let recovered = self.recovered(healthy, &found);
        found.extend(recovered);
        let fresh = |(topic, found): &(Topic, Found)| {
            found.finding == Finding::News || !self.told.contains_key(topic)
        };
        let mut fresh: Vec<_> = found.into_iter().filter(fresh).collect();
        fresh.sort_by_key(|(_, found)| Reverse(found.pods));
        let room = MOST
            .saturating_sub(self.told.len())
            .min(self.tokens as usize);
        let late = fresh.split_off(room.min(fresh.len()));
        // At most as many as there are tokens.
        self.tokens -= fresh.len() as u32;
        let topics = fresh.iter().map(|(topic, _)| (topic.clone(), now));
        self.told.extend(topics);
        let once = late
            .iter()
            .filter(|(_, found)| found.finding != Finding::Lasting);
        self.unsent = once.take(MOST).cloned().collect();
        let late = late.into_iter().map(|(topic, _)| topic).collect();
        let known = mem::replace(&mut self.late, late);
        Due {
            told: fresh,
            dropped: self.late.difference(&known).cloned().collect(),
        }
    }

    /// Leaves out what may be over soon, until it has lasted.
    fn lasting(&mut self, mut found: AllFound, now: Instant) -> AllFound {
        let known = mem::take(&mut self.since);
        found.retain(|topic, found| {
            if found.finding != Finding::Lasting || !may_be_over_soon(topic.reason) {
                return true;
            }
            let since = known.get(topic).copied().unwrap_or(now);
            if self.since.len() < MOST {
                self.since.insert(topic.clone(), since);
            }
            now.duration_since(since) >= LASTING
        });
        found
    }

    /// The pods whose targets are healthy now, of which it was told that they wait, once none of them waits.
    fn recovered(&mut self, healthy: AllFound, found: &AllFound) -> AllFound {
        let is_told = |topic: &Topic| self.told.contains_key(&topic.of_waiting());
        for (topic, more) in healthy.into_iter().filter(|(topic, _)| is_told(topic)) {
            add(&mut self.recovered, topic, more);
        }
        let (waiting, over) = mem::take(&mut self.recovered)
            .into_iter()
            .partition(|(topic, _)| found.contains_key(&topic.of_waiting()));
        self.recovered = waiting;
        over
    }

    fn refill(&mut self, now: Instant) {
        let since = now.saturating_duration_since(self.refilled);
        let gained = u32::try_from(since.as_secs() / REFILL.as_secs()).unwrap_or(BURST);
        self.refilled += REFILL * gained;
        self.tokens = self.tokens.saturating_add(gained).min(BURST);
    }
}

/// Adds what is found of a topic to what was found of it.
fn add(all: &mut AllFound, topic: Topic, more: Found) {
    let pods = more.pods;
    let known = all.entry(topic).and_modify(|known| known.pods += pods);
    known.or_insert(more);
}

/// Whether a topic can be over before anybody could act on it: one object is changed after another, as when a release
/// is installed, or a binding is replaced. What is told of single pods goes by the age of each.
fn may_be_over_soon(reason: Reason) -> bool {
    matches!(
        reason,
        Reason::BindingLost
            | Reason::BindingTerminating
            | Reason::GroupUnknown
            | Reason::NoBinding
            | Reason::OlderBinding
            | Reason::ServiceExternalName
            | Reason::ServiceMissing
            | Reason::ServiceWithoutSelector
            | Reason::TargetTypeUnknown
    )
}

/// Whether something is as old as what is told must be.
fn has_lasted(since: Option<Timestamp>, now: Timestamp) -> bool {
    let age = since.map(|since| now.duration_since(since));
    age.and_then(|age| Duration::try_from(age).ok())
        .is_some_and(|age| age >= LASTING)
}
