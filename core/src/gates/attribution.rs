//! Attribution: whether an answer of ELB about a target is about *this* pod (contract 5.4).

use std::time::{Duration, Instant};

/// Since when a pod is known with the address of a target, and since when it is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tenure {
    /// When the pod was first seen with the address.
    pub since: Instant,
    /// When it became due; `None` while it is not.
    pub due: Option<Instant>,
    /// Whether the address is the node's, which other pods have as well.
    pub shared: bool,
}

impl Tenure {
    /// Whether an answer that was requested then is about an address that no other pod has any more. On a
    /// shared address only what was requested since the pod is due is about its own containers.
    pub fn covers(&self, requested: Instant) -> bool {
        match self.shared {
            true => self.due.is_some_and(|due| requested >= due),
            false => requested >= self.since,
        }
    }
}

/// Evidence about whose health ELB reported: this pod's, or that of a previous pod with the same address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Observation {
    /// For how long the pod had been due when the answer was *requested*; `None` where it was not yet due.
    pub due_for: Option<Duration>,
    /// For how long the pod had had its address when the answer was requested.
    pub had_for: Duration,
    /// Whether ELB can still mean a previous pod: another pod had the address, or the target was registered
    /// before this pod had it.
    pub maybe_previous_pod: bool,
    /// Whether an answer that was requested since the pod has the address showed the target absent or not
    /// healthy.
    pub seen_otherwise: bool,
    /// [`HealthChecks::proving_time`](crate::model::HealthChecks::proving_time) of the group, if it is known.
    pub proving_time: Option<Duration>,
}

/// Whether a `healthy` answer counts for a pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trust {
    /// The answer is about this pod, and the gate may open.
    Trusted,
    /// The answer was requested before the pod was due; a later one may count.
    Stale,
    /// The answer may be about a previous pod, until the target is seen not healthy or the proving time is over.
    Suspect,
    /// As [`Trust::Suspect`], but the proving time is unknown and has to be requested.
    SuspectForUnknownTime,
}

/// Weighs a `healthy` answer.
pub fn trust(sight: Observation) -> Trust {
    if sight.due_for.is_none() {
        return Trust::Stale;
    }
    if !sight.maybe_previous_pod || sight.seen_otherwise {
        return Trust::Trusted;
    }
    match sight.proving_time {
        Some(time) if sight.had_for >= time => Trust::Trusted,
        Some(_) => Trust::Suspect,
        None => Trust::SuspectForUnknownTime,
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use crate::fixtures::epoch;

    const S: Duration = Duration::from_secs(1);

    #[rstest]
    #[case::asked_before_due(None, false, false, None, Trust::Stale)]
    #[case::asked_before_due_though_long_proven(None, true, true, Some(S), Trust::Stale)]
    #[case::asked_when_due(Some(Duration::ZERO), false, false, None, Trust::Trusted)]
    #[case::a_used_address(Some(S), true, false, None, Trust::SuspectForUnknownTime)]
    #[case::before_it_could_be_proven(Some(S), true, false, Some(10 * S), Trust::Suspect)]
    #[case::once_it_is_proven(Some(S), true, false, Some(9 * S), Trust::Trusted)]
    #[case::once_seen_not_healthy(Some(S), true, true, Some(10 * S), Trust::Trusted)]
    fn a_healthy_answer_is_weighed(
        #[case] due_for: Option<Duration>,
        #[case] maybe_previous_pod: bool,
        #[case] seen_otherwise: bool,
        #[case] proving_time: Option<Duration>,
        #[case] expected: Trust,
    ) {
        let sight = Observation {
            due_for,
            had_for: 9 * S,
            maybe_previous_pod,
            seen_otherwise,
            proving_time,
        };
        assert_eq!(trust(sight), expected);
    }

    #[rstest]
    #[case::of_its_own(false, [false, true, true])]
    #[case::of_its_node(true, [false, false, true])]
    fn an_address_is_the_pods_own_since_it_was_seen_with_it_unless_it_is_the_nodes(
        #[case] shared: bool,
        #[case] covered: [bool; 3],
    ) {
        let now = epoch();
        let tenure = Tenure {
            since: now + 2 * S,
            due: Some(now + 4 * S),
            shared,
        };
        assert_eq!([1, 3, 4].map(|at| tenure.covers(now + at * S)), covered);
    }
}
