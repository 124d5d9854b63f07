//! `--tls files`: another program writes the certificate and the bundles, and may be away.

use std::fs;

use jiff::Timestamp;
use targetgate::commands::certs;
use targetgate_sandbox::harness::waiting::until;

use crate::replica::Replica;
use crate::world::{KINDS, World};

const TRUSTED: &str = "targetgate_certificate_trusted";

#[tokio::test]
async fn a_bundle_that_does_not_verify_the_given_certificate_is_told_and_harms_no_readiness() {
    let world = World::new().await;
    let made = |world: &World| certs::make(&world.namespace, &[], Timestamp::now()).unwrap();
    let (ours, other) = (made(&world), made(&world));
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let flags = [
        "--tls=files".to_owned(),
        format!("--tls-cert={}", file("tls.crt", &ours.certificate)),
        format!("--tls-key={}", file("tls.key", &ours.key)),
    ];
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    // The hooks are registered without a bundle, and the injector is away.
    let replica = Replica::start(&world, &flags).await;
    let becomes = async |trusted: f64| {
        until("the metric tells", async || {
            (replica.metric(TRUSTED).await == Some(trusted)).then_some(())
        })
        .await;
    };
    becomes(0.0).await;
    replica.ready().await;
    until("an Event for each configuration", async || {
        let events = world.events().await;
        let untrusted = events
            .iter()
            .filter(|(reason, _)| reason == "CertificateUntrusted");
        (untrusted.count() == KINDS.len()).then_some(())
    })
    .await;
    assert!(
        replica.log().contains("does not trust targetgate"),
        "{}",
        replica.log()
    );
    for kind in KINDS {
        world.write_bundles(kind, &ours.ca).await;
    }
    becomes(1.0).await;
    world.write_bundles(KINDS[1], &other.ca).await;
    becomes(0.0).await;
    replica.ready().await;
}
