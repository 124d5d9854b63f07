use rstest::rstest;

use super::*;

mod model;
mod walks;

const NOW: Timestamp = Timestamp::constant(1_800_000_000, 0);
const DAY: Duration = Duration::from_secs(24 * 3600);

pub(super) fn ca(id: u8, validity: Validity) -> Ca {
    Ca {
        id: Fingerprint([id; 32]),
        validity,
        pem: format!("ca {id}\n").into(),
    }
}

pub(super) fn key() -> PrivateKey {
    PrivateKey("a key".into())
}

/// A pair that is made now by the rules' own dates; the leaf has its CA's number.
pub(super) fn pair(id: u8, now: Timestamp, lifetimes: &Lifetimes) -> Pair {
    let ca = ca(id, lifetimes.of_ca(now));
    let leaf = leaf(id, lifetimes.of_leaf(now, ca.validity));
    Pair {
        authority: Authority {
            key: Some(key()),
            last_leaf: leaf.validity.not_after,
            ca,
        },
        leaf,
    }
}

pub(super) fn leaf(id: u8, validity: Validity) -> Leaf {
    Leaf {
        id: Fingerprint([id; 32]),
        validity,
        fits: true,
        signed: true,
        chain: format!("leaf {id}\n").into(),
        key: key(),
    }
}

/// A Secret whose CA 1 and leaf were made then, all in order.
fn settled(made: Timestamp) -> Record {
    Record::new(pair(1, made, &Lifetimes::default())).promoted()
}

/// A configuration of two webhooks that hold these, long since.
fn holding(cas: &[&Ca]) -> Configuration {
    let bundle = Bundle {
        cas: cas.iter().copied().cloned().collect(),
        sound: true,
    };
    Configuration {
        bundles: vec![bundle; 2],
        unchanged_for: DAY,
    }
}

fn step(record: &Record, configurations: &[Configuration]) -> Step {
    let situation = Situation {
        now: NOW,
        record: Some(record),
        configurations: Some(configurations),
        remembered: &[],
    };
    next(&situation, &Lifetimes::default())
}

fn of(record: &Record) -> [Configuration; 2] {
    let trusted = record.trusted();
    [holding(&trusted), holding(&trusted)]
}

#[test]
fn without_a_secret_one_is_made() {
    let situation = Situation {
        now: NOW,
        record: None,
        configurations: Some(&[]),
        remembered: &[],
    };
    let step = next(&situation, &Lifetimes::default());
    assert_eq!(step, Step::Secret(Change::Create));
}

#[test]
fn a_new_ca_joins_every_bundle_is_seen_and_only_then_serves() {
    let lifetimes = Lifetimes::default();
    let record = settled(NOW - 250 * DAY);
    let first = &record.trusted()[..];
    let mut now = [holding(first), holding(first)];
    // Its leaf has expired as well, and another can be had at once.
    assert_eq!(step(&record, &now), Step::Secret(Change::Sign(Why::Due)));
    let validity = record.authority.as_ref().unwrap().ca.validity;
    let record = record
        .clone()
        .signed(leaf(9, lifetimes.of_leaf(NOW, validity)));
    assert_eq!(step(&record, &now), Step::Secret(Change::Stage(Why::Due)));

    let staged = record.staged(pair(2, NOW, &lifetimes));
    assert_eq!(staged.trusted().len(), 2);
    for index in 0..2 {
        assert_eq!(step(&staged, &now), Step::Trust(index));
        now[index] = holding(&staged.trusted());
    }
    now[1].unchanged_for = Duration::from_secs(12);
    assert_eq!(step(&staged, &now), Step::Wait(Duration::from_secs(18)));
    now[1].unchanged_for = lifetimes.seen_after;
    assert_eq!(step(&staged, &now), Step::Secret(Change::Promote));

    let promoted = staged.promoted();
    assert_eq!(promoted.leaf.as_ref().unwrap().id, Fingerprint([2; 32]));
    let retired = promoted.retired.as_ref().unwrap();
    assert_eq!(retired[0].ca.id, Fingerprint([1; 32]));
    let last_leaf = lifetimes.of_leaf(NOW, validity).not_after;
    assert_eq!(retired[0].last_leaf, last_leaf);
    assert_eq!(
        step(&promoted, &of(&promoted)),
        Step::Rest(NOW + 20 * DAY),
        "the leaf's renewal, before the retired CA's end"
    );
}

