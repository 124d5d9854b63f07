//! A bucket for each account and Region, since AWS throttles each of them alone, and one for all calls
//! of the process: the cap.
//!
//! Plain data with the time passed in.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use crate::elb::adaptive_bucket::Bucket;
use crate::names::Quota;

/// Buckets that are kept; the one that was not used for longest goes first, and is full when it comes
/// again. As many as there are SDK clients.
const MOST_BUCKETS: usize = 128;
/// The share of the burst that is there for admissions only: one in so many tokens.
const FOR_ADMISSIONS: u32 = 10;
/// Of four tokens of the burst, so many are saved for what comes first: of a bucket for looks that pay,
/// where not all who wait can be served, and of the cap for those who are not throttled.
const SAVED_OF_FOUR: u32 = 3;
/// Whoever has called within so long may want to call again.
const IN_USE: Duration = Duration::from_secs(10);

/// A call that the health loop would like to make.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PollRequest {
    /// How many groups of the account and Region wait for a call, this one included.
    pub groups: usize,
    /// Whether it is likely to find what is waited for. One that is not leaves the saved share of the
    /// burst to those that will be, unless there is enough for all.
    pub likely_healthy: bool,
}

/// Admissions that wait for a call: they go before the loop.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Admissions {
    /// Of the account and Region.
    pub here: u32,
    /// Of all of them, those whose buckets have a token: it is the cap that holds them up.
    pub held_up: u32,
}

/// What a bucket may do.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Limits {
    /// Calls per second to begin with.
    pub rate: f64,
    /// Calls per second to which a bucket may climb, and which all of them make at most.
    pub highest: f64,
    /// Calls at once after a quiet time: of a bucket, and of all of them.
    pub burst: u32,
}

/// All buckets, and the cap.
#[derive(Debug)]
pub struct Buckets {
    limits: Limits,
    each: BTreeMap<Quota, Kept>,
    /// It is never told of a throttle, so its rate stays.
    cap: Bucket,
    evicted: Option<Quota>,
}

#[derive(Debug)]
struct Kept {
    bucket: Bucket,
    used: Instant,
}

impl Buckets {
    /// No call was made yet.
    pub fn new(limits: Limits, now: Instant) -> Self {
        let highest = limits.highest.max(limits.rate);
        Self {
            limits,
            each: BTreeMap::new(),
            cap: Bucket::new(highest, highest, limits.burst, now),
            evicted: None,
        }
    }

    /// Takes a token for a call of an admission.
    ///
    /// # Errors
    /// How long until there is one, if nobody takes any.
    pub fn try_take(&mut self, quota: &Quota, now: Instant) -> Result<(), Duration> {
        self.take_leaving(quota, (0.0, 0.0), now)
    }

    /// Takes a token for a call of the loop, if it is left what `admissions` need.
    ///
    /// # Errors
    /// How long until that is so, if nobody takes any.
    pub fn try_take_for_loop(
        &mut self,
        quota: &Quota,
        wish: PollRequest,
        admissions: Admissions,
        now: Instant,
    ) -> Result<(), Duration> {
        let in_bucket = self.left_in_bucket(quota, wish, admissions.here, now);
        let in_cap = self.left_in_cap(quota, admissions.held_up, now);
        self.take_leaving(quota, (in_bucket, in_cap), now)
    }

    /// Takes a token of the bucket and of the cap, where so many others remain in each.
    fn take_leaving(
        &mut self,
        quota: &Quota,
        (in_bucket, in_cap): (f64, f64),
        now: Instant,
    ) -> Result<(), Duration> {
        // The cap first: a bucket's rate does not climb while it is not the bucket that holds up.
        if let Some(wait) = self.cap.wait(in_cap, now) {
            return Err(wait);
        }
        self.bucket(quota, now).try_take(in_bucket, now)?;
        self.cap.try_take(in_cap, now)
    }

    /// The tokens of its bucket that a call of the loop has to leave.
    fn left_in_bucket(
        &mut self,
        quota: &Quota,
        wish: PollRequest,
        waiting: u32,
        now: Instant,
    ) -> f64 {
        let reserved = self.reserved(waiting);
        let enough = self.bucket(quota, now).tokens(now) >= reserved + wish.groups as f64;
        match wish.likely_healthy || enough {
            true => reserved,
            false => reserved.max(self.saved()),
        }
    }

    /// The tokens of the cap that a call of the loop has to leave: one that is likely to be throttled again
    /// costs nobody else a call.
    fn left_in_cap(&self, quota: &Quota, waiting: u32, now: Instant) -> f64 {
        let reserved = self.reserved(waiting);
        let mut others = self.each.iter().filter(|(other, _)| *other != quota);
        let spared = |kept: &Kept| now < kept.used + IN_USE && !kept.bucket.is_throttled(now);
        match self.is_throttled(quota, now) && others.any(|(_, kept)| spared(kept)) {
            true => reserved.max(self.saved()),
            false => reserved,
        }
    }

    /// For how many of so many who wait a bucket has a token.
    pub fn ready(&mut self, quota: &Quota, waiting: u32, now: Instant) -> u32 {
        let kept = self.each.get_mut(quota);
        // Whole tokens, and a bucket that was never used is full.
        let tokens = kept.map_or(self.limits.burst, |kept| kept.bucket.tokens(now) as u32);
        tokens.min(waiting)
    }

    fn reserved(&self, waiting: u32) -> f64 {
        f64::from((self.limits.burst / FOR_ADMISSIONS).max(waiting))
    }

    fn saved(&self) -> f64 {
        f64::from(self.limits.burst / 4 * SAVED_OF_FOUR)
    }

    /// AWS throttled a call that was `sent` then.
    pub fn throttled(&mut self, quota: &Quota, sent: Instant, now: Instant) {
        self.bucket(quota, now).throttled(sent, now);
    }

    /// Those whose rate was lowered a moment ago: the next call may be throttled again.
    pub fn all_throttled(&self, now: Instant) -> BTreeSet<Quota> {
        let throttled = self.each.iter();
        let throttled = throttled.filter(|(_, kept)| kept.bucket.is_throttled(now));
        throttled.map(|(quota, _)| quota.clone()).collect()
    }

    fn is_throttled(&self, quota: &Quota, now: Instant) -> bool {
        let kept = self.each.get(quota);
        kept.is_some_and(|kept| kept.bucket.is_throttled(now))
    }

    /// The rate in force for an account and Region, in calls per second.
    pub fn rate(&self, quota: &Quota) -> f64 {
        let kept = self.each.get(quota);
        kept.map_or(self.limits.rate, |kept| kept.bucket.rate())
    }

    /// The bucket that had to go lately, if any did.
    pub fn take_evicted(&mut self) -> Option<Quota> {
        self.evicted.take()
    }

    fn bucket(&mut self, quota: &Quota, now: Instant) -> &mut Bucket {
        if !self.each.contains_key(quota) && self.each.len() >= MOST_BUCKETS {
            self.evict();
        }
        let Limits {
            rate,
            highest,
            burst,
        } = self.limits;
        let kept = self.each.entry(quota.clone()).or_insert_with(|| Kept {
            bucket: Bucket::new(rate, highest, burst, now),
            used: now,
        });
        kept.used = now;
        &mut kept.bucket
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
        assert_eq!(spend(&mut buckets, &one, &mut now, 1), 35 + 10);
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
                    assert_eq!(taken, alone.try_take(4.0, now).is_ok(), "{rate} {tick}");
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
