//! One adaptive bucket for each quota, because AWS throttles each account and Region by itself, and the cap,
//! which is one more bucket for all calls of the process (contract 5.7).
//!
//! Time is passed in.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use crate::elb::adaptive_bucket::Bucket;
use crate::names::Quota;

/// At most this many buckets are kept. The least recently used is evicted, and is full when it comes back.
/// Chosen, as many as there are SDK clients (docs/schedule.md).
const MOST_BUCKETS: usize = 128;
/// What a bucket gains in so many seconds is reserved for admissions. Counted in time, because it has to be
/// refilled after each throttle before the loop may call. Chosen (docs/schedule.md).
const FOR_ADMISSIONS: f64 = 0.4;
/// At most this share of the burst is reserved for admissions. Chosen (docs/schedule.md).
const MOST_FOR_ADMISSIONS: f64 = 0.1;
/// Admissions have their share for this long after the last of them asked. Chosen (docs/schedule.md).
const LATELY: Duration = Duration::from_secs(10);
/// What a bucket gains in so many seconds is saved for polls with priority. Those of a bucket are for groups that
/// are likely healthy now, while more groups are due than can be polled. Those of the cap are for quotas that
/// are not throttled. Chosen (docs/schedule.md).
const SAVED: f64 = 3.0;
/// At most this share of the burst is saved. Chosen (docs/schedule.md).
const MOST_SAVED: f64 = 0.75;
/// A quota is in use for this long after a call. Chosen (docs/schedule.md).
const IN_USE: Duration = Duration::from_secs(10);

/// A request of the loop for one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PollRequest {
    /// How many due groups of the quota wait for a call, this one included.
    pub groups: usize,
    /// Whether the poll is likely to find healthy pods. A poll that is not leaves the saved share of the burst
    /// to polls that will be, unless the bucket holds enough for all.
    pub likely_healthy: bool,
}

/// Admissions that wait for a call, and go before the loop.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Admissions {
    /// Admissions that wait for the quota in question.
    pub here: u32,
    /// Admissions, of all quotas, whose bucket has a token, so that the cap delays them.
    pub held_up: u32,
}

/// Limits of the buckets, and of the cap.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Limits {
    /// The calls per second at which a bucket starts (`--elb-rate`).
    pub rate: f64,
    /// The calls per second to which a bucket may climb, and to which the cap limits all buckets together
    /// (`--elb-rate-max`).
    pub highest: f64,
    /// The tokens of a full bucket, and of the full cap (`--elb-burst`).
    pub burst: u32,
}

/// All buckets, and the cap.
#[derive(Debug)]
pub struct Buckets {
    limits: Limits,
    each: BTreeMap<Quota, KeptBucket>,
    /// The cap, whose rate is constant because throttles are counted in the bucket of their quota only.
    cap: Bucket,
    /// When an admission last asked for a call, of whatever quota.
    admitted: Option<Instant>,
    evicted: Option<Quota>,
}

#[derive(Debug)]
struct KeptBucket {
    bucket: Bucket,
    used: Instant,
    /// When an admission last asked for a call.
    admitted: Option<Instant>,
}

impl Buckets {
    /// Buckets from which no call has been paid yet.
    pub fn new(limits: Limits, now: Instant) -> Self {
        let highest = limits.highest.max(limits.rate);
        Self {
            limits,
            each: BTreeMap::new(),
            cap: Bucket::new(highest, highest, limits.burst, now),
            admitted: None,
            evicted: None,
        }
    }

    /// Takes a token for a call of an admission.
    ///
    /// # Errors
    /// How long until there is one, unless another caller takes it first.
    pub fn try_take(&mut self, quota: &Quota, now: Instant) -> Result<(), Duration> {
        self.kept(quota, now).admitted = Some(now);
        self.admitted = Some(now);
        self.take_leaving(quota, (0.0, 0.0), now)
    }

    /// Takes a token for a call of the loop, if enough for the waiting `admissions` remains.
    ///
    /// # Errors
    /// How long until that is so, unless another caller takes tokens first.
    pub fn try_take_for_loop(
        &mut self,
        quota: &Quota,
        request: PollRequest,
        admissions: Admissions,
        now: Instant,
    ) -> Result<(), Duration> {
        let in_bucket = self.left_in_bucket(quota, request, admissions.here, now);
        let in_cap = self.left_in_cap(quota, admissions.held_up, now);
        self.take_leaving(quota, (in_bucket, in_cap), now)
    }

    /// Takes a token of the bucket and one of the cap, if so many others remain in each.
    fn take_leaving(
        &mut self,
        quota: &Quota,
        (in_bucket, in_cap): (f64, f64),
        now: Instant,
    ) -> Result<(), Duration> {
        // The cap is checked before the bucket, and without noting a waiting caller: a bucket's rate climbs
        // only while the bucket itself is what delays the caller. The token of the cap is taken last, once
        // the bucket has granted its own.
        if let Some(wait) = self.cap.wait(in_cap, now) {
            return Err(wait);
        }
        self.kept(quota, now).bucket.try_take(in_bucket, now)?;
        self.cap.try_take(in_cap, now)
    }

