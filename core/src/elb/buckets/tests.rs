use super::*;
use crate::fixtures::epoch;

const ANY: PollRequest = PollRequest {
    groups: 1,
    likely_healthy: true,
};
const LIMITS: Limits = Limits {
    rate: 10.0,
    highest: 40.0,
    burst: 40,
};

fn quota(account: usize) -> Quota {
    let arn = format!(
        "arn:aws:elasticloadbalancing:eu-west-1:{account:012}:targetgroup/web/0123456789abcdef"
    );
    Quota::of(&arn.parse().unwrap())
}

fn secs(seconds: f64) -> Duration {
    Duration::from_secs_f64(seconds)
}

/// Takes for the loop for so many seconds, whenever it can. Returns how often it could.
fn spend(buckets: &mut Buckets, quota: &Quota, now: &mut Instant, seconds: u32) -> usize {
    let mut taken = 0;
    for _ in 0..seconds * 100 {
        *now += secs(0.01);
        while take(buckets, quota, *now).is_ok() {
            taken += 1;
        }
    }
    taken
}

fn take(buckets: &mut Buckets, quota: &Quota, now: Instant) -> Result<(), Duration> {
    buckets.try_take_for_loop(quota, ANY, Admissions::default(), now)
}

#[test]
fn a_throttle_slows_its_own_account_and_no_other() {
    let mut now = epoch();
    let mut buckets = Buckets::new(LIMITS, now);
    let (one, other) = (quota(1), quota(2));
    take(&mut buckets, &one, now).unwrap();
    buckets.throttled(&other, now, now);
    assert!(take(&mut buckets, &other, now).is_err());
    assert_eq!(spend(&mut buckets, &one, &mut now, 1), 39 + 10);
    assert_eq!(buckets.rate(&other), 10.0);
    assert_eq!(buckets.all_throttled(now), BTreeSet::from([other]));
}

#[test]
fn regions_of_an_account_are_throttled_apart() {
    let now = epoch();
    let mut buckets = Buckets::new(LIMITS, now);
    let here = Quota::of_role(None, "eu-west-1");
    buckets.throttled(&here, now, now);
    assert!(take(&mut buckets, &here, now).is_err());
    assert!(take(&mut buckets, &Quota::of_role(None, "us-east-1"), now).is_ok());
}

#[test]
fn all_accounts_together_stay_below_the_cap() {
    let mut now = epoch();
    let mut buckets = Buckets::new(LIMITS, now);
    let mut taken = 0;
    for _ in 0..6_000 {
        now += secs(0.01);
        for account in 0..10 {
            while take(&mut buckets, &quota(account), now).is_ok() {
                taken += 1;
            }
        }
    }
    let most = 40 + 40 * 60;
    assert!((most - 10..=most).contains(&taken), "{taken}");
}

#[test]
fn one_account_alone_never_meets_the_cap() {
    for rate in [2.0, 10.0, 40.0] {
        let limits = Limits { rate, ..LIMITS };
        let mut now = epoch();
        let mut buckets = Buckets::new(limits, now);
        let mut alone = Bucket::new(rate, 40.0, 40, now);
        for tick in 0..3_000 {
            now += secs(0.01);
            // With pauses, in which both fill up.
            if tick % 1_000 < 700 {
                let taken = take(&mut buckets, &quota(1), now).is_ok();
                assert_eq!(taken, alone.try_take(0.0, now).is_ok(), "{rate} {tick}");
            }
            if tick % 400 == 0 {
                buckets.throttled(&quota(1), now, now);
                alone.throttled(now, now);
            }
        }
    }
}

#[test]
fn what_is_throttled_leaves_the_cap_to_the_others() {
    let narrow = Limits {
        rate: 4.0,
        highest: 4.0,
        burst: 8,
    };
    let calls_of_one = |with_other: bool| {
        let mut now = epoch();
        let mut buckets = Buckets::new(narrow, now);
        let (one, other) = (quota(1), quota(2));
        let mut calls = 0;
        for _ in 0..6_000 {
            now += secs(0.01);
            if with_other && take(&mut buckets, &other, now).is_ok() {
                buckets.throttled(&other, now, now);
            }
            calls += usize::from(take(&mut buckets, &one, now).is_ok());
        }
        calls
    };
    let (alone, beside) = (calls_of_one(false), calls_of_one(true));
    assert!(beside * 20 >= alone * 19, "{beside} of {alone}");
}

#[test]
fn what_was_throttled_gets_its_calls_again_from_a_cap_that_others_use_up() {
    let narrow = Limits {
        rate: 4.0,
        highest: 4.0,
        burst: 8,
    };
    let mut now = epoch();
    let mut buckets = Buckets::new(narrow, now);
    let (one, other) = (quota(1), quota(2));
    buckets.throttled(&other, now, now);
    let mut calls = 0;
    for _ in 0..6_000 {
        now += secs(0.01);
        calls += usize::from(take(&mut buckets, &other, now).is_ok());
        let _ = take(&mut buckets, &one, now);
    }
    assert!(calls > 50, "{calls}");
}

#[test]
fn after_a_throttle_the_loop_has_two_calls_a_second_whatever_the_burst() {
    for burst in [40, 200, 1_000, 10_000] {
        for likely_healthy in [true, false] {
            let mut now = epoch();
            let mut buckets = at_the_floor(burst, now);
            let request = PollRequest {
                groups: 200,
                likely_healthy,
            };
            let nobody = Admissions::default();
            buckets.throttled(&quota(1), now, now);
            let tries = (0..120).filter(|_| {
                now += secs(0.5);
                let taken = buckets.try_take_for_loop(&quota(1), request, nobody, now);
                taken.is_ok()
            });
            let taken = tries.count();
            assert!(taken >= 100, "{burst} {likely_healthy}: {taken}");
        }
    }
}

