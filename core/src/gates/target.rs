//! The address and port of a pod in a target group (contract 5.2).

use std::net::IpAddr;
use std::sync::Arc;

use crate::model::{Binding, IpFamily, Pod, PortRef, Protocol, Service, ServicePort};
use crate::reason::Reason;

/// Why a pod cannot be a target of a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NoTarget {
    /// The containers of this pod do not have a port of this protocol and of the name in the Service's
    /// `targetPort`.
    PortNotFound { name: Arc<str>, protocol: Protocol },
    /// The pod does not have an address of the binding's family.
    AddressNotFound,
}

impl NoTarget {
    /// The reason in metrics, logs and conditions.
    pub fn reason(&self) -> Reason {
        match self {
            Self::PortNotFound { .. } => Reason::PortNotFound,
            Self::AddressNotFound => Reason::AddressNotFound,
        }
    }
}

/// The Service's port that a binding's `serviceRef.port` names. A binding that does not name a port means
/// the Service's only one.
pub fn service_port<'a>(binding: &Binding, service: &'a Service) -> Option<&'a ServicePort> {
    let mut ports = service.ports.iter();
    match &binding.port {
        Some(PortRef::Number(number)) => ports.find(|port| port.port == *number),
        Some(PortRef::Name(name)) => ports.find(|port| port.name.as_ref() == Some(name)),
        None => ports.next().filter(|_| service.ports.len() == 1),
    }
}

/// The address and port under which a pod is registered in a group of this family.
///
/// A named `targetPort` is resolved in *this* pod, because two revisions of a Deployment may differ.
pub fn target(pod: &Pod, family: IpFamily, port: &ServicePort) -> Result<(IpAddr, u16), NoTarget> {
    let number = match &port.target_port {
        None => port.port,
        Some(PortRef::Number(number)) => *number,
        Some(PortRef::Name(name)) => named_port(pod, name, port.protocol)?,
    };
    let address = pod.ips.iter().find(|ip| family.has(**ip));
    Ok((*address.ok_or(NoTarget::AddressNotFound)?, number))
}

/// The number of a named port. Kubernetes looks it up by name and protocol, because two containers of a pod
/// may give one name to a port of each protocol.
fn named_port(pod: &Pod, name: &Arc<str>, protocol: Protocol) -> Result<u16, NoTarget> {
    let mut ports = pod.template.ports.iter();
    let found = ports.find(|port| (&port.name, port.protocol) == (name, protocol));
    found
        .map(|port| port.number)
        .ok_or_else(|| NoTarget::PortNotFound {
            name: name.clone(),
            protocol,
        })
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use crate::fixtures::{binding, pod, service};

    #[rstest]
    #[case::by_number(PortRef::Number(443), Some(443))]
    #[case::by_name(PortRef::Name("http".into()), Some(80))]
    #[case::by_an_absent_number(PortRef::Number(8080), None)]
    #[case::by_an_absent_name(PortRef::Name("grpc".into()), None)]
    #[case::a_number_in_words_is_a_name(PortRef::Name("443".into()), None)]
    fn a_binding_names_a_port_of_its_service(#[case] wanted: PortRef, #[case] found: Option<u16>) {
        let service = service().port("http", 80, None).port("https", 443, None);
        let binding = binding("web").service_port(wanted);
        assert_eq!(service_port(&binding, &service).map(|p| p.port), found);
    }

    #[test]
    fn a_service_with_one_port_needs_no_naming_of_it() {
        let mut binding = binding("web");
        binding.port = None;
        let one = service().port("http", 80, None);
        assert_eq!(service_port(&binding, &one).map(|p| p.port), Some(80));
        let two = one.port("https", 443, None);
        assert_eq!(service_port(&binding, &two), None);
    }

    #[rstest]
    #[case::absent_means_the_port_itself(None, Ok(80))]
    #[case::by_number(Some(PortRef::Number(8080)), Ok(8080))]
    #[case::by_the_name_that_this_pod_has(Some(PortRef::Name("http".into())), Ok(8081))]
    #[case::by_another_name(
        Some(PortRef::Name("web".into())),
        Err(NoTarget::PortNotFound { name: "web".into(), protocol: Protocol::Tcp })
    )]
    fn a_target_port_is_found_in_this_very_pod(
        #[case] target_port: Option<PortRef>,
        #[case] expected: Result<u16, NoTarget>,
    ) {
        let pod = pod("web-1").ip("10.0.0.1").named_port("http", 8081);
        let port = ServicePort {
            name: None,
            port: 80,
            protocol: Protocol::Tcp,
            target_port,
        };
        let found = target(&pod, IpFamily::V4, &port).map(|(_, port)| port);
        assert_eq!(found, expected);
    }

    #[rstest]
    #[case(Protocol::Tcp, Ok(5353))]
    #[case(Protocol::Udp, Ok(5354))]
    #[case(Protocol::Sctp, Err(NoTarget::PortNotFound { name: "dns".into(), protocol: Protocol::Sctp }))]
    fn a_named_target_port_is_found_by_name_and_protocol(
        #[case] protocol: Protocol,
        #[case] expected: Result<u16, NoTarget>,
    ) {
        let pod = pod("dns-0").ip("10.0.0.21");
        let pod = pod.named_port_of(Protocol::Tcp, "dns", 5353);
        let pod = pod.named_port_of(Protocol::Udp, "dns", 5354);
        let dns = Some(PortRef::Name("dns".into()));
        let service = service().port_of(protocol, "dns", 53, dns);
        let found = target(&pod, IpFamily::V4, &service.ports[0]).map(|(_, port)| port);
        assert_eq!(found, expected);
    }

    #[test]
    fn the_address_is_of_the_groups_family() {
        let port = ServicePort {
            name: None,
            port: 80,
            protocol: Protocol::Tcp,
            target_port: None,
        };
        let dual = pod("web-1").ip("10.0.0.1").ip("fd00::1");
        let v6 = target(&dual, IpFamily::V6, &port).map(|(ip, _)| ip.to_string());
        assert_eq!(v6, Ok("fd00::1".to_owned()));
        let v4_only = pod("web-1").ip("10.0.0.1");
        let none = target(&v4_only, IpFamily::V6, &port);
        assert_eq!(none, Err(NoTarget::AddressNotFound));
    }
}
