//! Runs everything at once on a real control plane, with faults and hostile clients, for as long as `SOAK` says. Afterwards no gate
//! is stuck, and a process that ran throughout holds no more resources than before.
//!
//! `make soak` runs it for an hour.

#![expect(
    clippy::unwrap_used,
    reason = "a test may end by a panic, its helpers too"
)]

mod hostile;
mod replicas;
mod round;
mod shop;
mod usage;

use std::path::Path;
use std::time::Duration;

use tokio::time::Instant;

use crate::shop::Shop;

fn binary() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_targetgate"))
}

/// The duration in an ordinary test run: one round to warm up, and one that is measured.
const SHORT: Duration = Duration::ZERO;
/// The warm-up, in which pools and caches fill, is this fraction of the whole time. Chosen.
const WARM_UP: u32 = 10;

/// The duration from the environment, such as `SOAK=10m`.
fn wanted() -> Duration {
    std::env::var("SOAK").map_or(SHORT, |text| {
        humantime::parse_duration(&text).unwrap_or_else(|error| panic!("SOAK={text}: {error}"))
    })
}

/// Runs rounds until the time is over, but at least one.
async fn rounds(shop: &mut Shop, time: Duration) {
    let end = Instant::now() + time;
    loop {
        shop.round().await;
        if Instant::now() >= end {
            return;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_at_once_leaves_nothing_behind() {
    let wanted = wanted();
    let mut shop = Shop::open().await;
    rounds(&mut shop, wanted / WARM_UP).await;
    shop.quiet().await;
    let before = shop.usage().await;
    println!("before: {before}");
    rounds(&mut shop, wanted).await;
    shop.quiet().await;
    let after = shop.usage_down_to(&before).await;
    println!("after:  {after}\n{}", shop.report().await);
    assert!(
        shop.counts.gated > 0,
        "no pod got its gates, so the test proves nothing"
    );
}
