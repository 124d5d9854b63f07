//! Adaptive bucket: a token bucket that finds the rate which AWS grants.
//!
//! AWS keeps a token bucket of its own per account and Region, of unknown size and rate, which other clients
//! of the account use as well. A throttle is the only signal, and shows that AWS's bucket was empty.
//!
//! Each constant is chosen and described in docs/schedule.md, whose table shows the delays that follow.

use std::time::{Duration, Instant};

/// Throttles do not lower the rate below this, in calls per second. Contract 5.7.
const FLOOR: f64 = 2.0;
/// While callers wait, the rate climbs by this many calls per second each second. Chosen.
const CLIMB: f64 = 1.25;
/// While the rate climbs, the good rate follows it as an exponential moving average with this time constant,
/// in seconds. Chosen.
const PROVEN_AFTER: f64 = 3.0;
/// Throttles within this time are one event, because AWS answers calls that were in flight together. Chosen.
const ONE_EVENT: Duration = Duration::from_secs(1);
/// Two events within this time measure AWS's rate: its bucket was empty at both, so what it granted in
/// between is what it was refilled with. Chosen.
const MEASURED: Duration = Duration::from_secs(10);
/// After the first event, the rate stays for this long before it climbs again, and twice as long after each
/// further one. Chosen.
const HOLD: Duration = Duration::from_secs(5);
/// After repeated events, the rate stays for at most this long. Chosen, as the bound of the backoff
/// (contract 5.7).
const LONGEST_HOLD: Duration = Duration::from_secs(30);
/// After this long without a throttle, the next one counts as the first. Chosen.
const FORGIVEN: Duration = Duration::from_secs(120);

/// A token bucket whose rate adapts between 2/s and a maximum.
///
/// The rate climbs while callers wait and AWS does not throttle. A throttle empties the bucket and
/// takes the rate back to the last good one.
///
/// ```
/// use std::time::{Duration, Instant};
/// use targetgate_core::elb::adaptive_bucket::Bucket;
///
/// let now = Instant::now();
/// let mut bucket = Bucket::new(10.0, 40.0, 2, now);
/// assert!(bucket.try_take(0.0, now).is_ok());
/// assert!(bucket.try_take(0.0, now).is_ok());
/// let wait = bucket.try_take(0.0, now).unwrap_err();
/// assert_eq!(wait, Duration::from_millis(101));
///
/// bucket.throttled(now, now);
/// assert_eq!(bucket.tokens(now), 0.0);
/// assert!(bucket.is_throttled(now));
/// ```
#[derive(Debug, Clone)]
pub struct Bucket {
    lowest: f64,
    highest: f64,
    burst: f64,
    rate: f64,
    /// A rate that AWS has granted for a while.
    good: f64,
    tokens: f64,
    counted: Instant,
    /// Until when callers are known to wait for tokens.
    wanted_until: Instant,
    throttled: Option<Throttled>,
}

/// The last event of throttling.
#[derive(Debug, Clone, Copy)]
struct Throttled {
    at: Instant,
    hold: Duration,
    /// Calls since then that AWS did not throttle.
    served: f64,
}

impl Bucket {
    /// A full bucket of `burst` tokens that gains `rate` tokens a second, and never more than `highest`.
    ///
    /// The burst is at least 1 and the rate at least 0.1, because a bucket below one token or without a rate
    /// would never grant a call.
    pub fn new(rate: f64, highest: f64, burst: u32, now: Instant) -> Self {
        let rate = rate.max(0.1);
        let burst = f64::from(burst.max(1));
        Self {
            lowest: FLOOR.min(rate),
            highest: highest.max(rate),
            burst,
            rate,
            good: rate,
            tokens: burst,
            counted: now,
            wanted_until: now,
            throttled: None,
        }
    }

    /// The rate in force, in calls per second.
    pub fn rate(&self) -> f64 {
        self.rate
    }

    /// Takes one token if `left` others remain.
    ///
    /// # Errors
    /// How long until that is so, unless another caller takes tokens first. A bucket that is too small to
    /// hold that many does not grant a token until `left` is less.
    pub fn try_take(&mut self, left: f64, now: Instant) -> Result<(), Duration> {
        if let Some(wait) = self.wait(left, now) {
            // The rate climbs only for callers that are known to wait. A caller that gives up does not say
            // so, and therefore counts for one second at most.
            self.wanted_until = now + wait.min(ONE_EVENT);
            return Err(wait);
        }
        self.tokens -= 1.0;
        self.wanted_until = now;
        if let Some(throttled) = &mut self.throttled {
            throttled.served += 1.0;
        }
        Ok(())
    }

