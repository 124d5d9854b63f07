//! What the metrics tell of all groups together.

use crate::targets::machine::Registrar;
use crate::targets::machine::action::Counts;

impl Registrar {
    /// What the metrics count.
    pub fn counts(&self) -> Counts {
        let mut all = Counts::default();
        for counts in self.groups.values().map(|group| &group.counts) {
            all.wanted += counts.wanted;
            all.registered += counts.registered;
            all.held_by_floor += counts.held_by_floor;
            all.foreign += counts.foreign;
            all.fights += counts.fights;
            all.left_out += counts.left_out;
            for (reason, number) in &counts.unregistered {
                *all.unregistered.entry(*reason).or_default() += number;
            }
        }
        all
    }
}
