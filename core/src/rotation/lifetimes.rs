//! How long certificates live, and when they are renewed.

use std::str::FromStr;
use std::time::Duration;

use jiff::Timestamp;
use thiserror::Error;

/// The period in which a certificate is valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Validity {
    pub not_before: Timestamp,
    pub not_after: Timestamp,
}

/// A share of a life between 0 and 1, written as a fraction such as `2/3`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Share {
    part: u32,
    whole: u32,
}

impl Share {
    /// The default share, chosen: it leaves a third of the life for attempts that fail.
    pub const TWO_THIRDS: Self = Self { part: 2, whole: 3 };

    /// This share of a duration.
    fn of(self, whole: Duration) -> Duration {
        whole / self.whole * self.part
    }
}

/// Why a text is not a [`Share`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("not a fraction between 0 and 1 of numbers up to 1000, such as 2/3")]
pub struct NoShare;

impl FromStr for Share {
    type Err = NoShare;

    fn from_str(text: &str) -> Result<Self, NoShare> {
        let (part, whole) = text.split_once('/').ok_or(NoShare)?;
        let number = |text: &str| text.parse::<u32>().map_err(|_| NoShare);
        let share = Self {
            part: number(part)?,
            whole: number(whole)?,
        };
        let valid = (1..share.whole).contains(&share.part) && share.whole <= 1000;
        valid.then_some(share).ok_or(NoShare)
    }
}

/// The durations of a rotation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lifetimes {
    /// The life of a leaf.
    pub leaf: Duration,
    /// The life of a CA.
    pub ca: Duration,
    /// The share of its life after which a certificate is renewed.
    pub renew_after: Share,
    /// The greatest difference between two clocks: certificates are dated back by this, and have expired for
    /// all only this long after their end.
    pub skew: Duration,
    /// How long an API server may take to see a change to a webhook configuration.
    pub seen_after: Duration,
}

/// Why lifetimes do not go together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum LifetimesError {
    /// A leaf would always be cut to its CA's life.
    #[error("a CA must live longer than the certificates that it signs")]
    CaTooShort,
    /// A certificate would be due again before it is served.
    #[error(
        "the share of its life after which a certificate is renewed, and the rest of it, must each \
         be longer than the time that API servers are given to see a change"
    )]
    LeafTooShort,
    /// Timestamps end with the year 9999.
    #[error("no certificate lives longer than 100 years")]
    TooLong,
}

/// The longest life of a certificate. Chosen: X.509 and jiff end with the year 9999.
const CENTURY: Duration = Duration::from_secs(100 * 366 * 24 * 3600);

impl Default for Lifetimes {
    fn default() -> Self {
        const DAY: Duration = Duration::from_secs(24 * 3600);
        Self {
            leaf: DAY * 30,
            ca: DAY * 365,
            renew_after: Share::TWO_THIRDS,
            skew: Duration::from_secs(5 * 60),
            seen_after: Duration::from_secs(30),
        }
    }
}

impl Lifetimes {
    /// Checks that a rotation can work with these durations.
    pub fn check(&self) -> Result<(), LifetimesError> {
        let until_renewal = self.renew_after.of(self.leaf);
        let left = self.leaf.saturating_sub(until_renewal);
        if self.ca <= self.leaf {
            return Err(LifetimesError::CaTooShort);
        }
        if until_renewal.min(left) <= self.seen_after {
            return Err(LifetimesError::LeafTooShort);
        }
        if self.ca.max(self.skew) > CENTURY {
            return Err(LifetimesError::TooLong);
        }
        Ok(())
    }

    /// The validity of a CA that is made now.
    pub fn of_ca(&self, now: Timestamp) -> Validity {
        self.validity(now, self.ca)
    }

    /// The validity of a leaf that is signed now, cut to the validity of its CA.
    pub fn of_leaf(&self, now: Timestamp, ca: Validity) -> Validity {
        let validity = self.validity(now, self.leaf);
        Validity {
            not_before: validity.not_before.max(ca.not_before),
            not_after: validity.not_after.min(ca.not_after),
        }
    }

    fn validity(&self, now: Timestamp, life: Duration) -> Validity {
        // X.509 has whole seconds only.
        let whole = |at: Timestamp| Timestamp::from_second(at.as_second()).unwrap_or(at);
        Validity {
            not_before: whole(before(now, self.skew)),
            not_after: whole(after(now, life)),
        }
    }

    /// When a certificate is due for renewal. Its life is counted without the time by which it was dated back.
    pub fn renewal(&self, validity: Validity) -> Timestamp {
        let made = after(validity.not_before, self.skew).min(validity.not_after);
        let life = validity.not_after.duration_since(made).unsigned_abs();
        after(made, self.renew_after.of(life))
    }

    /// When a renewal cannot wait any longer: half of the time that is left after [`Self::renewal`].
    pub(super) fn last_call(&self, validity: Validity) -> Timestamp {
        let renewal = self.renewal(validity);
        let left = validity.not_after.duration_since(renewal).unsigned_abs();
        after(renewal, left / 2)
    }

    /// Whether a certificate is not valid yet, by more than two clocks may differ.
    pub(super) fn is_ahead(&self, validity: Validity, now: Timestamp) -> bool {
        validity.not_before > after(now, self.skew)
    }

    /// When a certificate with this end has expired for all, by the clock of every machine.
    pub fn expired_for_all(&self, end: Timestamp) -> Timestamp {
        after(end, self.skew)
    }

    /// The latest end of a leaf that is signed by now.
    pub(super) fn latest_leaf(&self, now: Timestamp) -> Timestamp {
        after(now, self.leaf)
    }
}

/// Adds to a time, and saturates at the year 9999.
fn after(at: Timestamp, by: Duration) -> Timestamp {
    at.checked_add(by).unwrap_or(Timestamp::MAX)
}

fn before(at: Timestamp, by: Duration) -> Timestamp {
    at.checked_sub(by).unwrap_or(Timestamp::MIN)
}
