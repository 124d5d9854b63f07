//! What one gate of one pod waits for (contract 5.2, 5.3, 5.5).

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use crate::gates::absence::Absence;
use crate::gates::condition;
use crate::gates::target::{service_port, target};
use crate::model::{Binding, Condition, Pod, Service, TargetType};
use crate::names::{BindingApi, GroupKey};
use crate::selector::selects;

/// A question for ELB: is this target of this group healthy?
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TargetQuery {
    /// The group, and whose credentials ask.
    pub group: GroupKey,
    /// The pod's address and port in it.
    pub target: (IpAddr, u16),
    /// Name and API group of the binding that wants to know.
    pub binding: (Arc<str>, BindingApi),
}

/// What a gate waits for. Bindings of both API groups can share a gate: it opens when all agree.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct GateRequirements {
    /// What to ask ELB; the gate opens only when each target is healthy.
    pub asks: Vec<TargetQuery>,
    /// The gate is closed whatever ELB says, in these words.
    pub closed: Option<Condition>,
    /// Something that the gate was for is not there; to be confirmed.
    pub absence: Option<Absence>,
    /// A binding cannot be asked about yet (no ARN): the gate stays as it is.
    pub unknown: bool,
}

/// The outlook of a gate that stands for these bindings.
///
/// Bindings of API groups that are not gated count only where no other of the name is there: their
/// gates were added under other settings and must still be served.
pub fn outlook<'a>(
    pod: &Pod,
    bindings: &[&Binding],
    service: impl Fn(&str) -> Option<&'a Service>,
    apis: &[BindingApi],
) -> GateRequirements {
    let gated = |binding: &&&Binding| apis.contains(&binding.api);
    let any_gated = bindings.iter().any(|binding| gated(&binding));
    let mut outlook = GateRequirements::default();
    for binding in bindings.iter().filter(|b| !any_gated || gated(b)) {
        look(pod, binding, service(&binding.service), &mut outlook);
    }
    if bindings.is_empty() {
        outlook.absence = Some(Absence::BindingGone);
    }
    outlook
}

/// Whether it can be known that a binding is gone, where these API groups are not served.
///
/// A CRD that is not served is unknown, not gone. But that of EKS Auto Mode is absent from most
/// clusters for good: it matters only where no other API group is gated.
pub fn is_knowable(apis: &[BindingApi], not_served: &BTreeSet<BindingApi>) -> bool {
    let matters = |api: &BindingApi| *api != BindingApi::Eks || apis == [BindingApi::Eks];
    let mut gated = apis.iter().filter(|api| matters(api));
    gated.all(|api| !not_served.contains(api))
}

fn look(pod: &Pod, binding: &Binding, service: Option<&Service>, outlook: &mut GateRequirements) {
    if binding.target_type == Some(TargetType::Instance) {
        let binding = binding.name.clone();
        outlook.absence = Some(Absence::TargetTypeInstance { binding });
        return;
    }
    let service_gone = || Absence::ServiceGone {
        service: binding.service.clone(),
    };
    let Some(service) = service else {
        outlook.absence = Some(service_gone());
        return;
    };
    if !selects(&service.selector, &*pod.labels) {
        outlook.absence = Some(Absence::NotSelected {
            binding: binding.name.clone(),
            service: binding.service.clone(),
        });
        return;
    }
    let Some(port) = service_port(binding, service) else {
        outlook.absence = Some(service_gone());
        return;
    };
    match (target(pod, binding.family, port), &binding.arn) {
        (Err(cause), _) => {
            outlook.closed = Some(condition::of_no_target(&cause, &binding.service));
        }
        (Ok(_), None) => outlook.unknown = true,
        (Ok(target), Some(arn)) => outlook.asks.push(TargetQuery {
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
        let outlook = outlook(&web(), &[binding], |_| service, &APIS);
        assert_eq!((outlook.asks, outlook.closed), (vec![], None));
        outlook.absence.map(|absence| absence.reason().as_str())
    }

    #[test]
    fn a_gate_waits_for_its_pod_to_be_healthy_in_the_group() {
        let service = selected();
        let outlook = outlook(&web(), &[&binding("web")], |_| Some(&service), &APIS);
        let [ask] = &outlook.asks[..] else {
            panic!("one question for ELB, not {:?}", outlook.asks);
        };
        assert_eq!(ask.group.arn, arn("web"));
        assert_eq!(ask.target, ([10, 0, 0, 1].into(), 80));
        assert_eq!((outlook.closed, outlook.absence), (None, None));
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
        let nothing = outlook(&pod("web-1"), &[], |_| None, &APIS);
        assert_eq!(nothing.absence, Some(Absence::BindingGone));
    }

    #[test]
    fn a_port_that_the_pod_lacks_closes_its_gate() {
        let named = PortRef::Name("grpc".into());
        let service = service()
            .selecting("app", "web")
            .port("http", 80, Some(named));
        let outlook = outlook(&web(), &[&binding("web")], |_| Some(&service), &APIS);
        assert_eq!(&*outlook.closed.unwrap().reason, "PortNotFound");
        assert_eq!((outlook.asks, outlook.absence), (vec![], None));
    }

    #[test]
    fn a_binding_without_arn_cannot_be_asked_about() {
        let mut nameless = binding("web");
        nameless.arn = None;
        let service = selected();
        let outlook = outlook(&web(), &[&nameless], |_| Some(&service), &APIS);
        assert!(outlook.unknown && outlook.asks.is_empty());
    }

    #[test]
    fn bindings_of_both_apis_that_share_a_gate_are_both_asked() {
        let (ours, theirs) = (binding("web"), binding("web").of_api(BindingApi::Eks));
        let service = selected();
        let asks = |apis: &[BindingApi]| {
            let bindings = [&ours, &theirs];
            outlook(&web(), &bindings, |_| Some(&service), apis).asks
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
        let outlook = outlook(&web(), &[&theirs], |_| Some(&service), &APIS);
        assert_eq!(outlook.asks.len(), 1);
    }
}
