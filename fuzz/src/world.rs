//! A namespace as JSON, and what becomes of a pod in it by contract 2, written without the code under test.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Deserialize;
use serde_json::{Map, Value, json};
use targetgate::admission::pod::PodPolicy;
use targetgate::state::cache::{Cache, InitialList, WatchedResource};
use targetgate_core::drain::{DrainMode, ServerVersion};
use targetgate_core::model;
use targetgate_core::model::{IpFamily, Namespace, Policies};
use targetgate_core::names::{
    BindingApi, ConditionPrefix, GATE_ANNOTATION, LEGACY_CONDITION_PREFIX, ObjectKey,
};

use targetgate_core::object::OwnAnnotations;

use crate::selector::selected;

/// The only namespace.
pub(crate) const NAMESPACE: &str = "shop";

/// The reasons for a binding, by precedence. The reason for the pod is the first of them that a binding has.
const PRECEDENCE: [&str; 11] = [
    "Injected",
    "AlreadyInjected",
    "OptedOut",
    "SelectorMismatch",
    "ServiceMissing",
    "ServiceExternalName",
    "ServiceWithoutSelector",
    "TargetTypeUnknown",
    "TargetTypeInstance",
    "ApiNotGated",
    "NoBinding",
];

/// The Services and bindings of [`NAMESPACE`].
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(crate) struct World {
    services: BTreeMap<String, Service>,
    /// The bindings in the order of their names, as [`World::parse`] sorts them.
    bindings: Vec<Binding>,
    /// Whether the bindings of EKS Auto Mode give gates, too.
    gate_eks: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct Service {
    selector: BTreeMap<String, String>,
    external_name: bool,
    opted_out: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct Binding {
    name: String,
    /// Whether it is a binding of EKS Auto Mode.
    eks: bool,
    service: String,
    target_type: Option<TargetType>,
    opted_out: bool,
}

#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
enum TargetType {
    Ip,
    Instance,
}

/// The expected outcome for a pod.
#[derive(Debug, PartialEq)]
pub(crate) struct Plan {
    /// The reason for the pod.
    pub(crate) reason: &'static str,
    /// The reason for each binding, in the order of their names.
    pub(crate) bindings: Vec<(String, &'static str)>,
    /// The pod with its gates.
    pub(crate) pod: Value,
}

impl World {
    /// Parses a world. Returns `None` if it is invalid, or if two of its bindings are the same.
    pub(crate) fn parse(json: &str) -> Option<Self> {
        let mut world: Self = serde_json::from_str(json).ok()?;
        world.bindings.sort_by(|a, b| a.key().cmp(&b.key()));
        let twice = |pair: &[Binding]| pair[0].key() == pair[1].key();
        (!world.bindings.windows(2).any(twice)).then_some(world)
    }

    /// The index after the watches have delivered all objects.
    pub(crate) fn cache(&self) -> Cache {
        let cache = Cache::default();
        let namespace: Arc<str> = NAMESPACE.into();
        cache.write(|index| {
            index.apply_namespace(
                &namespace,
                Namespace {
                    opted_in: true,
                    ..Namespace::default()
                },
            );
            for (name, service) in &self.services {
                index.apply_service(&ObjectKey::new(NAMESPACE, &**name), service.known());
            }
            for binding in &self.bindings {
                index.apply_binding(&namespace, binding.known());
            }
        });
        for watched in WatchedResource::ALL {
            cache.looked(watched, InitialList::Listed);
        }
        cache
    }

    pub(crate) fn policy(&self) -> PodPolicy {
        let mut policy = PodPolicy::default();
        if self.gate_eks {
            policy.gates.apis.push(BindingApi::Eks);
        }
        policy
    }

    /// The policy where drain is on.
    pub(crate) fn draining(&self) -> PodPolicy {
        let mut policy = self.policy();
        policy.drain.mode = DrainMode::Sleep;
        policy.server.told(ServerVersion {
            major: 1,
            minor: 36,
        });
        policy
    }

    /// The expected outcome for a pod in [`NAMESPACE`], or `None` if it cannot be parsed as a pod.
    pub(crate) fn plan(&self, pod: &Value) -> Option<Plan> {
        let read = Pod::read(pod)?;
        let prefix = ConditionPrefix::default();
        let mut bindings = Vec::new();
        let mut gates = read.gates.clone();
        for binding in &self.bindings {
            let gate = prefix.gate(&binding.name).to_string();
            let reason = self.reason(binding, &gate, &read);
            if reason == "Injected" && !gates.contains(&gate) {
                gates.push(gate);
            }
            bindings.push((binding.name.clone(), reason));
        }
        let of_bindings = |reason: &&str| bindings.iter().any(|(_, of)| of == reason);
        let mut reasons = PRECEDENCE.into_iter();
        let reason = reasons.find(of_bindings).unwrap_or("NoBinding");
        let mut planned = pod.clone();
        if ["Injected", "AlreadyInjected"].contains(&reason) {
            let new = &gates[read.gates.len()..];
            rewrite(&mut planned["spec"], new);
        }
        Some(Plan {
            reason,
            bindings,
            pod: planned,
        })
    }

    fn reason(&self, binding: &Binding, gate: &String, pod: &Pod) -> &'static str {
        let service = self.services.get(&binding.service);
        match (binding.target_type, service) {
            _ if binding.eks && !self.gate_eks => "ApiNotGated",
            (None, _) => "TargetTypeUnknown",
            (Some(TargetType::Instance), _) => "TargetTypeInstance",
            (_, None) => "ServiceMissing",
            (_, Some(service)) if service.external_name => "ServiceExternalName",
            (_, Some(service)) if service.selector.is_empty() => "ServiceWithoutSelector",
            (_, Some(service)) if !selected(&service.selector, &pod.labels) => "SelectorMismatch",
            (_, Some(service)) if binding.opted_out || service.opted_out || pod.opted_out => {
                "OptedOut"
            }
            _ if pod.gates.contains(gate) => "AlreadyInjected",
            _ => "Injected",
        }
    }
}

/// Removes the legacy gates from a pod's spec, and appends new ones to the others.
fn rewrite(spec: &mut Value, new: &[String]) {
    let new: Vec<Value> = new
        .iter()
        .map(|gate| json!({ "conditionType": gate }))
        .collect();
    match spec.get_mut("readinessGates").and_then(Value::as_array_mut) {
        Some(listed) => {
            let stays = |gate: &Value| {
                let of = gate["conditionType"].as_str();
                of.is_none_or(|of| !of.starts_with(LEGACY_CONDITION_PREFIX))
            };
            listed.retain(stays);
            listed.extend(new);
        }
        None if new.is_empty() => {}
        None => spec["readinessGates"] = new.into(),
    }
}

/// The fields of a pod that decide.
struct Pod {
    labels: BTreeMap<String, String>,
    opted_out: bool,
    gates: Vec<String>,
}

impl Pod {
    /// Parses a pod. Returns `None` if one of the fields has another type than in Kubernetes, or if the spec is
    /// missing.
    fn read(pod: &Value) -> Option<Self> {
        let pod = pod.as_object()?;
        let kind = pod.get("kind").map_or(Some("Pod"), Value::as_str)?;
        let metadata = match pod.get("metadata") {
            None | Some(Value::Null) => None,
            Some(metadata) => Some(metadata.as_object()?),
        };
        let metadata = |name| match metadata.and_then(|metadata| metadata.get(name)) {
            None | Some(Value::Null) => Some(Map::new()),
            Some(member) => member.as_object().cloned(),
        };
        let mut annotations = metadata("annotations")?;
        let is_text = |name: &&str| annotations.get(*name).is_none_or(Value::is_string);
        if !OwnAnnotations::ALL.iter().all(is_text) {
            return None;
        }
        let opt_out = annotations.remove(GATE_ANNOTATION);
        let opt_out = opt_out.map_or(Some(String::new()), text)?;
        let labels = metadata("labels")?.into_iter();
        let labels: Option<_> = labels
            .map(|(key, value)| Some((key, text(value)?)))
            .collect();
        let spec = pod.get("spec")?.as_object()?;
        let gates = match spec.get("readinessGates") {
            None | Some(Value::Null) => vec![],
            Some(gates) => {
                let mut gates = gates.as_array()?.iter();
                let types = gates
                    .by_ref()
                    .map(|gate| text(gate.get("conditionType")?.clone()));
                types.collect::<Option<_>>()?
            }
        };
        matches!(kind, "Pod" | "").then_some(Self {
            labels: labels?,
            opted_out: opt_out == "false",
            gates,
        })
    }
}

fn text(value: Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text),
        _ => None,
    }
}

impl Service {
    fn known(&self) -> model::Service {
        let pairs = self.selector.iter();
        model::Service {
            selector: pairs
                .map(|(k, v)| (k.as_str().into(), v.as_str().into()))
                .collect(),
            external_name: self.external_name,
            publish_not_ready: false,
            ports: vec![],
            opted_out: self.opted_out,
        }
    }
}

impl Binding {
    fn key(&self) -> (&str, bool) {
        (&self.name, self.eks)
    }

    fn known(&self) -> model::Binding {
        model::Binding {
            api: if self.eks {
                BindingApi::Eks
            } else {
                BindingApi::Elbv2
            },
            name: self.name.as_str().into(),
            uid: None,
            arn: None,
            group_name: Some("web".into()),
            target_type: self.target_type.map(|known| match known {
                TargetType::Ip => model::TargetType::Ip,
                TargetType::Instance => model::TargetType::Instance,
            }),
            family: IpFamily::V4,
            load_balancer: None,
            service: self.service.as_str().into(),
            port: None,
            role: None,
            multi_cluster: false,
            opted_out: self.opted_out,
            terminating: false,
            policies: Policies::default(),
            registration: model::Registration::default(),
            unreadable: vec![],
        }
    }
}
