//! A leader is killed at each step of a rotation: before its write is answered, and after.

use std::collections::BTreeSet;
use std::sync::Arc;

use k8s_openapi::api::coordination::v1::Lease;
use serde_json::json;
use targetgate_sandbox::harness::waiting::until;

use crate::creations::Creations;
use crate::replica::Replica;
use crate::world::{World, create};

/// The beginning of each step's name, and the object that the step writes.
const STEPS: [(&str, &str); 6] = [
    ("stage a CA", "secret"),
    ("trust", "mutatingwebhookconfiguration"),
    ("trust", "validatingwebhookconfiguration"),
    ("promote", "secret"),
    ("sign a leaf", "secret"),
    ("forget", "secret"),
];

/// Starts a leader, and kills it when it logs that it writes, or has written, in this step.
async fn crash(world: &World, (step, object): (&str, &str), message: &str) {
    let mut leader = match step {
        // A new CA comes with its leaf, and `forget` waits while a new CA is staged, so these steps need a CA
        // that stays.
        "sign a leaf" | "forget" => Replica::rotating_leaves(world, &["--lease=off"]).await,
        _ => Replica::rotating(world, &["--lease=off"]).await,
    };
    let line = leader.logs(|line| {
        let text = |field: &str| line[field].as_str().unwrap_or("").to_owned();
        text("message").starts_with(message)
            && text("step").starts_with(step)
            && text("object").starts_with(object)
    });
    line.await;
    leader.kill();
}

#[tokio::test]
async fn a_leader_that_dies_at_any_step_fails_no_admission() {
    let world = Arc::new(World::new().await);
    // The replica that answers reviews never writes, because the Lease of certificates is held for an hour.
    let held = json!({
        "metadata": { "name": "targetgate-certificates" },
        "spec": { "holderIdentity": "nobody", "leaseDurationSeconds": 3600 },
    });
    create(&world.api::<Lease>(), held).await;
    let mut first = Replica::rotating(&world, &["--lease=off"]).await;
    let follower = Replica::rotating(&world, &["--lease-duration=1h"]).await;
    follower.ready().await;
    first.kill();
    world.proxy.backends(vec![follower.listen]);
    let creations = Creations::begin(&world).await;

    let mut seen = BTreeSet::new();
    for step in STEPS {
        for message in ["rotation: writing", "rotation: written"] {
            crash(&world, step, message).await;
            creations.more(2).await;
            seen.insert(follower.issuer(&world).await.unwrap());
        }
    }
    // The next leader completes the rotation that was begun.
    let leader = Replica::rotating(&world, &["--lease=off"]).await;
    let before = follower.issuer(&world).await;
    until("the follower serves a new CA's leaf", async || {
        (follower.issuer(&world).await != before).then_some(())
    })
    .await;
    creations.more(10).await;
    let tally = creations.end().await;
    println!(
        "{} CAs over {} crashes: {tally:?}",
        seen.len(),
        2 * STEPS.len()
    );
    tally.is_clean(&[&follower]);
    assert!(seen.len() > 2, "{seen:?}");
    drop(leader);
}
