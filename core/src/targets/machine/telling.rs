//! What a binding is told by its condition and its Events.

use std::time::Instant;

use crate::reason::Reason;
use crate::targets::machine::action::Action;
use crate::targets::machine::held::Held;
use crate::targets::standing::Standing;

/// What a binding is told: why it is not ours, or how its group fares.
pub(super) fn tell(
    held: &mut Held,
    verdict: Option<&(bool, Reason, String)>,
    now: Instant,
) -> Vec<Action> {
    match (held.standing, verdict) {
        (Standing::NotOurs(reason), _) if is_no_news(reason) => vec![],
        (_, Some((_, reason, words))) if held.is_cleaned_up() => {
            let reason = match reason {
                Reason::CallRefused | Reason::TargetRefused => Reason::CleanupFailed,
                Reason::TargetGroupNotFound => *reason,
                _ => return vec![],
            };
            held.tell(false, reason, words, now)
        }
        (Standing::NotOurs(reason) | Standing::Suspended(reason), _) => {
            held.tell(false, reason, reason.sentence(), now)
        }
        (Standing::Ours, Some((ready, reason, words))) if held.is_active() => {
            held.tell(*ready, *reason, words, now)
        }
        (Standing::Ours, _) => vec![],
    }
}

/// Whether a binding that is not ours for this reason is as its owner wants it.
fn is_no_news(reason: Reason) -> bool {
    matches!(
        reason,
        Reason::RegistrationOff | Reason::BindingGone | Reason::TargetTypeInstance
    )
}
