//! Measures how soon targetgate calls `RegisterTargets` and `DeregisterTargets`, and how often, on a real API server
//! with the sandbox's ELB. The bench is the kubelet: it writes that containers are ready, and deletes pods.
//!
//! A wait begins before the request that changes a pod is sent, and ends when ELB takes the call in that names the
//! pod's target, so that it includes the API server's own time.
#![expect(
    clippy::unwrap_used,
    reason = "a bench that cannot go on may end by a panic"
)]

mod pods;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use jiff::Timestamp;
use targetgate_sandbox::harness::site::Site;
use targetgate_sandbox::kubelet::Reuse;
use tokio::runtime::Runtime;
use tokio::time::sleep;

use crate::pods::Shop;

const BINARY: &str = env!("CARGO_BIN_EXE_targetgate");
/// What the account allows, and what the budget of registration and deregistration begins with: calls at once, and
/// calls a second after that. Contract 8.
const BURST: f64 = 20.0;
const RATE: f64 = 4.0;
/// After that time the budget is full again, and a target that was registered twice has been. Contract 8.
const REST: Duration = Duration::from_secs(6);
/// So long after the pods of many groups became ready, some are deleted. Chosen: the calls at once are
/// used up.
const MEANWHILE: Duration = Duration::from_secs(3);
/// So many pods, each of another group, are deleted then. As many as have their calls within two seconds at that rate.
const ENDING: usize = 8;
/// Pods that change together begin one group after the other, so that this machine is not what is measured. Chosen.
const BETWEEN: Duration = Duration::from_millis(50);

fn main() -> ExitCode {
    rustls::crypto::aws_lc_rs::default_provider()
        .install_default()
        .unwrap();
    let mut rows = Rows::default();
    Runtime::new().unwrap().block_on(measure(&mut rows));
    rows.verdict()
}

async fn measure(rows: &mut Rows) {
    println!(
        "work                                              median       p99    most   calls   limits"
    );
    few_pods_of_many_groups(rows).await;
    many_ready_pods_when_their_bindings_come(rows).await;
    many_pods_of_few_groups(rows).await;
    more_groups_than_the_account_has_calls(rows).await;
}

/// 20 groups of five pods.
async fn few_pods_of_many_groups(rows: &mut Rows) {
    let shop = Shop::open(site().await, 20, 5).await;
    shop.bind_all().await;
    let begun = shop.become_ready(BETWEEN).await;
    let registered = shop.all_registered().await;
    let calls = shop.calls("RegisterTargets");
    rows.tell(
        "20 x 5 become ready",
        &waits(&begun, &registered),
        calls,
        [0.1, 0.5, 20.0],
    );
    let begun = shop.delete(BETWEEN).await;
    let deregistered = shop.all_deregistered().await;
    let calls = shop.calls("DeregisterTargets");
    rows.tell(
        "20 x 5 are deleted",
        &waits(&begun, &deregistered),
        calls,
        [0.05, 0.25, 20.0],
    );
}

/// Two bindings over Services of 500 pods that are ready already.
async fn many_ready_pods_when_their_bindings_come(rows: &mut Rows) {
    let shop = Shop::open(site().await, 2, 500).await;
    shop.become_ready(Duration::ZERO).await;
    let begun = shop.bind_all().await;
    let registered = shop.all_registered().await;
    let calls = shop.calls("RegisterTargets");
    rows.tell(
        "2 bindings over 500 ready pods",
        &waits(&begun, &registered),
        calls,
        [2.0, 2.0, 8.0],
    );
}

/// Twice 500 pods that become ready as fast as the bench can write.
async fn many_pods_of_few_groups(rows: &mut Rows) {
    let shop = Shop::open(site().await, 2, 500).await;
    shop.bind_all().await;
    let begun = shop.become_ready(Duration::ZERO).await;
    let registered = shop.all_registered().await;
    let calls = shop.calls("RegisterTargets");
    rows.tell(
        "2 x 500 become ready",
        &waits(&begun, &registered),
        calls,
        [1.0, 1.0, 40.0],
    );
}

/// 200 groups of five pods, which need more calls than the account has at once; some are deleted meanwhile.
async fn more_groups_than_the_account_has_calls(rows: &mut Rows) {
    let site = site().await;
    site.aws
        .elb
        .faults()
        .throttle_registration(RATE, BURST as u32);
    let shop = Shop::open(site, 200, 5).await;
    shop.bind_all().await;
    let begun = shop.become_ready(Duration::ZERO).await;
    sleep(MEANWHILE).await;
    let deleted = shop.delete_of_registered(ENDING).await;
    let registered = shop.all_registered().await;
    let deregistered = shop.deregistered();
    let of_deleted = shop.calls("DeregisterTargets");
    let (first, last) = (
        begun.values().min().unwrap(),
        registered.values().max().unwrap(),
    );
    let taken = last.duration_since(*first).as_secs_f64();
    // Calls of both kinds share the budget.
    let oracle = (200.0 + of_deleted as f64 - BURST) / RATE;
    rows.tell_ratio(
        "200 x 5 become ready, over the oracle's time",
        taken / oracle,
        1.25,
    );
    let waits = waits(&deleted, &deregistered);
    rows.tell(
        "  eight of other groups are deleted meanwhile",
        &waits,
        of_deleted,
        [2.0, 2.0, 200.0],
    );
}

/// When something happened to each target, by its group's ARN and its address.
type Times = BTreeMap<(String, IpAddr), Timestamp>;

async fn site() -> Site {
    Site::registering(Path::new(BINARY), Reuse::Late).await
}

/// The time from each change until the target was registered, or deregistered.
fn waits(begun: &Times, ended: &Times) -> Vec<f64> {
    let each = begun
        .iter()
        .filter_map(|(target, begun)| Some((begun, ended.get(target)?)));
    let waits = each.map(|(begun, ended)| ended.duration_since(*begun).as_secs_f64());
    waits.collect()
}

/// The measured figures, compared with their limits.
#[derive(Default)]
struct Rows {
    past: usize,
}

impl Rows {
    /// Prints a row. `limits` are those of the median, of the 99th percentile, and of the number of calls.
    fn tell(&mut self, what: &str, waits: &[f64], calls: usize, limits: [f64; 3]) {
        let mut waits = waits.to_vec();
        waits.sort_by(f64::total_cmp);
        let at = |share: usize| waits[(waits.len() * share / 100).min(waits.len() - 1)];
        let figures = [at(50), at(99), calls as f64];
        let most = waits[waits.len() - 1];
        println!(
            "{what:48} {:7.3} s {:7.3} s {most:6.3} {calls:5}   {} s, {} s, {}",
            figures[0], figures[1], limits[0], limits[1], limits[2]
        );
        let pairs = figures.iter().zip(limits);
        self.past += usize::from(pairs.into_iter().any(|(figure, limit)| *figure > limit));
    }

    fn tell_ratio(&mut self, what: &str, figure: f64, limit: f64) {
        println!("{what:48} {figure:7.2}                          {limit}");
        self.past += usize::from(figure > limit);
    }

    fn verdict(self) -> ExitCode {
        match self.past {
            0 => ExitCode::SUCCESS,
            past => {
                println!("\n{past} rows are past a limit");
                ExitCode::FAILURE
            }
        }
    }
}