#[test]
fn a_retired_ca_goes_when_its_last_leaf_has_expired_for_every_clock() {
    let lifetimes = Lifetimes::default();
    let old = RetiredCa {
        ca: ca(7, lifetimes.of_ca(NOW - 100 * DAY)),
        last_leaf: NOW - lifetimes.skew + Duration::from_secs(1),
    };
    let mut record = settled(NOW).adopted(&[old]);
    let over = Step::Rest(NOW + Duration::from_secs(1));
    assert_eq!(step(&record, &of(&record)), over);
    record.retired.as_mut().unwrap()[0].last_leaf -= Duration::from_secs(1);
    let all = of(&record);
    assert_eq!(step(&record, &all), Step::Secret(Change::Forget));
    let forgotten = record.forgotten(NOW, &lifetimes);
    assert_eq!(forgotten.trusted().len(), 1);
    assert_eq!(step(&forgotten, &all), Step::Trust(0));
}

#[rstest]
#[case::emptied(|bundle: &mut Bundle| bundle.cas.clear())]
#[case::partly_unreadable(|bundle: &mut Bundle| bundle.sound = false)]
#[case::with_a_stranger(|bundle: &mut Bundle| bundle.cas.push(ca(8, Lifetimes::default().of_ca(NOW))))]
fn a_bundle_that_another_client_changed_is_put_back(#[case] change: fn(&mut Bundle)) {
    let record = settled(NOW);
    let mut now = of(&record);
    change(&mut now[1].bundles[1]);
    assert_eq!(step(&record, &now), Step::Trust(1));
}

#[test]
fn a_configuration_that_cannot_be_read_stops_everything_but_new_leaves() {
    let lifetimes = Lifetimes::default();
    let blind = |record: &Record| {
        let situation = Situation {
            now: NOW,
            record: Some(record),
            configurations: None,
            remembered: &[],
        };
        next(&situation, &lifetimes)
    };
    let due = settled(NOW - 20 * DAY);
    assert_eq!(blind(&due), Step::Secret(Change::Sign(Why::Due)));
    let staged = settled(NOW).staged(pair(2, NOW, &lifetimes));
    assert!(matches!(blind(&staged), Step::Rest(_)));
    let broken = damaged(|r| (r.authority, r.retired) = (None, None));
    assert!(matches!(blind(&broken), Step::Rest(_)));
}

#[test]
fn the_first_certificate_of_all_is_served_as_soon_as_every_bundle_holds_its_ca() {
    let lifetimes = Lifetimes::default();
    let first = Record::new(pair(1, NOW, &lifetimes));
    let mut now = of(&first);
    now[1] = holding(&[]);
    assert_eq!(step(&first, &now), Step::Trust(1));
    now[1] = Configuration {
        unchanged_for: Duration::ZERO,
        ..holding(&first.trusted())
    };
    assert_eq!(step(&first, &now), Step::Secret(Change::Promote));
    // Where a CA was trusted before, a replica may still serve a leaf of that.
    let before = RetiredCa {
        ca: ca(7, lifetimes.of_ca(NOW)),
        last_leaf: NOW + DAY,
    };
    let second = first.adopted(&[before]);
    let now = of(&second).map(|configuration| Configuration {
        unchanged_for: Duration::ZERO,
        ..configuration
    });
    assert_eq!(step(&second, &now), Step::Wait(lifetimes.seen_after));
}

