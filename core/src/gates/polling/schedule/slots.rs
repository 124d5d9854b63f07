//! Slots: the times at which groups whose pods have waited for long are polled, spread over all of them.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

/// The pause between two slots: groups whose pods have waited for long share 2 calls a second. Contract 5.7.
const PAUSE: Duration = Duration::from_millis(500);

/// The slots that are taken, at least `PAUSE` apart from each other.
#[derive(Debug, Default)]
pub struct Slots {
    taken: BTreeSet<Instant>,
}

impl Slots {
    /// Takes the first free slot that does not begin before `from`.
    pub fn take(&mut self, from: Instant) -> Instant {
        let before = self.taken.range(..from).next_back();
        let mut slot = before.map_or(from, |before| from.max(*before + PAUSE));
        for taken in self.taken.range(from..) {
            if slot + PAUSE <= *taken {
                break;
            }
            slot = *taken + PAUSE;
        }
        self.taken.insert(slot);
        slot
    }

    /// How many slots are taken.
    pub fn taken(&self) -> usize {
        self.taken.len()
    }

    /// Frees a slot for another group.
    pub fn free(&mut self, slot: Instant) {
        self.taken.remove(&slot);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::epoch;

    fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn slots_are_half_a_second_apart_whenever_they_are_asked_for() {
        let start = epoch();
        let mut slots = Slots::default();
        let mut random = fastrand::Rng::with_seed(1);
        for _ in 0..500 {
            slots.take(start + ms(random.u64(..60_000)));
        }
        let taken: Vec<Instant> = slots.taken.iter().copied().collect();
        assert_eq!(taken.len(), 500);
        assert!(taken.windows(2).all(|pair| pair[1] - pair[0] >= PAUSE));
    }

    #[test]
    fn a_slot_that_is_freed_is_taken_again() {
        let start = epoch();
        let mut slots = Slots::default();
        let all: Vec<Instant> = (0..4).map(|_| slots.take(start)).collect();
        assert_eq!(all.last(), Some(&(start + ms(1_500))));
        slots.free(all[1]);
        assert_eq!(slots.take(start + ms(1)), all[1]);
        assert_eq!(slots.take(start), start + ms(2_000));
    }

    #[test]
    fn a_slot_between_others_has_its_pause_on_both_sides() {
        let start = epoch();
        let mut slots = Slots::default();
        slots.take(start);
        slots.take(start + ms(900));
        assert_eq!(slots.take(start + ms(200)), start + ms(1_400));
    }
}
