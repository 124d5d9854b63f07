//! What must hold before a gate opens (contract 5.2, 5.3, 5.5).

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use crate::gates::absence::Absence;
use crate::gates::condition;
use crate::gates::condition::Decision;
use crate::gates::target::{service_port, target};
use crate::model::{Binding, Pod, Service, TargetType};
use crate::names::{BindingApi, GroupKey, NamedGroup, TargetGroupArn};
use crate::selector::selects;

/// The target of a group that ELB is asked about for a gate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TargetQuery {
    pub group: GroupKey,
    /// The pod's address and port in the group.
    pub target: (IpAddr, u16),
    /// The name and API group of the binding from which the query follows.
    pub binding: (Arc<str>, BindingApi),
    /// Whether that binding is being deleted.
    pub terminating: bool,
}

impl TargetQuery {
    /// Whether both are about the same target for the same binding, so that an answer to one is an answer to
    /// the other.
    pub fn is_same_target(&self, other: &Self) -> bool {
        let subject = |query: &Self| (query.group.clone(), query.target, query.binding.clone());
        subject(self) == subject(other)
    }
}

/// What is known of a group that a binding names without an ARN.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Resolution {
    /// AWS was not asked yet, or did not answer.
    Unresolved,
    /// The group that has the name.
    Found(TargetGroupArn),
    /// AWS has no group of that name.
    NotFound,
}

/// Why a gate is closed whatever ELB answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Closed {
    pub decision: Decision,
    /// The name and API group of the binding that causes it.
    pub binding: (Arc<str>, BindingApi),
}

/// What must hold before a gate opens. Bindings of both API groups can share a gate, which opens when the
/// requirements of both hold.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct GateRequirements {
    /// Targets that must all be healthy.
    pub queries: Vec<TargetQuery>,
    /// What keeps the gate closed whatever ELB answers.
    pub closed: Option<Closed>,
    /// A binding or Service that is missing, or does not select the pod; a live read has to confirm it.
    pub absence: Option<Absence>,
    /// The groups that bindings name without an ARN.
    pub names: Vec<NamedGroup>,
    /// Whether the ARN of a named group is not known yet, so that the gate stays as it is.
    pub unresolved: bool,
}

