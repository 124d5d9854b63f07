//! Status, reason and message of a gate's condition (contract 5.3).
//!
//! Where the incumbent writes a condition for the same fact, the words are the incumbent's, so that both
//! can run side by side without overwriting each other for ever.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::gates::absence::Absence;
use crate::gates::refusals::Refusal;
use crate::gates::target::NoTarget;
use crate::model::{Binding, Condition, Service, ServicePort, TargetHealth, TargetState};
use crate::names::TargetGroupArn;
use crate::reason::Reason;

const REGISTRATION: &str = "Elb.RegistrationInProgress";
const NOT_REGISTERED: &str = "Target.NotRegistered";
const NOT_IN_USE: &str = "Target.NotInUse";
/// A message lists at most this many ports of a Service. Chosen.
const PORTS_LISTED: usize = 10;

/// The condition that a gate should have, and the reason for metrics, logs and explanations, which is not
/// always that of the condition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    pub condition: Condition,
    pub reason: Reason,
}

impl Decision {
    /// A closed gate, whose condition names the reason.
    fn closed(reason: Reason, message: &str) -> Self {
        Self {
            condition: condition(false, reason.as_str(), message),
            reason,
        }
    }
}

/// The condition that follows from ELB's answer; `health` is `None` where the group lacks the target.
pub fn of_health(health: Option<&TargetHealth>) -> Decision {
    let condition = words_of_health(health);
    let reason = match condition.status {
        true => Reason::Healthy,
        false if is_registered(health) => Reason::NotHealthy,
        false => Reason::NotRegistered,
    };
    Decision { condition, reason }
}

fn words_of_health(health: Option<&TargetHealth>) -> Condition {
    let Some(health) = health else {
        return registration_in_progress();
    };
    match health.state {
        TargetState::Healthy => condition(true, "", ""),
        TargetState::Draining | TargetState::UnhealthyDraining => registration_in_progress(),
        _ if !is_in_group(health) => registration_in_progress(),
        _ => Condition {
            status: false,
            reason: health.reason.clone(),
            message: health.description.clone(),
        },
    }
}

/// Whether a condition says that ELB called the target healthy: a gate that opens for another reason names it.
pub fn says_healthy(condition: &Condition) -> bool {
    *condition == self::condition(true, "", "")
}

/// The reason that a condition tells, as far as its words do: those of ELB's own are [`Reason::NotHealthy`].
///
/// ```
/// use targetgate_core::gates::condition::{of_missing_group, of_unused, reason_of};
/// use targetgate_core::model::Condition;
/// use targetgate_core::reason::Reason;
///
/// assert_eq!(reason_of(&of_unused().condition), Reason::TargetGroupUnused);
/// let reason = "Target.Timeout".into();
/// let timeout = Condition { status: false, reason, message: "Request timed out".into() };
/// assert_eq!(reason_of(&timeout), Reason::NotHealthy);
/// ```
pub fn reason_of(condition: &Condition) -> Reason {
    if *condition == registration_in_progress() {
        return Reason::NotRegistered;
    }
    let ours = Reason::ALL.iter();
    let mut ours = ours.filter(|reason| reason.as_str() == &*condition.reason);
    match (ours.next(), condition.status) {
        (Some(reason), _) => *reason,
        (None, true) if says_healthy(condition) => Reason::Healthy,
        (None, true) => Reason::BindingGone,
        (None, false) => Reason::NotHealthy,
    }
}

/// Whether ELB has the target and does not deregister it.
pub fn is_registered(health: Option<&TargetHealth>) -> bool {
    health.is_some_and(|health| {
        let leaves = matches!(
            health.state,
            TargetState::Draining | TargetState::UnhealthyDraining
        );
        !leaves && is_in_group(health)
    })
}

/// Whether the group has the target. ELB also answers about a target that the call named and that is not
/// registered, as `unused` with reason `Target.NotRegistered`.
pub fn is_in_group(health: &TargetHealth) -> bool {
    (health.state, &*health.reason) != (TargetState::Unused, NOT_REGISTERED)
}