/// What a leader made whose clock was ahead by so many days.
#[rstest]
#[case::a_leaf(|ahead, lifetimes: &Lifetimes| {
    let record = settled(NOW);
    let ca = record.authority.as_ref().unwrap().ca.validity;
    record.signed(leaf(2, lifetimes.of_leaf(ahead, ca)))
}, Change::Sign(Why::NotYet))]
#[case::a_ca(|ahead, lifetimes: &Lifetimes| {
    Record::new(pair(2, ahead, lifetimes)).promoted()
}, Change::Stage(Why::NotYet))]
#[case::a_staged_ca(|ahead, lifetimes: &Lifetimes| {
    settled(NOW).staged(pair(2, ahead, lifetimes))
}, Change::Stage(Why::Unusable))]
fn what_is_valid_only_later_is_made_anew(
    #[case] made: fn(Timestamp, &Lifetimes) -> Record,
    #[case] change: Change,
    #[values(1, 20, 300)] days: u32,
) {
    let lifetimes = Lifetimes::default();
    let record = made(NOW + days * DAY, &lifetimes);
    assert_eq!(step(&record, &of(&record)), Step::Secret(change));
    // Within the tolerated difference between clocks, it is as good as any.
    let near = made(NOW + lifetimes.skew, &lifetimes);
    let step = step(&near, &of(&near));
    let made = matches!(step, Step::Secret(Change::Sign(_) | Change::Stage(_)));
    assert!(!made, "{step:?}");
}

#[test]
fn a_configuration_that_is_absent_holds_nothing_up() {
    let lifetimes = Lifetimes::default();
    let record = settled(NOW).staged(pair(2, NOW, &lifetimes));
    let mut now = of(&record);
    now[0].bundles.clear();
    assert_eq!(step(&record, &now), Step::Secret(Change::Promote));
    now[0].unchanged_for = Duration::ZERO;
    assert_eq!(step(&record, &now), Step::Wait(Duration::from_secs(30)));
}

fn damaged(damage: impl Fn(&mut Record)) -> Record {
    let mut record = settled(NOW);
    damage(&mut record);
    record
}

#[rstest]
#[case::no_leaf(damaged(|r| r.leaf = None), Why::Unusable)]
#[case::a_strangers_leaf(damaged(|r| r.leaf.as_mut().unwrap().signed = false), Why::NotOurCa)]
#[case::other_names(damaged(|r| r.leaf.as_mut().unwrap().fits = false), Why::Names)]
#[case::old(settled(NOW - 20 * DAY), Why::Due)]
fn a_leaf_is_signed_at_once_where_the_ca_can(#[case] record: Record, #[case] why: Why) {
    assert_eq!(step(&record, &of(&record)), Step::Secret(Change::Sign(why)));
}

#[rstest]
#[case::due(24, Step::Trust(0))]
#[case::soon_over(25, Step::Secret(Change::Sign(Why::Due)))]
fn a_leaf_that_is_due_waits_for_the_ca_that_comes_but_not_to_its_end(
    #[case] days: u32,
    #[case] expected: Step,
) {
    let lifetimes = Lifetimes::default();
    let before = settled(NOW - days * DAY);
    let staged = before.clone().staged(pair(2, NOW, &lifetimes));
    assert_eq!(step(&staged, &of(&before)), expected);
}

#[test]
fn a_leaf_of_a_broken_secret_stays_trusted_by_what_the_bundles_hold() {
    let lifetimes = Lifetimes::default();
    let before = settled(NOW);
    let bundles = of(&before);
    let record = damaged(|r| (r.authority, r.retired) = (None, None));
    let Step::Secret(Change::Adopt(adopted)) = step(&record, &bundles) else {
        panic!("not adopted");
    };
    assert_eq!(adopted[0].ca, *before.trusted()[0]);
    assert_eq!(adopted[0].last_leaf, NOW + lifetimes.leaf);
    let record = record.adopted(&adopted);
    assert_eq!(
        step(&record, &bundles),
        Step::Secret(Change::Stage(Why::Unusable)),
    );
    let staged = record.staged(pair(2, NOW, &lifetimes));
    assert_eq!(staged.trusted().len(), 2);
    assert_eq!(step(&staged, &bundles), Step::Trust(0));
}

#[test]
fn of_what_has_expired_nothing_is_kept_and_nothing_is_emptied_before_there_is_more() {
    let lifetimes = Lifetimes::default();
    let old = settled(NOW - 400 * DAY);
    let bundles = of(&old);
    let mut record = old;
    (record.authority, record.retired) = (None, None);
    let adopted = Change::Adopt(vec![]);
    assert_eq!(step(&record, &bundles), Step::Secret(adopted));
    let record = record.adopted(&[]);
    let staged = Step::Secret(Change::Stage(Why::Unusable));
    assert_eq!(step(&record, &bundles), staged);
    let record = record.staged(pair(2, NOW, &lifetimes));
    assert_eq!(step(&record, &bundles), Step::Trust(0));
    assert_eq!(record.trusted().len(), 1);
}

