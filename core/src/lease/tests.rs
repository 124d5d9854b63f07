use std::ops::Range;

use proptest::prelude::*;
use rstest::rstest;

use super::*;

const S: Duration = Duration::from_secs(1);
const NOW: Timestamp = Timestamp::constant(1_800_000_000, 0);
/// Times of monotonic clocks may be anything; these begin here.
const T: Duration = Duration::from_secs(100_000);

fn timing() -> Timing {
    Timing::new(15 * S, 10 * S, 2 * S).unwrap()
}

/// A record as a holder writes it, renewed so many seconds after [`NOW`].
fn held_by(holder: &str, renewed: u32) -> Record {
    Record {
        holder: holder.into(),
        lease: 15 * S,
        acquired: Some(NOW),
        renewed: Some(NOW + renewed * S),
        transitions: 3,
    }
}

fn seen(record: Record, version: &str) -> Option<(Record, Arc<str>)> {
    Some((record, version.into()))
}

/// Candidate `a`, which has read this.
fn having_read(read: Option<(Record, Arc<str>)>) -> Election {
    let mut election = Election::new("a", timing());
    assert_eq!(election.next(T, NOW), Step::Look);
    election.looked(read, T);
    election
}

/// Candidate `a`, which got the Lease at [`T`] and has version 1 of it.
fn holding() -> Election {
    let mut election = having_read(None);
    let attempt = attempt(&election, T);
    election.tried(attempt, T, Outcome::Written("1".into()), T);
    election
}

/// The attempt that is due.
fn attempt(election: &Election, at: Duration) -> Attempt {
    match election.next(at, NOW + (at - T)) {
        Step::Try(attempt) => attempt,
        other => panic!("an attempt, not {other:?}"),
    }
}

#[test]
fn a_lease_that_is_not_there_is_created() {
    let election = having_read(None);
    let Attempt { record, version } = attempt(&election, T);
    assert_eq!(version, None);
    let created = Record {
        transitions: 0,
        ..held_by("a", 0)
    };
    assert_eq!(record, created);
}

#[test]
fn a_holder_renews_each_retry_period_and_keeps_its_time_and_count() {
    let mut election = holding();
    assert_eq!(election.next(T + S, NOW), Step::Wait(T + 2 * S));
    let renewal = attempt(&election, T + 2 * S);
    assert_eq!(renewal.version.as_deref(), Some("1"));
    let renewed = Record {
        transitions: 0,
        ..held_by("a", 2)
    };
    assert_eq!(renewal.record, renewed);
    let begun = T + 2 * S;
    election.tried(renewal, begun, Outcome::Written("2".into()), begun + S);
    let hold = Hold {
        begin_until: begun + 10 * S,
        end_by: begun + 15 * S,
    };
    assert_eq!(election.hold(begun + S), Some(hold));
}

#[test]
fn a_hold_counts_from_the_beginning_of_the_attempt_and_ends_with_the_renew_deadline() {
    let mut election = having_read(None);
    let first = attempt(&election, T);
    election.tried(first, T, Outcome::Written("1".into()), T + 4 * S);
    let last = T + 10 * S - Duration::from_millis(1);
    assert!(election.hold(last).is_some());
    assert_eq!(election.hold(T + 10 * S), None);
}

#[test]
fn another_holder_is_waited_for_from_our_own_sight_of_it_whatever_its_clock_says() {
    let ahead = held_by("b", 3_600 * 24 * 365);
    let mut election = having_read(seen(ahead, "7"));
    assert_eq!(election.next(T, NOW), Step::Wait(T + 15 * S));
    election.see(seen(held_by("b", 2), "8"), T + 2 * S);
    assert_eq!(election.next(T + 15 * S, NOW), Step::Wait(T + 17 * S));
    let takeover = attempt(&election, T + 17 * S);
    assert_eq!(takeover.version.as_deref(), Some("8"));
    assert_eq!(
        (&*takeover.record.holder, takeover.record.transitions),
        ("a", 4)
    );
    assert_eq!(takeover.record.acquired, Some(NOW + 17 * S));
}

#[test]
fn a_new_version_of_the_same_record_is_no_renewal() {
    let mut election = having_read(seen(held_by("b", 0), "7"));
    election.see(seen(held_by("b", 0), "8"), T + 9 * S);
    assert_eq!(attempt(&election, T + 15 * S).version.as_deref(), Some("8"));
}

#[test]
fn a_longer_lease_of_its_holder_is_respected() {
    let record = Record {
        lease: 60 * S,
        ..held_by("b", 0)
    };
    let election = having_read(seen(record, "7"));
    assert_eq!(election.next(T, NOW), Step::Wait(T + 60 * S));
}

