//! A legacy gate that a pod keeps (`LegacyGate`): what there is to tell of it, for the Event and for `explain`.

use crate::reason::Reason;

/// What to do where the hook takes a legacy gate away: from a new pod that gets a gate of ours.
const CREATE_ANEW: &str =
    "Create the pod anew: the hook takes this gate away where one of targetgate's takes its place.";

/// A pod with a legacy gate whose condition is not `True`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keeper {
    /// Whether it is there. No gate is taken from a pod that exists.
    pub exists: bool,
    /// Whether it would get or keep a gate of ours, were it created now.
    pub gate_due: bool,
}

/// What there is to tell of a legacy gate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// What is the case, as a clause after the pod.
    pub clause: String,
    pub remedy: &'static str,
}

impl Keeper {
    /// What there is to tell of its legacy gate; `None` if the pod loses it when it is created.
    pub fn told(self, legacy_gate: &str) -> Option<Kept> {
        let remedy = match (self.exists, self.gate_due) {
            (false, true) => return None,
            (true, true) => CREATE_ANEW,
            (_, false) => Reason::LegacyGate.remedy(),
        };
        let clause = format!(
            "keeps the readiness gate {legacy_gate:?}, whose condition no controller writes, so that it does not become Ready"
        );
        Some(Kept { clause, remedy })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn remedy(exists: bool, gate_due: bool) -> Option<&'static str> {
        let told = Keeper { exists, gate_due }.told("target-health.alb.ingress.k8s.aws/web");
        told.map(|kept| kept.remedy)
    }

    #[test]
    fn a_pod_that_exists_keeps_a_legacy_gate_whatever_new_pods_get() {
        let of_template = Some(Reason::LegacyGate.remedy());
        assert_eq!(remedy(true, false), of_template);
        assert_eq!(remedy(true, true), Some(CREATE_ANEW));
        assert_eq!(remedy(false, false), of_template);
        assert_eq!(remedy(false, true), None);
    }
}
