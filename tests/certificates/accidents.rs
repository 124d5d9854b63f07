//! Changes that other clients make to the Secret and to the bundles.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt as _;
use kube::api::{DeleteParams, Patch, PatchParams};
use rstest::rstest;
use serde_json::{Value, json};
use targetgate::commands::certs;
use targetgate::commands::certs::Made;
use targetgate_sandbox::harness::waiting::until;
use tokio::time::{Instant, sleep};

use crate::creations::Creations;
use crate::replica::Replica;
use crate::world::{APPLIER, KINDS, NAME, SECRET, World, create};

/// One leading replica with the shipped lifetimes, whose hooks are reached.
async fn settled() -> (Arc<World>, Replica) {
    let world = Arc::new(World::new().await);
    let replica = Replica::start(&world, &["--lease=off"]).await;
    replica.ready().await;
    world.proxy.backends(vec![replica.listen]);
    (world, replica)
}

/// Waits until the replica serves a leaf of another CA, and each bundle holds that CA beside the former one.
async fn replaced(world: &World, replica: &Replica, before: &str) {
    until("another CA's leaf is served", async || {
        let issuer = replica.issuer(world).await?;
        (issuer != before).then_some(())
    })
    .await;
    for cas in world.bundles().await {
        assert_eq!(cas.len(), 2, "{cas:?}");
    }
}

/// A certificate of a foreign CA, made `days_ago`.
fn foreign(world: &World, days_ago: u64) -> Made {
    let made_at = Timestamp::now() - Duration::from_secs(days_ago * 24 * 3600);
    certs::make(&world.namespace, &[], made_at).unwrap()
}

async fn write(world: &World, data: Value) {
    let patch = Patch::Merge(json!({ "stringData": data }));
    let params = PatchParams::default();
    let written = world.secrets().patch(SECRET, &params, &patch).await;
    written.unwrap();
}

#[tokio::test]
async fn a_lost_secret_is_made_anew_and_no_admission_fails() {
    let (world, replica) = settled().await;
    let before = replica.issuer(&world).await.unwrap();
    let creations = Creations::begin(&world).await;
    let params = DeleteParams::default();
    world.secrets().delete(SECRET, &params).await.unwrap();
    replaced(&world, &replica, &before).await;
    creations.more(10).await;
    creations.end().await.is_clean(&[&replica]);
}

#[rstest]
#[case::in_every_key(&["tls.crt", "tls.key", "ca.crt", "ca.key", "rotation.json"])]
#[case::in_the_cas_key(&["ca.key"])]
#[tokio::test]
async fn a_secret_of_nonsense_is_mended_and_no_admission_fails(#[case] keys: &[&str]) {
    let (world, replica) = settled().await;
    let before = replica.issuer(&world).await.unwrap();
    let creations = Creations::begin(&world).await;
    let nonsense: Value = keys
        .iter()
        .map(|key| (key.to_string(), json!("nonsense")))
        .collect();
    write(&world, nonsense).await;
    replaced(&world, &replica, &before).await;
    creations.more(10).await;
    creations.end().await.is_clean(&[&replica]);
    let told = "secret/targetgate-tls is broken, and is mended";
    assert!(replica.log().contains(told), "{}", replica.log());
}

#[tokio::test]
async fn a_leaf_of_a_foreign_ca_is_never_served() {
    let (world, replica) = settled().await;
    let before = replica.issuer(&world).await.unwrap();
    let creations = Creations::begin(&world).await;
    let other = foreign(&world, 0);
    let data = json!({ "tls.crt": other.certificate, "tls.key": other.key });
    write(&world, data).await;
    until("the Secret has a leaf of ours again", async || {
        let leaf = world.secret("tls.crt").await;
        (leaf != other.certificate).then_some(())
    })
    .await;
    creations.more(10).await;
    creations.end().await.is_clean(&[&replica]);
    assert_eq!(replica.issuer(&world).await.unwrap(), before);
}

#[rstest]
#[case::emptied(|_: &World| String::new())]
#[case::replaced(|world: &World| foreign(world, 0).ca)]
#[case::nonsense(|_: &World| "nonsense".to_owned())]
#[tokio::test]
async fn a_bundle_that_another_client_changed_is_restored_and_an_event_names_the_client(
    #[case] bundle: fn(&World) -> String,
    #[values(0, 1)] kind: usize,
) {
    let (world, replica) = settled().await;
    let before = world.bundles().await;
    let text = bundle(&world);
    world.write_bundles(KINDS[kind], &text).await;
    until("the bundles are as before", async || {
        (world.bundles().await == before).then_some(())
    })
    .await;
    let (reason, note) = until("an Event tells", async || world.events().await.pop()).await;
    assert_eq!(reason, "CABundleChanged");
    let named = format!("{APPLIER}; it is put back");
    assert!(note.contains(&named), "{note}");
    let repairs = replica.metric("targetgate_ca_bundle_repairs_total").await;
    assert_eq!(repairs, Some(1.0));
    replica.ready().await;
}

/// The time in which a bundle is put back. Chosen: a busy machine needs far less, and without its watch the replica
/// would look only after a minute.
const AT_ONCE: Duration = Duration::from_secs(10);

