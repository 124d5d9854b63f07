//! What our pod hook costs over HTTPS/1.1, next to a route that only reads the body and answers a
//! review of the same length: same process, accept loop and TLS.
//!
//! The load comes from a process of its own, so that the CPU time of this one is the server's. Each
//! round measures both routes, one after the other; the ratio is taken within the round.
#![expect(
    clippy::unwrap_used,
    reason = "a bench that cannot go on may end by a panic"
)]

mod load;
mod server;

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitCode, Stdio};
use std::time::Duration;

/// Rounds of each comparison.
const ROUNDS: usize = 9;
/// Requests a second, and how many, for the latency at a fixed rate.
const PACE: (usize, usize) = (400, 1200);

/// A review, and how it is measured.
struct Case {
    name: &'static str,
    /// Requests in a round, for each route.
    requests: usize,
    /// The hook's CPU over the no-op's is to be at most this.
    limit: f64,
}

const CASES: [Case; 3] = [
    Case {
        name: "small",
        requests: 16_000,
        limit: 1.5,
    },
    Case {
        name: "typical",
        requests: 16_000,
        limit: 1.8,
    },
    Case {
        name: "large",
        requests: 2_400,
        limit: 2.4,
    },
];
/// p99 over the no-op's is to be at most this.
const P99_LIMIT: f64 = 1.35;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    if let [_, mode, address, ca] = &arguments[..]
        && mode == load::MODE
    {
        load::run(address.parse().unwrap(), Path::new(ca));
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
    let address = server::start(&ca);
    let mut load = Load::start(address, &ca);
    println!("50 Services and bindings; HTTPS/1.1, 8 connections, one server thread");
    println!("{ROUNDS} rounds; median [least to most]\n");
    println!(
        "{:8} {:>18} {:>18} {:>25} {:>6} {:>25} {:>6}",
        "review", "no-op CPU", "hook CPU", "CPU ratio", "limit", "p99 ratio", "limit"
    );
    let mut within = true;
    for case in &CASES {
        // The first requests pay for what is kept afterwards.
        for route in server::ROUTES {
            load.burst(route, case.name, case.requests / 4);
        }
        let cpu = Measured::rounds(|route| cpu_of(&mut load, route, case));
        let p99 = Measured::rounds(|route| load.p99(route, case.name));
        println!(
            "{:8} {:>18} {:>18} {:>25} {:>6} {:>25} {:>6}",
            case.name,
            format!("{:.1} us", Spread::of(&cpu.noop).median / 1e3),
            format!("{:.1} us", Spread::of(&cpu.hook).median / 1e3),
            cpu.ratio().to_string(),
            case.limit,
            p99.ratio().to_string(),
            P99_LIMIT,
        );
        within &= cpu.ratio().median <= case.limit && p99.ratio().median <= P99_LIMIT;
    }
    match within {
        true => ExitCode::SUCCESS,
        false => {
            println!("\na median is past its limit");
            ExitCode::FAILURE
        }
    }
}

/// Nanoseconds of this process's CPU for each request.
fn cpu_of(load: &mut Load, route: &str, case: &Case) -> f64 {
    let before = cpu_time();
    load.burst(route, case.name, case.requests);
    let spent = cpu_time() - before;
    spent.as_nanos() as f64 / case.requests as f64
}

/// What the threads of this process have spent on a CPU. No thread ends while the bench runs.
fn cpu_time() -> Duration {
    let threads = std::fs::read_dir("/proc/self/task").unwrap();
    let nanoseconds = threads.map(|thread| {
        let text = std::fs::read_to_string(thread.unwrap().path().join("schedstat")).unwrap();
        let first = text.split(' ').next().unwrap();
        first.parse::<u64>().unwrap()
    });
    Duration::from_nanos(nanoseconds.sum())
}

/// Both routes, round by round.
struct Measured {
    noop: Vec<f64>,
    hook: Vec<f64>,
}

impl Measured {
    /// Who goes first changes from round to round.
    fn rounds(mut measure: impl FnMut(&str) -> f64) -> Self {
        let [noop, hook] = server::ROUTES;
        let mut measured = Self {
            noop: vec![],
            hook: vec![],
        };
        for round in 0..ROUNDS {
            if round % 2 == 0 {
                measured.noop.push(measure(noop));
                measured.hook.push(measure(hook));
            } else {
                measured.hook.push(measure(hook));
                measured.noop.push(measure(noop));
            }
        }
        measured
    }

    fn ratio(&self) -> Spread {
        let pairs = self.hook.iter().zip(&self.noop);
        let ratios: Vec<f64> = pairs.map(|(hook, noop)| hook / noop).collect();
        Spread::of(&ratios)
    }
}

struct Spread {
    least: f64,
    median: f64,
    most: f64,
}

impl Spread {
    fn of(values: &[f64]) -> Self {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        Self {
            least: sorted[0],
            median: sorted[sorted.len() / 2],
            most: sorted[sorted.len() - 1],
        }
    }
}

impl std::fmt::Display for Spread {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            least,
            median,
            most,
        } = self;
        write!(f, "{median:.2} [{least:.2} to {most:.2}]")
    }
}

/// The process that sends the requests, told what to do line by line.
struct Load {
    child: Child,
    orders: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Load {
    fn start(address: SocketAddr, ca: &Path) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .arg(load::MODE)
            .arg(address.to_string())
            .arg(ca)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        Self {
            orders: child.stdin.take().unwrap(),
            answers: BufReader::new(child.stdout.take().unwrap()),
            child,
        }
    }

    /// As many requests as fast as they are answered.
    fn burst(&mut self, route: &str, review: &str, requests: usize) {
        self.order(&format!("{route} {review} {requests} 0"));
    }

    /// The 99th percentile at a fixed rate, in nanoseconds.
    fn p99(&mut self, route: &str, review: &str) -> f64 {
        let (rate, requests) = PACE;
        self.order(&format!("{route} {review} {requests} {rate}"))
    }

    fn order(&mut self, order: &str) -> f64 {
        writeln!(self.orders, "{order}").unwrap();
        let mut answer = String::new();
        self.answers.read_line(&mut answer).unwrap();
        answer.trim().parse().unwrap()
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
