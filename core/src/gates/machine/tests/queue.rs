//! The polling queue, with a budget that grants little.

use super::*;
use crate::gates::polling::group::Due;
use crate::gates::polling::queue::PollQueue;
use crate::names::ConditionPrefix;

const MS: Duration = Duration::from_millis(1);

/// A queue, and a clock that only the tests move.
struct Polls {
    queue: PollQueue,
    now: Instant,
}

impl Polls {
    fn new() -> Self {
        Self {
            queue: PollQueue::default(),
            now: epoch(),
        }
    }

    /// Adds so many pods of a group, which are due from now on.
    fn join(&mut self, group: &str, pods: usize) {
        let due = Due {
            at: self.now,
            observed: true,
        };
        for pod in 0..pods {
            let id = gate(&format!("{group}-{pod}"));
            self.queue
                .join(&self::group(group), &id, vec![], due, self.now);
        }
    }

    /// Starts the calls that `take` grants. Returns their groups, and when to start more.
    fn start(
        &mut self,
        take: impl FnMut(&NextPoll) -> Result<(), Instant>,
    ) -> (Vec<GroupKey>, Option<Instant>) {
        let started = self.queue.start(&BTreeSet::new(), self.now, take);
        let groups = started.calls.into_iter().map(|call| call.group);
        (groups.collect(), started.again)
    }

    /// Starts at most one call. Returns its group.
    fn one(&mut self) -> Option<GroupKey> {
        let (mut paid, now) = (false, self.now);
        let (mut groups, _) = self.start(|_| match mem::replace(&mut paid, true) {
            false => Ok(()),
            true => Err(now),
        });
        groups.pop()
    }

    /// Answers a call: all pods of the group are healthy, or none is.
    fn answer(&mut self, group: &GroupKey, healthy: bool) {
        let waiting = self.queue.waiting(group).into_iter();
        let healthy = waiting.filter(|_| healthy).collect();
        let registered = BTreeSet::new();
        self.queue.answered(group, registered, &healthy, self.now);
    }

    fn fail(&mut self, group: &GroupKey) {
        self.queue.failed(group, CallFailure::Other, self.now);
    }

    /// So many groups are known to be healthy 20 s after their pods are due.
    fn learn(&mut self, groups: usize) {
        let names: Vec<String> = (0..groups).map(|number| format!("g-{number}")).collect();
        names.iter().for_each(|name| self.join(name, 1));
        for healthy in [false, true] {
            self.now += if healthy { S } else { 19 * S };
            for group in self.start(|_| Ok(())).0 {
                self.answer(&group, healthy);
            }
        }
        for name in &names {
            self.queue.leave(&group(name), &gate(&format!("{name}-0")));
        }
        self.now += 60 * S;
    }
}

fn gate(pod: &str) -> GateId {
    GateId {
        pod: key(pod),
        uid: "1".into(),
        gate: ConditionPrefix::default().gate("web"),
    }
}

#[test]
fn a_likely_poll_does_not_wait_for_the_tokens_of_one_that_ranks_before_it() {
    let mut polls = Polls::new();
    polls.learn(200);
    (0..200).for_each(|number| polls.join(&format!("g-{number}"), 1));
    polls.join("large", 500);
    polls.now += 21 * S;
    let large = group("large");
    let now = polls.now;
    let first = polls.start(|turn| {
        if turn.group == large {
            Ok(())
        } else {
            Err(now)
        }
    });
    assert_eq!(first.0, std::slice::from_ref(&large));
    polls.fail(&large);
    polls.now += S;
    // Five tokens are there, and one that is not likely would have to leave 30.
    let (mut tokens, now) = (5, polls.now);
    let mut asked = vec![];
    let started = polls.start(|turn| {
        asked.push(turn.group.clone());
        match turn.likely_healthy && tokens > 0 {
            true => tokens -= 1,
            false => return Err(now + 3 * S),
        }
        Ok(())
    });
    assert_eq!(asked.first(), Some(&large));
    assert_eq!(started.0.len(), 5);
}

#[test]
fn a_group_that_failed_for_long_is_asked_again_within_a_minute_however_many_others_wait() {
    let mut polls = Polls::new();
    polls.join("denied", 5);
    let denied = group("denied");
    let mut asked = vec![];
    // Ten calls a second, of which 200 groups with ever new pods would take more.
    for tick in 0..6_000_u32 {
        if tick % 1_000 == 0 {
            (0..200).for_each(|number| {
                polls.queue.leave(
                    &group(&format!("g-{number}")),
                    &gate(&format!("g-{number}-0")),
                )
            });
            (0..200).for_each(|number| polls.join(&format!("g-{number}"), 1));
        }
        if let Some(group) = polls.one() {
            match group == denied {
                true => polls.fail(&group),
                false => polls.answer(&group, false),
            }
            asked.extend((group == denied).then_some(polls.now));
        }
        polls.now += 100 * MS;
    }
    let gaps = asked.windows(2).map(|pair| pair[1] - pair[0]);
    let longest = gaps.max().unwrap();
    let last = polls.now - *asked.last().unwrap();
    assert!(longest.max(last) < 60 * S, "{longest:?}, {last:?}");
}

#[test]
fn the_budget_is_not_asked_again_before_it_can_grant_a_call() {
    let mut polls = Polls::new();
    (0..10).for_each(|number| polls.join(&format!("g-{number}"), 1));
    let again = polls.now + 100 * MS;
    assert_eq!(polls.start(|_| Err(again)), (vec![], Some(again)));
    polls.now += 99 * MS;
    let asked = polls.start(|_| panic!("the budget is asked"));
    assert_eq!(asked, (vec![], Some(again)));
    polls.now += MS;
    assert!(polls.one().is_some());
}

#[test]
fn a_likely_poll_does_not_wait_until_the_budget_grants_one_that_is_not() {
    let mut polls = Polls::new();
    polls.learn(1);
    polls.join("g-0", 1);
    polls.now += 3 * S;
    let again = polls.now + S;
    assert_eq!(polls.start(|_| Err(again)).0, []);
    polls.now += 50 * MS;
    // Nothing is known of it.
    polls.queue.note_checks(&group("new"), 30 * S);
    polls.join("new", 1);
    assert_eq!(polls.one(), Some(group("new")));
}
