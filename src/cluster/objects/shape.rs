//! The shapes of objects as the API sends them: the fields that are read, and nothing else.

use std::collections::BTreeMap;
use std::net::IpAddr;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::api::ObjectMeta;
use serde::de::IgnoredAny;
use serde::{Deserialize, Deserializer};

use crate::model::Condition;

/// Annotations under this prefix are ours; the others are not kept.
const OWN_ANNOTATIONS: &str = "targetgate.dev/";

/// A part of an object, which is `null`, absent, or not what it should be.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
pub(super) enum Part<T> {
    Read(Option<T>),
    Unreadable(IgnoredAny),
}

impl<T> Default for Part<T> {
    fn default() -> Self {
        Self::Read(None)
    }
}

impl<T: Default> Part<T> {
    pub(super) fn read(self) -> Option<T> {
        match self {
            Self::Read(part) => Some(part.unwrap_or_default()),
            Self::Unreadable(_) => None,
        }
    }
}

/// Metadata that cannot be read leaves the object without a name.
pub(super) fn slim<'de, D: Deserializer<'de>>(deserializer: D) -> Result<ObjectMeta, D::Error> {
    let meta = Part::<Meta>::deserialize(deserializer)?;
    let meta = meta.read().unwrap_or_default();
    let time = |text: Option<String>| text?.parse::<Timestamp>().ok().map(Time);
    let own = meta.annotations.map(|mut annotations| {
        annotations.retain(|name, _| name.starts_with(OWN_ANNOTATIONS));
        annotations
    });
    Ok(ObjectMeta {
        name: meta.name,
        namespace: meta.namespace,
        uid: meta.uid,
        resource_version: meta.resource_version,
        labels: meta.labels,
        annotations: own,
        creation_timestamp: time(meta.creation_timestamp),
        deletion_timestamp: time(meta.deletion_timestamp),
        ..ObjectMeta::default()
    })
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Meta {
    name: Option<String>,
    namespace: Option<String>,
    uid: Option<String>,
    resource_version: Option<String>,
    labels: Option<BTreeMap<String, String>>,
    annotations: Option<BTreeMap<String, String>>,
    creation_timestamp: Option<String>,
    deletion_timestamp: Option<String>,
}

/// `spec` of a Service, slim.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct ServiceSpec {
    #[serde(rename = "type")]
    pub(super) kind: Option<String>,
    pub(super) selector: Option<BTreeMap<String, String>>,
    pub(super) ports: Option<Vec<Part<ServicePortSpec>>>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct ServicePortSpec {
    pub(super) name: Option<String>,
    pub(super) port: i64,
    pub(super) target_port: Option<IntOrString>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
pub(super) enum IntOrString {
    Number(i64),
    Text(String),
}

/// `spec` of a Pod, slim.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct PodSpec {
    pub(super) readiness_gates: Option<Vec<ReadinessGate>>,
    pub(super) containers: Option<Vec<Container>>,
    pub(super) init_containers: Option<Vec<Container>>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct ReadinessGate {
    pub(super) condition_type: String,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Container {
    pub(super) restart_policy: Option<String>,
    pub(super) ports: Option<Vec<ContainerPort>>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct ContainerPort {
    pub(super) name: Option<String>,
    pub(super) container_port: i64,
}

/// `status` of a Pod, slim.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct PodStatus {
    pub(super) phase: Option<String>,
    #[serde(rename = "podIP")]
    pub(super) pod_ip: Option<String>,
    #[serde(rename = "podIPs")]
    pub(super) pod_ips: Option<Vec<PodIp>>,
    pub(super) conditions: Option<Vec<StatusCondition>>,
}

impl PodStatus {
    pub(super) fn condition(&self, kind: &str) -> Option<&StatusCondition> {
        self.conditions.iter().flatten().find(|c| c.kind == kind)
    }

    pub(super) fn ips(&self) -> Vec<IpAddr> {
        let all: Vec<IpAddr> = self
            .pod_ips
            .iter()
            .flatten()
            .filter_map(|i| i.ip.parse().ok())
            .collect();
        if all.is_empty() {
            return self
                .pod_ip
                .iter()
                .filter_map(|ip| ip.parse().ok())
                .collect();
        }
        all
    }

    /// A condition without a time was true for as long as the pod can have been.
    pub(super) fn containers_ready(&self, created: Option<Timestamp>) -> Option<Timestamp> {
        let condition = self.condition("ContainersReady")?;
        if condition.status != "True" {
            return None;
        }
        let time = condition.last_transition_time.as_ref();
        let time = time.and_then(|time| time.parse().ok());
        Some(time.or(created).unwrap_or(Timestamp::UNIX_EPOCH))
    }
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct PodIp {
    ip: String,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct StatusCondition {
    #[serde(rename = "type")]
    pub(super) kind: String,
    pub(super) status: String,
    pub(super) reason: Option<String>,
    pub(super) message: Option<String>,
    pub(super) last_transition_time: Option<String>,
}

impl StatusCondition {
    pub(super) fn model(&self) -> Condition {
        Condition {
            status: self.status == "True",
            reason: self.reason.as_deref().unwrap_or("").into(),
            message: self.message.as_deref().unwrap_or("").into(),
        }
    }
}
