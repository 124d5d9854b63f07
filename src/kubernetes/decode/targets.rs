//! EndpointSlices and TargetRecords, which only the registrar reads (contract 8).

use std::net::IpAddr;
use std::sync::Arc;

use serde::Deserialize;
use targetgate_core::model::{IpFamily, Protocol};
use targetgate_core::names::ObjectKey;
use targetgate_core::object::port_number;
use targetgate_core::targets::record::{Record, Spec, Status, Unreadable as NoGroup, Written};
use targetgate_core::targets::slices::{Endpoint, Slice, SlicePort};
use thiserror::Error;

use crate::kubernetes::decode::shape::{Meta, Part};
use crate::kubernetes::decode::{Keyed, Object, Unreadable};

/// The label that names a slice's Service.
const SERVICE_NAME: &str = "kubernetes.io/service-name";

/// A `TargetRecord`.
pub type RecordObject = Object<Spec, Status>;

/// An `EndpointSlice`, which has neither a spec nor a status.
#[derive(Debug, Clone, Deserialize)]
#[serde(from = "Wire")]
pub struct SliceObject {
    key: ObjectKey,
    meta: Meta,
    family: Option<IpFamily>,
    ports: Part<Vec<Part<PortShape>>>,
    endpoints: Part<Vec<Part<EndpointShape>>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Wire {
    #[serde(default)]
    metadata: Part<Meta>,
    #[serde(default)]
    address_type: Part<String>,
    #[serde(default)]
    ports: Part<Vec<Part<PortShape>>>,
    #[serde(default)]
    endpoints: Part<Vec<Part<EndpointShape>>>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct PortShape {
    name: Option<String>,
    protocol: Option<String>,
    port: Option<i64>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct EndpointShape {
    addresses: Vec<String>,
    target_ref: Option<TargetRef>,
    conditions: Option<EndpointConditions>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct EndpointConditions {
    ready: Option<bool>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct TargetRef {
    kind: Option<String>,
    namespace: Option<String>,
    name: Option<String>,
    uid: Option<String>,
}

impl From<Wire> for SliceObject {
    fn from(wire: Wire) -> Self {
        let mut meta = wire.metadata.read().unwrap_or_default();
        let family = match wire.address_type.read().as_deref() {
            Some("IPv4") => Some(IpFamily::V4),
            Some("IPv6") => Some(IpFamily::V6),
            _ => None,
        };
        Self {
            key: meta.take_key(),
            meta,
            family,
            ports: wire.ports,
            endpoints: wire.endpoints,
        }
    }
}

impl Keyed for SliceObject {
    fn key(&self) -> &ObjectKey {
        &self.key
    }

    fn version(&self) -> Option<&str> {
        self.meta.resource_version.as_deref()
    }
}

impl SliceObject {
    fn unreadable(&self, part: &'static str) -> Unreadable {
        Unreadable {
            object: self.key.clone(),
            part,
        }
    }
}

/// Reads an EndpointSlice without its invalid ports and endpoints; `None` if it has no addresses, or names no Service.
pub fn slice(mut object: SliceObject) -> Result<Option<Slice>, Unreadable> {
    if object.key.name.is_empty() {
        return Err(object.unreadable("metadata"));
    }
    let labels = object.meta.labels.take().unwrap_or_default().0;
    let Some((service, family)) = labels.get(SERVICE_NAME).zip(object.family) else {
        return Ok(None);
    };
    let ports = std::mem::take(&mut object.ports).read();
    let ports = ports.ok_or_else(|| object.unreadable("ports"))?;
    let endpoints = std::mem::take(&mut object.endpoints).read();
    let endpoints = endpoints.ok_or_else(|| object.unreadable("endpoints"))?;
    let namespace = &*object.key.namespace;
    Ok(Some(Slice {
        service: (&**service).into(),
        family,
        ports: ports
            .into_iter()
            .filter_map(|port| slice_port(port.read()?))
            .collect(),
        endpoints: endpoints
            .into_iter()
            .filter_map(|shape| endpoint(shape.read()?, namespace))
            .collect(),
    }))
}

/// A port without a number stands for all ports, and is no target's.
fn slice_port(port: PortShape) -> Option<SlicePort> {
    Some(SlicePort {
        name: port.name.unwrap_or_default().into(),
        protocol: Protocol::of_field(port.protocol.as_deref())?,
        number: port_number(port.port?)?,
    })
}

fn endpoint(shape: EndpointShape, namespace: &str) -> Option<Endpoint> {
    let address: IpAddr = shape.addresses.first()?.parse().ok()?;
    let pod = shape
        .target_ref
        .filter(|target| target.is_pod_of(namespace));
    let pod = pod.and_then(|pod| Some((pod.name?.into(), pod.uid.map(Arc::from))));
    let ready = shape.conditions.and_then(|conditions| conditions.ready);
    Some(Endpoint {
        address,
        pod,
        ready: ready.unwrap_or(true),
    })
}

impl TargetRef {
    fn is_pod_of(&self, namespace: &str) -> bool {
        let of = self.namespace.as_deref().unwrap_or(namespace);
        self.kind.as_deref() == Some("Pod") && of == namespace
    }
}

/// A record that cannot be used. A part of it is never taken for the whole: it would be written back with less.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum UnreadableRecord {
    #[error(transparent)]
    Shape(#[from] Unreadable),
    #[error(transparent)]
    NoGroup(#[from] NoGroup),
}

/// Reads a `TargetRecord`, with its resourceVersion.
pub fn record(mut object: RecordObject) -> Result<(Record, Arc<str>), UnreadableRecord> {
    let uid = object.key.name.clone();
    let Some(version) = object.meta.resource_version.take() else {
        return Err(object.unreadable("metadata").into());
    };
    let Part::Read(Some(spec)) = std::mem::take(&mut object.spec) else {
        return Err(object.unreadable("spec").into());
    };
    let status = std::mem::take(&mut object.status).read();
    let status = status.ok_or_else(|| object.unreadable("status"))?;
    let record = Record::read(uid, &Written { spec, status })?;
    Ok((record, version.into()))
}

#[cfg(test)]
mod tests {
    use serde::de::DeserializeOwned;
    use serde_json::{Value, json};

    use super::*;

    const ARN: &str =
        "arn:aws:elasticloadbalancing:eu-west-1:123456789012:targetgroup/web/0123456789abcdef";

    fn read<T: DeserializeOwned>(object: &Value) -> T {
        serde_json::from_str(&object.to_string()).unwrap()
    }

    fn by_hand() -> Value {
        json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
            "metadata": { "name": "web-1", "namespace": "shop", "resourceVersion": "7",
                "labels": { "kubernetes.io/service-name": "web" } },
            "addressType": "IPv4",
            "ports": [
                { "name": "http", "port": 8080, "protocol": "TCP" },
                { "port": 9090 },
                { "name": "all", "port": null },
                { "name": "high", "port": 70000 },
                { "name": "text", "port": "eighty" },
            ],
            "endpoints": [
                { "addresses": ["10.0.0.1", "10.0.0.2"], "conditions": { "ready": false },
                  "targetRef": { "kind": "Pod", "name": "a", "namespace": "shop", "uid": "u-a" } },
                { "addresses": ["10.0.0.3"], "targetRef": { "kind": "Pod", "name": "b" } },
                { "addresses": ["10.0.0.4"],
                  "targetRef": { "kind": "Pod", "name": "c", "namespace": "kube-system" } },
                { "addresses": ["10.0.0.5"], "targetRef": { "kind": "Node", "name": "d" },
                  "conditions": { "ready": null, "serving": false } },
                { "addresses": ["10.0.0.6"], "conditions": { "ready": false } },
                { "addresses": ["10.0.0.7"], "conditions": null },
                { "addresses": ["db.example.com"] },
                { "addresses": [] },
                "nonsense",
            ],
        })
    }

    #[test]
    fn a_slice_is_read_without_what_is_no_port_and_no_endpoint() {
        let object: SliceObject = read(&by_hand());
        assert_eq!(object.key(), &ObjectKey::new("shop", "web-1"));
        assert_eq!(object.version(), Some("7"));
        let slice = slice(object).unwrap().unwrap();
        assert_eq!((&*slice.service, slice.family), ("web", IpFamily::V4));
        let ports: Vec<_> = slice.ports.iter().map(|p| (&*p.name, p.number)).collect();
        assert_eq!(ports, [("http", 8080), ("", 9090)]);
        let shown = |endpoint: &Endpoint| {
            let pod = endpoint.pod.as_ref();
            let pod = pod.map(|(name, uid)| format!("{name} {}", uid.as_deref().unwrap_or("-")));
            let ready = if endpoint.ready { "" } else { "unready" };
            (endpoint.address.to_string(), pod.unwrap_or_default(), ready)
        };
        let endpoints: Vec<_> = slice.endpoints.iter().map(shown).collect();
        let expected = [
            ("10.0.0.1", "a u-a", "unready"),
            ("10.0.0.3", "b -", ""),
            ("10.0.0.4", "", ""),
            ("10.0.0.5", "", ""),
            ("10.0.0.6", "", "unready"),
            ("10.0.0.7", "", ""),
        ];
        let expected = expected.map(|(ip, pod, ready)| (ip.to_owned(), pod.to_owned(), ready));
        assert_eq!(endpoints, expected);
    }

    #[test]
    fn a_slice_of_names_or_of_no_service_is_none_and_go_writes_empty_lists_as_null() {
        let with = |field: &str, value: Value| {
            let mut object = by_hand();
            object[field] = value;
            slice(read(&object))
        };
        assert_eq!(with("addressType", json!("FQDN")), Ok(None));
        assert_eq!(with("metadata", json!({ "name": "web-1" })), Ok(None));
        assert!(with("metadata", json!({})).is_err());
        assert!(with("endpoints", json!("none")).is_err());
        let empty = with("endpoints", Value::Null).unwrap().unwrap();
        assert!(empty.endpoints.is_empty());
    }

    #[test]
    fn a_record_is_read_whole_or_not_at_all() {
        let whole = json!({
            "metadata": { "name": "uid-web", "namespace": "targetgate-system", "resourceVersion": "9" },
            "spec": { "binding": { "namespace": "shop", "name": "web" }, "targetGroupARN": ARN },
            "status": { "count": 1, "targets": ["10.0.0.1:8080"] },
        });
        let (record_, version) = record(read(&whole)).unwrap();
        assert_eq!((&*record_.uid, &*version), ("uid-web", "9"));
        assert_eq!(record_.binding, ObjectKey::new("shop", "web"));
        assert_eq!(record_.targets.len(), 1);
        for (field, value, part) in [
            ("spec", Value::Null, "its spec"),
            ("spec", json!({ "targetGroupARN": ARN }), "its spec"),
            (
                "status",
                json!({ "targets": "10.0.0.1:8080" }),
                "its status",
            ),
            ("metadata", json!({ "name": "uid-web" }), "its metadata"),
            (
                "spec",
                json!({ "binding": { "namespace": "shop", "name": "web" }, "targetGroupARN": "web" }),
                "its spec.targetGroupARN",
            ),
        ] {
            let mut object = whole.clone();
            object[field] = value;
            let error = record(read(&object)).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
        let mut fresh = whole;
        fresh["status"] = Value::Null;
        assert!(record(read(&fresh)).unwrap().0.targets.is_empty());
    }
}
