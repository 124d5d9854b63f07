//! One pod that ends, or ended lately.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;

use crate::drain::{DrainSeconds, LoadBalancerKind};
use crate::endings::{Deregistered, EndedEarly};
use crate::lint::{Settle, ended_early};
use crate::model::Pod;
use crate::names::GroupKey;

/// A pod is followed for at most so long. Chosen: the highest bound of the histogram.
const LONGEST: Duration = Duration::from_secs(600);
/// ELB's answers are waited for so long after a pod's end. Chosen: the address may be another pod's soon, whose target
/// would be taken for this one's.
const AFTER_END: Duration = Duration::from_secs(60);

/// An answer that shows a target to drain counts if ELB may have begun that at most so long before: since the last
/// answer that showed it registered, or since the pod's deletion. Chosen: half of the shortest default sleep. Where
/// nobody looked for longer, the first look tells little.
const MOST_LATE: Duration = Duration::from_secs(10);

/// A target of a pod that ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndingTarget {
    pub group: GroupKey,
    pub target: (IpAddr, u16),
    pub kind: LoadBalancerKind,
}

/// A pod that ends, or ended lately.
#[derive(Debug)]
pub(crate) struct Followed {
    pod: Arc<Pod>,
    pub(crate) targets: Vec<EndingTarget>,
    /// For each target, when it was registered last as far as ELB has shown; `None` once nothing more is to be learnt
    /// of it.
    registered: Vec<Option<Instant>>,
    /// The first sight of its deletion.
    pub(crate) since: Instant,
    requested: Option<Timestamp>,
    ended: Option<Instant>,
}

impl Followed {
    pub(crate) fn new(
        pod: Arc<Pod>,
        targets: Vec<EndingTarget>,
        requested: Option<Timestamp>,
        now: Instant,
    ) -> Self {
        Self {
            pod,
            registered: vec![Some(now); targets.len()],
            targets,
            since: now,
            requested,
            ended: None,
        }
    }

    /// Takes in its end. Returns it if that was too early.
    pub(crate) fn end(
        &mut self,
        seconds: &DrainSeconds,
        now: Instant,
        wall: Timestamp,
    ) -> Option<EndedEarly> {
        if self.ended.replace(now).is_some() {
            return None;
        }
        let settle = self.settle(seconds)?;
        let finding = ended_early(self.lived(now, wall), settle)?;
        Some(EndedEarly {
            pod: self.pod.clone(),
            kind: settle.kind,
            finding,
        })
    }

    /// How long it lived after its deletion began: the longer of what both clocks say, since a late watch shortens
    /// the one, and clocks that differ shorten or lengthen the other.
    fn lived(&self, now: Instant, wall: Timestamp) -> Duration {
        let by_wall = self.requested.map(|at| wall.duration_since(at));
        let by_wall = by_wall.and_then(|age| Duration::try_from(age).ok());
        now.saturating_duration_since(self.since)
            .max(by_wall.unwrap_or_default())
    }

    /// What the slowest of its load balancers needs.
    fn settle(&self, seconds: &DrainSeconds) -> Option<Settle> {
        let each = self.targets.iter().map(|target| Settle {
            kind: target.kind,
            needs: seconds.of(Some(target.kind)),
        });
        each.max_by_key(|settle| settle.needs)
    }

    /// Takes in an answer about its targets in a group, to a call that was sent at `requested`: `drains` tells of each
    /// whether it drains, `None` if the answer is not about it.
    pub(crate) fn see(
        &mut self,
        group: &GroupKey,
        drains: impl Fn(&(IpAddr, u16)) -> Option<bool>,
        requested: Instant,
        now: Instant,
    ) -> Vec<Deregistered> {
        let after = now.saturating_duration_since(self.since);
        let mut shown = vec![];
        for (target, registered) in self.targets.iter().zip(&mut self.registered) {
            let of_group = target.group == *group;
            let Some(last) = registered.filter(|_| of_group && requested >= self.since) else {
                continue;
            };
            match drains(&target.target) {
                Some(true) => {
                    *registered = None;
                    if now.saturating_duration_since(last) <= MOST_LATE {
                        let kind = target.kind;
                        shown.push(Deregistered { kind, after });
                    }
                }
                Some(false) => *registered = Some(last.max(requested)),
                None => {}
            }
        }
        shown
    }

    /// Gives up the times of its targets, because nobody has looked.
    pub(crate) fn give_up(&mut self) {
        self.registered.fill(None);
    }

    /// Its targets in a group that ELB has not shown to drain.
    pub(crate) fn awaited(&self, group: &GroupKey) -> impl Iterator<Item = (IpAddr, u16)> {
        let targets = self.targets.iter().zip(&self.registered);
        let awaited = targets
            .filter(move |(target, registered)| target.group == *group && registered.is_some());
        awaited.map(|(target, _)| target.target)
    }

    /// Whether ELB has not shown all of its targets in a group to drain.
    pub(crate) fn awaits(&self, group: &GroupKey) -> bool {
        self.awaited(group).next().is_some()
    }

    /// Whether nothing more will be learnt of it.
    pub(crate) fn is_over(&self, seconds: &DrainSeconds, now: Instant) -> bool {
        let age = now.saturating_duration_since(self.since);
        let needs = self.settle(seconds).map_or(0, |settle| settle.needs.get());
        let cannot_end_early = self.ended.is_some() || age >= Duration::from_secs(needs.into());
        let all_seen = self.registered.iter().all(Option::is_none);
        let waited = self.ended.is_some_and(|ended| now >= ended + AFTER_END);
        (cannot_end_early && all_seen) || waited || age >= LONGEST
    }
}
