//! The incumbent's part: pods become targets of target groups.
//!
//! For each `TargetGroupBinding` of target type `ip` the pods that its Service selects are
//! registered once their containers are ready, and deregistered when they are being deleted or are
//! gone. It works from pods, not from EndpointSlices: a real API server refuses loopback addresses
//! in those.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::future::Future;
use std::net::IpAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use aws_sdk_elasticloadbalancingv2 as elbv2;
use elbv2::error::{BoxError, DisplayErrorContext};
use elbv2::types::{TargetDescription, TargetHealthDescription, TargetHealthStateEnum};
use futures::{StreamExt, stream};
use k8s_openapi::api::core::v1::{ContainerPort, Pod, Service, ServicePort};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::runtime::reflector::Store;
use kube::{Api, Client, ResourceExt};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::binding::TargetGroupBinding;
use crate::watched::{is_listed, watched};

/// Targets in one call, as the incumbent sends them.
const BATCH: usize = 200;
/// The longest that one call may take.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);
/// How long to wait after a call that failed.
const AGAIN: Duration = Duration::from_secs(1);

/// How the registrar behaves.
#[derive(Clone, Debug)]
pub struct Options {
    /// From a change to the calls that follow from it; changes meanwhile share them.
    pub delay: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            delay: Duration::from_millis(200),
        }
    }
}

/// One (IP, port) of a target group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Target {
    ip: IpAddr,
    port: u16,
}

/// Keeps every binding's target group in line with its pods, until it is dropped. Trouble with the
/// API server or with ELB is logged and tried again; trouble with one group delays no other.
pub async fn run(client: Client, elb: elbv2::Client, options: Options) {
    let (bindings, binding_changes) = watched::<TargetGroupBinding>(Api::all(client.clone()));
    let (services, service_changes) = watched::<Service>(Api::all(client.clone()));
    let (pods, pod_changes) = watched::<Pod>(Api::all(client));
    let world = World {
        bindings,
        services,
        pods,
    };
    let mut groups = Groups {
        elb,
        delay: options.delay,
        desired: HashMap::new(),
        tasks: JoinSet::new(),
    };
    let changes = stream::select(service_changes, pod_changes);
    let mut changes = pin!(stream::select(binding_changes, changes));
    loop {
        tokio::select! {
            Some(()) = changes.next() => if let Some(desired) = world.desired() {
                groups.set(desired);
            },
            Some(_) = groups.tasks.join_next() => {}
        }
    }
}

struct World {
    bindings: Store<TargetGroupBinding>,
    services: Store<Service>,
    pods: Store<Pod>,
}

impl World {
    /// The targets that each group should have, by ARN. None until every first list has been taken
    /// in: a pod that is not known yet is no reason to deregister its target.
    fn desired(&self) -> Option<BTreeMap<String, BTreeSet<Target>>> {
        let listed =
            is_listed(&self.bindings) && is_listed(&self.services) && is_listed(&self.pods);
        if !listed {
            return None;
        }
        let (services, pods) = (self.services.state(), self.pods.state());
        let mut desired: BTreeMap<String, BTreeSet<Target>> = BTreeMap::new();
        for binding in self.bindings.state() {
            let Some(arn) = binding.spec.target_group_arn.clone() else {
                continue;
            };
            let targets = desired.entry(arn).or_default();
            if binding.metadata.deletion_timestamp.is_none() {
                targets.extend(targets_of(&binding, &services, &pods));
            }
        }
        Some(desired)
    }
}

fn targets_of(
    binding: &TargetGroupBinding,
    services: &[Arc<Service>],
    pods: &[Arc<Pod>],
) -> Vec<Target> {
    let reference = &binding.spec.service_ref;
    let service = services.iter().find(|service| {
        service.namespace() == binding.namespace() && service.name_any() == reference.name
    });
    let port = service.and_then(|service| service_port(service, reference.port.as_ref()?));
    let (Some(service), Some(port), Some("ip")) =
        (service, port, binding.spec.target_type.as_deref())
    else {
        return Vec::new();
    };
    pods.iter()
        .filter(|pod| selects(service, pod) && takes_traffic(pod))
        .filter_map(|pod| target(pod, port))
        .collect()
}

/// Whether the Service has a selector, and it selects the pod.
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

