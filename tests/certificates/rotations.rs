//! Rotations of CA and leaf while pods are created continually.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use rustls_pki_types::CertificateDer;
use tokio::time::{Instant, sleep};

use crate::creations::Creations;
use crate::replica::{Replica, issuer};
use crate::world::World;

const ROTATIONS: usize = 30;
/// The time for all rotations. Chosen: two processes on a busy machine need a minute and a half.
const WITHIN: Duration = Duration::from_secs(420);

#[tokio::test]
async fn thirty_rotations_of_ca_and_leaf_fail_no_admission() {
    let world = Arc::new(World::new().await);
    let replicas = [
        Replica::rotating(&world, &[]).await,
        Replica::rotating(&world, &[]).await,
    ];
    for replica in &replicas {
        replica.ready().await;
    }
    let backends = replicas.iter().map(|replica| replica.listen);
    world.proxy.backends(backends.collect());
    let creations = Creations::begin(&world).await;

    // The leaves and CAs that new handshakes have shown, for each replica.
    let mut seen = replicas
        .each_ref()
        .map(|_| (HashSet::new(), HashSet::new()));
    let begun = Instant::now();
    let enough = |(leaves, cas): &(HashSet<CertificateDer<'_>>, HashSet<String>)| {
        leaves.len() > ROTATIONS && cas.len() > ROTATIONS
    };
    while !seen.iter().all(enough) {
        if begun.elapsed() > WITHIN {
            let logs = replicas.each_ref().map(Replica::log).join("\n\n");
            panic!("only {}:\n{logs}", counts(&seen));
        }
        for (replica, (leaves, cas)) in replicas.iter().zip(&mut seen) {
            let leaf = replica.leaf(&world).await.unwrap();
            cas.insert(issuer(&leaf));
            leaves.insert(leaf);
        }
        sleep(Duration::from_millis(50)).await;
    }
    creations.more(20).await;
    let tally = creations.end().await;
    println!("{} in {:?}: {tally:?}", counts(&seen), begun.elapsed());
    tally.is_clean(&replicas.each_ref());
    // On an idle machine, about ten pods are created in each rotation (measured).
    assert!(tally.pods > ROTATIONS, "{tally:?}");
    for replica in &replicas {
        assert_eq!(
            replica.metric("targetgate_certificate_trusted").await,
            Some(1.0)
        );
    }
    // CAs whose leaves have expired have left the bundles.
    let held = world.bundles().await;
    assert!(held.iter().all(|cas| cas.len() < ROTATIONS), "{held:?}");
}

fn counts(seen: &[(HashSet<CertificateDer<'_>>, HashSet<String>)]) -> String {
    let each = seen.iter();
    let each = each.map(|(leaves, cas)| format!("{} leaves of {} CAs", leaves.len(), cas.len()));
    each.collect::<Vec<_>>().join(" and ")
}
