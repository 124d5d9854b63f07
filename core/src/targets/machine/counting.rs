//! What the metrics tell of all groups together.

use std::time::Duration;

use crate::targets::machine::Registrar;
use crate::targets::machine::action::Counts;
use crate::targets::machine::group::idle;

impl Registrar {
    /// How long the looks at idle groups take to come round; zero while none is looked at.
    pub fn look_interval(&self) -> Duration {
        match self.leads && self.looked_at > 0 {
            true => idle(self.looked_at),
            false => Duration::ZERO,
        }
    }

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
