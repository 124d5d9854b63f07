//! Parses Kubernetes objects into the few fields that decide something. A field of an unexpected shape makes one
//! object unreadable, never a list.

use std::sync::Arc;

use kube::Resource as _;
use kube::api::{ApiResource, DynamicObject};
use serde::de::IgnoredAny;
use serde::{Deserialize, Deserializer};
use targetgate_core::binding::spec::TargetGroupBindingSpec;
use targetgate_core::drain::DrainMode;
use targetgate_core::index::PodTimes;
use targetgate_core::model::{
    Binding, Condition, Labels, NamedPort, OwnSleep, Pod, PodRemarks, PodTemplate, Protocol,
    Service, ServicePort,
};
use targetgate_core::names::{BindingApi, ConditionPrefix, GateName, ObjectKey, is_legacy_gate};
use targetgate_core::object::{IntOrString, port_number};
use thiserror::Error;

use crate::state::cache::WatchedResource;

mod namespace;
mod shape;
mod targets;
#[cfg(test)]
mod tests;

pub use crate::kubernetes::decode::namespace::{NamespaceObject, namespace};
use crate::kubernetes::decode::shape::{Meta, Part, ServicePortSpec, StatusCondition};
pub use crate::kubernetes::decode::shape::{PodSpec, PodStatus, ServiceSpec};
pub use crate::kubernetes::decode::targets::{
    RecordObject, SliceObject, UnreadableRecord, record, slice,
};

/// A Service.
pub type ServiceObject = Object<ServiceSpec, IgnoredAny>;
/// A Pod.
pub type PodObject = Object<PodSpec, PodStatus>;
/// A `TargetGroupBinding` of either API group.
pub type BindingObject = Object<TargetGroupBindingSpec, IgnoredAny>;

/// An object of the Kubernetes API, slim: of its metadata the name, UID, version, labels, times and
/// our own annotation; of its spec and status the fields of `S` and `T`. It can be parsed from text only, from
/// which it borrows while it is parsed.
#[derive(Debug, Clone)]
pub struct Object<S, T> {
    key: ObjectKey,
    meta: Meta,
    spec: Part<S>,
    status: Part<T>,
}

impl<'de, S: Deserialize<'de>, T: Deserialize<'de>> Deserialize<'de> for Object<S, T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(bound = "S: Deserialize<'de>, T: Deserialize<'de>")]
        struct Wire<S, T> {
            #[serde(default)]
            metadata: Part<Meta>,
            #[serde(default)]
            spec: Part<S>,
            #[serde(default)]
            status: Part<T>,
        }
        let wire = Wire::deserialize(deserializer)?;
        // An object whose metadata cannot be parsed has an empty name.
        let mut meta = wire.metadata.read().unwrap_or_default();
        Ok(Self {
            key: meta.take_key(),
            meta,
            spec: wire.spec,
            status: wire.status,
        })
    }
}

/// Any object that is watched.
pub trait Keyed {
    /// Namespace (empty for cluster-scoped kinds) and name.
    fn key(&self) -> &ObjectKey;

    /// `metadata.resourceVersion`.
    fn version(&self) -> Option<&str>;
}

impl<S, T> Keyed for Object<S, T> {
    fn key(&self) -> &ObjectKey {
        &self.key
    }

    fn version(&self) -> Option<&str> {
        self.meta.resource_version.as_deref()
    }
}

impl<S, T> Object<S, T> {
    /// When it was created and its deletion requested, by the API server's own clock.
    pub fn times(&self) -> PodTimes {
        PodTimes {
            created: self.meta.created(),
            deletion_requested: self.meta.deletion_requested(),
        }
    }

    fn labels(&mut self) -> Labels {
        self.meta.labels.take().unwrap_or_default().0
    }

    fn unreadable(&self, part: &'static str) -> Unreadable {
        Unreadable {
            object: self.key.clone(),
            part,
        }
    }

    fn take_spec(&mut self) -> Result<S, Unreadable>
    where
        S: Default,
    {
        std::mem::take(&mut self.spec)
            .read()
            .ok_or_else(|| self.unreadable("spec"))
    }
}

