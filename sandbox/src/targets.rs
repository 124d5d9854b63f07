//! The targets of a binding, as a pure function of the binding, the Services and the pods.

use std::net::IpAddr;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{ContainerPort, Pod, Service, ServicePort};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::ResourceExt;

use crate::binding::TargetGroupBinding;
use crate::condition::is_true;

/// One (IP, port) of a target group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Target {
    pub(crate) ip: IpAddr,
    pub(crate) port: u16,
}

/// The Service of a binding, and the port that its reference names.
pub(crate) struct Backend {
    service: Arc<Service>,
    port: ServicePort,
}

impl Backend {
    /// `None` if there is no such Service, or it has no such port.
    pub(crate) fn of(binding: &TargetGroupBinding, services: &[Arc<Service>]) -> Option<Self> {
        let reference = &binding.spec.service_ref;
        let service = services.iter().find(|service| {
            service.namespace() == binding.namespace() && service.name_any() == reference.name
        })?;
        let port = service_port(service, reference.port.as_ref()?)?;
        Some(Self {
            port: port.clone(),
            service: Arc::clone(service),
        })
    }

    /// The targets of the pods that the Service selects and that take traffic.
    pub(crate) fn targets<'a>(
        &self,
        pods: &'a [Arc<Pod>],
    ) -> impl Iterator<Item = Target> + use<'a, '_> {
        pods.iter()
            .filter(|pod| selects(&self.service, pod) && takes_traffic(pod))
            .filter_map(|pod| target(pod, &self.port))
    }
}

/// The targets of a binding; none if it is not of type `ip`.
pub(crate) fn targets_of(
    binding: &TargetGroupBinding,
    services: &[Arc<Service>],
    pods: &[Arc<Pod>],
) -> Vec<Target> {
    match Backend::of(binding, services) {
        Some(backend) if takes_addresses(binding) => backend.targets(pods).collect(),
        _ => Vec::new(),
    }
}

/// Whether the binding's targets are of type `ip`.
pub(crate) fn takes_addresses(binding: &TargetGroupBinding) -> bool {
    binding.spec.target_type.as_deref() == Some("ip")
}

/// Whether the Service selects the pod. An absent or empty selector selects no pod.
fn selects(service: &Service, pod: &Pod) -> bool {
    let spec = service.spec.as_ref();
    let Some(selector) = spec.and_then(|spec| spec.selector.as_ref()) else {
        return false;
    };
    !selector.is_empty()
        && service.namespace() == pod.namespace()
        && selector
            .iter()
            .all(|(key, value)| pod.labels().get(key) == Some(value))
}

/// Whether the containers are ready and the pod is not being deleted. Readiness gates do not count,
/// because they wait for the registration.
fn takes_traffic(pod: &Pod) -> bool {
    pod.metadata.deletion_timestamp.is_none() && is_true(pod, "ContainersReady")
}

fn service_port<'a>(service: &'a Service, wanted: &IntOrString) -> Option<&'a ServicePort> {
    let mut ports = service.spec.as_ref()?.ports.iter().flatten();
    ports.find(|port| match wanted {
        IntOrString::Int(number) => port.port == *number,
        IntOrString::String(name) => port.name.as_ref() == Some(name),
    })
}

fn target(pod: &Pod, port: &ServicePort) -> Option<Target> {
    let number = match port.target_port.as_ref() {
        None => port.port,
        Some(IntOrString::Int(number)) => *number,
        Some(IntOrString::String(name)) => container_port(pod, name, port)?.container_port,
    };
    Some(Target {
        ip: pod.status.as_ref()?.pod_ip.as_ref()?.parse().ok()?,
        port: number.try_into().ok()?,
    })
}