#[test]
fn a_retired_ca_stays_while_another_waits_for_the_bundles() {
    let lifetimes = Lifetimes::default();
    let over = RetiredCa {
        ca: ca(7, lifetimes.of_ca(NOW - 100 * DAY)),
        last_leaf: NOW - DAY,
    };
    let record = settled(NOW).adopted(&[over]);
    let staged = record.staged(pair(2, NOW, &lifetimes));
    assert_eq!(step(&staged, &of(&staged)), Step::Secret(Change::Promote));
    let promoted = staged.promoted();
    assert_eq!(
        step(&promoted, &of(&promoted)),
        Step::Secret(Change::Forget)
    );
}

#[test]
fn what_a_process_remembers_is_never_dropped_while_its_leaves_live() {
    let lifetimes = Lifetimes::default();
    let remembered = remember(vec![], &settled(NOW), NOW, &lifetimes);
    // Another client replaced the Secret by one that is consistent in itself.
    let record = Record::new(pair(2, NOW, &lifetimes)).promoted();
    let configurations = of(&record);
    let situation = |now| Situation {
        now,
        record: Some(&record),
        configurations: Some(&configurations),
        remembered: &remembered,
    };
    let adopt = Step::Secret(Change::Adopt(remembered.clone()));
    assert_eq!(next(&situation(NOW), &lifetimes), adopt);
    let later = NOW + lifetimes.leaf + lifetimes.skew;
    assert_ne!(next(&situation(later), &lifetimes), adopt);
    assert!(remember(remembered.clone(), &record, later, &lifetimes).len() < 2);
}

#[test]
fn a_bundle_full_of_strangers_is_not_adopted_without_end() {
    let lifetimes = Lifetimes::default();
    let strangers: Vec<Ca> = (10..200).map(|id| ca(id, lifetimes.of_ca(NOW))).collect();
    let strangers: Vec<&Ca> = strangers.iter().collect();
    let configurations = [holding(&strangers)];
    let record = Record::new(pair(1, NOW, &lifetimes));
    let Step::Secret(Change::Adopt(adopted)) = step(&record, &configurations) else {
        panic!("not adopted");
    };
    let record = record.adopted(&adopted);
    assert_eq!(step(&record, &configurations), Step::Trust(0));
    assert_eq!(record.trusted().len(), 1 + MAX_RETIRED);
}

#[rstest]
#[case::made_now(0, Change::Promote)]
#[case::due_for_renewal(29, Change::Promote)]
#[case::expired(30, Change::Stage(Why::Unusable))]
fn what_was_staged_serves_as_long_as_it_is_valid(#[case] days: u32, #[case] change: Change) {
    let lifetimes = Lifetimes::default();
    let record = settled(NOW).staged(pair(2, NOW - days * DAY, &lifetimes));
    assert_eq!(step(&record, &of(&record)), Step::Secret(change));
}

#[test]
fn a_leaf_never_outlives_its_ca_and_is_not_renewed_for_nothing() {
    let lifetimes = Lifetimes::default();
    let ca = lifetimes.of_ca(NOW - 360 * DAY);
    let made = lifetimes.of_leaf(NOW, ca);
    assert_eq!(made.not_after, ca.not_after);
    assert_eq!(made.not_before, NOW - lifetimes.skew);
    let record = settled(NOW - 360 * DAY).signed(leaf(2, made));
    let mut at = NOW;
    while at < ca.not_after {
        let bundles = of(&record);
        let situation = Situation {
            now: at,
            record: Some(&record),
            configurations: Some(&bundles),
            remembered: &[],
        };
        let step = next(&situation, &lifetimes);
        assert_eq!(step, Step::Secret(Change::Stage(Why::Due)));
        at += DAY;
    }
}

