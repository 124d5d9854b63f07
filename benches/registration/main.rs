//! Measures how soon targetgate calls `RegisterTargets` and `DeregisterTargets`, and how often, on a real API server
//! with the sandbox's ELB. The bench is the kubelet: it writes that containers are ready, and deletes pods.
//!
//! A wait begins before the request that changes a pod is sent, and ends when the call that names its group for the
//! last time arrives at ELB, so that it includes the API server's own time and is never too short.
#![expect(
    clippy::unwrap_used,
    reason = "a bench that cannot go on may end by a panic"
)]

mod pods;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use jiff::Timestamp;
use targetgate_sandbox::elb::log::CallOutcome;
use targetgate_sandbox::harness::site::Site;
use targetgate_sandbox::kubelet::Reuse;
use tokio::runtime::Runtime;
use tokio::time::sleep;

use crate::pods::{Begun, Shop};

const BINARY: &str = env!("CARGO_BIN_EXE_targetgate");
/// The budget that registration and deregistration share: calls at once, and calls a second after that. Contract 8.
const BURST: f64 = 20.0;
const RATE: f64 = 4.0;
/// The budget is full again after that time, and targets are collected for less. Contract 8.
const REST: Duration = Duration::from_secs(6);
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
    more_groups_than_the_budget_has_calls(rows).await;
}

/// 20 groups of five pods.
async fn few_pods_of_many_groups(rows: &mut Rows) {
    let shop = Shop::open(site().await, 20, 5).await;
    shop.bind_all().await;
    let begun = shop.become_ready(BETWEEN).await;
    let calls = shop.calls_of("RegisterTargets").await;
    rows.tell(
        "20 x 5 become ready",
        &waits(&begun, &calls),
        &calls,
        [0.1, 0.5, 20.0],
    );
    sleep(REST).await;
    let begun = shop.delete(BETWEEN).await;
    let calls = shop.calls_of("DeregisterTargets").await;
    rows.tell(
        "20 x 5 are deleted",
        &waits(&begun, &calls),
        &calls,
        [0.05, 0.25, 20.0],
    );
}

/// Two bindings over Services of 500 pods that are ready already.
async fn many_ready_pods_when_their_bindings_come(rows: &mut Rows) {
    let shop = Shop::open(site().await, 2, 500).await;
    shop.become_ready(Duration::ZERO).await;
    let begun = shop.bind_all().await;
    let calls = shop.calls_of("RegisterTargets").await;
    rows.tell(
        "2 bindings over 500 ready pods",
        &waits(&begun, &calls),
        &calls,
        [2.0, 2.0, 8.0],
    );
}

/// Twice 500 pods that become ready as fast as the bench can write.
async fn many_pods_of_few_groups(rows: &mut Rows) {
    let shop = Shop::open(site().await, 2, 500).await;
    shop.bind_all().await;
    let begun = shop.become_ready(Duration::ZERO).await;
    let calls = shop.calls_of("RegisterTargets").await;
    let latest = latest_call_for_each(&begun, &calls);
    rows.tell("2 x 500 become ready", &latest, &calls, [1.0, 1.0, 40.0]);
}

/// 200 groups of five pods, which need more calls than the budget has at once; some are deleted meanwhile.
async fn more_groups_than_the_budget_has_calls(rows: &mut Rows) {
    let shop = Shop::open(site().await, 200, 5).await;
    shop.bind_all().await;
    let begun = shop.become_ready(Duration::ZERO).await;
    sleep(Duration::from_secs(2)).await;
    let deleted = shop.delete_one_of_each_registered().await;
    let calls = shop.calls_of("RegisterTargets").await;
    let first = begun.values().flatten().min().unwrap();
    let last = calls.values().flatten().max().unwrap();
    let taken = last.duration_since(*first).as_secs_f64();
    let ended = shop.calls_so_far("DeregisterTargets");
    let number = |calls: &Calls| calls.values().map(Vec::len).sum::<usize>() as f64;
    // Calls of both kinds share the budget.
    let oracle = (200.0 + number(&ended) - BURST).max(0.0) / RATE;
    rows.tell_one(
        "200 x 5 become ready, over the oracle's time",
        taken / oracle,
        1.25,
    );
    rows.tell(
        "  of them deleted meanwhile",
        &waits(&deleted, &ended),
        &ended,
        [2.0, 2.0, 200.0],
    );
}

/// When calls that succeeded arrived, by group.
type Calls = BTreeMap<String, Vec<Timestamp>>;

async fn site() -> Site {
    Site::registering(Path::new(BINARY), Reuse::Late).await
}

/// The time from each change until the last call for its group.
fn waits(begun: &Begun, calls: &Calls) -> Vec<f64> {
    let each = begun
        .iter()
        .filter_map(|(arn, begun)| Some((begun, calls.get(arn)?.iter().max()?)));
    let waits = each.flat_map(|(begun, last)| {
        begun
            .iter()
            .map(|begun| last.duration_since(*begun).as_secs_f64())
    });
    waits.collect()
}

/// The time from each change until the next call for its group that can name it; that one is as late as any.
fn latest_call_for_each(begun: &Begun, calls: &Calls) -> Vec<f64> {
    // A target is named by the first call that begins after its own change was seen: the one after the next is the
    // latest that can.
    let mut waits = vec![];
    for (arn, begun) in begun {
        for begun in begun {
            let mut later = calls[arn].iter().filter(|at| *at > begun);
            let call = later.clone().nth(1).or(later.next_back()).unwrap();
            waits.push(call.duration_since(*begun).as_secs_f64());
        }
    }
    waits
}

/// The measured figures, compared with their limits.
#[derive(Default)]
struct Rows {
    past: usize,
}

impl Rows {
    /// Prints a row. `limits` are those of the median, of the 99th percentile, and of the number of calls.
    fn tell(&mut self, what: &str, waits: &[f64], calls: &Calls, limits: [f64; 3]) {
        let mut waits = waits.to_vec();
        waits.sort_by(f64::total_cmp);
        let at = |share: usize| waits[(waits.len() * share / 100).min(waits.len() - 1)];
        let calls: usize = calls.values().map(Vec::len).sum();
        let figures = [at(50), at(99), calls as f64];
        let most = waits[waits.len() - 1];
        println!(
            "{what:48} {:7.3} s {:7.3} s {most:6.3} {calls:5}   {} s, {} s, {}",
            figures[0], figures[1], limits[0], limits[1], limits[2]
        );
        let pairs = figures.iter().zip(limits);
        self.past += usize::from(pairs.into_iter().any(|(figure, limit)| *figure > limit));
    }

    fn tell_one(&mut self, what: &str, figure: f64, limit: f64) {
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

/// The calls of an action that succeeded.
fn calls(site: &Site, action: &str) -> Calls {
    let mut of = Calls::new();
    let calls = site.aws.elb.calls().into_iter();
    for call in calls.filter(|call| call.action == action && call.outcome == CallOutcome::Ok) {
        of.entry(call.arns[0].clone()).or_default().push(call.at);
    }
    of
}
