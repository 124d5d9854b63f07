//! The kubelet updates the `Ready` condition of a pod after a gate has changed. So another client writes to a
//! pod right after us, and a watch may report that before we get the answer to our own write.

use serde_json::{Value, json};
use targetgate_sandbox::api::Api;
use tokio::sync::mpsc;
use tokio::time::sleep;

use crate::direct;
use crate::random::Random;
use crate::trace::Trace;
use crate::witness::conditions;

/// The pods that wait for the kubelet. A writer waits while they are as many. Chosen.
const BACKLOG: usize = 64;

/// Sends the kubelet the paths of pods whose conditions were written.
pub(crate) type Written = mpsc::Sender<String>;

/// The kubelet of all pods, and the channel on which it is notified.
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

/// The `Ready` condition that a pod with ready containers must get, or `None` if it has it already.
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
