//! Whether the incumbent leads, by its Lease (contract 8).

use std::time::Duration;

use jiff::Timestamp;

use crate::targets::standing::Incumbent;

/// The incumbent counts as leading until its Lease was not renewed for so long. Chosen: four times the duration of its
/// Lease, which it renews each 2 s.
const LEADS_FOR: Duration = Duration::from_secs(60);

/// One read of the Lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Look {
    Found {
        /// `spec.renewTime`, by the clock of the incumbent's node; `None` if it was never renewed.
        renewed: Option<Timestamp>,
        /// The API server's clock.
        now: Timestamp,
    },
    /// There is none.
    Absent,
    /// We may not read it.
    Forbidden,
    /// The API server did not answer, or otherwise than it should.
    Failed,
}

/// What the reads of the Lease say together.
///
/// The incumbent's clock may be wrong, so that an old time alone proves nothing: the time must also stay the same
/// between two reads.
#[derive(Debug, Default)]
pub struct Watched {
    /// The time of the last read that found the Lease.
    last: Option<Option<Timestamp>>,
    known: Option<Incumbent>,
}

impl Watched {
    /// Takes in a read; the reads are further apart than the incumbent's renewals. Returns what is known now.
    pub fn see(&mut self, look: Look) -> Incumbent {
        let known = match look {
            Look::Found { renewed, now } => {
                let unchanged = self.last.replace(renewed) == Some(renewed);
                let old = renewed.is_none_or(|renewed| now.duration_since(renewed) >= leads_for());
                match old && unchanged {
                    true => Incumbent::Gone,
                    false => Incumbent::Leads,
                }
            }
            Look::Absent => {
                self.last = None;
                Incumbent::Gone
            }
            Look::Forbidden => Incumbent::Leads,
            // The incumbent cannot renew its Lease either while the API server is away.
            Look::Failed => self.known.unwrap_or(Incumbent::Leads),
        };
        self.known = Some(known);
        known
    }
}

fn leads_for() -> jiff::SignedDuration {
    jiff::SignedDuration::from_secs(LEADS_FOR.as_secs().cast_signed())
}

#[cfg(test)]
mod tests {
    use jiff::ToSpan as _;

    use super::*;

    fn at(seconds: i64) -> Timestamp {
        let midnight: Timestamp = "2026-11-30T00:00:00Z".parse().unwrap();
        midnight + seconds.seconds()
    }

    fn found(renewed: i64, now: i64) -> Look {
        Look::Found {
            renewed: Some(at(renewed)),
            now: at(now),
        }
    }

    #[test]
    fn the_incumbent_leads_until_its_lease_is_a_minute_old() {
        let mut watched = Watched::default();
        assert_eq!(watched.see(found(0, 1)), Incumbent::Leads);
        assert_eq!(watched.see(found(14, 15)), Incumbent::Leads);
        assert_eq!(watched.see(found(14, 73)), Incumbent::Leads);
        assert_eq!(watched.see(found(14, 74)), Incumbent::Gone);
        assert_eq!(watched.see(found(80, 81)), Incumbent::Leads, "it is back");
    }

    #[test]
    fn an_incumbent_whose_clock_is_slow_leads_as_long_as_it_renews() {
        let mut watched = Watched::default();
        for now in 0..10 {
            assert_eq!(watched.see(found(now - 3600, now)), Incumbent::Leads);
        }
        assert_eq!(watched.see(found(9 - 3600, 10)), Incumbent::Gone);
    }

    #[test]
    fn an_old_lease_proves_nothing_before_it_was_read_twice() {
        let mut watched = Watched::default();
        assert_eq!(watched.see(found(0, 10_000)), Incumbent::Leads);
        assert_eq!(watched.see(found(0, 10_002)), Incumbent::Gone);
        let mut never = Watched::default();
        let look = Look::Found {
            renewed: None,
            now: at(0),
        };
        assert_eq!(never.see(look.clone()), Incumbent::Leads);
        assert_eq!(never.see(look), Incumbent::Gone);
    }

    #[test]
    fn no_lease_is_no_incumbent_and_one_that_we_may_not_read_is() {
        let mut watched = Watched::default();
        assert_eq!(watched.see(Look::Failed), Incumbent::Leads, "not known");
        assert_eq!(watched.see(Look::Absent), Incumbent::Gone);
        assert_eq!(watched.see(Look::Failed), Incumbent::Gone);
        assert_eq!(watched.see(Look::Forbidden), Incumbent::Leads);
        assert_eq!(watched.see(Look::Failed), Incumbent::Leads);
    }
}
