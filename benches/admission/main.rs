//! Compares our pod hook over HTTPS/1.1 with a route that only reads the body and answers a review of the same
//! length, in the same process, accept loop and TLS. Then it compares the hook in a namespace of many bindings
//! with the hook in one of few, and a new connection with one of rustls alone.
//!
//! The load comes from a process of its own, so that the CPU time of this process is the servers'. Each round
//! measures both sides, one after the other, and takes the ratio within the round.
#![expect(
    clippy::unwrap_used,
    reason = "a bench that cannot go on may end by a panic"
)]

mod server;

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use targetgate_sandbox::load::{self, Load};
use targetgate_sandbox::spread::Spread;
use targetgate_sandbox::usage;

/// The rounds of each comparison. Chosen.
const ROUNDS: usize = 9;
/// The requests per second and their number, for the latency at a fixed rate. Chosen.
const PACE: (usize, usize) = (400, 1200);

/// A review, and how it is measured.
struct Case {
    name: &'static str,
    /// The requests of each route in a round.
    requests: usize,
    /// The highest ratio of the hook's CPU to the no-op's.
    limit: f64,
    /// The same where drain is on, so that containers are read as well. Chosen.
    drain_limit: f64,
}

const CASES: [Case; 3] = [
    Case {
        name: "small",
        requests: 16_000,
        limit: 1.5,
        drain_limit: 1.7,
    },
    Case {
        name: "typical",
        requests: 16_000,
        limit: 1.8,
        drain_limit: 2.1,
    },
    Case {
        name: "large",
        requests: 2_400,
        limit: 2.4,
        drain_limit: 3.0,
    },
];
/// The highest ratio of the hook's p99 to the no-op's. Chosen.
const P99_LIMIT: f64 = 1.35;
/// The highest ratio of the hook's CPU with many bindings to that with few. Chosen.
const MANY_LIMIT: f64 = 1.3;
/// The connections at once, and the number of such bursts for each side of a round. Chosen.
const BURSTS: (usize, usize) = (64, 10);
/// The highest ratio of the CPU of a new connection to that with rustls alone. Chosen.
const CONNECTION_LIMIT: f64 = 1.15;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    if load::is_asked_for(&arguments) {
        return ExitCode::SUCCESS;
    }
    if !Path::new("/proc/self/task").exists() {
        println!("skipped: CPU time is read from /proc, which is Linux's");
        return ExitCode::SUCCESS;
    }
    compare()
}

fn compare() -> ExitCode {
    let folder = tempfile::tempdir().unwrap();
    let ca = folder.path().join("ca.crt");
    let servers = server::start(&ca);
    let mut load = Load::start(servers.few, &ca);
    println!(
        "{} Services and bindings; HTTPS/1.1, 8 connections, one server thread",
        server::FEW
    );
    println!("{ROUNDS} rounds; median [least to most]\n");
    let mut within = over_no_op(&mut load, |case| case.limit);
    println!("\ndrain on:");
    within &= over_no_op(&mut Load::start(servers.drain, &ca), |case| {
        case.drain_limit
    });
    within &= over_few(&mut load, &mut Load::start(servers.many, &ca));
    within &= over_rustls(&mut load, &mut Load::start(servers.rustls, &ca));
    match within {
        true => ExitCode::SUCCESS,
        false => {
            println!("\na median is past its limit");
            ExitCode::FAILURE
        }
    }
}

/// Compares the hook with a route that does nothing.
fn over_no_op(load: &mut Load, limit: impl Fn(&Case) -> f64) -> bool {
    println!(
        "{:8} {:>18} {:>18} {:>25} {:>6} {:>25} {:>6}",
        "review", "no-op CPU", "hook CPU", "CPU ratio", "limit", "p99 ratio", "limit"
    );
    let mut within = true;
    for case in &CASES {
        // The first requests fill caches and pools.
        for route in server::ROUTES {
            load.burst(route, case.name, case.requests / 4);
        }
        let route = |hook| server::ROUTES[usize::from(hook)];
        let cpu = Measured::rounds(|hook| cpu_of(load, route(hook), case));
        let p99 = Measured::rounds(|hook| load.p99(route(hook), case.name, PACE));
        println!(
            "{:8} {:>18} {:>18} {:>25} {:>6} {:>25} {:>6}",
            case.name,
            cpu.each(0),
            cpu.each(1),
            cpu.ratio(),
            limit(case),
            p99.ratio(),
            P99_LIMIT,
        );
        within &= cpu.ratio().median <= limit(case) && p99.ratio().median <= P99_LIMIT;
    }
    within
}

/// Compares the hook in a namespace of many bindings with the hook in one of few.
fn over_few(few: &mut Load, many: &mut Load) -> bool {
    let hook = server::ROUTES[1];
    let case = &CASES[1];
    many.burst(hook, case.name, case.requests / 4);
    let cpu = Measured::rounds(|of_many| {
        let load = if of_many { &mut *many } else { &mut *few };
        cpu_of(load, hook, case)
    });
    println!(
        "\n{} bindings over {}, {} review: {}, {}, CPU ratio {}, limit {MANY_LIMIT}",
        server::MANY,
        server::FEW,
        case.name,
        cpu.each(0),
        cpu.each(1),
        cpu.ratio(),
    );
    cpu.ratio().median <= MANY_LIMIT
}

/// Compares a new connection for one request with the same on rustls alone, many at once. An answer other than
/// `200` ends the bench, so all connections are served.
fn over_rustls(ours: &mut Load, rustls: &mut Load) -> bool {
    let (connections, times) = BURSTS;
    let cpu = Measured::rounds(|of_ours| {
        let load = if of_ours { &mut *ours } else { &mut *rustls };
        let before = cpu_time();
        for _ in 0..times {
            load.connect(server::ROUTES[0], "small", connections);
        }
        let spent = cpu_time() - before;
        spent.as_nanos() as f64 / (connections * times) as f64
    });
    println!(
        "\n{connections} new connections at once, P-256, over rustls alone: {}, {}, CPU ratio {}, limit {CONNECTION_LIMIT}",
        cpu.each(0),
        cpu.each(1),
        cpu.ratio(),
    );
    cpu.ratio().median <= CONNECTION_LIMIT
}

/// This process's CPU time for each request, in nanoseconds.
fn cpu_of(load: &mut Load, route: &str, case: &Case) -> f64 {
    let before = cpu_time();
    load.burst(route, case.name, case.requests);
    let spent = cpu_time() - before;
    spent.as_nanos() as f64 / case.requests as f64
}

/// The CPU time of all threads of this process. No thread ends while the bench runs.
fn cpu_time() -> Duration {
    usage::cpu(std::process::id()).unwrap()
}

/// The values of both sides of a comparison, round by round.
#[derive(Default)]
struct Measured([Vec<f64>; 2]);

impl Measured {
    /// Measures both sides in each round. `measure` is told whether it is the second side's turn. The side that
    /// goes first changes from round to round.
    fn rounds(mut measure: impl FnMut(bool) -> f64) -> Self {
        let mut measured = Self::default();
        for round in 0..ROUNDS {
            for turn in 0..2 {
                let side = (round + turn) % 2;
                measured.0[side].push(measure(side == 1));
            }
        }
        measured
    }

    /// The median of a side in microseconds.
    fn each(&self, side: usize) -> String {
        format!("{:.1} us", Spread::of(&self.0[side]).median / 1e3)
    }

    fn ratio(&self) -> Spread {
        Spread::of_ratios(&self.0[1], &self.0[0])
    }
}