/// The port of that name in the pod's containers, restartable init containers included.
fn container_port<'a>(pod: &'a Pod, name: &str, port: &ServicePort) -> Option<&'a ContainerPort> {
    let spec = pod.spec.as_ref()?;
    let init = spec.init_containers.iter().flatten();
    let restartable =
        init.filter(|container| container.restart_policy.as_deref() == Some("Always"));
    let mut ports = spec
        .containers
        .iter()
        .chain(restartable)
        .flat_map(|container| container.ports.iter().flatten());
    let protocol = |protocol: &Option<String>| protocol.clone().unwrap_or_else(|| "TCP".to_owned());
    ports.find(|candidate| {
        candidate.name.as_deref() == Some(name)
            && protocol(&candidate.protocol) == protocol(&port.protocol)
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use rstest::rstest;
    use serde_json::{Value, json};

    use super::*;

    fn binding(port: Value) -> TargetGroupBinding {
        serde_json::from_value(json!({
            "apiVersion": "elbv2.k8s.aws/v1beta1",
            "kind": "TargetGroupBinding",
            "metadata": {"name": "web", "namespace": "shop"},
            "spec": {
                "targetGroupARN": "arn",
                "targetType": "ip",
                "serviceRef": {"name": "web", "port": port},
            },
        }))
        .unwrap()
    }

    fn service(target_port: Value) -> Arc<Service> {
        let service = serde_json::from_value(json!({
            "metadata": {"name": "web", "namespace": "shop"},
            "spec": {
                "selector": {"app": "web"},
                "ports": [
                    {"name": "http", "port": 80, "targetPort": target_port},
                    {"name": "plain", "port": 8081},
                ],
            },
        }));
        Arc::new(service.unwrap())
    }

    fn pod() -> Value {
        json!({
            "metadata": {"name": "web-1", "namespace": "shop", "labels": {"app": "web", "x": "y"}},
            "spec": {
                "containers": [{"name": "web", "ports": [{"name": "http", "containerPort": 8080}]}],
                "initContainers": [
                    {"name": "proxy", "restartPolicy": "Always",
                     "ports": [{"name": "mesh", "containerPort": 15001}]},
                    {"name": "migrate", "ports": [{"name": "once", "containerPort": 1}]},
                ],
            },
            "status": {
                "podIP": "127.1.0.2",
                "conditions": [{"type": "ContainersReady", "status": "True"}],
            },
        })
    }

    fn ports(binding: &TargetGroupBinding, service: Arc<Service>, pod: Value) -> Vec<u16> {
        let pod = Arc::new(serde_json::from_value(pod).unwrap());
        let targets = targets_of(binding, &[service], &[pod]);
        targets.into_iter().map(|target| target.port).collect()
    }

    #[rstest]
    #[case::by_number(json!(80), json!(8080), &[8080])]
    #[case::by_name(json!("http"), json!(8080), &[8080])]
    #[case::named_target(json!(80), json!("http"), &[8080])]
    #[case::sidecar(json!(80), json!("mesh"), &[15001])]
    #[case::init_container_that_ends(json!(80), json!("once"), &[])]
    #[case::no_target_port(json!("plain"), json!(8080), &[8081])]
    #[case::name_that_the_pod_lacks(json!(80), json!("admin"), &[])]
    #[case::port_that_the_service_lacks(json!(81), json!(8080), &[])]
    #[case::no_port(json!(null), json!(8080), &[])]
    fn the_port_comes_from_the_binding_the_service_and_the_pod(
        #[case] port: Value,
        #[case] target_port: Value,
        #[case] expected: &[u16],
    ) {
        assert_eq!(ports(&binding(port), service(target_port), pod()), expected);
    }

    #[rstest]
    #[case::other_labels("/metadata/labels", json!({"app": "api"}))]
    #[case::other_namespace("/metadata/namespace", json!("other"))]
    #[case::not_ready("/status/conditions", json!([{"type": "ContainersReady", "status": "False"}]))]
    #[case::ready_only_by_word("/status/conditions", json!([{"type": "Ready", "status": "True"}]))]
    #[case::no_address("/status/podIP", json!(""))]
    fn a_pod_that_takes_no_traffic_is_no_target(#[case] field: &str, #[case] value: Value) {
        let mut pod = pod();
        *pod.pointer_mut(field).unwrap() = value;
        assert!(ports(&binding(json!(80)), service(json!(8080)), pod).is_empty());
    }

    #[test]
    fn a_terminating_pod_is_no_target() {
        let mut pod = pod();
        pod["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        assert!(ports(&binding(json!(80)), service(json!(8080)), pod).is_empty());
    }

    #[test]
    fn an_empty_selector_selects_nothing() {
        let mut service = (*service(json!(8080))).clone();
        service.spec.as_mut().unwrap().selector = Some(BTreeMap::new());
        assert!(ports(&binding(json!(80)), Arc::new(service), pod()).is_empty());
    }
}
