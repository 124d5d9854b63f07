//! Objects for tests, written so that a test names only what it is about.

#![allow(
    missing_docs,
    clippy::unwrap_used,
    reason = "a builder's methods are named after the fields that they set, and a test may panic"
)]

use std::sync::Arc;
use std::time::Instant;

use fastrand::Rng;
use jiff::Timestamp;

use crate::gates::inject::{Decision, NewPod};
use crate::index::services::ServiceIndex;
use crate::model::{
    Binding, Condition, ControllerRef, IpFamily, Labels, NamedPort, Pod, Policies, PortRef,
    Protocol, Registration, Service, ServicePort, TargetType,
};
use crate::names::{
    BindingApi, ConditionPrefix, LEGACY_CONDITION_PREFIX, ObjectKey, TargetGroupArn,
};

pub mod changes;

/// An instant for a test to count from.
#[expect(
    clippy::disallowed_methods,
    reason = "a test's clock has to begin somewhere"
)]
pub fn epoch() -> Instant {
    Instant::now()
}

/// The ARN of a group of this name.
pub fn arn(name: &str) -> TargetGroupArn {
    format!(
        "arn:aws:elasticloadbalancing:eu-west-1:123456789012:targetgroup/{name}/0123456789abcdef"
    )
    .parse()
    .unwrap()
}

/// A pod of namespace `shop` whose uid is `uid-<name>`.
pub fn pod(name: &str) -> Pod {
    Pod {
        key: ObjectKey::new("shop", name),
        uid: format!("uid-{name}").into(),
        resource_version: "1".into(),
        template: Arc::default(),
        opted_out: false,
        policies: Policies::default(),
        gates: vec![],
        host_network: false,
        ips: vec![],
        containers_ready: None,
        started: None,
        terminating: false,
        finished: false,
    }
}

/// A Service that selects nothing and has no port.
pub fn service() -> Service {
    Service {
        selector: Labels::new(),
        external_name: false,
        publish_not_ready: false,
        ports: vec![],
        opted_out: false,
    }
}

/// A binding of ip targets to Service `web`, port 80, and the group of its own name.
pub fn binding(name: &str) -> Binding {
    Binding {
        api: BindingApi::Elbv2,
        name: name.into(),
        uid: None,
        arn: Some(arn(name)),
        group_name: None,
        target_type: Some(TargetType::Ip),
        family: IpFamily::V4,
        load_balancer: None,
        service: "web".into(),
        port: Some(PortRef::Number(80)),
        role: None,
        multi_cluster: false,
        opted_out: false,
        terminating: false,
        policies: Policies::default(),
        registration: Registration::default(),
        unreadable: vec![],
    }
}

impl Pod {
    pub fn uid(mut self, uid: &str) -> Self {
        self.uid = uid.into();
        self
    }

    pub fn version(mut self, version: &str) -> Self {
        self.resource_version = version.into();
        self
    }

    pub fn label(mut self, key: &str, value: &str) -> Self {
        let labels = &mut Arc::make_mut(&mut self.template).labels;
        labels.insert(key.into(), value.into());
        self
    }

    /// With a ReplicaSet of this name as its controller, whose uid is `uid-<name>`.
    pub fn controlled_by(mut self, name: &str) -> Self {
        let controller = ControllerRef {
            api_version: "apps/v1".into(),
            kind: "ReplicaSet".into(),
            name: name.into(),
            uid: format!("uid-{name}").into(),
        };
        Arc::make_mut(&mut self.template).controller = Some(Arc::new(controller));
        self
    }

    pub fn ip(mut self, ip: &str) -> Self {
        self.ips.push(ip.parse().unwrap());
        self
    }

    pub fn named_port(self, name: &str, number: u16) -> Self {
        self.named_port_of(Protocol::Tcp, name, number)
    }

    pub fn named_port_of(mut self, protocol: Protocol, name: &str, number: u16) -> Self {
        Arc::make_mut(&mut self.template).ports.push(NamedPort {
            name: name.into(),
            protocol,
            number,
        });
        self
    }

    pub fn ready(mut self) -> Self {
        self.containers_ready = Some(Timestamp::UNIX_EPOCH);
        self
    }

    /// With the gate of a binding, whose condition is not there yet.
    pub fn gate(mut self, binding: &str) -> Self {
        let gate = ConditionPrefix::default().gate(binding);
        self.gates.push((gate, None));
        self
    }

    /// With its only gate's condition.
    pub fn condition(mut self, status: bool, reason: &str, message: &str) -> Self {
        self.gates[0].1 = Some(Condition {
            status,
            reason: reason.into(),
            message: message.into(),
        });
        self
    }
}