/// An object that does not have the shape of its API. The error does not quote its content.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{object} is passed over: its {part} is not of the shape that its API promises")]
pub struct Unreadable {
    object: ObjectKey,
    part: &'static str,
}

/// Group, version, kind and plural of a watched resource.
pub fn api_resource(watched: WatchedResource) -> ApiResource {
    let (group, version, kind, plural) = match watched {
        WatchedResource::Namespaces => ("", "v1", "Namespace", "namespaces"),
        WatchedResource::Services => ("", "v1", "Service", "services"),
        WatchedResource::Pods => ("", "v1", "Pod", "pods"),
        WatchedResource::Bindings(api) => (
            api.group(),
            api.version(),
            "TargetGroupBinding",
            "targetgroupbindings",
        ),
        WatchedResource::EndpointSlices => {
            ("discovery.k8s.io", "v1", "EndpointSlice", "endpointslices")
        }
        WatchedResource::TargetRecords => ("targetgate.dev", "v1", "TargetRecord", "targetrecords"),
    };
    let api_version = if group.is_empty() {
        version.to_owned()
    } else {
        format!("{group}/{version}")
    };
    ApiResource {
        group: group.to_owned(),
        version: version.to_owned(),
        api_version,
        kind: kind.to_owned(),
        plural: plural.to_owned(),
    }
}

/// The URL path of a watched resource's collection, in one namespace or in all.
pub fn url_path(watched: WatchedResource, namespace: Option<&str>) -> String {
    DynamicObject::url_path(&api_resource(watched), namespace)
}

/// Reads a Service object, without its invalid ports.
pub fn service(mut object: ServiceObject) -> Result<(ObjectKey, Service), Unreadable> {
    let key = readable_key(&object)?;
    let spec = object.take_spec()?;
    let ports = spec.ports.into_iter().flatten();
    let service = Service {
        selector: spec.selector.unwrap_or_default().0,
        external_name: spec.kind.as_deref() == Some("ExternalName"),
        publish_not_ready: spec.publish_not_ready == Some(true),
        ports: ports
            .filter_map(|port| service_port(port.read()?))
            .collect(),
        opted_out: object.meta.opted_out(),
    };
    Ok((key, service))
}

/// Reads a binding object, with its namespace.
pub fn binding(
    mut object: BindingObject,
    api: BindingApi,
) -> Result<(Arc<str>, Binding), Unreadable> {
    let key = readable_key(&object)?;
    let spec = object.take_spec()?;
    let mut binding = Binding {
        uid: object.meta.uid.take().map(Into::into),
        policies: object.meta.policies(),
        unreadable: object.meta.unreadable(),
        terminating: object.meta.deletion_timestamp.is_some(),
        ..spec.model(api, &key.name, object.meta.opted_out())
    };
    object.meta.register(&mut binding.registration);
    Ok((key.namespace, binding))
}

/// Reads a Pod object, with its gates under `prefixes`.
pub fn pod(mut object: PodObject, prefixes: &[ConditionPrefix]) -> Result<Pod, Unreadable> {
    let key = readable_key(&object)?;
    let spec = object.take_spec()?;
    let status = std::mem::take(&mut object.status).read();
    let status = status.ok_or_else(|| object.unreadable("status"))?;
    let text = |text: Option<String>| Arc::from(text.unwrap_or_default());
    let gates = gates(&spec, &status, prefixes);
    let remarks = PodRemarks {
        legacy_gate: closed_legacy_gate(&spec, &status, prefixes),
        unreadable: object.meta.unreadable(),
        opted_out: object.meta.opted_out(),
        own_sleep: own_sleep(&spec, &object.meta).filter(|_| !gates.is_empty()),
    };
    Ok(Pod {
        key,
        opted_out: object.meta.opted_out(),
        policies: object.meta.policies(),
        gates,
        host_network: spec.host_network,
        ips: status.ips(),
        containers_ready: status.containers_ready(object.meta.created()),
        started: status.started(),
        finished: matches!(status.phase.as_deref(), Some("Succeeded" | "Failed")),
        template: template(&mut object, spec, remarks).into(),
        terminating: object.meta.deletion_timestamp.is_some(),
        uid: text(object.meta.uid),
        resource_version: text(object.meta.resource_version),
    })
}