/// The condition of a gate that opens for an absence.
pub fn of_absence(absence: &Absence) -> Decision {
    let condition = match absence {
        Absence::BindingGone | Absence::ServiceGone { .. } | Absence::BindingTerminating { .. } => {
            condition(true, "", "Target Group Binding is deleted")
        }
        Absence::NotSelected { binding, service } => condition(
            true,
            Reason::NotSelected.as_str(),
            &format!("Service {service} of TargetGroupBinding {binding} does not select this pod"),
        ),
        Absence::TargetTypeInstance { binding } => condition(
            true,
            Reason::TargetTypeInstance.as_str(),
            &format!("TargetGroupBinding {binding} registers nodes, not pods"),
        ),
    };
    let reason = absence.reason();
    Decision { condition, reason }
}

/// The condition of a gate whose pod cannot be a target.
pub fn of_no_target(cause: &NoTarget, service: &str) -> Decision {
    match cause {
        NoTarget::PortNotFound { name, protocol } => Decision::closed(
            Reason::PortNotFound,
            &format!(
                "Service {service} targets {} port {name}, which no container of this pod has",
                protocol.as_str()
            ),
        ),
        NoTarget::AddressNotFound => Decision::closed(
            Reason::AddressNotFound,
            "This pod has no address of the target group's IP address type",
        ),
    }
}

/// The condition of a gate whose binding names a port that its Service does not have.
pub fn of_missing_port(binding: &Binding, service: &Service) -> Decision {
    let wanted = binding.port.as_ref().map_or_else(
        || "spec.serviceRef.port is absent".to_owned(),
        |port| format!("it has no port {port}"),
    );
    let (name, ports) = (&binding.service, listed(&service.ports));
    let message = format!("Service {name} has {ports}, and {wanted}: no target is registered");
    Decision::closed(Reason::ServicePortNotFound, &message)
}

fn listed(ports: &[ServicePort]) -> String {
    let named = ports.iter().take(PORTS_LISTED).map(|port| {
        let name = port.name.as_ref().filter(|name| !name.is_empty());
        name.map_or_else(
            || port.port.to_string(),
            |name| format!("{} ({name})", port.port),
        )
    });
    let listed: Vec<String> = named.collect();
    match (listed.len(), ports.len()) {
        (_, 0) => "no ports".to_owned(),
        (all, total) if all == total => format!("ports {}", listed.join(", ")),
        (_, total) => format!("{total} ports, such as {}", listed.join(", ")),
    }
}

/// The condition of a gate whose binding names no group that can be found.
pub fn of_unknown_group(name: Option<&str>) -> Decision {
    let message = match name {
        Some(name) => format!(
            "spec.targetGroupName is {name}, and AWS has no target group of that name in this account \
             and Region"
        ),
        None => "spec.targetGroupARN is absent or is not a target group's ARN, and \
                 spec.targetGroupName is absent"
            .to_owned(),
    };
    Decision::closed(Reason::TargetGroupUnknown, &message)
}

/// The condition of an open gate whose pod has another address than the one for which it was opened.
pub fn of_another_address(address: IpAddr) -> Decision {
    let message = format!("The pod's address is now {address}, for which the gate was not opened");
    Decision::closed(Reason::AddressChanged, &message)
}

/// Whether ELB said that no load balancer uses the target group.
pub fn is_unused(decision: &Decision) -> bool {
    &*decision.condition.reason == NOT_IN_USE
}

/// The condition of a gate that opens although no load balancer uses its target group.
pub fn of_unused() -> Decision {
    let reason = Reason::TargetGroupUnused;
    let message = "No load balancer uses the target group; targetgate.dev/when-unused is open";
    Decision {
        condition: condition(true, reason.as_str(), message),
        reason,
    }
}

/// The condition of a gate that opens because it was kept closed, by `cause`, for too long.
pub fn of_timeout(after: Duration, cause: Reason) -> Decision {
    let reason = Reason::GateTimeout;
    let message = format!("Not open after {after:?} (targetgate.dev/open-after): {cause}");
    Decision {
        condition: condition(true, reason.as_str(), &message),
        reason,
    }
}

/// The condition of a gate whose target AWS does not take.
pub fn of_refusal(refusal: &Refusal) -> Decision {
    Decision::closed(refusal.reason, &refusal.message)
}

/// The condition of a gate whose group AWS does not know.
pub fn of_missing_group(arn: &TargetGroupArn) -> Decision {
    let message = format!("Target group {arn} does not exist");
    Decision::closed(Reason::TargetGroupNotFound, &message)
}

