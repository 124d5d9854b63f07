//! What the polling queue knows of each group, for the answers of `explain` (contract 10).

use std::collections::BTreeMap;
use std::time::Instant;

use crate::gates::polling::queue::PollQueue;
use crate::names::GroupKey;

/// What the polling queue knows of one group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GroupKnown {
    /// When the group is polled next, if the budget allows it then; `None` while a call is in flight.
    pub next_poll: Option<Instant>,
    /// Its place among the groups of its account and Region, by their next poll, and how many there are.
    pub place: Option<(usize, usize)>,
    pub in_flight: bool,
    /// Calls that failed in a row.
    pub failures: u32,
}

impl PollQueue {
    /// What is known of all groups for which gates wait, or which open gates follow.
    pub(crate) fn known(&self) -> BTreeMap<&GroupKey, GroupKnown> {
        let mut places = BTreeMap::new();
        for queue in self.queues.values() {
            let groups = queue.iter().map(|(_, group)| group);
            places.extend(
                (1..)
                    .zip(groups)
                    .map(|(at, group)| (group, (at, queue.len()))),
            );
        }
        let known = self.groups.iter().map(|(group, polled)| {
            let known = GroupKnown {
                next_poll: polled.queued,
                place: places.get(group).copied(),
                in_flight: polled.in_flight,
                failures: polled.failures,
            };
            (group, known)
        });
        known.collect()
    }
}
