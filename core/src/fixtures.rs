//! Objects for tests, written so that a test names only what it is about.

#![allow(
    missing_docs,
    clippy::unwrap_used,
    reason = "a builder's methods are named after the fields that they set, and a test may panic"
)]

use std::sync::Arc;
use std::time::Instant;

use jiff::Timestamp;

use crate::model::{
    Binding, Condition, ControllerRef, IpFamily, Labels, NamedPort, Pod, Policies, PortRef,
    Protocol, Registration, Service, ServicePort, TargetType,
};
use crate::names::{BindingApi, ConditionPrefix, ObjectKey, TargetGroupArn};

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