/// The requirements of a gate that stands for these bindings. `resolve` tells what is known of a group that a
/// binding names without an ARN.
///
/// Bindings of API groups that are not gated count only if the gate stands for no others: their gates were
/// added under other settings, and must still be served.
///
/// ```
/// use std::sync::Arc;
/// use targetgate_core::gates::absence::Absence;
/// use targetgate_core::gates::requirements;
/// use targetgate_core::gates::requirements::Resolution;
/// use targetgate_core::model::{Pod, Policies};
/// use targetgate_core::names::{BindingApi, ObjectKey};
///
/// let pod = Pod {
///     key: ObjectKey::new("shop", "web-1"),
///     uid: "6c1a".into(),
///     resource_version: "1".into(),
///     template: Arc::default(),
///     opted_out: false,
///     policies: Policies::default(),
///     gates: vec![],
///     host_network: false,
///     ips: vec!["10.0.0.1".parse().unwrap()],
///     containers_ready: None,
///     started: None,
///     terminating: false,
///     finished: false,
/// };
/// let resolve = |_: &_| Resolution::Unresolved;
/// let deleted = requirements::of_gate(&pod, &[], |_| None, resolve, &[BindingApi::Elbv2]);
/// assert_eq!(deleted.absence, Some(Absence::BindingGone));
/// ```
pub fn of_gate<'a>(
    pod: &Pod,
    bindings: &[&Binding],
    service: impl Fn(&str) -> Option<&'a Service>,
    resolve: impl Fn(&NamedGroup) -> Resolution,
    apis: &[BindingApi],
) -> GateRequirements {
    let gated = |binding: &&&Binding| apis.contains(&binding.api);
    let any_gated = bindings.iter().any(|binding| gated(&binding));
    let mut requirements = GateRequirements::default();
    for binding in bindings.iter().filter(|b| !any_gated || gated(b)) {
        let service = service(&binding.service);
        requirements.require(pod, binding, service, &resolve);
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

impl GateRequirements {
    /// Adds what one binding requires.
    fn require(
        &mut self,
        pod: &Pod,
        binding: &Binding,
        service: Option<&Service>,
        resolve: impl Fn(&NamedGroup) -> Resolution,
    ) {
        let absence = match service {
            _ if binding.target_type == Some(TargetType::Instance) => {
                let binding = binding.name.clone();
                Some(Absence::TargetTypeInstance { binding })
            }
            None => Some(Absence::ServiceGone {
                service: binding.service.clone(),
            }),
            Some(service) => not_selected(pod, binding, service),
        };
        let (Some(service), None) = (service, &absence) else {
            self.absence = absence;
            return;
        };
        let query = self.query(pod, binding, service, resolve);
        if binding.terminating {
            // What keeps the gate closed is that the pod is not registered, which is no news of a binding
            // that is being deleted.
            let binding = binding.name.clone();
            self.absence = Some(Absence::BindingTerminating { binding });
            self.unresolved |= query == Ok(None);
            self.queries.extend(query.ok().flatten());
            return;
        }
        match query {
            Ok(Some(query)) => self.queries.push(query),
            Ok(None) => self.unresolved = true,
            Err(decision) => {
                self.closed = Some(Closed {
                    decision,
                    binding: (binding.name.clone(), binding.api),
                });
            }
        }
    }

    /// The target that a binding's group must call healthy; `None` while the group is not resolved. The error
    /// is why the pod cannot be a target.
    fn query(
        &mut self,
        pod: &Pod,
        binding: &Binding,
        service: &Service,
        resolve: impl Fn(&NamedGroup) -> Resolution,
    ) -> Result<Option<TargetQuery>, Decision> {
        let port = service_port(binding, service);
        let port = port.ok_or_else(|| condition::of_missing_port(binding, service))?;
        let target = target(pod, binding.family, port);
        let target = target.map_err(|why| condition::of_no_target(&why, &binding.service))?;
        let arn = match (&binding.arn, binding.named_group()) {
            (Some(arn), _) => arn.clone(),
            (None, None) => return Err(condition::of_unknown_group(None)),
            (None, Some(named)) => {
                let resolution = resolve(&named);
                let unknown = condition::of_unknown_group(Some(&named.name));
                self.names.push(named);
                match resolution {
                    Resolution::Unresolved => return Ok(None),
                    Resolution::NotFound => return Err(unknown),
                    Resolution::Found(arn) => arn,
                }
            }
        };
        Ok(Some(TargetQuery {
            group: GroupKey {
                arn,
                role: binding.role.clone(),
            },
            target,
            binding: (binding.name.clone(), binding.api),
            terminating: binding.terminating,
        }))
    }
}

fn not_selected(pod: &Pod, binding: &Binding, service: &Service) -> Option<Absence> {
    let selected = selects(&service.selector, &pod.template.labels);
    (!selected).then(|| Absence::NotSelected {
        binding: binding.name.clone(),
        service: binding.service.clone(),
    })
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use crate::fixtures::{arn, binding, pod, service};
    use crate::model::{Condition, PortRef};

    const APIS: [BindingApi; 1] = [BindingApi::Elbv2];

    fn unresolved(_: &NamedGroup) -> Resolution {
        Resolution::Unresolved
    }

    fn web() -> Pod {
        pod("web-1").label("app", "web").ip("10.0.0.1").ready()
    }

    fn selected() -> Service {
        service().selecting("app", "web").port("http", 80, None)
    }

    fn absence(binding: &Binding, service: Option<&Service>) -> Option<&'static str> {
        let requirements = of_gate(&web(), &[binding], |_| service, unresolved, &APIS);
        assert_eq!((requirements.queries, requirements.closed), (vec![], None));
        requirements
            .absence
            .map(|absence| absence.reason().as_str())
    }

    #[test]
    fn a_gate_waits_for_its_pod_to_be_healthy_in_the_group() {
        let service = selected();
        let requirements = of_gate(
            &web(),
            &[&binding("web")],
            |_| Some(&service),
            unresolved,
            &APIS,
        );
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
        let nodes = binding("web").of_instances();
        assert_eq!(
            absence(&nodes, Some(&selected())),
            Some("TargetTypeInstance")
        );
        let nothing = of_gate(&pod("web-1"), &[], |_| None, unresolved, &APIS);
        assert_eq!(nothing.absence, Some(Absence::BindingGone));
    }

    #[test]
    fn a_port_that_the_pod_lacks_closes_its_gate() {
        let named = PortRef::Name("grpc".into());
        let service = service()
            .selecting("app", "web")
            .port("http", 80, Some(named));
        let requirements = of_gate(
            &web(),
            &[&binding("web")],
            |_| Some(&service),
            unresolved,
            &APIS,
        );
        assert_eq!(
            &*requirements.closed.unwrap().decision.condition.reason,
            "PortNotFound"
        );
        assert_eq!((requirements.queries, requirements.absence), (vec![], None));
    }

    /// The condition of a gate that is closed whatever ELB answers.
    fn closed(binding: &Binding, service: &Service, resolution: Resolution) -> Condition {
        let resolve = |_: &NamedGroup| resolution.clone();
        let requirements = of_gate(&web(), &[binding], |_| Some(service), resolve, &APIS);
        let waits = (
            requirements.queries,
            requirements.absence,
            requirements.unresolved,
        );
        assert_eq!(waits, (vec![], None, false));
        requirements.closed.unwrap().decision.condition
    }

    #[rstest]
    #[case::by_number(Some(PortRef::Number(30080)), "it has no port 30080")]
    #[case::by_a_number_in_words(Some(PortRef::Name("80".into())), "it has no port 80")]
    #[case::not_named(None, "spec.serviceRef.port is absent")]
    fn a_port_that_the_service_lacks_closes_the_gate_and_lists_the_ports(
        #[case] port: Option<PortRef>,
        #[case] why: &str,
    ) {
        let service = selected().port("https", 443, None);
        let binding = Binding {
            port,
            ..binding("web")
        };
        let condition = closed(&binding, &service, Resolution::Unresolved);
        assert_eq!(&*condition.reason, "ServicePortNotFound");
        let expected = format!(
            "Service web has ports 80 (http), 443 (https), and {why}: no target is registered"
        );
        assert_eq!((condition.status, &*condition.message), (false, &*expected));
    }

    #[test]
    fn a_service_of_many_ports_is_not_listed_whole() {
        let many = (1..=100).fold(selected(), |service, port| service.port("p", port, None));
        let binding = binding("web").service_port(PortRef::Number(8080));
        let message = closed(&binding, &many, Resolution::Unresolved).message;
        assert!(
            message.contains("101 ports") && message.len() < 200,
            "{message}"
        );
    }

    #[test]
    fn a_binding_that_names_no_group_closes_its_gate() {
        let nameless = Binding {
            arn: None,
            ..binding("web")
        };
        let condition = closed(&nameless, &selected(), Resolution::Unresolved);
        assert_eq!(&*condition.reason, "TargetGroupUnknown");
        assert!(condition.message.contains("spec.targetGroupARN"));
    }

    #[test]
    fn a_group_without_an_arn_is_resolved_by_its_name() {
        let named = Binding {
            arn: None,
            group_name: Some("by-name".into()),
            ..binding("web")
        };
        let service = selected();
        let resolved = |resolution: Resolution| {
            let resolve = |_: &NamedGroup| resolution.clone();
            of_gate(&web(), &[&named], |_| Some(&service), resolve, &APIS)
        };
        let unresolved = resolved(Resolution::Unresolved);
        assert!(unresolved.unresolved && unresolved.queries.is_empty());
        assert_eq!(&*unresolved.names[0].name, "by-name");
        let found = resolved(Resolution::Found(arn("by-name")));
        assert_eq!(found.queries[0].group.arn, arn("by-name"));
        let condition = closed(&named, &service, Resolution::NotFound);
        assert_eq!(&*condition.reason, "TargetGroupUnknown");
        assert!(
            condition
                .message
                .contains("spec.targetGroupName is by-name")
        );
    }

    #[test]
    fn a_terminating_binding_asks_as_long_as_there_is_something_to_ask() {
        let terminating = Binding {
            terminating: true,
            ..binding("web")
        };
        let absence = Some(Absence::BindingTerminating {
            binding: "web".into(),
        });
        let (asked, portless) = (selected(), service().selecting("app", "web"));
        for (service, queries) in [(&asked, 1), (&portless, 0)] {
            let bindings = [&terminating];
            let requirements = of_gate(&web(), &bindings, |_| Some(service), unresolved, &APIS);
            assert_eq!(
                (requirements.queries.len(), requirements.closed),
                (queries, None)
            );
            assert_eq!(requirements.absence, absence);
        }
    }

    #[test]
    fn bindings_of_both_apis_that_share_a_gate_are_both_asked() {
        let (ours, theirs) = (binding("web"), binding("web").of_api(BindingApi::Eks));
        let service = selected();
        let asks = |apis: &[BindingApi]| {
            let bindings = [&ours, &theirs];
            of_gate(&web(), &bindings, |_| Some(&service), unresolved, apis).queries
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
        let requirements = of_gate(&web(), &[&theirs], |_| Some(&service), unresolved, &APIS);
        assert_eq!(requirements.queries.len(), 1);
    }
}
