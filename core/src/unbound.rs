//! A Service that has lost its last binding while pods live that it selects (`BindingLost`): what of its pods counts, for
//! the Event and for `explain`. Whether a Service has a binding says [`crate::index::Index::is_unbound`], to both.

use jiff::Timestamp;

/// A living pod that the Service selects, and that does not opt out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SelectedPod {
    /// Whether it has the gate of the binding that was lost.
    pub has_gate: bool,
    pub created: Option<Timestamp>,
}

/// What a binding leaves behind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Unbound {
    /// The pods that the Service selects.
    pub pods: usize,
    /// Those of them that were created since the binding was lost, without its gate.
    pub without_gate: usize,
}

impl Unbound {
    /// What is left behind by a binding that was lost at this time; `None` if no pod is. Where the time is unknown, all
    /// pods without the gate count as created since.
    pub fn of(
        pods: impl IntoIterator<Item = SelectedPod>,
        lost_at: Option<Timestamp>,
    ) -> Option<Self> {
        let mut left = Self::default();
        for pod in pods {
            let since = |at| pod.created.is_some_and(|created| created > at);
            left.pods += 1;
            left.without_gate += usize::from(!pod.has_gate && lost_at.is_none_or(since));
        }
        (left.pods > 0).then_some(left)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pods_without_the_gate_count_from_when_the_binding_was_lost() {
        let at = |second| Timestamp::from_second(second).ok();
        let pod = |has_gate, created| SelectedPod {
            has_gate,
            created: at(created),
        };
        let pods = [pod(true, 200), pod(false, 50), pod(false, 200)];
        let of = |lost_at| Unbound::of(pods, lost_at).map(|left| (left.pods, left.without_gate));
        assert_eq!(of(at(100)), Some((3, 1)));
        assert_eq!(of(None), Some((3, 2)));
        assert_eq!(Unbound::of([], None), None);
    }
}
