//! What AWS says of targets that it does not take, as the registrar hears it (contract 5.3, 8).
//!
//! Such words only replace those of a condition that says "not registered". A gate opens on ELB's answer about its
//! target alone.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::gates::polling::group::Target;
use crate::names::TargetGroupArn;
use crate::reason::Reason;
use crate::text::cut;

/// Maximum length of the words, in bytes. Chosen: AWS's message is at most 300 bytes of that, or 600 of the SDK's.
const MOST: usize = 512;

/// Why a target is not registered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    pub reason: Reason,
    /// The call, with AWS's own code and message; bounded.
    pub message: Arc<str>,
}

impl Refusal {
    /// A refusal in these words, which are cut.
    pub fn new(reason: Reason, words: &str) -> Self {
        let message = cut(words, MOST).into();
        Self { reason, message }
    }
}

/// The targets of one group that AWS does not take.
pub type Refused = BTreeMap<Target, Refusal>;

/// The targets that AWS does not take, by group.
#[derive(Debug, Default)]
pub(crate) struct Refusals(BTreeMap<TargetGroupArn, Refused>);

impl Refusals {
    /// Replaces what is known of a group.
    pub(crate) fn set(&mut self, group: &TargetGroupArn, refused: Refused) {
        match refused.is_empty() {
            true => self.0.remove(group),
            false => self.0.insert(group.clone(), refused),
        };
    }

    /// The groups of which something is known.
    pub(crate) fn groups(&self) -> Vec<TargetGroupArn> {
        self.0.keys().cloned().collect()
    }

    pub(crate) fn of(&self, group: &TargetGroupArn, target: &Target) -> Option<&Refusal> {
        self.0.get(group)?.get(target)
    }
}