    /// The tokens of the quota's bucket that a call of the loop has to leave.
    fn left_in_bucket(
        &mut self,
        quota: &Quota,
        request: PollRequest,
        waiting: u32,
        now: Instant,
    ) -> f64 {
        let kept = self.kept(quota, now);
        let (tokens, rate, admitted) = (kept.bucket.tokens(now), kept.bucket.rate(), kept.admitted);
        let reserved = self.reserved(rate, waiting, admitted, now);
        // With a token for each due group, saving would only delay polls.
        let enough = tokens >= reserved + request.groups as f64;
        match request.likely_healthy || enough {
            true => reserved,
            false => reserved.max(self.saved(rate)),
        }
    }

    /// The tokens of the cap that a call of the loop has to leave, so that a call which AWS will probably
    /// throttle does not cost another account a call.
    fn left_in_cap(&self, quota: &Quota, waiting: u32, now: Instant) -> f64 {
        let rate = self.cap.rate();
        let reserved = self.reserved(rate, waiting, self.admitted, now);
        // Saved tokens would be wasted unless another quota is in use and AWS grants its calls.
        let mut others = self.each.iter().filter(|(other, _)| *other != quota);
        let spared = |kept: &KeptBucket| now < kept.used + IN_USE && !kept.bucket.is_throttled(now);
        match self.is_throttled(quota, now) && others.any(|(_, kept)| spared(kept)) {
            true => reserved.max(self.saved(rate)),
            false => reserved,
        }
    }

    /// For how many of `waiting` callers the bucket has a token.
    pub fn ready(&mut self, quota: &Quota, waiting: u32, now: Instant) -> u32 {
        let kept = self.each.get_mut(quota);
        // Only whole tokens count, and a bucket that does not exist yet will be full.
        let tokens = kept.map_or(self.limits.burst, |kept| kept.bucket.tokens(now) as u32);
        tokens.min(waiting)
    }

    /// The tokens of a bucket of this rate that are reserved for admissions: one for each that waits, and
    /// their share while one has asked lately.
    fn reserved(&self, rate: f64, waiting: u32, admitted: Option<Instant>, now: Instant) -> f64 {
        let lately = admitted.is_some_and(|at| now < at + LATELY);
        let share = match lately {
            true => (FOR_ADMISSIONS * rate).min(self.share_of_burst(MOST_FOR_ADMISSIONS)),
            false => 0.0,
        };
        share.max(f64::from(waiting))
    }

    fn saved(&self, rate: f64) -> f64 {
        (SAVED * rate).min(self.share_of_burst(MOST_SAVED))
    }

    /// A share of the burst in whole tokens, so that a burst of few leaves some to the loop.
    fn share_of_burst(&self, share: f64) -> f64 {
        (f64::from(self.limits.burst) * share).floor()
    }

    /// Takes in that AWS throttled a call that was `sent` then.
    pub fn throttled(&mut self, quota: &Quota, sent: Instant, now: Instant) {
        self.kept(quota, now).bucket.throttled(sent, now);
    }

    /// The quotas whose rate is held down after a throttle, so that AWS may throttle the next call as well.
    pub fn all_throttled(&self, now: Instant) -> BTreeSet<Quota> {
        let throttled = self.each.iter();
        let throttled = throttled.filter(|(_, kept)| kept.bucket.is_throttled(now));
        throttled.map(|(quota, _)| quota.clone()).collect()
    }

    fn is_throttled(&self, quota: &Quota, now: Instant) -> bool {
        let kept = self.each.get(quota);
        kept.is_some_and(|kept| kept.bucket.is_throttled(now))
    }

    /// The rate in force for a quota, in calls per second.
    pub fn rate(&self, quota: &Quota) -> f64 {
        let kept = self.each.get(quota);
        kept.map_or(self.limits.rate, |kept| kept.bucket.rate())
    }

    /// The quota whose bucket was evicted since the last call of this function.
    pub fn take_evicted(&mut self) -> Option<Quota> {
        self.evicted.take()
    }

    fn kept(&mut self, quota: &Quota, now: Instant) -> &mut KeptBucket {
        if !self.each.contains_key(quota) && self.each.len() >= MOST_BUCKETS {
            self.evict();
        }
        let Limits {
            rate,
            highest,
            burst,
        } = self.limits;
        let kept = self
            .each
            .entry(quota.clone())
            .or_insert_with(|| KeptBucket {
                bucket: Bucket::new(rate, highest, burst, now),
                used: now,
                admitted: None,
            });
        kept.used = now;
        kept
    }

    fn evict(&mut self) {
        let oldest = self.each.iter().min_by_key(|(_, kept)| kept.used);
        let oldest = oldest.map(|(quota, _)| quota.clone());
        if let Some(oldest) = &oldest {
            self.each.remove(oldest);
        }
        self.evicted = oldest;
    }
}

#[cfg(test)]
mod tests {
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
}
