//! What a kubelet does once a gate has changed: it tells anew whether the pod is `Ready`, and why not.
//! So somebody writes to a pod right after us, and a watch may tell of that before we hear of our own
//! write.

use serde_json::{Value, json};
use targetgate_sandbox::api::Api;
use tokio::sync::mpsc;
use tokio::time::sleep;

use crate::direct;
use crate::random::Random;
use crate::trace::Trace;
use crate::witness::conditions;

/// Pods that wait to be looked at; who writes to more of them waits.
const BACKLOG: usize = 64;

/// Tells it of the pods whose conditions were written, by their paths.
pub(crate) type Written = mpsc::Sender<String>;

/// The kubelet of all pods, and how to tell it.
pub(crate) fn kubelet(
    api: Api,
    trace: Trace,
    mut random: Random,
) -> (Written, impl Future<Output = ()> + Send) {
    let (written, mut pods) = mpsc::channel::<String>(BACKLOG);
    let run = async move {
        while let Some(path) = pods.recv().await {
            sleep(random.millis(1, 100)).await;
            if let Some(ready) = direct::get(&api, &path).and_then(|pod| due(&pod)) {
                let patch = json!({ "status": { "conditions": [ready] } });
                let path = format!("{path}/status");
                let (code, _) = direct::call(&api, "PATCH", &path, Some(&patch)).await;
                trace.note("kubelet", &format!("PATCH {path} {code}"));
            }
        }
    };
    (written, run)
}

/// The `Ready` of a pod whose containers are; `None` where it has it already.
fn due(pod: &Value) -> Option<Value> {
    let conditions = conditions(pod);
    let of = |kind: &Value| conditions.iter().find(|c| c["type"] == *kind);
    let gates = pod["spec"]["readinessGates"].as_array();
    let shut = gates.into_iter().flatten().filter_map(|gate| {
        let kind = &gate["conditionType"];
        match of(kind).map(|condition| &condition["status"]) {
            Some(status) if status == "True" => None,
            Some(status) => Some(format!("{kind} is {status}")),
            None => Some(format!("{kind} is not there")),
        }
    });
    let shut: Vec<String> = shut.collect();
    let status = if shut.is_empty() { "True" } else { "False" };
    let ready = json!({ "type": "Ready", "status": status, "message": shut.join(", ") });
    (of(&json!("Ready")) != Some(&ready)).then_some(ready)
}