    /// How long until a token can be taken so that `left` others remain, unless another caller takes tokens
    /// first; `None` if one can be taken now.
    pub fn wait(&mut self, left: f64, now: Instant) -> Option<Duration> {
        self.refill(now);
        let missing = left + 1.0 - self.tokens;
        // The wait is rounded up, so that a caller which waits exactly that long finds the token.
        let wait = || Duration::from_secs_f64(missing / self.rate) + Duration::from_millis(1);
        (missing > 0.0).then(wait)
    }

    /// Whether the rate is held down after a throttle.
    pub fn is_throttled(&self, now: Instant) -> bool {
        self.throttled.is_some_and(|last| now < last.at + last.hold)
    }

    /// The tokens in the bucket now.
    pub fn tokens(&mut self, now: Instant) -> f64 {
        self.refill(now);
        self.tokens
    }

    /// Takes in that AWS throttled a call that was `sent` then.
    pub fn throttled(&mut self, sent: Instant, now: Instant) {
        self.refill(now);
        let last = self.throttled;
        // A call that was sent before the last event belongs to it, however late AWS answers. What the bucket
        // was refilled with since is as good as before, and lowering the rate once more would punish the bucket
        // twice for one mistake.
        if last.is_some_and(|last| sent <= last.at) {
            return;
        }
        self.tokens = 0.0;
        if let Some(last) = &mut self.throttled
            && now < last.at + ONE_EVENT
        {
            last.served -= 1.0;
            return;
        }
        // AWS's bucket was empty at the last event and is empty now, so what it granted in between is its
        // rate. The call that was throttled just now is not part of that, hence the 1. The measurement
        // lowers the rate by half at most, and never raises it.
        let since = last.map(|last| now.saturating_duration_since(last.at));
        let measured = last.zip(since.filter(|since| *since <= MEASURED));
        self.good = match measured {
            Some((last, since)) => ((last.served - 1.0) / since.as_secs_f64())
                .max(self.rate / 2.0)
                .min(self.good),
            None => self.good,
        };
        self.good = self.good.clamp(self.lowest, self.highest);
        self.rate = self.rate.min(self.good);
        let hold = last
            .filter(|last| now < last.at + FORGIVEN)
            .map_or(HOLD, |last| (last.hold * 2).min(LONGEST_HOLD));
        self.throttled = Some(Throttled {
            at: now,
            hold,
            served: 0.0,
        });
    }

    fn refill(&mut self, now: Instant) {
        let from = self.counted;
        let passed = now.saturating_duration_since(from);
        self.counted = from.max(now);
        // The rate climbs for the part of the time that is past the hold and in which callers waited.
        let climbs = self
            .throttled
            .map_or(from, |last| from.max(last.at + last.hold));
        let climbed = self.wanted_until.min(now).saturating_duration_since(climbs);
        self.climb(climbed.as_secs_f64());
        self.tokens = (self.tokens + passed.as_secs_f64() * self.rate).min(self.burst);
    }

