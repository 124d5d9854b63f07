//! The reason codes of ELB that keep a target from being healthy: how they are said, and what to do about them.
//! Source: <https://docs.aws.amazon.com/elasticloadbalancing/latest/APIReference/API_TargetHealth.html>

/// What the reader can do about a code; `None` about one that says nothing, or is not known.
pub(super) fn remedy(code: &str) -> Option<&'static str> {
    Some(match code {
        "Elb.RegistrationInProgress" | "Elb.InitialHealthChecking" => {
            "Wait: the load balancer takes the target up, and checks its health as often as the group's healthy threshold says."
        }
        "Elb.InternalError" => {
            "Wait, and ask AWS if it lasts: the failure is the load balancer's own."
        }
        "Target.ResponseCodeMismatch" => {
            "Compare the path and the matcher of the group's health check with what the application answers there."
        }
        "Target.Timeout" => {
            "Let the security groups and network policies of the pod admit the load balancer's health checks on this port, or raise the health check's timeout."
        }
        "Target.FailedHealthChecks" => {
            "See that the application listens on this port, and that security groups and network policies admit the load balancer."
        }
        "Target.NotInUse" => {
            "Let a listener or a rule of a load balancer forward to the group, and enable the pod's Availability Zone for it. Before a cut-over, `targetgate.dev/when-unused: open` opens such gates."
        }
        "Target.IpUnusable" => {
            "Give the pod another address: a load balancer uses this one itself."
        }
        "Target.HealthCheckDisabled" => "Turn the health checks of the group on.",
        _ => return None,
    })
}

/// Reason and description, as they end a sentence.
pub(super) fn words(reason: &str, description: &str) -> String {
    let description = description.trim_end_matches('.');
    match (reason, description) {
        ("", "") => String::new(),
        (reason, "") => format!(": {reason}"),
        ("", description) => format!(": {description}"),
        (reason, description) => format!(": {reason}, {description}"),
    }
}
