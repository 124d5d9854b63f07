//! Measures what the creation of a pod costs on a real API server: without gates, where the policy of
//! `deploy/components/policy` injects them by 1 to 1,000 rules, and where the webhook alone does. Each round creates one
//! pod of each row, and begins with another row.
#![expect(
    clippy::unwrap_used,
    reason = "a bench that cannot go on may end by a panic"
)]

mod cluster;

use std::process::ExitCode;
use std::time::Duration;

use targetgate_sandbox::harness::waiting::until;
use targetgate_sandbox::spread::Spread;
use tokio::runtime::Runtime;
use tokio::time::Instant;

use crate::cluster::{Cluster, Injects};

/// Chosen: a run takes a minute.
const ROUNDS: usize = 300;
/// Rounds that are not counted: they fill caches and pools. Chosen.
const WARM_UP: usize = 20;
/// The most that a creation may cost with 1,000 rules, over one with one rule. Issue 16.
const LIMIT: f64 = 2.0;

/// What is compared, each in a namespace of its own.
const ROWS: [Row; 7] = [
    Row::new("no policy", "plain", Injects::Nothing, false),
    Row::new("1 rule, which matches", "one", Injects::Policy(1), true),
    Row::new(
        "100 rules, one matches",
        "hundred",
        Injects::Policy(100),
        true,
    ),
    Row::new("300 rules, one matches", "more", Injects::Policy(300), true),
    Row::new(
        "1,000 rules, one matches",
        "most",
        Injects::Policy(1000),
        true,
    ),
    Row::new(
        "1,000 rules, none matches",
        "none",
        Injects::Policy(1000),
        false,
    ),
    Row::new("the webhook alone", "webhook", Injects::Webhook, true),
];
/// The positions of the rows that the limit compares.
const COMPARED: (usize, usize) = (4, 1);

struct Row {
    name: &'static str,
    namespace: &'static str,
    injects: Injects,
    /// Whether its pods get a gate.
    gated: bool,
}

impl Row {
    const fn new(
        name: &'static str,
        namespace: &'static str,
        injects: Injects,
        gated: bool,
    ) -> Self {
        Self {
            name,
            namespace,
            injects,
            gated,
        }
    }
}

fn main() -> ExitCode {
    rustls::crypto::aws_lc_rs::default_provider()
        .install_default()
        .unwrap();
    Runtime::new().unwrap().block_on(measure())
}

async fn measure() -> ExitCode {
    let cluster = Cluster::start().await;
    for row in &ROWS {
        cluster.prepare(row.namespace, row.injects).await;
    }
    for row in &ROWS {
        until("its pods get their gates", async || {
            let gated = cluster.create(row.namespace, row.gated).await;
            (gated == row.gated).then_some(())
        })
        .await;
    }
    let mut taken = ROWS.map(|_| vec![]);
    for round in 0..WARM_UP + ROUNDS {
        for offset in 0..ROWS.len() {
            let at = (round + offset) % ROWS.len();
            let took = timed(&cluster, &ROWS[at]).await;
            if round >= WARM_UP {
                taken[at].push(took.as_secs_f64() * 1e3);
            }
        }
    }
    tell(&taken)
}

async fn timed(cluster: &Cluster, row: &Row) -> Duration {
    let begun = Instant::now();
    let gated = cluster.create(row.namespace, row.gated).await;
    let took = begun.elapsed();
    assert_eq!(gated, row.gated, "{}", row.name);
    cluster.clear(row.namespace).await;
    took
}

fn tell(taken: &[Vec<f64>]) -> ExitCode {
    println!("a creation, of {ROUNDS}      median [least to most]   p99");
    for (row, taken) in ROWS.iter().zip(taken) {
        let mut sorted = taken.clone();
        sorted.sort_by(f64::total_cmp);
        let p99 = sorted[sorted.len() * 99 / 100];
        println!("{:26} {} ms   {p99:.2} ms", row.name, Spread::of(taken));
    }
    let [many, one] = [COMPARED.0, COMPARED.1].map(|at| Spread::of(&taken[at]).median);
    println!("\n1,000 rules over one: {:.2}, limit {LIMIT}", many / one);
    match many / one <= LIMIT {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}
