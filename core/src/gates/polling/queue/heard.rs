//! What the registrar tells the polling queue: answers of ELB to its own calls, and which targets went in.

use std::collections::BTreeSet;
use std::time::Instant;

use crate::gates::machine::action::GateId;
use crate::gates::polling::group::Target;
use crate::gates::polling::queue::PollQueue;
use crate::gates::polling::schedule::LONGEST_INTERVAL;
use crate::names::{GroupKey, TargetGroupArn};

impl PollQueue {
    /// Whether an answer that was requested later has been taken in.
    pub(crate) fn is_overtaken(&self, group: &GroupKey, requested: Instant) -> bool {
        let polled = self.groups.get(group);
        polled.is_some_and(|polled| polled.answered.is_some_and(|last| requested < last))
    }

    /// The gates that wait for a group or follow it, under whatever role.
    pub(crate) fn gates_of(&self, group: &TargetGroupArn) -> BTreeSet<GateId> {
        let keys = self.keys_of(group).into_iter();
        let gates = keys.flat_map(|key| {
            let waiting = self.waiting(&key);
            waiting.into_iter().chain(self.followed(&key))
        });
        gates.collect()
    }

    fn keys_of(&self, group: &TargetGroupArn) -> Vec<GroupKey> {
        let first = GroupKey {
            arn: group.clone(),
            role: None,
        };
        let keys = self.groups.range(first..).map(|(key, _)| key);
        keys.take_while(|key| key.arn == *group).cloned().collect()
    }

    /// Takes in an answer about the whole group to a call that is not the queue's. While a call of the queue's is in
    /// flight, the end of that one sets the next poll.
    pub(crate) fn heard(
        &mut self,
        group: &GroupKey,
        registered: BTreeSet<Target>,
        healthy: &BTreeSet<GateId>,
        requested: Instant,
        now: Instant,
    ) {
        self.show(group, &[], registered, healthy, requested);
        let Some(polled) = self.groups.get_mut(group) else {
            return;
        };
        polled.whole_sent = polled.whole_sent.max(Some(requested));
        if !polled.in_flight {
            polled.requested = polled.requested.max(Some(requested));
            self.reschedule(group, now);
        }
    }

    /// Takes in that targets of a group went in.
    pub(crate) fn registered(
        &mut self,
        group: &TargetGroupArn,
        targets: &BTreeSet<Target>,
        now: Instant,
    ) {
        for key in self.keys_of(group) {
            let Some(polled) = self.groups.get_mut(&key) else {
                continue;
            };
            let waiting = polled.waiting.values_mut();
            let moved = waiting.filter_map(|waiter| waiter.registered(targets, now));
            if moved.count() > 0 && !polled.in_flight && polled.failures == 0 {
                self.reschedule(&key, now);
            }
        }
    }

    /// Sets the next poll of a group without a call in flight anew.
    fn reschedule(&mut self, group: &GroupKey, now: Instant) {
        self.dequeue(group);
        let expected = self.learned.expected(group);
        let groups = self.groups_polled_with(group);
        if let Some(polled) = self.groups.get_mut(group) {
            polled.next = polled.next_poll(expected, groups, now);
            if polled.waits_long(expected, now) {
                polled.next = self.slots.take(polled.next.max(now + LONGEST_INTERVAL));
                polled.slot = Some(polled.next);
            }
        }
        self.enqueue(group);
    }
}
