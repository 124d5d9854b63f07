//! Whether the incumbent leads, by its Lease (contract 8).

use std::time::{Duration, Instant};

use jiff::Timestamp;

use crate::targets::standing::Incumbent;

/// The incumbent counts as leading until its Lease was not renewed for so long. Chosen: four times the duration of its
/// Lease, which it renews each 2 s.
pub const LEADS_FOR: Duration = Duration::from_secs(60);

/// The Lease is read so often: several times within [`LEADS_FOR`]. Chosen.
const EVERY: Duration = Duration::from_secs(10);
/// An old Lease that was read unchanged for so long is not renewed: a renewal of the incumbent's would fall into it. A new
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

impl Look {
    /// What one read says alone, of a Lease whose time is taken for right.
    pub fn alone(&self) -> Incumbent {
        match self {
            Self::Absent => Incumbent::Gone,
            Self::Found { renewed, now } if is_old(*renewed, *now) => Incumbent::Gone,
            Self::Found { .. } | Self::Forbidden | Self::Failed => Incumbent::Leads,
        }
    }
}

/// What the reads of the Lease say together.
///
/// The incumbent's clock may be wrong, so that an old time alone proves nothing: the time must also stay the same
/// between two reads that are far enough apart.
#[derive(Debug, Default)]
pub struct Watched {
    /// The time in the Lease, and the first read that found it.
    last: Option<(Option<Timestamp>, Instant)>,
    known: Option<Incumbent>,
    /// Whether one more read would tell that the incumbent is gone.
    nearly_gone: bool,
}

impl Watched {
    /// Takes in a read that was sent at `at`. Returns what is known now.
    pub fn see(&mut self, look: Look, at: Instant) -> Incumbent {
        self.nearly_gone = false;
        let known = match look {
            Look::Found { renewed, now } => {
                let (_, first) = *self.last.insert(
                    self.last
                        .filter(|(last, _)| *last == renewed)
                        .unwrap_or((renewed, at)),
                );
                let unchanged = at >= first + SOON;
                let old = is_old(renewed, now);
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

/// Whether a Lease was not renewed for so long that the incumbent does not lead by it.
fn is_old(renewed: Option<Timestamp>, now: Timestamp) -> bool {
    let leads_for = jiff::SignedDuration::from_secs(LEADS_FOR.as_secs().cast_signed());
    renewed.is_none_or(|renewed| now.duration_since(renewed) >= leads_for)
}

#[cfg(test)]
mod tests {
    use jiff::ToSpan as _;

    use super::*;

    fn at(seconds: i64) -> Timestamp {
        let midnight: Timestamp = "2026-11-30T00:00:00Z".parse().unwrap();
        midnight + seconds.seconds()
    }

    /// What reads each ten seconds make of what they find.
    fn seen(looks: &[Look]) -> Vec<Incumbent> {
        let (mut watched, start) = (Watched::default(), crate::fixtures::epoch());
        let looks = looks.iter().cloned().zip(0..);
        looks
            .map(|(look, number)| watched.see(look, start + EVERY * number))
            .collect()
    }

    fn found(renewed: i64, now: i64) -> Look {
        Look::Found {
            renewed: Some(at(renewed)),
            now: at(now),
        }
    }

    const LEADS: Incumbent = Incumbent::Leads;
    const GONE: Incumbent = Incumbent::Gone;

    #[test]
    fn the_incumbent_leads_until_its_lease_is_a_minute_old() {
        let looks = [
            found(0, 1),
            found(14, 15),
            found(14, 73),
            found(14, 74),
            found(80, 81),
        ];
        assert_eq!(
            seen(&looks),
            [LEADS, LEADS, LEADS, GONE, LEADS],
            "it is back"
        );
    }

    #[test]
    fn an_incumbent_whose_clock_is_slow_leads_as_long_as_it_renews() {
        let mut looks: Vec<Look> = (0..10).map(|now| found(now - 3600, now)).collect();
        assert!(seen(&looks).iter().all(|seen| *seen == LEADS));
        looks.push(found(9 - 3600, 10));
        assert_eq!(seen(&looks).last(), Some(&GONE));
    }

    #[test]
    fn one_read_alone_takes_the_time_for_right() {
        for (renewed, known) in [(0, GONE), (41, LEADS), (300, LEADS)] {
            assert_eq!(found(renewed, 100).alone(), known, "{renewed}");
        }
        let [absent, forbidden, failed] = [Look::Absent, Look::Forbidden, Look::Failed];
        assert_eq!(absent.alone(), GONE);
        assert_eq!([forbidden.alone(), failed.alone()], [LEADS; 2]);
    }

    #[test]
    fn an_old_lease_proves_nothing_before_it_was_read_twice_with_a_pause_between() {
        let (mut watched, start) = (Watched::default(), crate::fixtures::epoch());
        assert_eq!(watched.see(found(0, 10_000), start), LEADS);
        assert_eq!(watched.pause(), SOON);
        // A read out of turn, which may come between two renewals.
        let soon = start + Duration::from_millis(100);
        assert_eq!(watched.see(found(0, 10_000), soon), LEADS);
        assert_eq!(watched.pause(), SOON);
        assert_eq!(watched.see(found(0, 10_003), start + SOON), GONE);
        assert_eq!(watched.pause(), EVERY);
        let never = Look::Found {
            renewed: None,
            now: at(0),
        };
        assert_eq!(seen(&[never.clone(), never]), [LEADS, GONE]);
    }

    #[test]
    fn no_lease_is_no_incumbent_and_one_that_we_may_not_read_is() {
        let looks = [
            Look::Failed,
            Look::Absent,
            Look::Failed,
            Look::Forbidden,
            Look::Failed,
        ];
        assert_eq!(seen(&looks), [LEADS, GONE, GONE, LEADS, LEADS]);
    }
}
