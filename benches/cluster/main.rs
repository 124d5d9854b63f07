//! Measures what targetgate uses in clusters of many pods: the real binary runs as its own process, of which
//! Linux reports CPU time and resident memory.
//!
//! `--idle DURATION` sets how long it is watched while nothing happens. The limit is for ten minutes, and the
//! default is one. `--only real`, `sandbox` or `targets` measures one of the clusters. `--program FILE` measures
//! another program than the one that is built with the bench, such as that of the image (`deploy/static-binary`).
#![expect(
    clippy::unwrap_used,
    reason = "a bench that cannot go on may end by a panic"
)]

mod objects;
mod process;
mod real;
mod sandbox;
mod targets;

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use targetgate_sandbox::load;
use targetgate_sandbox::spread::Spread;
use targetgate_sandbox::usage::Memory;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    if load::is_asked_for(&arguments) {
        return ExitCode::SUCCESS;
    }
    if !Path::new("/proc/self/task").exists() {
        println!("skipped: CPU time is read from /proc, which is Linux's");
        return ExitCode::SUCCESS;
    }
    let idle = argument("--idle").map_or(Duration::from_mins(1), |text| {
        humantime::parse_duration(&text).unwrap()
    });
    let only = argument("--only");
    let is_asked_for = |cluster| only.as_deref().is_none_or(|only| only == cluster);
    rustls::crypto::aws_lc_rs::default_provider()
        .install_default()
        .unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let mut rows = Rows::default();
    if is_asked_for("real") {
        runtime.block_on(real::measure(&mut rows, idle));
    }
    if is_asked_for("targets") {
        runtime.block_on(targets::measure(&mut rows));
    }
    if is_asked_for("sandbox") {
        runtime.block_on(sandbox::measure(&mut rows));
    }
    rows.verdict()
}

/// The word after this flag.
fn argument(flag: &str) -> Option<String> {
    std::env::args().skip_while(|word| word != flag).nth(1)
}

/// The measured figures, compared with their limits.
#[derive(Default)]
struct Rows {
    past: usize,
}

impl Rows {
    fn title(&self, text: &str) {
        println!("\n{text}");
    }

    /// Prints the median, the least and the most of these values, and the limit.
    fn tell(&mut self, what: &str, values: &[f64], unit: &str, limit: f64) {
        self.tell_spread(what, &Spread::of(values), unit, limit);
    }

    /// Prints resident memory, and how much of it is the process's own, and not pages of the program's file.
    fn tell_memory(&mut self, what: &str, memory: &[Memory], limit: f64) {
        let mebibytes = |part: fn(&Memory) -> u64| -> Vec<f64> {
            let parts = memory.iter().map(part);
            parts.map(|part| part as f64 / 1024.0).collect()
        };
        self.tell(what, &mebibytes(|memory| memory.resident), "MiB", limit);
        let own = Spread::of(&mebibytes(|memory| memory.own));
        println!("    of that its own, not of the program's file {own:>28} MiB");
    }

    fn tell_spread(&mut self, what: &str, spread: &Spread, unit: &str, limit: f64) {
        println!("  {what:44} {spread:>30} {unit:7} limit {limit:.2}");
        self.past += usize::from(spread.median > limit);
    }

    fn verdict(&self) -> ExitCode {
        match self.past {
            0 => ExitCode::SUCCESS,
            past => {
                println!("\nmedians past their limit: {past}");
                ExitCode::FAILURE
            }
        }
    }
}