impl Service {
    pub fn selecting(mut self, key: &str, value: &str) -> Self {
        self.selector.insert(key.into(), value.into());
        self
    }

    pub fn publishing_not_ready(mut self) -> Self {
        self.publish_not_ready = true;
        self
    }

    pub fn port(self, name: &str, port: u16, target_port: Option<PortRef>) -> Self {
        self.port_of(Protocol::Tcp, name, port, target_port)
    }

    pub fn port_of(
        mut self,
        protocol: Protocol,
        name: &str,
        port: u16,
        target_port: Option<PortRef>,
    ) -> Self {
        self.ports.push(ServicePort {
            name: Some(name.into()),
            port,
            protocol,
            target_port,
        });
        self
    }
}

impl Binding {
    pub fn of_api(mut self, api: BindingApi) -> Self {
        self.api = api;
        self
    }

    pub fn of_instances(mut self) -> Self {
        self.target_type = Some(TargetType::Instance);
        self
    }

    pub fn of_group(mut self, name: &str) -> Self {
        self.arn = Some(arn(name));
        self
    }

    pub fn service_port(mut self, port: PortRef) -> Self {
        self.port = Some(port);
        self
    }
}

/// A namespace with Services and bindings, and pods that are created in it, drawn at random.
pub struct GateWorld {
    pub routes: ServiceIndex,
    pub pods: Vec<DrawnPod>,
}

/// What decides about the gates of a pod that is created.
#[derive(Debug)]
pub struct DrawnPod {
    pub labels: Labels,
    pub gates: Vec<String>,
    pub opted_out: bool,
}

impl GateWorld {
    /// Few names, labels and values, so that much meets.
    pub fn drawn(random: &mut Rng) -> Self {
        let mut routes = ServiceIndex::default();
        for number in 0..6 {
            let service = Service {
                selector: drawn_labels(random, 3),
                external_name: one_in(random, 10),
                opted_out: one_in(random, 10),
                ..service()
            };
            routes.apply_service(&format!("service-{number}").into(), service);
        }
        for _ in 0..random.usize(0..12) {
            routes.apply_binding(drawn_binding(random));
        }
        let pods = (0..5).map(|_| DrawnPod::drawn(random)).collect();
        Self { routes, pods }
    }
}

fn drawn_binding(random: &mut Rng) -> Binding {
    let long = "long-".repeat(20);
    let names = ["web", "api", "b-10", "b-9", &long];
    let types = [TargetType::Ip, TargetType::Ip, TargetType::Instance];
    let name = names[random.usize(..names.len())];
    Binding {
        api: BindingApi::ALL[random.usize(..2)],
        target_type: (!one_in(random, 10)).then_some(types[random.usize(..3)]),
        service: format!("service-{}", random.usize(..6)).into(),
        opted_out: one_in(random, 10),
        terminating: one_in(random, 10),
        arn: (!one_in(random, 10)).then(|| arn("web")),
        ..binding(name)
    }
}

/// Each label is there once in so many.
fn drawn_labels(random: &mut Rng, once_in: u32) -> Labels {
    let keys = ["app", "tier", "example.com/track"];
    let mut labels = Labels::new();
    for key in keys {
        let values = ["", "web"];
        if one_in(random, once_in) {
            labels.insert(key.into(), values[random.usize(..values.len())].into());
        }
    }
    labels
}

fn one_in(random: &mut Rng, many: u32) -> bool {
    random.u32(..many) == 0
}

impl DrawnPod {
    fn drawn(random: &mut Rng) -> Self {
        let own = |name| ConditionPrefix::default().gate(name).as_str().to_owned();
        let legacy = format!("{LEGACY_CONDITION_PREFIX}/web_80");
        let known = [own("web"), own("b-9"), legacy, "example.com/other".into()];
        let drawn = (0..random.usize(0..4)).map(|_| known[random.usize(..known.len())].clone());
        let mut gates: Vec<String> = drawn.collect();
        gates.dedup();
        Self {
            gates,
            labels: drawn_labels(random, 1),
            opted_out: one_in(random, 10),
        }
    }

    pub fn new_pod<'a>(&'a self, gates: &'a [&'a str]) -> NewPod<'a, Labels> {
        NewPod {
            labels: &self.labels,
            gates,
            opted_out: self.opted_out,
        }
    }

    /// Its gates once this was carried out.
    pub fn after(&self, decision: &Decision<'_>) -> Vec<String> {
        let kept = self.gates.iter().enumerate();
        let kept = kept.filter(|(at, _)| !decision.remove.contains(at));
        let added = decision.add.iter().map(|gate| gate.as_str().to_owned());
        kept.map(|(_, gate)| gate.clone()).chain(added).collect()
    }
}
