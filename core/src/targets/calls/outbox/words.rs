//! AWS's last words about each target that it did not take.
//!
//! They stand until it takes the target, or the target is not to go any more. So they do not come and go with each
//! attempt, and a condition that repeats them is written once.

use std::collections::BTreeMap;

use crate::reason::Reason;
use crate::targets::Target;
use crate::targets::calls::CallErrorKind;
use crate::targets::calls::outbox::{Outbox, Told};

/// The targets that AWS did not take, with why.
#[derive(Debug, Default)]
pub(super) struct Words(BTreeMap<Target, Told>);

impl Words {
    pub(super) fn say(&mut self, target: Target, why: Told) {
        self.0.insert(target, why);
    }

    pub(super) fn forget(&mut self, target: &Target) {
        self.0.remove(target);
    }

    pub(super) fn retain(&mut self, waits: impl Fn(&Target) -> bool) {
        self.0.retain(|target, _| waits(target));
    }
}

impl Outbox {
    /// Why AWS does not take the targets that wait, in its own words; without those that merely have not had their turn.
    pub fn words(&self) -> impl Iterator<Item = (&Target, &Told)> {
        self.words.0.iter()
    }

    /// The targets that wait are held up by what holds up all of them, if AWS said so.
    pub(super) fn say_of_all(&mut self) {
        let Some((why, _, _)) = &self.paused else {
            return;
        };
        let by_aws = why.reason == Reason::GroupFull || why.error.kind == CallErrorKind::Denied;
        // What is left of a call that was refused for its size may fit.
        if !by_aws || !self.suspects.is_empty() {
            return;
        }
        let alone = |target: &&Target| !self.refused.contains_key(*target);
        let held_up: Vec<Target> = self.waiting.keys().filter(alone).copied().collect();
        for target in held_up {
            self.words.say(target, why.clone());
        }
    }
}
