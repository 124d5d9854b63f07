//! Whether the incumbent leads, by its Lease (contract 8).

use std::time::Duration;

use jiff::Timestamp;

use crate::targets::standing::Incumbent;

/// The incumbent counts as leading until its Lease was not renewed for so long. Chosen: four times the duration of its
/// Lease, which it renews each 2 s.
pub const LEADS_FOR: Duration = Duration::from_secs(60);

/// The Lease is read so often: several times within [`LEADS_FOR`]. Chosen.
const EVERY: Duration = Duration::from_secs(10);
/// The pause after an old Lease was read for the first time: a renewal of the incumbent's would fall into it. A new
/// leader of ours must not leave ended pods registered for long.
const SOON: Duration = Duration::from_secs(3);

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
    /// Whether one more read would tell that the incumbent is gone.
    nearly_gone: bool,
}

impl Watched {
    /// Takes in a read; the reads are further apart than the incumbent's renewals. Returns what is known now.
    pub fn see(&mut self, look: Look) -> Incumbent {
        self.nearly_gone = false;
        let known = match look {
            Look::Found { renewed, now } => {
                let unchanged = self.last.replace(renewed) == Some(renewed);
                let old = renewed.is_none_or(|renewed| now.duration_since(renewed) >= leads_for());
                self.nearly_gone = old && !unchanged;
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

    /// The pause before the next read.
    pub fn pause(&self) -> Duration {
        if self.nearly_gone { SOON } else { EVERY }
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
        assert_eq!(watched.pause(), EVERY);
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
        assert_eq!(watched.pause(), SOON);
        assert_eq!(watched.see(found(0, 10_003)), Incumbent::Gone);
        assert_eq!(watched.pause(), EVERY);
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
