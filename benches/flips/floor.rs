//! The floor under 2 × 500: the same 1,000 status patches on the same API server, from a client that does
//! nothing else, without targetgate in the cluster.

use anyhow::Context as _;
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::figures::Latencies;
use crate::requests::{GATE, Made, create, each, patch_status};
use crate::usage::Usage;
use crate::world::{AT_ONCE, Place, pod};

const GROUPS: [&str; 2] = ["g000", "g001"];
const PODS_OF_EACH: usize = 500;
const IN_FLIGHT: [usize; 5] = [1, 8, 16, 32, 64];

/// Runs the row and prints it. It has no limit, because the others are compared with it.
pub(crate) async fn run(place: &Place) -> anyhow::Result<bool> {
    // With Services, kube-controller-manager follows the pods as it does in the other rows.
    place.services(&GROUPS.map(str::to_owned)).await?;
    let path = place.path("v1", "pods");
    let pods = GROUPS
        .iter()
        .flat_map(|group| (0..PODS_OF_EACH).map(move |number| gated(group, number)));
    let mut made = each(AT_ONCE, pods, async |object| {
        create(&place.client, &path, &object).await
    })
    .await?;
    for (round, in_flight) in IN_FLIGHT.into_iter().enumerate() {
        let status = ["True", "False"][round % 2];
        let usage = Usage::now()?;
        let patched = each(in_flight, &made, async |made| {
            let path = format!("{path}/{}", made.metadata.name);
            let began = Instant::now();
            let patched = patch_status(&place.client, &path, &condition(made, status)?).await?;
            Ok((patched, began.elapsed()))
        })
        .await?;
        let spent = usage.spent()?;
        let (patched, took): (Vec<_>, Vec<_>) = patched.into_iter().unzip();
        made = patched;
        let took = Latencies::of(took);
        let seconds = spent.elapsed().as_secs_f64();
        println!(
            "floor: {in_flight:2} in flight: {} patches in {seconds:.2} s, {:.0} a second; one takes p50 {:.1} ms, p99 {:.1} ms",
            made.len(),
            made.len() as f64 / seconds,
            took.percentile(50).as_secs_f64() * 1e3,
            took.percentile(99).as_secs_f64() * 1e3,
        );
        println!("    {spent}");
    }
    Ok(true)
}

/// A pod that is created with its gate, because no hook adds it here.
fn gated(group: &str, number: usize) -> Value {
    let mut object = pod(&format!("{group}-{number}"), group);
    object["spec"]["readinessGates"] = json!([{"conditionType": format!("{GATE}{group}")}]);
    object
}

/// The patch of targetgate, guarded by the pod's UID and version.
fn condition(pod: &Made, status: &str) -> anyhow::Result<Value> {
    let gate = pod.spec.readiness_gates.first().context("no gate")?;
    Ok(json!({
        "metadata": {"uid": pod.metadata.uid, "resourceVersion": pod.metadata.resource_version},
        "status": {"conditions": [{
            "type": gate["conditionType"],
            "status": status,
            "reason": "",
            "message": "",
            "lastTransitionTime": Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
        }]},
    }))
}