fn registration_in_progress() -> Condition {
    condition(false, REGISTRATION, "Target registration is in progress")
}

fn condition(status: bool, reason: &str, message: &str) -> Condition {
    Condition {
        status,
        reason: Arc::from(reason),
        message: Arc::from(message),
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn health(state: TargetState, reason: &str) -> TargetHealth {
        TargetHealth {
            target: ([10, 0, 0, 1].into(), 80),
            zone: None,
            state,
            reason: reason.into(),
            description: "as ELB describes it".into(),
        }
    }

    #[test]
    fn healthy_is_true_without_words() {
        let healthy = of_health(Some(&health(TargetState::Healthy, "")));
        assert_eq!(healthy.condition, condition(true, "", ""));
        assert_eq!(healthy.reason, Reason::Healthy);
    }

    #[rstest]
    #[case::absent(None)]
    #[case::draining(Some(health(TargetState::Draining, "Target.DeregistrationInProgress")))]
    #[case::unhealthy_draining(Some(health(TargetState::UnhealthyDraining, "")))]
    #[case::not_registered(Some(health(TargetState::Unused, "Target.NotRegistered")))]
    fn a_target_that_is_not_registered_waits_for_it(#[case] health: Option<TargetHealth>) {
        let words = condition(
            false,
            "Elb.RegistrationInProgress",
            "Target registration is in progress",
        );
        let decided = of_health(health.as_ref());
        assert_eq!(
            (decided.condition, decided.reason),
            (words, Reason::NotRegistered)
        );
    }

    #[test]
    fn a_condition_tells_the_reason_for_which_it_was_written() {
        let group =
            "arn:aws:elasticloadbalancing:eu-west-1:123456789012:targetgroup/web/0123456789abcdef";
        let absence = |absence| of_absence(&absence);
        let decisions = [
            of_health(Some(&health(TargetState::Healthy, ""))),
            of_health(None),
            of_health(Some(&health(TargetState::Unhealthy, "Target.Timeout"))),
            absence(Absence::BindingGone),
            absence(Absence::NotSelected {
                binding: "web".into(),
                service: "web".into(),
            }),
            of_no_target(&NoTarget::AddressNotFound, "web"),
            of_unknown_group(None),
            of_another_address([10, 0, 0, 1].into()),
            of_unused(),
            of_timeout(Duration::from_secs(1), Reason::NotHealthy),
            of_missing_group(&group.parse().unwrap()),
        ];
        for decision in decisions {
            assert_eq!(reason_of(&decision.condition), decision.reason);
        }
        // The incumbent has the same words for both.
        let gone = absence(Absence::ServiceGone {
            service: "web".into(),
        });
        assert_eq!(reason_of(&gone.condition), Reason::BindingGone);
    }

    #[rstest]
    #[case(TargetState::Unused, "Target.NotRegistered", false)]
    #[case(TargetState::Unused, "Target.NotInUse", true)]
    #[case(TargetState::Initial, "Elb.RegistrationInProgress", true)]
    #[case(TargetState::Draining, "Target.DeregistrationInProgress", true)]
    fn a_target_is_in_the_group_unless_elb_says_that_it_is_not_registered(
        #[case] state: TargetState,
        #[case] reason: &str,
        #[case] expected: bool,
    ) {
        assert_eq!(is_in_group(&health(state, reason)), expected);
    }

    #[rstest]
    #[case(TargetState::Initial, "Elb.InitialHealthChecking")]
    #[case(TargetState::Unhealthy, "Target.Timeout")]
    #[case(TargetState::Unused, "Target.NotInUse")]
    #[case(TargetState::Unused, "")]
    #[case(TargetState::Unavailable, "Elb.InternalError")]
    #[case(TargetState::Unknown, "Target.BrandNew")]
    fn any_other_state_is_false_in_elbs_own_words(
        #[case] state: TargetState,
        #[case] reason: &str,
    ) {
        let words = condition(false, reason, "as ELB describes it");
        let decided = of_health(Some(&health(state, reason)));
        assert_eq!(
            (decided.condition, decided.reason),
            (words, Reason::NotHealthy)
        );
    }
}
