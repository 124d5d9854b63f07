//! Measures how soon targetgate calls `RegisterTargets` and `DeregisterTargets`, and how often, on a real API server
//! with the sandbox's ELB. But for the row of gates, the bench is the kubelet: it writes that containers are ready, and
//! deletes pods.
//!
//! A wait begins before the request that changes a pod is sent, and ends when ELB takes the call in that names the
//! pod's target, so that it includes the API server's own time.
//!
//! `cargo bench --bench registration -- ROW…` measures the named rows, or all of them.
#![expect(
    clippy::unwrap_used,
    reason = "a bench that cannot go on may end by a panic"
)]

mod gates;
mod repairs;
mod rows;

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use targetgate_sandbox::harness::many_groups::{ManyGroups, waits};
use targetgate_sandbox::harness::site::Site;
use targetgate_sandbox::kubelet::Reuse;
use tokio::runtime::Runtime;
use tokio::time::sleep;

use crate::rows::Rows;

const BINARY: &str = env!("CARGO_BIN_EXE_targetgate");
/// What the account allows, and what the budget of registration and deregistration begins with: calls at once, and
/// calls a second after that. Contract 8.
const BURST: f64 = 20.0;
const RATE: f64 = 4.0;
/// So long after the pods of many groups became ready, some are deleted. Chosen: the calls at once are
/// used up.
const MEANWHILE: Duration = Duration::from_secs(3);
/// So many pods, each of another group, are deleted then. Seven calls take 1.75 s at that rate, and what was in flight
/// another quarter of a second, so that all may have theirs within two seconds.
const ENDING: usize = 7;
/// Pods that change together begin one group after the other, so that this machine is not what is measured. Chosen.
const BETWEEN: Duration = Duration::from_millis(50);

/// The names of the rows.
const ROWS: [&str; 6] = ["20x5", "bound", "2x500", "200x5", "gates", "by-hand"];

fn main() -> ExitCode {
    let named = named();
    if let Some(unknown) = named.iter().find(|name| !ROWS.contains(&name.as_str())) {
        println!("there is no row '{unknown}', only {}", ROWS.join(", "));
        return ExitCode::FAILURE;
    }
    rustls::crypto::aws_lc_rs::default_provider()
        .install_default()
        .unwrap();
    let mut rows = Rows::default();
    let runtime = Runtime::new().unwrap();
    for name in ROWS {
        if named.is_empty() || named.iter().any(|word| word == name) {
            runtime.block_on(measure(name, &mut rows));
        }
    }
    rows.verdict()
}

/// The rows that the command names. `make bench` gives all benches the same flags, such as `--idle 10m`, and cargo adds
/// `--bench`.
fn named() -> Vec<String> {
    let mut words = std::env::args().skip(1);
    let mut named = vec![];
    while let Some(word) = words.next() {
        match &*word {
            "--bench" => {}
            flag if flag.starts_with('-') => _ = words.next(),
            _ => named.push(word),
        }
    }
    named
}

async fn measure(name: &str, rows: &mut Rows) {
    match name {
        "20x5" => few_pods_of_many_groups(rows).await,
        "bound" => many_ready_pods_when_their_bindings_come(rows).await,
        "2x500" => many_pods_of_few_groups(rows).await,
        "200x5" => more_groups_than_the_account_has_calls(rows).await,
        "gates" => gates::measure(rows).await,
        _ => repairs::measure(rows).await,
    }
}

/// 20 groups of five pods.
async fn few_pods_of_many_groups(rows: &mut Rows) {
    let many = ManyGroups::create(site().await, 20, 5).await;
    many.bind_all().await;
    let begun = many.become_ready(BETWEEN).await;
    let registered = many.all_registered().await;
    let calls = many.site.calls("RegisterTargets");
    rows.tell(
        "20 x 5 become ready",
        &waits(&begun, &registered),
        calls,
        [0.1, 0.5, 20.0],
    );
    let begun = many.delete(BETWEEN).await;
    let deregistered = many.all_deregistered().await;
    let calls = many.site.calls("DeregisterTargets");
    rows.tell(
        "20 x 5 are deleted",
        &waits(&begun, &deregistered),
        calls,
        [0.05, 0.25, 20.0],
    );
}

/// Two bindings over Services of 500 pods that are ready already.
async fn many_ready_pods_when_their_bindings_come(rows: &mut Rows) {
    let many = ManyGroups::create(site().await, 2, 500).await;
    many.become_ready(Duration::ZERO).await;
    let begun = many.bind_all().await;
    let registered = many.all_registered().await;
    let calls = many.site.calls("RegisterTargets");
    rows.tell(
        "2 bindings over 500 ready pods",
        &waits(&begun, &registered),
        calls,
        [2.0, 2.0, 8.0],
    );
}

/// Twice 500 pods that become ready as fast as the bench can write.
async fn many_pods_of_few_groups(rows: &mut Rows) {
    let many = ManyGroups::create(site().await, 2, 500).await;
    many.bind_all().await;
    let begun = many.become_ready(Duration::ZERO).await;
    let registered = many.all_registered().await;
    let calls = many.site.calls("RegisterTargets");
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
    let faults = site.aws.elb.faults();
    faults.throttle_registration(RATE, BURST as u32);
    let many = ManyGroups::create(site, 200, 5).await;
    many.bind_all().await;
    let begun = many.become_ready(Duration::ZERO).await;
    sleep(MEANWHILE).await;
    let deleted = many.delete_of_registered(ENDING).await;
    let registered = many.all_registered().await;
    let deregistered = many.deregistered();
    let of_deleted = many.site.calls("DeregisterTargets");
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
    println!(
        "  {taken:.1} s, the oracle {oracle:.1} s; {} calls of RegisterTargets",
        many.site.calls("RegisterTargets")
    );
    let waits = waits(&deleted, &deregistered);
    rows.tell(
        "  seven of other groups are deleted meanwhile",
        &waits,
        of_deleted,
        [2.0, 2.0, ENDING as f64],
    );
}

async fn site() -> Site {
    Site::registering(Path::new(BINARY), Reuse::Late).await
}
