//! What must hold before a gate opens (contract 5.2, 5.3, 5.5).

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use crate::gates::absence::Absence;
use crate::gates::condition;
use crate::gates::condition::Decision;
use crate::gates::target::{service_port, target};
use crate::model::{Binding, Pod, Service, TargetType};
use crate::names::{BindingApi, GroupKey};
use crate::selector::selects;

/// The target of a group that ELB is asked about for a gate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TargetQuery {
    pub group: GroupKey,
    /// The pod's address and port in the group.
    pub target: (IpAddr, u16),
    /// The name and API group of the binding from which the query follows.
    pub binding: (Arc<str>, BindingApi),
}

/// What must hold before a gate opens. Bindings of both API groups can share a gate, which opens when the
/// requirements of both hold.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct GateRequirements {
    /// Targets that must all be healthy.
    pub queries: Vec<TargetQuery>,
    /// A condition that keeps the gate closed whatever ELB answers.
    pub closed: Option<Decision>,
    /// A binding or Service that is missing, or does not select the pod; a live read has to confirm it.
    pub absence: Option<Absence>,
    /// Whether a binding lacks its ARN, so that the gate stays as it is.
    pub unknown: bool,
}

/// The requirements of a gate that stands for these bindings.
///
/// Bindings of API groups that are not gated count only if the gate stands for no others: their gates were
/// added under other settings, and must still be served.
///
/// ```
/// use std::sync::Arc;
/// use targetgate_core::gates::absence::Absence;
/// use targetgate_core::gates::requirements;
/// use targetgate_core::model::Pod;
/// use targetgate_core::names::{BindingApi, ObjectKey};
///
/// let pod = Pod {
///     key: ObjectKey::new("shop", "web-1"),
///     uid: "6c1a".into(),
///     resource_version: "1".into(),
///     labels: Arc::default(),
///     opted_out: false,
///     gates: vec![],
///     ips: vec!["10.0.0.1".parse().unwrap()],
///     ports: vec![],
///     containers_ready: None,
///     terminating: false,
///     finished: false,
/// };
/// let deleted = requirements::of_gate(&pod, &[], |_| None, &[BindingApi::Elbv2]);
/// assert_eq!(deleted.absence, Some(Absence::BindingGone));
/// ```
pub fn of_gate<'a>(
    pod: &Pod,
    bindings: &[&Binding],
    service: impl Fn(&str) -> Option<&'a Service>,
    apis: &[BindingApi],
) -> GateRequirements {
    let gated = |binding: &&&Binding| apis.contains(&binding.api);
    let any_gated = bindings.iter().any(|binding| gated(&binding));
    let mut requirements = GateRequirements::default();
    for binding in bindings.iter().filter(|b| !any_gated || gated(b)) {
        require(pod, binding, service(&binding.service), &mut requirements);
    }
    if bindings.is_empty() {
        requirements.absence = Some(Absence::BindingGone);
    }
    requirements
}

/// Whether a live read can confirm that a binding is gone while these API groups are not served.
///
/// Bindings of a CRD that is not served are unknown, not gone. But the CRD of EKS Auto Mode is absent from
/// most clusters for good, so it matters only if its API group is the only gated one.
pub fn is_knowable(apis: &[BindingApi], not_served: &BTreeSet<BindingApi>) -> bool {
    let matters = |api: &BindingApi| *api != BindingApi::Eks || apis == [BindingApi::Eks];
    let mut gated = apis.iter().filter(|api| matters(api));
    gated.all(|api| !not_served.contains(api))
}

