//! Measures how long after ELB's `healthy` a gate opens, on the real API server.
//!
//! `cargo bench --bench flips -- ROW…` runs the named rows, or all of them. The README.md in this folder
//! describes the rows, and what is real about them.

mod bindings;
mod figures;
mod floor;
mod observer;
mod requests;
mod rollout;
mod usage;
mod world;

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail};
use serde_json::json;
use tokio::time::sleep;

use self::bindings::binding;
use self::figures::Held;
use self::requests::{create, each};
use self::rollout::{Flips, Group, Rollout};
use self::usage::PRODUCT;
use self::world::{AT_ONCE, Gate, Place, World};

/// The pause between two rollouts, in which budgets fill up. Chosen.
const PAUSE: Duration = Duration::from_secs(6);
/// The names of the rows that are not rollouts.
const BINDINGS: &str = "bindings";
const FLOOR: &str = "floor";

/// Rollouts of the same groups, one after the other.
struct Row {
    name: &'static str,
    groups: usize,
    pods_of_each: usize,
    /// The time of a call to ELB.
    call: Duration,
    /// The calls per second that ELB accepts, and its burst, if it throttles.
    throttle: Option<(f64, u32)>,
    /// The figures of the incumbent: p50 and p99 in seconds, and Describe calls.
    incumbent: (f64, f64, usize),
    /// The limits of each rollout.
    limits: &'static [Limits],
}

/// The limits of a rollout.
#[derive(Clone, Copy)]
struct Limits {
    /// The seconds from healthy to open.
    p50: f64,
    p99: Option<f64>,
    /// The Describe calls.
    calls: Option<usize>,
    /// The percentage of throttled calls.
    throttled: Option<f64>,
}

/// The goals of the product as limits, and what was measured of the incumbent in the same way.
const ROWS: [Row; 4] = [
    Row {
        name: "20x5",
        groups: 20,
        pods_of_each: 5,
        call: Duration::from_millis(40),
        throttle: None,
        incumbent: (9.9, 14.3, 123),
        limits: &[
            Limits {
                p50: 1.0,
                p99: Some(2.5),
                calls: None,
                throttled: None,
            },
            Limits {
                p50: 1.0,
                p99: Some(2.5),
                calls: Some(123),
                throttled: None,
            },
        ],
    },
    Row {
        name: "200x5",
        groups: 200,
        pods_of_each: 5,
        call: Duration::from_millis(40),
        throttle: None,
        incumbent: (10.3, 28.1, 403),
        limits: &[Limits {
            p50: 4.0,
            p99: Some(8.0),
            calls: None,
            throttled: None,
        }],
    },
    Row {
        name: "200x5-throttled",
        groups: 200,
        pods_of_each: 5,
        call: Duration::from_millis(100),
        throttle: Some((10.0, 40)),
        incumbent: (12.0, 23.8, 296),
        limits: &[
            Limits {
                p50: 11.0,
                p99: Some(22.0),
                calls: None,
                throttled: Some(5.0),
            },
            Limits {
                p50: 9.5,
                p99: None,
                calls: None,
                throttled: Some(5.0),
            },
        ],
    },
    Row {
        name: "2x500",
        groups: 2,
        pods_of_each: 500,
        call: Duration::from_millis(40),
        throttle: None,
        incumbent: (22.9, 27.0, 68),
        limits: &[Limits {
            p50: 1.0,
            p99: Some(3.0),
            calls: None,
            throttled: None,
        }],
    },
];

