//! Certificates of our own, made where the machine's clock is wrong.

use std::sync::atomic::Ordering;
use std::time::Duration;

use jiff::SignedDuration;
use k8s_openapi::api::core::v1::Secret;
use kube::api::Api as KubeApi;
use targetgate::pki::read;
use targetgate_core::rotation::Validity;
use tokio::time::sleep;

use super::stage::{SEED, Stage};
use crate::random::Random;
use crate::replica::HOME;

const YEAR: SignedDuration = SignedDuration::from_hours(24 * 365);

/// The validity of the leaf that a lone replica makes whose clock is wrong by `by`.
async fn leaf_made(stage: &Stage, by: SignedDuration) -> Validity {
    let mut replica = stage.replica_with_its_own_certificate("a");
    replica.skew.store(by.as_secs(), Ordering::Relaxed);
    replica.start(stage, &mut Random::new(SEED));
    sleep(Duration::from_secs(60)).await;
    let secrets: KubeApi<Secret> = KubeApi::namespaced(stage.kube.clone(), HOME);
    let data = secrets.get("targetgate-tls").await.unwrap().data.unwrap();
    let [chain, key] = ["tls.crt", "tls.key"].map(|name| str::from_utf8(&data[name].0).unwrap());
    let chain = read::chain(chain, key).unwrap();
    replica.crash(stage);
    chain.validity
}

#[tokio::test(start_paused = true)]
async fn a_leaf_is_valid_by_the_api_servers_clock_wherever_the_machines_is_years_ahead_or_behind() {
    for by in [YEAR, -YEAR] {
        let stage = Stage::without_product().await;
        let made = leaf_made(&stage, by).await;
        let now = (stage.now)();
        assert!(made.not_before < now && now < made.not_after, "{made:?}");
    }
}