    fn climb(&mut self, seconds: f64) {
        self.rate = (self.rate + seconds * CLIMB).min(self.highest);
        let proven = 1.0 - (-seconds / PROVEN_AFTER).exp();
        self.good += (self.rate - self.good).max(0.0) * proven;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::epoch;

    /// How many tokens can be had at once, counted up to 1,000.
    fn drain(bucket: &mut Bucket, now: Instant) -> usize {
        std::iter::repeat_with(|| bucket.try_take(0.0, now))
            .take(1_000)
            .take_while(Result::is_ok)
            .count()
    }

    fn secs(seconds: f64) -> Duration {
        Duration::from_secs_f64(seconds)
    }

    /// What AWS has: a bucket of its own.
    fn aws(rate: f64, now: Instant) -> Bucket {
        Bucket::new(rate, rate, 40, now)
    }

    /// Spends all that there is for so many seconds. Returns the calls, and those that were throttled.
    fn spend(bucket: &mut Bucket, aws: &mut Bucket, now: &mut Instant, seconds: u32) -> (u32, u32) {
        let (mut calls, mut throttled) = (0, 0);
        for _ in 0..seconds * 100 {
            *now += Duration::from_millis(10);
            while bucket.try_take(0.0, *now).is_ok() {
                calls += 1;
                if aws.try_take(0.0, *now).is_err() {
                    throttled += 1;
                    bucket.throttled(*now, *now);
                }
            }
        }
        (calls, throttled)
    }

    #[test]
    fn a_burst_then_the_rate() {
        let start = epoch();
        let mut bucket = Bucket::new(10.0, 10.0, 40, start);
        assert_eq!(drain(&mut bucket, start), 40);
        assert_eq!(drain(&mut bucket, start + secs(2.0)), 20);
        assert_eq!(drain(&mut bucket, start + secs(60.0)), 40);
    }

    #[test]
    fn waiting_as_long_as_told_yields_a_token() {
        let mut now = epoch();
        let mut bucket = Bucket::new(3.0, 3.0, 1, now);
        for _ in 0..1_000 {
            if let Err(wait) = bucket.try_take(0.0, now) {
                assert!(wait < Duration::from_millis(336), "{wait:?}");
                now += wait;
                assert_eq!(bucket.try_take(0.0, now), Ok(()));
            }
        }
    }

    #[test]
    fn the_rate_climbs_by_one_a_second_and_more_while_callers_wait() {
        let mut now = epoch();
        let mut bucket = Bucket::new(10.0, 40.0, 40, now);
        let mut aws = aws(1000.0, now);
        spend(&mut bucket, &mut aws, &mut now, 8);
        assert!((18.0..21.0).contains(&bucket.rate()), "{}", bucket.rate());
        spend(&mut bucket, &mut aws, &mut now, 30);
        assert_eq!(bucket.rate(), 40.0);
    }

    #[test]
    fn the_rate_stays_while_no_caller_waits() {
        let mut now = epoch();
        let mut bucket = Bucket::new(10.0, 40.0, 40, now);
        for _ in 0..1_000 {
            now += secs(0.11);
            bucket.try_take(0.0, now).unwrap();
        }
        assert_eq!(bucket.rate(), 10.0);
        drain(&mut bucket, now);
        now += secs(3600.0);
        assert_eq!(drain(&mut bucket, now), 40);
        assert!(
            bucket.rate() < 12.0,
            "one who waited has long gone: {}",
            bucket.rate()
        );
    }

    #[test]
    fn a_throttle_empties_and_takes_back_to_the_last_good_rate_not_to_half() {
        let mut now = epoch();
        let mut bucket = Bucket::new(10.0, 40.0, 40, now);
        let mut unlimited = aws(1000.0, now);
        spend(&mut bucket, &mut unlimited, &mut now, 12);
        let before = bucket.rate();
        bucket.throttled(now, now);
        let after = bucket.rate();
        assert_eq!(drain(&mut bucket, now), 0);
        assert!(
            (before * 0.75..before * 0.9).contains(&after),
            "{before} {after}"
        );
    }

    #[test]
    fn throttles_of_calls_that_were_in_flight_together_are_one_event() {
        let mut now = epoch();
        let mut bucket = Bucket::new(10.0, 40.0, 40, now);
        let sent = now;
        now += secs(0.1);
        bucket.throttled(sent, now);
        let after = bucket.rate();
        for late in [0.2, 0.9, 5.0] {
            bucket.throttled(sent, now + secs(late));
        }
        assert_eq!(bucket.rate(), after);
    }

    #[test]
    fn a_late_throttle_of_an_old_call_takes_nothing_that_was_refilled_since() {
        let sent = epoch();
        let mut bucket = Bucket::new(10.0, 40.0, 40, sent);
        bucket.throttled(sent, sent + secs(0.1));
        let late = sent + secs(3.1);
        let before = bucket.tokens(late);
        assert!(before >= 29.0, "{before}");
        bucket.throttled(sent, late);
        assert_eq!(bucket.tokens(late), before);
    }

    #[test]
    fn it_settles_at_what_aws_bears_and_few_calls_are_throttled() {
        for rate in [3.0, 10.0, 25.0] {
            let mut now = epoch();
            let mut bucket = Bucket::new(10.0, 40.0, 40, now);
            let mut aws = aws(rate, now);
            let (calls, throttled) = spend(&mut bucket, &mut aws, &mut now, 120);
            assert!(throttled * 20 < calls, "{rate}: {throttled} of {calls}");
            let served = f64::from(calls - throttled);
            assert!(served > 0.9 * rate * 120.0, "{rate}: {served}");
            let (low, high) = (0.7 * rate, 1.5 * rate + CLIMB);
            assert!(
                (low..high).contains(&bucket.rate()),
                "{rate}: {}",
                bucket.rate()
            );
        }
    }

    #[test]
    fn the_rate_never_falls_below_two_a_second_and_recovers() {
        let mut now = epoch();
        let mut bucket = Bucket::new(10.0, 40.0, 40, now);
        for _ in 0..20 {
            now += secs(1.1);
            bucket.throttled(now, now);
        }
        assert_eq!(bucket.rate(), FLOOR);
        let mut aws = aws(1000.0, now);
        spend(&mut bucket, &mut aws, &mut now, 70);
        assert_eq!(bucket.rate(), 40.0);
    }
}