#[rstest]
#[case("2/3", Some(20))]
#[case("1/2", Some(15))]
#[case("3/3", None)]
#[case("0/3", None)]
#[case("2", None)]
#[case("-1/3", None)]
#[case("1/1001", None)]
fn a_share_of_a_life_is_a_fraction(#[case] text: &str, #[case] days: Option<u32>) {
    let renewal = text.parse().ok().map(|renew_after| {
        let lifetimes = Lifetimes {
            renew_after,
            ..Lifetimes::default()
        };
        lifetimes.renewal(lifetimes.of_leaf(NOW, lifetimes.of_ca(NOW)))
    });
    assert_eq!(renewal, days.map(|days| NOW + days * DAY));
}

#[rstest]
#[case::ca(|l: &mut Lifetimes| l.ca = l.leaf, LifetimesError::CaTooShort)]
#[case::leaf(|l: &mut Lifetimes| l.leaf = Duration::from_secs(89), LifetimesError::LeafTooShort)]
#[case::years(|l: &mut Lifetimes| l.ca = 40_000 * DAY, LifetimesError::TooLong)]
fn lifetimes_that_cannot_work_are_refused(
    #[case] change: fn(&mut Lifetimes),
    #[case] error: LifetimesError,
) {
    let mut lifetimes = Lifetimes::default();
    assert_eq!(lifetimes.check(), Ok(()));
    change(&mut lifetimes);
    assert_eq!(lifetimes.check(), Err(error));
}

#[rstest]
#[case::of_nothing(None, None, true)]
#[case::of_what_has_expired(Some((true, Some(99))), None, true)]
#[case::of_what_nobody_trusts(Some((false, None)), Some(0), true)]
#[case::no_better(Some((false, None)), None, false)]
#[case::of_trust_for_a_stranger(Some((false, Some(0))), None, false)]
#[case::too_early(Some((false, Some(99))), Some(29), false)]
#[case::in_time(Some((false, Some(99))), Some(30), true)]
fn a_replica_gives_up_what_is_trusted_only_for_what_is(
    #[case] serves: Option<(bool, Option<u64>)>,
    #[case] offered: Option<u64>,
    #[case] taken: bool,
) {
    let standing = |expired, trusted: Option<u64>| Standing {
        expired,
        trusted_for: trusted.map(Duration::from_secs),
    };
    let serves = serves.map(|(expired, trusted)| standing(expired, trusted));
    let after = Duration::from_secs(30);
    assert_eq!(takes(serves, standing(false, offered), after), taken);
    assert!(!takes(serves, standing(true, offered), after));
}

#[test]
fn of_a_ca_that_is_named_and_remembered_the_later_end_of_its_leaves_counts() {
    let lifetimes = Lifetimes::default();
    let longer = RetiredCa {
        ca: ca(7, lifetimes.of_ca(NOW)),
        last_leaf: NOW + 20 * DAY,
    };
    let shorter = RetiredCa {
        last_leaf: NOW + 10 * DAY,
        ..longer.clone()
    };
    let record = settled(NOW).adopted(&[shorter]);
    // Another replica, which had not seen the newest leaf of the CA, wrote the shorter end.
    let remembered = remember(vec![longer.clone()], &record, NOW, &lifetimes);
    assert!(remembered.contains(&longer));
    let configurations = of(&record);
    let situation = Situation {
        now: NOW,
        record: Some(&record),
        configurations: Some(&configurations),
        remembered: &remembered,
    };
    let adopt = Step::Secret(Change::Adopt(vec![longer.clone()]));
    assert_eq!(next(&situation, &lifetimes), adopt);
    let adopted = record.adopted(std::slice::from_ref(&longer));
    assert_eq!(adopted.retired, Some(vec![longer]));
}

#[test]
fn of_a_lost_secret_a_leaf_may_have_been_signed_that_this_replica_has_not_seen() {
    let lifetimes = Lifetimes::default();
    let before = settled(NOW - 10 * DAY);
    let bundles = of(&before);
    let remembered = remember(vec![], &before, NOW, &lifetimes);
    let lost = Record::new(pair(2, NOW, &lifetimes));
    let situation = Situation {
        now: NOW,
        record: Some(&lost),
        configurations: Some(&bundles),
        remembered: &remembered,
    };
    let Step::Secret(Change::Adopt(adopted)) = next(&situation, &lifetimes) else {
        panic!("not adopted");
    };
    assert!(adopted[0].last_leaf > remembered[0].last_leaf);
    assert_eq!(adopted[0].last_leaf, lifetimes.latest_leaf(NOW));
}