fn require(
    pod: &Pod,
    binding: &Binding,
    service: Option<&Service>,
    requirements: &mut GateRequirements,
) {
    if binding.target_type == Some(TargetType::Instance) {
        let binding = binding.name.clone();
        requirements.absence = Some(Absence::TargetTypeInstance { binding });
        return;
    }
    let service_gone = || Absence::ServiceGone {
        service: binding.service.clone(),
    };
    let Some(service) = service else {
        requirements.absence = Some(service_gone());
        return;
    };
    if !selects(&service.selector, &*pod.labels) {
        requirements.absence = Some(Absence::NotSelected {
            binding: binding.name.clone(),
            service: binding.service.clone(),
        });
        return;
    }
    let Some(port) = service_port(binding, service) else {
        requirements.absence = Some(service_gone());
        return;
    };
    match (target(pod, binding.family, port), &binding.arn) {
        (Err(cause), _) => {
            requirements.closed = Some(condition::of_no_target(&cause, &binding.service));
        }
        (Ok(_), None) => requirements.unknown = true,
        (Ok(target), Some(arn)) => requirements.queries.push(TargetQuery {
            group: GroupKey {
                arn: arn.clone(),
                role: binding.role.clone(),
            },
            target,
            binding: (binding.name.clone(), binding.api),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::{arn, binding, pod, service};
    use crate::model::PortRef;

    const APIS: [BindingApi; 1] = [BindingApi::Elbv2];

    fn web() -> Pod {
        pod("web-1").label("app", "web").ip("10.0.0.1").ready()
    }

    fn selected() -> Service {
        service().selecting("app", "web").port("http", 80, None)
    }

    fn absence(binding: &Binding, service: Option<&Service>) -> Option<&'static str> {
        let requirements = of_gate(&web(), &[binding], |_| service, &APIS);
        assert_eq!((requirements.queries, requirements.closed), (vec![], None));
        requirements
            .absence
            .map(|absence| absence.reason().as_str())
    }

    #[test]
    fn a_gate_waits_for_its_pod_to_be_healthy_in_the_group() {
        let service = selected();
        let requirements = of_gate(&web(), &[&binding("web")], |_| Some(&service), &APIS);
        let [ask] = &requirements.queries[..] else {
            panic!("one question for ELB, not {:?}", requirements.queries);
        };
        assert_eq!(ask.group.arn, arn("web"));
        assert_eq!(ask.target, ([10, 0, 0, 1].into(), 80));
        assert_eq!((requirements.closed, requirements.absence), (None, None));
    }

    #[test]
    fn what_a_gate_was_for_may_be_gone() {
        let web = binding("web");
        assert_eq!(absence(&web, None), Some("ServiceGone"));
        let other = service().selecting("app", "api").port("http", 80, None);
        assert_eq!(absence(&web, Some(&other)), Some("NotSelected"));
        let unselecting = service().port("http", 80, None);
        assert_eq!(absence(&web, Some(&unselecting)), Some("NotSelected"));
        let portless = service().selecting("app", "web");
        assert_eq!(absence(&web, Some(&portless)), Some("ServiceGone"));
        let nodes = binding("web").of_instances();
        assert_eq!(
            absence(&nodes, Some(&selected())),
            Some("TargetTypeInstance")
        );
        let nothing = of_gate(&pod("web-1"), &[], |_| None, &APIS);
        assert_eq!(nothing.absence, Some(Absence::BindingGone));
    }

    #[test]
    fn a_port_that_the_pod_lacks_closes_its_gate() {
        let named = PortRef::Name("grpc".into());
        let service = service()
            .selecting("app", "web")
            .port("http", 80, Some(named));
        let requirements = of_gate(&web(), &[&binding("web")], |_| Some(&service), &APIS);
        assert_eq!(
            &*requirements.closed.unwrap().condition.reason,
            "PortNotFound"
        );
        assert_eq!((requirements.queries, requirements.absence), (vec![], None));
    }

    #[test]
    fn a_binding_without_arn_cannot_be_asked_about() {
        let mut nameless = binding("web");
        nameless.arn = None;
        let service = selected();
        let requirements = of_gate(&web(), &[&nameless], |_| Some(&service), &APIS);
        assert!(requirements.unknown && requirements.queries.is_empty());
    }

    #[test]
    fn bindings_of_both_apis_that_share_a_gate_are_both_asked() {
        let (ours, theirs) = (binding("web"), binding("web").of_api(BindingApi::Eks));
        let service = selected();
        let asks = |apis: &[BindingApi]| {
            let bindings = [&ours, &theirs];
            of_gate(&web(), &bindings, |_| Some(&service), apis).queries
        };
        assert_eq!(asks(&BindingApi::ALL).len(), 2);
        assert_eq!(asks(&APIS).len(), 1);
    }

    #[test]
    fn a_binding_of_an_api_that_is_not_served_is_unknown() {
        use BindingApi::{Eks, Elbv2};
        assert!(is_knowable(&[Elbv2], &[Eks].into()));
        assert!(!is_knowable(&[Elbv2], &[Elbv2].into()));
        assert!(is_knowable(&[Elbv2, Eks], &[Eks].into()));
        assert!(!is_knowable(&[Elbv2, Eks], &[Elbv2].into()));
        assert!(!is_knowable(&[Eks], &[Eks].into()));
        assert!(is_knowable(&[Eks], &[Elbv2].into()));
    }

    #[test]
    fn a_gate_of_an_api_that_is_no_longer_gated_is_still_served() {
        let theirs = binding("web").of_api(BindingApi::Eks);
        let service = selected();
        let requirements = of_gate(&web(), &[&theirs], |_| Some(&service), &APIS);
        assert_eq!(requirements.queries.len(), 1);
    }
}