/// Whether the containers are ready and nobody has asked them to end. Readiness gates do not
/// count: they wait for the registration.
fn takes_traffic(pod: &Pod) -> bool {
    let status = pod.status.as_ref();
    let conditions = status.and_then(|status| status.conditions.as_ref());
    pod.metadata.deletion_timestamp.is_none()
        && conditions.is_some_and(|conditions| {
            conditions
                .iter()
                .any(|condition| condition.type_ == "ContainersReady" && condition.status == "True")
        })
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

/// The port of that name in the pod's own containers, restartable init containers included.
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

/// The target groups that are kept, each by a task of its own.
struct Groups {
    elb: elbv2::Client,
    delay: Duration,
    desired: HashMap<String, watch::Sender<BTreeSet<Target>>>,
    tasks: JoinSet<()>,
}

impl Groups {
    /// Says anew what each group should have. A group that no binding names any more loses its
    /// targets and is left alone.
    fn set(&mut self, desired: BTreeMap<String, BTreeSet<Target>>) {
        self.desired.retain(|arn, sender| {
            let bound = desired.contains_key(arn);
            if !bound {
                sender.send_replace(BTreeSet::new());
            }
            bound
        });
        for (arn, targets) in desired {
            match self.desired.get(&arn) {
                Some(sender) => {
                    sender.send_if_modified(|current| {
                        let differs = *current != targets;
                        *current = targets;
                        differs
                    });
                }
                None => self.begin(arn, targets),
            }
        }
    }

    fn begin(&mut self, arn: String, targets: BTreeSet<Target>) {
        let (sender, desired) = watch::channel(targets);
        let group = Group {
            elb: self.elb.clone(),
            arn: arn.clone(),
            registered: None,
        };
        self.tasks.spawn(group.keep(self.delay, desired));
        self.desired.insert(arn, sender);
    }
}

struct Group {
    elb: elbv2::Client,
    arn: String,
    /// What is registered, as far as is known: asked once, and again after a call that failed.
    registered: Option<BTreeSet<Target>>,
}

impl Group {
    /// Follows `desired` until its sender is gone.
    async fn keep(mut self, delay: Duration, mut desired: watch::Receiver<BTreeSet<Target>>) {
        loop {
            sleep(delay).await;
            let targets = desired.borrow_and_update().clone();
            if let Err(error) = self.converge(&targets).await {
                tracing::warn!(arn = self.arn, error = %DisplayErrorContext(&*error), "cannot bring the target group in line with its pods; trying again");
                self.registered = None;
                if desired.has_changed().is_err() {
                    return;
                }
                sleep(AGAIN).await;
            } else if desired.changed().await.is_err() {
                return;
            }
        }
    }

    async fn converge(&mut self, desired: &BTreeSet<Target>) -> Result<(), BoxError> {
        let registered = match self.registered.take() {
            Some(registered) => registered,
            None => self.describe().await?,
        };
        let new: Vec<Target> = desired.difference(&registered).copied().collect();
        for batch in new.chunks(BATCH) {
            let call = self.elb.register_targets().target_group_arn(&self.arn);
            within(call.set_targets(Some(described(batch))).send()).await?;
        }
        let old: Vec<Target> = registered.difference(desired).copied().collect();
        for batch in old.chunks(BATCH) {
            let call = self.elb.deregister_targets().target_group_arn(&self.arn);
            within(call.set_targets(Some(described(batch))).send()).await?;
        }
        self.registered = Some(desired.clone());
        Ok(())
    }

    async fn describe(&self) -> Result<BTreeSet<Target>, BoxError> {
        let call = self.elb.describe_target_health();
        let answer = within(call.target_group_arn(&self.arn).send()).await?;
        let targets = answer.target_health_descriptions().iter();
        Ok(targets.filter_map(registered_target).collect())
    }
}

/// The target, unless it is on its way out already.
fn registered_target(description: &TargetHealthDescription) -> Option<Target> {
    let state = description.target_health()?.state();
    if state == Some(&TargetHealthStateEnum::Draining) {
        return None;
    }
    let target = description.target()?;
    Some(Target {
        ip: target.id()?.parse().ok()?,
        port: target.port()?.try_into().ok()?,
    })
}

fn described(targets: &[Target]) -> Vec<TargetDescription> {
    let describe = |target: &Target| {
        TargetDescription::builder()
            .id(target.ip.to_string())
            .port(target.port.into())
            .build()
    };
    targets.iter().map(describe).collect()
}

/// The call's answer, within a deadline: the SDK has none of its own.
async fn within<T, E>(call: impl Future<Output = Result<T, E>>) -> Result<T, BoxError>
where
    E: Into<BoxError>,
{
    match timeout(CALL_TIMEOUT, call).await {
        Ok(answer) => answer.map_err(Into::into),
        Err(late) => Err(late.into()),
    }
}

#[cfg(test)]
mod tests {
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
