//! The shapes of API objects: only the fields that are read.

use std::borrow::Cow;
use std::mem;
use std::net::IpAddr;

use jiff::{SignedDuration, Timestamp};
use serde::de::MapAccess;
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use targetgate_core::model::{
    Condition, ControllerRef, Labels, Policies, Registration, UnreadableAnnotation,
};
use targetgate_core::names::{FINALIZER, INCUMBENT_FINALIZER, ObjectKey};
use targetgate_core::object::{Entries, IntOrString, OwnAnnotations, Text, entries};

/// A part of an object, which may be `null`, absent or of an unexpected shape.
///
/// The parser finds the end of the part before parsing it, so that an error in it does not fail the rest of the
/// object, and only the fields that are read are held in memory.
#[derive(Debug, Clone)]
pub(super) enum Part<T> {
    Read(Option<T>),
    Unreadable,
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
            Self::Unreadable => None,
        }
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Part<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <&'de RawValue>::deserialize(deserializer)?;
        Ok(serde_json::from_str(text.get()).map_or(Self::Unreadable, Self::Read))
    }
}

/// `metadata` of any object, slim.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Meta {
    pub(super) name: Option<String>,
    pub(super) namespace: Option<String>,
    pub(super) uid: Option<String>,
    pub(super) resource_version: Option<String>,
    pub(super) labels: Option<Pairs>,
    pub(super) annotations: Option<OwnAnnotations>,
    pub(super) owner_references: Part<Vec<OwnerReference>>,
    pub(super) creation_timestamp: Option<String>,
    pub(super) generation: Option<i64>,
    pub(super) finalizers: Option<Finalizers>,
    pub(super) deletion_timestamp: Option<String>,
    pub(super) deletion_grace_period_seconds: Option<i64>,
}

impl Meta {
    /// Namespace (empty for cluster-scoped kinds) and name.
    pub(super) fn take_key(&mut self) -> ObjectKey {
        ObjectKey::new(
            self.namespace.take().unwrap_or_default(),
            self.name.take().unwrap_or_default(),
        )
    }

    pub(super) fn created(&self) -> Option<Timestamp> {
        self.creation_timestamp.as_ref()?.parse().ok()
    }

    /// When the API server took the request for the deletion in, by its own clock: `deletionTimestamp` is the time at
    /// which the grace period ends.
    pub(super) fn deletion_requested(&self) -> Option<Timestamp> {
        let ends: Timestamp = self.deletion_timestamp.as_ref()?.parse().ok()?;
        let grace = SignedDuration::from_secs(self.deletion_grace_period_seconds?);
        ends.checked_sub(grace).ok()
    }

    pub(super) fn opted_out(&self) -> bool {
        self.annotations.as_ref().is_some_and(|a| a.opted_out)
    }

    pub(super) fn policies(&self) -> Policies {
        let annotations = self.annotations.as_ref();
        annotations.map_or_else(Policies::default, |a| a.policies)
    }

    pub(super) fn unreadable(&mut self) -> Vec<UnreadableAnnotation> {
        let annotations = self.annotations.as_mut();
        annotations.map_or_else(Vec::new, |a| mem::take(&mut a.unreadable))
    }

    /// Fills in what the registrar reads of a binding's metadata.
    pub(super) fn register(&self, registration: &mut Registration) {
        let annotations = self.annotations.as_ref();
        registration.asked = annotations.and_then(|a| a.register);
        registration.abandoned = annotations.is_some_and(|a| a.abandon);
        registration.created = self.created();
        registration.generation = self.generation.unwrap_or_default();
        let finalizers = self.finalizers.unwrap_or_default();
        registration.our_finalizer = finalizers.ours;
        registration.incumbent_finalizer = finalizers.incumbents;
    }

    pub(super) fn controller(&mut self) -> Option<ControllerRef> {
        let owners = mem::take(&mut self.owner_references).read()?;
        let mut owners = owners.into_iter();
        let controller = owners.find(|owner| owner.controller == Some(true))?;
        Some(ControllerRef {
            api_version: controller.api_version.into(),
            kind: controller.kind.into(),
            name: controller.name.into(),
            uid: controller.uid.into(),
        })
    }
}

/// `metadata.finalizers`, of which two are known.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Finalizers {
    ours: bool,
    incumbents: bool,
}

impl<'de> Deserialize<'de> for Finalizers {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let all = Vec::<Text<'de>>::deserialize(deserializer)?;
        let has = |name: &str| all.iter().any(|Text(finalizer)| finalizer == name);
        Ok(Self {
            ours: has(FINALIZER),
            incumbents: has(INCUMBENT_FINALIZER),
        })
    }
}

/// An entry of `metadata.ownerReferences`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct OwnerReference {
    api_version: String,
    kind: String,
    name: String,
    uid: String,
    controller: Option<bool>,
}

/// Labels, or a selector, parsed directly into the form of the index, without an intermediate copy.
#[derive(Debug, Clone, Default)]
pub(super) struct Pairs(pub(super) Labels);

impl<'de> Entries<'de> for Pairs {
    const EXPECTED: &'static str = "an object of labels";

    fn entry<A: MapAccess<'de>>(
        &mut self,
        key: Cow<'de, str>,
        map: &mut A,
    ) -> Result<(), A::Error> {
        let Text(value) = map.next_value()?;
        self.0.insert(key.into(), value.into());
        Ok(())
    }
}

impl<'de> Deserialize<'de> for Pairs {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        entries(deserializer)
    }
}

/// `spec` of a Service, slim.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct ServiceSpec {
    #[serde(rename = "type")]
    pub(super) kind: Option<String>,
    #[serde(rename = "publishNotReadyAddresses")]
    pub(super) publish_not_ready: Option<bool>,
    pub(super) selector: Option<Pairs>,
    pub(super) ports: Option<Vec<Part<ServicePortSpec>>>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct ServicePortSpec {
    pub(super) name: Option<String>,
    pub(super) port: i64,
    pub(super) protocol: Option<String>,
    pub(super) target_port: Option<IntOrString>,
}

/// `spec` of a Pod, slim.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct PodSpec {
    pub(super) host_network: bool,
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
    pub(super) name: String,
    pub(super) restart_policy: Option<String>,
    pub(super) ports: Option<Vec<ContainerPort>>,
    lifecycle: Part<Lifecycle>,
}

impl Container {
    /// The seconds of its `lifecycle.preStop.sleep`.
    pub(super) fn sleep(&self) -> Option<u64> {
        let Part::Read(Some(lifecycle)) = &self.lifecycle else {
            return None;
        };
        let sleep = lifecycle.pre_stop.as_ref()?.sleep.as_ref()?;
        u64::try_from(sleep.seconds).ok()
    }
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Lifecycle {
    pre_stop: Option<PreStop>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct PreStop {
    sleep: Option<Sleep>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct Sleep {
    seconds: i64,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct ContainerPort {
    pub(super) name: Option<String>,
    pub(super) container_port: i64,
    pub(super) protocol: Option<String>,
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
    #[serde(rename = "startTime")]
    pub(super) start_time: Option<String>,
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

    /// When the kubelet took the pod in.
    pub(super) fn started(&self) -> Option<Timestamp> {
        self.start_time.as_ref()?.parse().ok()
    }

    /// When the containers became ready. A condition without a time counts from the creation of the pod.
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