fn readable_key<S, T>(object: &Object<S, T>) -> Result<ObjectKey, Unreadable> {
    if object.key.name.is_empty() {
        return Err(object.unreadable("metadata"));
    }
    Ok(object.key.clone())
}

fn gates(
    spec: &PodSpec,
    status: &PodStatus,
    prefixes: &[ConditionPrefix],
) -> Vec<(GateName, Option<Condition>)> {
    let mut gates: Vec<(GateName, Option<Condition>)> = vec![];
    for gate in spec.readiness_gates.iter().flatten() {
        let Some(name) = GateName::under(prefixes, &gate.condition_type) else {
            continue;
        };
        // The API server accepts the same gate twice.
        if gates.iter().all(|(known, _)| *known != name) {
            let condition = status.condition(name.as_str()).map(StatusCondition::model);
            gates.push((name, condition));
        }
    }
    gates
}

/// A legacy gate that is not served, whose condition is not `True`.
fn closed_legacy_gate(
    spec: &PodSpec,
    status: &PodStatus,
    prefixes: &[ConditionPrefix],
) -> Option<Box<str>> {
    let gates = spec.readiness_gates.iter().flatten();
    let mut gates = gates.map(|gate| &gate.condition_type);
    let is_open = |gate: &str| status.condition(gate).is_some_and(|c| c.model().status);
    let legacy = gates.find(|gate| {
        let served = || GateName::under(prefixes, gate).is_some();
        is_legacy_gate(gate) && !served() && !is_open(gate)
    });
    legacy.map(|gate| gate.as_str().into())
}

/// The shortest sleep of the owner's in a main container: none that the hook gave, and none of a pod that drain leaves
/// alone.
fn own_sleep(spec: &PodSpec, meta: &Meta) -> Option<OwnSleep> {
    let annotations = meta.annotations.as_ref();
    let drain = annotations.and_then(|own| own.drain);
    if drain == Some(DrainMode::Off) {
        return None;
    }
    let given = annotations.and_then(|own| own.drained);
    let given = given.map(|drained| u64::from(drained.sleep.get()));
    let containers = spec.containers.iter().flatten();
    let sleeps = containers.filter_map(|container| Some((container.sleep()?, container)));
    let own = sleeps.filter(|(seconds, _)| Some(*seconds) != given);
    let (seconds, container) = own.min_by_key(|(seconds, _)| *seconds)?;
    Some(OwnSleep {
        container: container.name.as_str().into(),
        seconds,
        drain,
        needs: annotations.and_then(|own| own.drain_seconds),
    })
}

fn template(object: &mut PodObject, spec: PodSpec, remarks: PodRemarks) -> PodTemplate {
    let is_remarked = remarks.legacy_gate.is_some()
        || !remarks.unreadable.is_empty()
        || remarks.own_sleep.is_some();
    PodTemplate {
        labels: object.labels(),
        ports: named_ports(spec),
        controller: object.meta.controller().map(Into::into),
        remarks: is_remarked.then(|| Box::new(remarks)),
    }
}

/// The named ports of the containers, and of sidecars: init containers that restart, which keep running.
fn named_ports(spec: PodSpec) -> Vec<NamedPort> {
    let sidecars = spec.init_containers.into_iter().flatten();
    let sidecars = sidecars.filter(|init| init.restart_policy.as_deref() == Some("Always"));
    let containers = spec.containers.into_iter().flatten().chain(sidecars);
    let ports = containers.flat_map(|container| container.ports.into_iter().flatten());
    let named = ports.filter_map(|port| {
        Some(NamedPort {
            protocol: Protocol::of_field(port.protocol.as_deref())?,
            number: port_number(port.container_port)?,
            name: port.name?.into(),
        })
    });
    named.collect()
}

fn service_port(port: ServicePortSpec) -> Option<ServicePort> {
    Some(ServicePort {
        name: port.name.map(Arc::from),
        port: port_number(port.port)?,
        protocol: Protocol::of_field(port.protocol.as_deref())?,
        target_port: match port.target_port {
            // A Service without a `targetPort` may have 0 or "", which means the port itself.
            None | Some(IntOrString::Number(0)) => None,
            Some(IntOrString::Text(name)) if name.is_empty() => None,
            Some(port) => Some(port.port()?),
        },
    })
}