fn main() -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime of one thread needs two file descriptors");
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    match runtime.block_on(bench()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => {
            println!("\na row is past its limit");
            ExitCode::FAILURE
        }
        Err(error) => {
            println!("\nthe bench has failed: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn bench() -> anyhow::Result<bool> {
    let chosen = chosen()?;
    println!(
        "On a real kube-apiserver and etcd, with kube-controller-manager, and the sandbox's ELB over\n\
         sockets. A latency is the time from ELB's healthy to the open gate, as a watch sees it.\n"
    );
    let world = World::start().await?;
    let mut within = true;
    for name in chosen {
        let place = Place::new(&world, name).await?;
        let row = ROWS.iter().find(|row| row.name == name);
        let ran = match (name, row) {
            (_, Some(row)) => roll(&world, &place, row).await,
            (BINDINGS, None) => bindings::run(&world, &place).await,
            (_, None) => floor::run(&place).await,
        };
        place.leave().await?;
        // The bench goes on with the next row.
        within &= ran.unwrap_or_else(|error| {
            println!("{name}: failed: {error:#}");
            false
        });
    }
    world.leave().await?;
    Ok(within)
}

/// The rows that the command names, or all.
fn chosen() -> anyhow::Result<Vec<&'static str>> {
    let names = ROWS.map(|row| row.name).into_iter();
    let all: Vec<&str> = names.chain([BINDINGS, FLOOR]).collect();
    let mut chosen = Vec::new();
    // `cargo bench` adds flags of its own.
    for word in std::env::args()
        .skip(1)
        .filter(|word| !word.starts_with('-'))
    {
        match all.iter().find(|name| **name == word) {
            Some(name) => chosen.push(*name),
            None => bail!("there is no row '{word}'; there are {}", all.join(", ")),
        }
    }
    Ok(if chosen.is_empty() { all } else { chosen })
}

/// Runs the rollouts of a row and prints them. Returns whether they are within their limits.
async fn roll(world: &World, place: &Place, row: &Row) -> anyhow::Result<bool> {
    let gate = Gate::start(world, place, 1).await?;
    gate.aws.elb.faults().delay(row.call);
    let groups = groups(place, &gate, row.groups).await?;
    let mut within = true;
    for (number, limits) in (0..).zip(row.limits) {
        let rollout = Rollout::new(place, &gate, number, &groups, row.pods_of_each);
        if let Some((rate, burst)) = row.throttle {
            gate.aws.elb.faults().throttle(rate, burst);
        }
        let flips = rollout.run().await;
        let flips = flips.with_context(|| format!("in rollout {}", number + 1))?;
        within &= print(row, number, *limits, &flips);
        rollout.remove().await?;
        sleep(PAUSE).await;
    }
    Ok(within)
}

/// Creates target groups, with a Service and a binding for each.
async fn groups(place: &Place, gate: &Gate, count: usize) -> anyhow::Result<Vec<Group>> {
    let names: Vec<String> = (0..count).map(|index| format!("g{index:03}")).collect();
    let arns = gate.target_groups(&names)?;
    place.services(&names).await?;
    let groups: Vec<Group> = names
        .into_iter()
        .zip(arns)
        .map(|(name, arn)| Group { name, arn })
        .collect();
    let path = place.bindings();
    each(AT_ONCE, &groups, async |Group { name, arn }| {
        let service = json!({"name": name, "port": 80});
        let spec = json!({"targetGroupARN": arn, "targetType": "ip", "serviceRef": service});
        create(&place.client, &path, &binding(name, spec)).await
    })
    .await?;
    let last = groups.last().context("a row has groups")?;
    gate.gives_gates(place, &last.name).await?;
    Ok(groups)
}

/// Prints a rollout. Returns whether it is within its limits.
fn print(row: &Row, number: u8, limits: Limits, flips: &Flips) -> bool {
    let calls = flips.calls;
    let share = 100.0 * calls.throttled as f64 / calls.total().max(1) as f64;
    let held = [
        Held::seconds(flips.latencies.percentile(50), Some(limits.p50)),
        Held::seconds(flips.latencies.percentile(99), limits.p99),
        Held::seconds(flips.latencies.most(), None),
        Held::count(calls.total(), limits.calls),
        Held::share(share, limits.throttled),
        Held::count(flips.early, Some(0)),
    ];
    let [p50, p99, most, total, throttled, early] = held.each_ref().map(|held| &held.text);
    println!(
        "{}, rollout {}: p50 {p50}, p99 {p99}, most {most}; {total} Describe calls, {throttled} throttled; {early} early",
        row.name,
        number + 1,
    );
    let (p50, p99, calls) = row.incumbent;
    println!("    incumbent: p50 {p50} s, p99 {p99} s, {calls} calls");
    let (now, most) = flips.memory;
    println!(
        "    {PRODUCT}: {:.2} CPU s, RSS {now:.1} MiB, at most {most:.1} MiB; {} DescribeTargetGroups",
        flips.spent.of(PRODUCT).as_secs_f64(),
        flips.calls.target_groups,
    );
    println!("    {}", flips.spent);
    held.iter().all(|held| held.within)
}
