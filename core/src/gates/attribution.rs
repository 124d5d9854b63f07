//! Attribution: whether an answer of ELB about a target is about *this* pod (contract 5.4).

use std::time::Duration;

/// Evidence about whose health ELB reported: this pod's, or that of a previous pod with the same address.
/// Durations are counted from the moment that the pod became due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Observation {
    /// When the answer was *requested*; `None` where that was before the pod was due.
    pub requested_after: Option<Duration>,
    /// Whether ELB can still mean a previous pod: another pod had the address, or the target was registered
    /// before this pod was due.
    pub maybe_previous_pod: bool,
    /// Whether an answer requested since the pod is due showed the target absent or not healthy.
    pub seen_unhealthy: bool,
    /// The group's health check interval times its healthy threshold, if AWS has described the group.
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
    let Some(requested_after) = sight.requested_after else {
        return Trust::Stale;
    };
    if !sight.maybe_previous_pod || sight.seen_unhealthy {
        return Trust::Trusted;
    }
    match sight.proving_time {
        Some(time) if requested_after >= time => Trust::Trusted,
        Some(_) => Trust::Suspect,
        None => Trust::SuspectForUnknownTime,
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    const S: Duration = Duration::from_secs(1);

    #[rstest]
    #[case::asked_before_due(None, false, false, None, Trust::Stale)]
    #[case::asked_before_due_though_long_proven(None, true, true, Some(S), Trust::Stale)]
    #[case::asked_when_due(Some(Duration::ZERO), false, false, None, Trust::Trusted)]
    #[case::a_used_address(Some(9 * S), true, false, None, Trust::SuspectForUnknownTime)]
    #[case::before_it_could_be_proven(Some(9 * S), true, false, Some(10 * S), Trust::Suspect)]
    #[case::once_it_is_proven(Some(10 * S), true, false, Some(10 * S), Trust::Trusted)]
    #[case::once_seen_not_healthy(Some(S), true, true, Some(10 * S), Trust::Trusted)]
    fn a_healthy_answer_is_weighed(
        #[case] requested_after: Option<Duration>,
        #[case] maybe_previous_pod: bool,
        #[case] seen_unhealthy: bool,
        #[case] proving_time: Option<Duration>,
        #[case] expected: Trust,
    ) {
        let sight = Observation {
            requested_after,
            maybe_previous_pod,
            seen_unhealthy,
            proving_time,
        };
        assert_eq!(trust(sight), expected);
    }
}
