//! Everything at once on a real control plane, for as long as `SOAK` says, with faults; afterwards no
//! gate is stuck, and a process that was there all the time holds no more than before.
//!
//! `make soak` runs it for an hour.

#![expect(
    clippy::unwrap_used,
    reason = "a test may end by a panic, its helpers too"
)]

mod replicas;
mod round;
mod shop;
mod usage;

use std::path::Path;
use std::time::Duration;

use tokio::time::Instant;

use crate::shop::Shop;

/// The binary that runs.
fn binary() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_targetgate"))
}

/// As part of all tests: a round to warm up, and one that is measured.
const SHORT: Duration = Duration::ZERO;
/// Of the whole time, this part is for warming up: pools and caches fill.
const WARM_UP: u32 = 10;

/// How long to go on, from the environment: `SOAK=10m`.
fn wanted() -> Duration {
    std::env::var("SOAK").map_or(SHORT, |text| {
        humantime::parse_duration(&text).unwrap_or_else(|error| panic!("SOAK={text}: {error}"))
    })
}

/// Rounds until the time is over, but one at least.
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
        "no hook was asked, so it proves nothing"
    );
}
