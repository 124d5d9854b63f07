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
/// Rechecks take at most this share of the rate, of a bucket and of the cap. Contract 5.6.
const FOR_RECHECKS: f64 = 0.2;
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
    /// No recheck is made before this time, of whatever quota.
    recheck_from: Instant,
    evicted: Option<Quota>,
}

#[derive(Debug)]
struct KeptBucket {
    bucket: Bucket,
    used: Instant,
    /// When an admission last asked for a call.
    admitted: Option<Instant>,
    /// No recheck is made before this time.
    recheck_from: Instant,
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
            recheck_from: now,
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

    /// Takes a token for a recheck: a call of the loop for gates that are open. It leaves the saved share of the
    /// bucket and of the cap to polls for waiting pods, and what it waits for does not make the rate climb.
    ///
    /// # Errors
    /// How long until there is one, unless another caller takes it first.
    pub fn try_take_for_recheck(
        &mut self,
        quota: &Quota,
        admissions: Admissions,
        now: Instant,
    ) -> Result<(), Duration> {
        let from = self.kept(quota, now).recheck_from.max(self.recheck_from);
        if now < from {
            return Err(from - now);
        }
        let (rate, most) = (self.rate(quota), self.cap.rate());
        let admitted = self.kept(quota, now).admitted;
        let in_bucket = self.reserved(rate, admissions.here, admitted, now);
        let in_bucket = in_bucket.max(self.saved(rate));
        let in_cap = self.reserved(most, admissions.held_up, self.admitted, now);
        let in_cap = in_cap.max(self.saved(most));
        if let Some(wait) = self.kept(quota, now).bucket.wait(in_bucket, now) {
            return Err(wait);
        }
        self.take_leaving(quota, (in_bucket, in_cap), now)?;
        let pause = |rate: f64| Duration::from_secs_f64(1.0 / (FOR_RECHECKS * rate));
        self.kept(quota, now).recheck_from = now + pause(rate);
        self.recheck_from = now + pause(most);
        Ok(())
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
                recheck_from: now,
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
mod tests;