#[tokio::test]
async fn bundles_that_a_gitops_tool_empties_each_three_seconds_are_put_back_at_once_each_time() {
    const TIMES: usize = 8;
    let (world, mut replica) = settled().await;
    let before = world.bundles().await;
    for round in 0..TIMES {
        for kind in KINDS {
            world.replace_without_bundles(kind).await;
        }
        let emptied = Instant::now();
        until("the bundles are as before", async || {
            (world.bundles().await == before).then_some(())
        })
        .await;
        let took = emptied.elapsed();
        assert!(took <= AT_ONCE, "round {round}: {took:?}");
        sleep(Duration::from_secs(3)).await;
    }
    let line = replica.logs(|line| {
        line["message"]
            .as_str()
            .is_some_and(|m| m.contains("put back"))
    });
    let by = line.await["by"].as_str().unwrap().to_owned();
    assert!(by.contains(APPLIER), "{by}");
    // One line and one Event tell of each configuration, however often it happens.
    let lines = replica.log().matches("a caBundle was changed").count();
    assert_eq!(
        (lines, world.events().await.len()),
        (KINDS.len(), KINDS.len())
    );
    let repairs = replica.metric("targetgate_ca_bundle_repairs_total").await;
    assert_eq!(repairs, Some((TIMES * KINDS.len()) as f64));
}

#[tokio::test]
async fn the_first_certificate_of_an_empty_cluster_is_served_without_waiting() {
    let world = World::new().await;
    let replica = Replica::start(&world, &["--lease=off", "--tls-ca-wait=1h"]).await;
    replica.ready().await;
}

#[tokio::test]
async fn a_secret_of_another_with_two_cas_is_replaced() {
    let world = World::new().await;
    let (old, new) = (foreign(&world, 0), foreign(&world, 0));
    let secret = json!({
        "metadata": { "name": SECRET },
        "type": "kubernetes.io/tls",
        "stringData": {
            "tls.crt": new.certificate, "tls.key": new.key, "ca.crt": format!("{}{}", new.ca, old.ca),
        },
    });
    create(&world.secrets(), secret).await;
    let replica = Replica::start(&world, &["--lease=off"]).await;
    until("a leaf of ours is served", async || {
        let issuer = replica.issuer(&world).await?;
        issuer.starts_with("CN=targetgate CA").then_some(())
    })
    .await;
    replica.ready().await;
}

#[tokio::test]
async fn a_bundle_that_a_replica_of_ours_changed_is_not_reported() {
    let world = World::new().await;
    let replicas = [
        Replica::rotating(&world, &["--lease=off"]).await,
        Replica::rotating(&world, &["--lease=off"]).await,
    ];
    let first = until("a first leaf", async || replicas[0].issuer(&world).await).await;
    until("two rotations", async || {
        let rotations = replicas[0].metrics().await;
        let ca = "targetgate_certificate_rotations_total{kind=\"ca\"} ";
        let count = rotations.lines().find_map(|line| line.strip_prefix(ca))?;
        (count.parse::<u32>().unwrap() > 1).then_some(())
    })
    .await;
    // The other replica switches leaves only once API servers have had the time to learn the new bundle.
    until("the other replica serves a newer CA's leaf", async || {
        let issuer = replicas[1].issuer(&world).await?;
        (issuer != first).then_some(())
    })
    .await;
    assert!(
        world.events().await.is_empty(),
        "{:?}",
        world.events().await
    );
}

#[rstest]
#[case::expired(40)]
#[case::valid(0)]
#[tokio::test]
async fn a_secret_that_is_found_is_replaced_by_one_of_ours(#[case] days_ago: u64) {
    let world = Arc::new(World::new().await);
    let found = foreign(&world, days_ago);
    let secret = json!({
        "metadata": { "name": SECRET },
        "type": "kubernetes.io/tls",
        "stringData": { "tls.crt": found.certificate, "tls.key": found.key },
    });
    create(&world.secrets(), secret).await;
    for kind in KINDS {
        world.write_bundles(kind, &found.ca).await;
    }
    let replica = Replica::start(&world, &["--lease=off"]).await;
    replica.ready().await;
    world.proxy.backends(vec![replica.listen]);
    let creations = Creations::begin(&world).await;
    until("a leaf of ours is served", async || {
        let issuer = replica.issuer(&world).await?;
        issuer.starts_with("CN=targetgate CA").then_some(())
    })
    .await;
    creations.more(10).await;
    creations.end().await.is_clean(&[&replica]);
    // The CA that was found stays in the bundles while a replica may still serve its leaf.
    let kept = usize::from(days_ago == 0);
    for cas in world.bundles().await {
        assert_eq!(cas.len(), 1 + kept, "{cas:?}");
        assert_eq!(cas.contains(&found.ca.trim().to_owned()), kept == 1);
    }
}

#[tokio::test]
async fn an_immutable_secret_is_made_anew() {
    let (world, replica) = settled().await;
    let before = replica.issuer(&world).await.unwrap();
    let data = json!({ "stringData": { "ca.key": "nonsense" }, "immutable": true });
    let params = PatchParams::default();
    let (secrets, patch) = (world.secrets(), Patch::Merge(data));
    secrets.patch(SECRET, &params, &patch).await.unwrap();
    replaced(&world, &replica, &before).await;
    let secret: Secret = world.secrets().get(SECRET).await.unwrap();
    assert_eq!(secret.immutable, None);
}

#[tokio::test]
async fn the_secret_is_owned_by_our_deployment() {
    let world = World::new().await;
    let labels = json!({ "app": "targetgate" });
    let deployment = json!({
        "metadata": { "name": NAME },
        "spec": {
            "selector": { "matchLabels": labels },
            "template": {
                "metadata": { "labels": labels },
                "spec": { "containers": [{ "name": "targetgate", "image": "targetgate" }] },
            },
        },
    });
    let deployment: Deployment = create(&world.api(), deployment).await;
    let replica = Replica::start(&world, &["--lease=off"]).await;
    replica.ready().await;
    let secret: Secret = world.secrets().get(SECRET).await.unwrap();
    let owners = secret.owner_references();
    assert_eq!(owners.len(), 1);
    assert_eq!(Some(&owners[0].uid), deployment.metadata.uid.as_ref());
    assert_eq!(owners[0].controller, None);
}
