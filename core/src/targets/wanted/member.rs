//! One pod of a binding, with its targets.

use std::collections::BTreeSet;

use crate::model::Pod;
use crate::packed::{PackedTime, PackedUid};
use crate::reason::Reason;
use crate::targets::Target;

/// One pod of a binding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Member {
    pub(super) uid: PackedUid,
    pub(super) target: Result<Target, Reason>,
    pub(super) state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// Wanted, since its containers are ready; `None` where they need not be.
    Wanted(PackedTime),
    Unready,
}

/// A pod with its further targets: EndpointSlices may give it several ports.
pub(super) type Placed = (Member, BTreeSet<Target>);

impl Member {
    pub(super) fn is_at_address_of(&self, pod: &Pod) -> bool {
        self.target.is_ok_and(|(ip, _)| pod.ips.contains(&ip))
    }
}

/// Whether a target is one of a pod's.
pub(super) fn has((member, further): &Placed, target: &Target) -> bool {
    member.target == Ok(*target) || further.contains(target)
}