#[test]
fn an_account_that_throttles_each_call_is_called_twice_a_second_whatever_the_burst() {
    for burst in [40, 10_000] {
        let mut now = epoch();
        let mut buckets = at_the_floor(burst, now);
        buckets.throttled(&quota(1), now, now);
        let mut taken = 0;
        for _ in 0..6_000 {
            now += secs(0.01);
            if take(&mut buckets, &quota(1), now).is_ok() {
                taken += 1;
                buckets.throttled(&quota(1), now, now + secs(0.005));
            }
        }
        assert!((100..=120).contains(&taken), "{burst}: {taken}");
    }
}

/// Buckets of 2/s, the lowest rate.
fn at_the_floor(burst: u32, now: Instant) -> Buckets {
    let limits = Limits {
        rate: 2.0,
        highest: 2.0,
        burst,
    };
    Buckets::new(limits, now)
}

#[test]
fn admissions_have_a_share_while_they_ask_and_for_ten_seconds_after() {
    let mut now = epoch();
    let mut buckets = Buckets::new(LIMITS, now);
    let drain = |buckets: &mut Buckets, now| {
        let taken = std::iter::repeat_with(|| take(buckets, &quota(1), now));
        taken.take_while(Result::is_ok).count()
    };
    buckets.try_take(&quota(1), now).unwrap();
    assert_eq!(drain(&mut buckets, now), 40 - 1 - 4);
    now += secs(9.9);
    assert_eq!(drain(&mut buckets, now), 36);
    now += secs(0.1);
    assert_eq!(drain(&mut buckets, now), 5);
}

#[test]
fn waiting_admissions_are_left_what_they_need_of_their_bucket_and_of_the_cap() {
    let now = epoch();
    let mut buckets = Buckets::new(LIMITS, now);
    let waiting = |here, held_up| Admissions { here, held_up };
    let mut taken = |here, held_up| {
        let waiting = waiting(here, held_up);
        buckets.try_take_for_loop(&quota(1), ANY, waiting, now)
    };
    assert!(taken(40, 40).is_err());
    assert!(taken(0, 40).is_err());
    assert!(taken(39, 39).is_ok());
}

#[test]
fn buckets_are_bounded_and_the_one_that_was_not_used_for_longest_goes() {
    let start = epoch();
    let mut buckets = Buckets::new(LIMITS, start);
    for account in 0..MOST_BUCKETS {
        let now = start + Duration::from_millis(account as u64);
        buckets.throttled(&quota(account), now, now);
    }
    let now = start + secs(1.0);
    buckets.throttled(&quota(0), now, now);
    assert_eq!(buckets.take_evicted(), None);
    buckets.throttled(&quota(MOST_BUCKETS), now, now);
    assert_eq!(buckets.take_evicted(), Some(quota(1)));
    assert_eq!(buckets.take_evicted(), None);
    assert_eq!(buckets.each.len(), MOST_BUCKETS);
    assert!(buckets.all_throttled(now).contains(&quota(0)));
}

fn recheck(buckets: &mut Buckets, quota: &Quota, now: Instant) -> Result<(), Duration> {
    buckets.try_take_for_recheck(quota, Admissions::default(), now)
}

/// Takes for rechecks for so many seconds, whenever it can. Returns how often it could.
fn recheck_all(buckets: &mut Buckets, quotas: &[Quota], now: &mut Instant, seconds: u32) -> usize {
    let mut taken = 0;
    for _ in 0..seconds * 100 {
        *now += secs(0.01);
        let times = quotas.iter();
        taken += times
            .filter(|quota| recheck(buckets, quota, *now).is_ok())
            .count();
    }
    taken
}

#[test]
fn rechecks_take_a_fifth_of_the_rate_and_do_not_make_it_climb() {
    let mut now = epoch();
    let mut buckets = Buckets::new(LIMITS, now);
    let taken = recheck_all(&mut buckets, &[quota(1)], &mut now, 60);
    assert!((118..=121).contains(&taken), "{taken}");
    assert_eq!(buckets.rate(&quota(1)), 10.0);
    let many: Vec<Quota> = (1..=10).map(quota).collect();
    let taken = recheck_all(&mut buckets, &many, &mut now, 60);
    let most = 60 * 40 / 5 + 1;
    assert!(
        (most - 60..=most).contains(&taken),
        "of all accounts: {taken}"
    );
}

#[test]
fn rechecks_leave_what_is_saved_for_waiting_pods() {
    let mut now = epoch();
    let mut buckets = Buckets::new(LIMITS, now);
    let one = quota(1);
    while take(&mut buckets, &one, now).is_ok() {}
    let begun = now;
    while recheck(&mut buckets, &one, now).is_err() {
        now += secs(0.01);
    }
    assert!(now - begun >= secs(3.0), "{:?}", now - begun);
    let left = (0..100)
        .filter(|_| take(&mut buckets, &one, now).is_ok())
        .count();
    assert!(left >= 30, "{left}");
}

#[test]
fn no_burst_is_too_small_for_rechecks() {
    for burst in 1..20 {
        let mut now = epoch();
        let mut buckets = Buckets::new(Limits { burst, ..LIMITS }, now);
        let taken = recheck_all(&mut buckets, &[quota(1)], &mut now, 10);
        assert!(taken >= 18, "{burst}: {taken}");
    }
}
