//! 200 bindings are created at once while AWS throttles. Each lacks the fields that only AWS knows.

use std::time::Duration;

use futures::future::join_all;
use serde_json::{Value, json};
use targetgate_sandbox::harness::waiting::try_until;
use tokio::time::Instant;

use crate::figures::{Held, Latencies};
use crate::requests::create;
use crate::rollout::Calls;
use crate::usage::Usage;
use crate::world::{Gate, Place, World};

const BINDINGS: usize = 200;
/// The calls per second that AWS accepts, and its burst. Others have used up the burst of the account.
const THROTTLE: (f64, u32) = (10.0, 1);
const CALL: Duration = Duration::from_millis(100);
/// The `timeoutSeconds` of our binding hooks.
const TIMEOUT: f64 = 10.0;

/// Runs the row and prints it. Returns whether it is within its limit.
pub(crate) async fn run(world: &World, place: &Place) -> anyhow::Result<bool> {
    let gate = Gate::start(world, place, 1).await?;
    let names: Vec<String> = (0..BINDINGS).map(|index| format!("b{index:03}")).collect();
    let arns = gate.target_groups(&names)?;
    asked(place).await?;
    place.services(&names).await?;
    let faults = gate.aws.elb.faults();
    faults.throttle(THROTTLE.0, THROTTLE.1);
    faults.delay(CALL);

    let usage = Usage::now()?;
    let path = place.bindings();
    let creations = names.iter().zip(&arns).map(async |(name, arn)| {
        let began = Instant::now();
        let spec = json!({"targetGroupARN": arn, "serviceRef": {"name": name, "port": 80}});
        let made = create(&place.client, &path, &binding(name, spec)).await;
        (made, began.elapsed())
    });
    let (made, took): (Vec<_>, Vec<_>) = join_all(creations).await.into_iter().unzip();
    let spent = usage.spent()?;

    let latencies = Latencies::of(took);
    let refused: Vec<_> = made.iter().filter_map(|made| made.as_ref().err()).collect();
    let calls = Calls::of(&gate.aws.elb.calls());
    let most = Held::seconds(latencies.most(), Some(TIMEOUT));
    println!(
        "bindings: {} of {BINDINGS} created; p50 {:.2} s, most {}; {} DescribeTargetGroups, {} of them throttled",
        BINDINGS - refused.len(),
        latencies.percentile(50).as_secs_f64(),
        most.text,
        calls.target_groups,
        calls.throttled,
    );
    println!("    {spent}");
    for error in refused.iter().take(3) {
        println!("    refused: {error:#}");
    }
    Ok(refused.is_empty() && most.within)
}

/// Waits until the API server calls our hooks of bindings.
async fn asked(place: &Place) -> anyhow::Result<()> {
    let path = format!("{}?dryRun=All", place.bindings());
    let nothing = binding(
        "probe",
        json!({"serviceRef": {"name": "probe", "port": 80}}),
    );
    try_until("the hooks to be asked about bindings", async || {
        let answer = create(&place.client, &path, &nothing).await;
        Ok(answer.is_err_and(|error| format!("{error:#}").contains("must provide either")))
    })
    .await
}

/// A binding as a client creates it.
pub(crate) fn binding(name: &str, spec: Value) -> Value {
    json!({
        "apiVersion": "elbv2.k8s.aws/v1beta1",
        "kind": "TargetGroupBinding",
        "metadata": {"name": name},
        "spec": spec,
    })
}
