//! What is explained of a pod, out of its object: more than the watch reads, of one pod or once.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::api::core::v1;
use serde::Deserialize as _;
use serde::de::IntoDeserializer as _;
use serde::de::value::{Error as ValueError, MapDeserializer};
use targetgate_core::drain::inject::{Annotations, NewPod, PreStop};
use targetgate_core::explain::{EndFacts, PodFacts, ReadinessGate};
use targetgate_core::lint;
use targetgate_core::model::Pod;
use targetgate_core::names::ConditionPrefix;
use targetgate_core::object::OwnAnnotations;
use thiserror::Error;

use crate::kubernetes::decode;
use crate::kubernetes::decode::{PodObject, Unreadable};

/// Why a text is not a pod.
#[derive(Debug, Error)]
pub enum PodError {
    #[error("it is not of the shape of a Pod: {0}")]
    Shape(#[from] serde_json::Error),
    #[error(transparent)]
    Unreadable(#[from] Unreadable),
}

/// Reads a pod's object, with its gates under `prefixes`.
///
/// # Errors
/// The text is not a Pod.
pub fn facts(text: &str, prefixes: &[ConditionPrefix]) -> Result<PodFacts, PodError> {
    let slim: PodObject = serde_json::from_str(text)?;
    let pod = decode::pod(slim, prefixes)?;
    let whole: v1::Pod = serde_json::from_str(text)?;
    Ok(PodFacts {
        created: whole
            .metadata
            .creation_timestamp
            .as_ref()
            .map(|time| time.0),
        gates: gates(&whole),
        end: end(&whole, &pod),
        pod,
    })
}

fn gates(pod: &v1::Pod) -> Vec<ReadinessGate> {
    let gates = pod
        .spec
        .iter()
        .flat_map(|spec| spec.readiness_gates.iter().flatten());
    let conditions = pod
        .status
        .as_ref()
        .and_then(|status| status.conditions.as_ref());
    let gates = gates.map(|gate| {
        let mut conditions = conditions.into_iter().flatten();
        let condition = conditions.find(|condition| condition.type_ == gate.condition_type);
        let since = condition.and_then(|condition| condition.last_transition_time.as_ref());
        ReadinessGate {
            condition_type: gate.condition_type.as_str().into(),
            status: condition.map(|condition| condition.status == "True"),
            since: since.map(|time| -> Timestamp { time.0 }),
        }
    });
    gates.collect()
}

fn end(whole: &v1::Pod, pod: &Pod) -> EndFacts {
    let own = own_annotations(whole.metadata.annotations.as_ref());
    let containers = whole.spec.as_ref().map_or(&[][..], |spec| &spec.containers);
    let spec = whole.spec.as_ref();
    let grace = spec.and_then(|spec| spec.termination_grace_period_seconds);
    let controller = pod.template.controller.as_deref();
    let is_job =
        controller.is_some_and(|c| c.api_version.starts_with("batch/") && &*c.kind == "Job");
    let mut template = lint::PodTemplate {
        containers: containers.iter().map(linted).collect(),
        hosts: spec.map(hosts).unwrap_or_default(),
        ..lint::PodTemplate::default()
    };
    if let Some(grace) = grace {
        template.grace = u64::try_from(grace).unwrap_or(0);
    }
    EndFacts {
        annotations: own.of_drain(),
        new: NewPod {
            containers: containers.iter().map(pre_stop).collect(),
            grace,
            of_job: is_job,
            annotations: Annotations::Present,
            drained: own.drained,
        },
        template,
    }
}

/// Our annotations among those of an object.
pub(crate) fn own_annotations(all: Option<&BTreeMap<String, String>>) -> OwnAnnotations {
    let all = all.into_iter().flatten();
    let all = all.map(|(key, value)| (key.as_str(), value.as_str().into_deserializer()));
    let all = MapDeserializer::<_, ValueError>::new(all);
    // Strings are what it reads.
    OwnAnnotations::deserialize(all).unwrap_or_default()
}

fn handler(container: &v1::Container) -> Option<&v1::LifecycleHandler> {
    container.lifecycle.as_ref()?.pre_stop.as_ref()
}

fn pre_stop(container: &v1::Container) -> PreStop {
    match (container.lifecycle.is_some(), handler(container)) {
        (false, _) => PreStop::NoLifecycle,
        (true, None) => PreStop::Absent,
        (true, Some(handler)) => handler
            .sleep
            .as_ref()
            .map_or(PreStop::Other, |sleep| PreStop::Sleep(sleep.seconds)),
    }
}

/// The same container, as the lints see it.
fn linted(container: &v1::Container) -> lint::Container {
    let pre_stop = match handler(container) {
        None => lint::PreStop::Absent,
        Some(handler) => handler
            .sleep
            .as_ref()
            .map_or(lint::PreStop::Unknown, |sleep| {
                lint::PreStop::Sleep(u64::try_from(sleep.seconds).unwrap_or(0))
            }),
    };
    let probes = [
        ("livenessProbe", &container.liveness_probe),
        ("startupProbe", &container.startup_probe),
    ];
    let probes = probes.into_iter().filter_map(|(field, probe)| {
        let grace = probe.as_ref()?.termination_grace_period_seconds?;
        Some(lint::ProbeGrace {
            field,
            grace: u64::try_from(grace).ok()?,
        })
    });
    lint::Container {
        name: container.name.clone(),
        pre_stop,
        probes: probes.collect(),
    }
}

/// The fields in which a probe or handler names a `host`, of any container.
fn hosts(spec: &v1::PodSpec) -> Vec<String> {
    let init = spec.init_containers.iter().flatten().enumerate();
    let init = init.map(|(at, container)| (format!("initContainers[{at}]"), container));
    let main = spec.containers.iter().enumerate();
    let main = main.map(|(at, container)| (format!("containers[{at}]"), container));
    let all = init.chain(main);
    all.flat_map(|(place, container)| {
        let fields = hosts_of(container).into_iter();
        fields.map(move |field| format!("{place}.{field}.host"))
    })
    .collect()
}

fn hosts_of(container: &v1::Container) -> Vec<String> {
    let probes = [
        ("livenessProbe", &container.liveness_probe),
        ("readinessProbe", &container.readiness_probe),
        ("startupProbe", &container.startup_probe),
    ];
    let probes = probes.into_iter().filter_map(|(field, probe)| {
        let probe = probe.as_ref()?;
        Some((field, probe.http_get.as_ref(), probe.tcp_socket.as_ref()))
    });
    let lifecycle = container.lifecycle.iter();
    let handlers = lifecycle.flat_map(|lifecycle| {
        [
            ("lifecycle.preStop", &lifecycle.pre_stop),
            ("lifecycle.postStart", &lifecycle.post_start),
        ]
    });
    let handlers = handlers.filter_map(|(field, handler)| {
        let handler = handler.as_ref()?;
        Some((
            field,
            handler.http_get.as_ref(),
            handler.tcp_socket.as_ref(),
        ))
    });
    let named = probes.chain(handlers).flat_map(|(field, http, tcp)| {
        let http = http.and_then(|http| http.host.as_ref());
        let tcp = tcp.and_then(|tcp| tcp.host.as_ref());
        let places = [("httpGet", http), ("tcpSocket", tcp)].into_iter();
        places.filter_map(move |(action, host)| {
            let host = host.filter(|host| !host.is_empty());
            host.map(|_| format!("{field}.{action}"))
        })
    });
    named.collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_host_is_named_with_its_field() {
        let get = json!({ "httpGet": { "host": "10.0.0.1", "port": 80 } });
        let socket = json!({ "tcpSocket": { "host": "10.0.0.1", "port": 80 } });
        let none = json!({ "httpGet": { "host": "", "port": 80 } });
        let spec = json!({
            "initContainers": [{ "name": "a", "startupProbe": socket }],
            "containers": [
                { "name": "b", "livenessProbe": none, "readinessProbe": get },
                { "name": "c", "lifecycle": { "preStop": get } },
            ],
        });
        let expected = [
            "initContainers[0].startupProbe.tcpSocket.host",
            "containers[0].readinessProbe.httpGet.host",
            "containers[1].lifecycle.preStop.httpGet.host",
        ];
        assert_eq!(hosts(&serde_json::from_value(spec).unwrap()), expected);
    }
}
