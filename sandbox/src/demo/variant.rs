//! What distinguishes the rollouts.

use std::time::Duration;

use serde::{Serialize, Serializer};

use super::settings::Settings;

/// One of the rollouts.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Variant {
    /// The name by which programs tell it from the others.
    pub(super) name: &'static str,
    /// The name for people.
    pub(super) title: &'static str,
    /// Whether the namespace opts in to gates.
    pub(super) gates: bool,
    /// Whether the namespace opts in to drain.
    pub(super) drain: bool,
    /// The preStop sleep of the application's own.
    #[serde(rename = "pre_stop_seconds", serialize_with = "seconds")]
    pub(super) pre_stop: Option<Duration>,
}

fn seconds<S: Serializer>(time: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
    time.as_ref()
        .map(Duration::as_secs_f64)
        .serialize(serializer)
}

impl Variant {
    /// Whether an old pod ends before the load balancer stops to send it requests, so that some of
    /// them are lost.
    pub(super) fn loses(&self) -> bool {
        self.pre_stop.is_none() && !self.drain
    }
}

/// The rollouts, in order.
pub(super) fn variants(settings: &Settings) -> [Variant; 4] {
    let alone = Variant {
        name: "alone",
        title: "(a) Kubernetes alone",
        gates: false,
        drain: false,
        pre_stop: None,
    };
    let gates = Variant {
        name: "gates",
        title: "(b) with gates",
        gates: true,
        ..alone.clone()
    };
    let sleep = Variant {
        name: "gates-and-pre-stop",
        title: "(c) with gates and preStop sleep",
        pre_stop: Some(settings.pre_stop),
        ..gates.clone()
    };
    let drain = Variant {
        name: "gates-and-drain",
        title: "(d) with gates and drain",
        drain: true,
        ..gates.clone()
    };
    [alone, gates, sleep, drain]
}