#[test]
fn a_released_lease_is_taken_at_once() {
    let mut election = having_read(seen(held_by("b", 0), "7"));
    let released = Record {
        lease: S,
        ..held_by("", 1)
    };
    election.see(seen(released, "8"), T + S);
    assert_eq!(attempt(&election, T + S).record.transitions, 4);
}

#[test]
fn to_release_empties_the_holder_for_a_second_and_is_the_holders_alone() {
    let release = holding().release(NOW + S).unwrap();
    assert_eq!(release.version.as_deref(), Some("1"));
    let released = Record {
        holder: "".into(),
        lease: S,
        acquired: Some(NOW + S),
        renewed: Some(NOW + S),
        transitions: 0,
    };
    assert_eq!(release.record, released);
    let other = having_read(seen(held_by("b", 0), "7"));
    assert_eq!(other.release(NOW), None);
}

#[test]
fn a_holder_that_sees_another_has_lost_at_once() {
    let mut election = holding();
    election.see(seen(held_by("b", 0), "2"), T + S);
    assert_eq!(election.hold(T + S), None);
    assert_eq!(election.next(T + S, NOW), Step::Wait(T + 16 * S));
}

#[test]
fn an_answer_that_comes_after_another_took_over_gives_nothing() {
    let mut election = holding();
    let late = attempt(&election, T + 2 * S);
    election.see(seen(held_by("b", 0), "3"), T + 3 * S);
    election.tried(late, T + 2 * S, Outcome::Written("2".into()), T + 4 * S);
    assert_eq!((election.holder(), election.hold(T + 4 * S)), ("b", None));
}

#[test]
fn an_old_sight_of_the_lease_tells_nothing() {
    let mut election = having_read(seen(held_by("b", 0), "10"));
    election.see(seen(held_by("", 0), "9"), T + S);
    assert_eq!(election.next(T + S, NOW), Step::Wait(T + 15 * S));
}

#[test]
fn a_failure_is_tried_again_and_two_overtakings_in_a_row_are_not_answered_at_once() {
    let mut election = holding();
    let at = T + 2 * S;
    let failed = attempt(&election, at);
    election.tried(failed, at, Outcome::Failed, at);
    assert_eq!(election.next(at, NOW), Step::Wait(at + 2 * S));
    let at = at + 2 * S;
    let overtaken = attempt(&election, at);
    election.tried(overtaken.clone(), at, Outcome::Overtaken, at);
    assert_eq!(election.next(at, NOW), Step::Look);
    election.look_failed(at, at);
    assert_eq!(election.next(at, NOW), Step::Wait(at + 2 * S));
    election.looked(seen(overtaken.record.clone(), "5"), at);
    election.tried(overtaken, at, Outcome::Overtaken, at);
    assert_eq!(election.next(at, NOW), Step::Wait(at + 2 * S));
}

#[test]
fn a_candidate_that_is_overtaken_reads_the_lease_unless_the_watch_has_shown_it() {
    let mut election = holding();
    let at = T + 2 * S;
    let overtaken = attempt(&election, at);
    election.tried(overtaken, at, Outcome::Overtaken, at);
    election.see(seen(held_by("a", 0), "1"), at);
    assert_eq!(election.next(at, NOW), Step::Look, "that was known before");
    election.see(seen(held_by("b", 0), "2"), at);
    assert_eq!(election.next(at, NOW), Step::Wait(at + 15 * S));
}

#[test]
fn a_failure_that_took_long_is_tried_again_at_once() {
    let mut election = holding();
    let slow = attempt(&election, T + 2 * S);
    election.tried(slow, T + 2 * S, Outcome::Failed, T + 7 * S);
    assert!(matches!(election.next(T + 7 * S, NOW), Step::Try(_)));
}

#[test]
fn a_deleted_lease_is_made_anew_by_its_holder_at_once_and_by_others_when_it_would_have_ended() {
    let mut holder = holding();
    holder.see(None, T + S);
    assert_eq!(attempt(&holder, T + 2 * S).version, None);
    let mut other = having_read(seen(held_by("b", 0), "7"));
    other.see(None, T + S);
    assert_eq!(other.next(T + S, NOW), Step::Wait(T + 15 * S));
    assert_eq!(attempt(&other, T + 15 * S).version, None);
}

/// Renews the Lease each retry period of these seconds after [`T`], as a holder does.
fn renews(election: &mut Election, seconds: Range<u32>) {
    for second in seconds.step_by(2) {
        let at = T + second * S;
        let renewal = attempt(election, at);
        let written = Outcome::Written((1 + second).to_string().into());
        election.tried(renewal, at, written, at);
    }
}

