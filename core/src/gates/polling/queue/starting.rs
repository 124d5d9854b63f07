//! Which due groups are polled now, in the order of their worth, as far as the budget allows.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use crate::gates::polling::order::{Rank, Refusal};
use crate::gates::polling::queue::{Call, NextPoll, PollQueue, Started};
use crate::names::{GroupKey, Quota};

/// A poll with at least this chance of finding healthy pods is `likely_healthy`: 4 of 5, chosen.
const LIKELY: f64 = 0.8;
/// The poll of a group whose calls fail is treated as a likely one once it is overdue for so long. Chosen: polls
/// that are likely would else pass it for ever.
const PASSED_OVER: Duration = Duration::from_secs(10);
/// At most this many due groups of one account and Region are ranked, the longest overdue first. Chosen:
/// it bounds the work of one iteration of the loop.
const COMPARED: usize = 1000;
/// While the budget refuses calls, the due groups are ranked again after this pause. Chosen: the ranking
/// changes as pods wait.
const COMPARED_AGAIN: Duration = Duration::from_millis(250);

impl PollQueue {
    /// Starts calls for the due groups in the order of their rank, as far as `take` grants tokens. Where it
    /// refuses, it returns when to try again. `throttled` holds the quotas whose rate is held down after a
    /// throttle.
    pub(crate) fn start(
        &mut self,
        throttled: &BTreeSet<Quota>,
        now: Instant,
        mut take: impl FnMut(&NextPoll) -> Result<(), Instant>,
    ) -> Started {
        let mut calls = vec![];
        self.refusals.expire(now);
        let mut refused = BTreeMap::<Quota, Refusal>::new();
        for next_poll in self.due(throttled, now) {
            // Where the budget refuses a group, it is skipped, not waited for: the budget of one account must not
            // block the groups of another, nor one that has to leave much those that have to leave little.
            let refusal = refused.get(&next_poll.quota);
            if refusal.is_some_and(|refusal| refusal.covers(next_poll.likely_healthy)) {
                continue;
            }
            match take(&next_poll) {
                Ok(()) => calls.extend(self.begin(&next_poll, now)),
                Err(again) => {
                    let refusal = Refusal {
                        until: again.min(now + COMPARED_AGAIN),
                        likely: next_poll.likely_healthy,
                    };
                    refused.insert(next_poll.quota, refusal);
                }
            }
        }
        for (quota, refusal) in refused {
            let next = self.next_due(&quota, now);
            self.refusals.note(quota, refusal, next);
        }
        let others = self.queues.iter();
        let others = others.filter(|(quota, _)| !self.refusals.has(quota));
        let next = others.filter_map(|(_, queue)| Some(queue.first()?.0));
        let again = next.chain(self.refusals.next()).min();
        calls.extend(self.start_rechecks(now, take));
        let again = [again, self.rechecks.next()].into_iter().flatten().min();
        Started { calls, again }
    }

    /// The same for rechecks, which come after all other polls: where the budget has refused one of those, it is
    /// not even asked.
    fn start_rechecks(
        &mut self,
        now: Instant,
        mut take: impl FnMut(&NextPoll) -> Result<(), Instant>,
    ) -> Vec<Call> {
        let mut calls = vec![];
        loop {
            let due = self.rechecks.due(now);
            if due.is_empty() {
                return calls;
            }
            for (quota, since, group) in due {
                let next_poll = NextPoll {
                    group,
                    quota,
                    since,
                    groups: 1,
                    likely_healthy: false,
                    recheck: true,
                };
                let taken = match self.refusals.has(&next_poll.quota) {
                    true => Err(now + COMPARED_AGAIN),
                    false => take(&next_poll),
                };
                match taken {
                    Ok(()) => {
                        let NextPoll { quota, group, .. } = &next_poll;
                        self.rechecks.leave(quota, since, group);
                        calls.extend(self.begin(&next_poll, now));
                    }
                    Err(again) => self.rechecks.refuse(next_poll.quota, again),
                }
            }
        }
    }

    /// When the next group of a quota becomes due that is not due yet.
    fn next_due(&self, quota: &Quota, now: Instant) -> Option<Instant> {
        let queue = self.queues.get(quota)?;
        let mut nexts = queue.iter().map(|(next, _)| *next);
        nexts.find(|next| *next > now)
    }

    /// The groups that are due, in the order of their rank.
    fn due(&self, throttled: &BTreeSet<Quota>, now: Instant) -> Vec<NextPoll> {
        let mut ranked = vec![];
        let mut counts = BTreeMap::new();
        let queues = self.queues.iter();
        for (quota, queue) in queues.filter(|(quota, _)| !self.refusals.has(quota)) {
            let ready = || queue.iter().take_while(|(next, _)| *next <= now);
            counts.insert(quota, ready().count());
            let throttled = throttled.contains(quota);
            for (since, group) in ready().take(COMPARED) {
                let Some(polled) = self.groups.get(group) else {
                    continue;
                };
                let expected = self.learned.expected(group);
                let worth = polled.worth(expected, now);
                let rank = Rank {
                    throttled,
                    waits_long: polled.slot.is_some(),
                    fresh: polled.is_fresh(expected),
                    late: worth.late,
                    since: *since,
                };
                let passed_over = polled.failures > 0 && now >= *since + PASSED_OVER;
                let likely_healthy =
                    expected.guessed.is_none() || worth.chance >= LIKELY || passed_over;
                ranked.push((rank, quota, group, likely_healthy));
            }
        }
        ranked.sort_by(|(one, ..), (other, ..)| one.compare(other));
        let next_poll = |(rank, quota, group, likely_healthy): (Rank, &Quota, &GroupKey, bool)| {
            let waiting = counts.get_mut(quota)?;
            let groups = *waiting;
            *waiting -= 1;
            Some(NextPoll {
                group: group.clone(),
                quota: quota.clone(),
                since: rank.since,
                groups,
                likely_healthy,
                recheck: false,
            })
        };
        ranked.into_iter().filter_map(next_poll).collect()
    }

    /// Marks a group as in flight.
    fn begin(&mut self, next_poll: &NextPoll, now: Instant) -> Option<Call> {
        let group = &next_poll.group;
        self.dequeue(group);
        let polled = self.groups.get_mut(group)?;
        polled.requested = Some(now);
        polled.in_flight = true;
        polled.in_call = match next_poll.recheck || self.learned.rejects_names(group) {
            true => vec![],
            false => polled.targets(now),
        };
        if polled.in_call.is_empty() {
            polled.whole_sent = Some(now);
        }
        Some(Call {
            targets: polled.in_call.clone(),
            group: group.clone(),
        })
    }
}