#[test]
fn a_holder_that_is_blind_for_a_minute_ceases_to_write_and_then_releases_the_lease() {
    let mut election = holding();
    election.sees(View::FailsSince(T));
    renews(&mut election, 2..60);
    let hold = election.hold(T + 59 * S).unwrap();
    assert_eq!((hold.begin_until, hold.end_by), (T + 60 * S, T + 62 * S));
    assert_eq!(election.hold(T + 60 * S), None);
    assert_eq!(election.next(T + 60 * S, NOW), Step::Wait(T + 62 * S));
    let release = attempt(&election, T + 62 * S);
    assert_eq!(&*release.record.holder, "");
    let written = Outcome::Written("99".into());
    election.tried(release, T + 62 * S, written, T + 62 * S);
    // It does not stand while it is blind, though the Lease is free.
    let next = election.next(T + 99 * S, NOW);
    assert!(matches!(next, Step::Wait(_)), "{next:?}");
    election.sees(View::Works);
    assert_eq!(&*attempt(&election, T + 99 * S).record.holder, "a");
}

#[test]
fn a_holder_whose_view_works_again_within_the_minute_goes_on() {
    let mut election = holding();
    election.sees(View::FailsSince(T));
    renews(&mut election, 2..60);
    election.sees(View::Works);
    renews(&mut election, 60..71);
    assert!(election.hold(T + 70 * S).is_some());
}

#[test]
fn a_blind_candidate_does_not_take_a_lease_whose_holder_is_gone() {
    let mut election = having_read(seen(held_by("b", 0), "7"));
    election.sees(View::FailsSince(T - 50 * S));
    let next = election.next(T + 16 * S, NOW);
    assert!(matches!(next, Step::Wait(_)), "{next:?}");
    election.sees(View::FailsSince(T));
    assert_eq!(&*attempt(&election, T + 16 * S).record.holder, "a");
}

#[test]
fn a_release_that_fails_is_tried_again() {
    let mut election = holding();
    election.sees(View::FailsSince(T - 61 * S));
    let release = attempt(&election, T + 2 * S);
    election.tried(release, T + 2 * S, Outcome::Failed, T + 2 * S);
    assert_eq!(election.next(T + 2 * S, NOW), Step::Wait(T + 4 * S));
    assert_eq!(&*attempt(&election, T + 4 * S).record.holder, "");
}

#[rstest]
#[case::seconds(Duration::from_millis(15_500), 10 * S, 2 * S, TimingError::NotSeconds)]
#[case::nothing(Duration::ZERO, 10 * S, 2 * S, TimingError::NotSeconds)]
#[case::deadline(15 * S, 15 * S, 2 * S, TimingError::DeadlineTooLong)]
#[case::retry(15 * S, 10 * S, 5 * S, TimingError::RetryTooLong)]
#[case::no_pause(15 * S, 10 * S, Duration::ZERO, TimingError::RetryTooLong)]
fn times_that_cannot_work_are_refused(
    #[case] lease: Duration,
    #[case] renew_deadline: Duration,
    #[case] retry_period: Duration,
    #[case] error: TimingError,
) {
    assert_eq!(Timing::new(lease, renew_deadline, retry_period), Err(error));
}

/// What can happen to three candidates and the API server.
#[derive(Debug, Clone)]
enum Event {
    /// Time passes.
    Pass(u64),
    /// A watch shows a candidate the newest version.
    Tell(usize),
    /// A candidate does what is due; its answer comes later, if it is a write.
    Act(usize),
    /// A write reaches the API server.
    Arrive(usize),
    /// The answer reaches its candidate.
    Answer(usize),
    /// It never does, and the candidate gives up.
    GiveUp(usize),
    /// The view of a candidate fails, or works again.
    Blink(usize),
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let candidate = 0..3_usize;
    let event = prop_oneof![
        3 => (1..6_000_u64).prop_map(Event::Pass),
        3 => candidate.clone().prop_map(Event::Tell),
        4 => candidate.clone().prop_map(Event::Act),
        3 => candidate.clone().prop_map(Event::Arrive),
        3 => candidate.clone().prop_map(Event::Answer),
        1 => candidate.clone().prop_map(Event::GiveUp),
        1 => candidate.prop_map(Event::Blink),
        1 => (10_000..60_000_u64).prop_map(Event::Pass),
    ];
    prop::collection::vec(event, 0..300)
}

/// A write in flight, and how the API server answered it.
#[derive(Debug, Clone)]
struct UnderWay {
    attempt: Attempt,
    begun: Duration,
    outcome: Option<Outcome>,
}

/// Three candidates whose clocks, wall and monotonic, have nothing in common but their pace.
struct Model {
    elections: Vec<Election>,
    under_way: Vec<Option<UnderWay>>,
    server: Option<(Record, u64)>,
    time: Duration,
    /// Until when each may still be writing, by the model's time.
    writes_until: Vec<Duration>,
}

impl Model {
    fn new() -> Self {
        let candidate = |n: usize| Election::new(format!("candidate-{n}"), timing());
        Self {
            elections: (0..3).map(candidate).collect(),
            under_way: vec![None; 3],
            server: None,
            time: T,
            writes_until: vec![Duration::ZERO; 3],
        }
    }

    fn offset(n: usize) -> Duration {
        1_000 * S * u32::try_from(n).unwrap()
    }

    fn clock(&self, n: usize) -> Duration {
        self.time + Self::offset(n)
    }

    fn newest(&self) -> Option<(Record, Arc<str>)> {
        let (record, version) = self.server.clone()?;
        Some((record, version.to_string().into()))
    }

    fn take_place(&mut self, event: Event) {
        match event {
            Event::Pass(ms) => self.time += Duration::from_millis(ms),
            Event::Tell(n) => {
                let (newest, at) = (self.newest(), self.clock(n));
                self.elections[n].see(newest, at);
            }
            Event::Act(n) => self.act(n),
            Event::Blink(n) => {
                let at = self.clock(n);
                let view = match self.elections[n].view {
                    View::Works => View::FailsSince(at),
                    View::FailsSince(_) => View::Works,
                };
                self.elections[n].sees(view);
            }
            Event::Arrive(n) => self.arrive(n),
            Event::Answer(n) | Event::GiveUp(n) => {
                let at = self.clock(n);
                let Some(write) = self.under_way[n].take() else {
                    return;
                };
                let answer = write.outcome.filter(|_| matches!(event, Event::Answer(_)));
                let outcome = answer.unwrap_or(Outcome::Failed);
                self.elections[n].tried(write.attempt, write.begun, outcome, at);
            }
        }
    }

    fn act(&mut self, n: usize) {
        let (newest, at) = (self.newest(), self.clock(n));
        if self.under_way[n].is_some() {
            return;
        }
        // No two wall clocks agree, and they go backwards.
        let now = NOW + Self::offset(n) - self.time / 3;
        match self.elections[n].next(at, now) {
            Step::Wait(_) => {}
            Step::Look => self.elections[n].looked(newest, at),
            Step::Try(attempt) => {
                self.under_way[n] = Some(UnderWay {
                    attempt,
                    begun: at,
                    outcome: None,
                });
            }
        }
    }

    fn arrive(&mut self, n: usize) {
        let Some(write) = self.under_way[n].as_mut().filter(|w| w.outcome.is_none()) else {
            return;
        };
        let there = self.server.as_ref().map(|(_, version)| version.to_string());
        let fits = write.attempt.version.as_deref() == there.as_deref();
        write.outcome = Some(match fits {
            false => Outcome::Overtaken,
            true => {
                let version = self.server.as_ref().map_or(1, |(_, version)| version + 1);
                self.server = Some((write.attempt.record.clone(), version));
                Outcome::Written(version.to_string().into())
            }
        });
    }

    /// Checks that writes of a candidate which may write now are the only ones that may be in flight.
    fn check(&mut self) -> Result<(), TestCaseError> {
        for n in 0..3 {
            let Some(hold) = self.elections[n].hold(self.clock(n)) else {
                continue;
            };
            for other in (0..3).filter(|other| *other != n) {
                prop_assert!(
                    self.writes_until[other] <= self.time,
                    "{n} may write at {:?}, {other} until {:?}",
                    self.time,
                    self.writes_until[other],
                );
            }
            self.writes_until[n] = hold.end_by - Self::offset(n);
        }
        Ok(())
    }
}

proptest! {
    #[test]
    fn no_two_candidates_may_write_at_one_time(events in events()) {
        let mut model = Model::new();
        for event in events {
            model.take_place(event);
            model.check()?;
        }
    }
}

#[test]
fn a_candidate_leads_whenever_all_reach_the_api_server() {
    let mut model = Model::new();
    for round in 0..1_000 {
        for n in 0..3 {
            model.take_place(Event::Act(n));
            model.take_place(Event::Arrive(n));
            model.take_place(Event::Answer(n));
        }
        let leads = |n: &usize| model.elections[*n].hold(model.clock(*n)).is_some();
        // In the first round all candidates only read the Lease.
        assert_eq!((0..3).filter(leads).count(), round.min(1));
        model.take_place(Event::Pass(500));
    }
}
