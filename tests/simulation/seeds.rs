//! Runs seeds: many at once, one alone, one twice.

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use parking_lot::Mutex;

use crate::outcome::{Outcome, simulate};

/// The seeds of an ordinary test run. Chosen.
const SEEDS: u64 = 200;
/// The failures after which no more seeds are begun. Chosen.
const ENOUGH: u64 = 3;

/// Parts of the trace, each of which must occur in some seed. Otherwise the simulation no longer reaches it.
const REACHED: [&str; 54] = [
    ": healthy\n",
    ": healthy at a used address\n",
    ": not selected\n",
    ": gone\n",
    "/status done 409\n",
    "/status Denied(429)\n",
    "/status Unanswered",
    "/status Slow",
    "/status Late",
    " 400 \n",
    "hears DescribeTargetGroups",
    "PATCH /apis/admissionregistration.k8s.io",
    " is down\n",
    ", faster than at first\n",
    "the Lease is out of reach of ",
    "pods are out of reach of ",
    "kubelet PATCH ",
    "/status Lost",
    "/status Overtaken",
    "throttles all that the other account asks\n",
    "writes are well\n",
    " is dropped\n",
    ": it follows\n",
    " of a next page\n",
    ": by its age\n",
    ": unused\n",
    " is drained\n",
    " is copied, drained Some(",
    " deregisters above the floor\n",
    " is late with a call\n",
    " Lost: 200\n",
    " Passes: 400\n",
    " another registers ",
    " no more\n",
    "outside the VPC are {\"",
    "AWS has its common quotas\n",
    " makes room\n",
    " deregisters what is given up\n",
    " is back, and no watch says so\n",
    " sees no pods\n",
    " shares the group of ",
    "registration is asked for ",
    " incumb deregisters ",
    " incumb registers ",
    " leaves the group that it shares\n",
    " shares a group of another cluster\n",
    " are emptied\n",
    "an endpoint is in (",
    " flip\n",
    " is 9090\n",
    " becomes a slice of ",
    " selects None\n",
    " are judged\n",
    "watches of endpointslices are late",
];

/// Runs one seed on this thread.
fn run(seed: u64) -> Outcome {
    simulate(seed, async |driver| {
        driver.drive().await;
        if driver.world.trace.violations().is_empty() {
            driver.end().await;
        }
    })
}

/// The trace of a seed.
///
/// # Errors
/// Why it fails, and how to repeat it.
fn attempt(seed: u64) -> Result<String, String> {
    let violations = match catch_unwind(AssertUnwindSafe(|| run(seed))) {
        Ok(outcome) if outcome.violations.is_empty() => return Ok(outcome.trace),
        Ok(outcome) => outcome.violations,
        Err(_) => vec!["it panicked".to_owned()],
    };
    Err(format!(
        "seed {seed}: {}\n  again, with its trace: \
         SEED={seed} cargo test --test simulation one_seed -- --nocapture",
        violations.join("\n  ")
    ))
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

#[test]
fn no_seed_breaks_an_invariant() {
    let first = number("FIRST_SEED").unwrap_or(1);
    let seeds = first..first + number("SEEDS").unwrap_or(SEEDS);
    let enough = number("ENOUGH").unwrap_or(ENOUGH) as usize;
    let (next, failures) = (AtomicU64::new(seeds.start), Mutex::new(vec![]));
    let missing = Mutex::new(BTreeSet::from(REACHED));
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(2, usize::from) {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if !seeds.contains(&seed) || failures.lock().len() >= enough {
                        return;
                    }
                    match attempt(seed) {
                        Ok(trace) => missing.lock().retain(|what| !trace.contains(what)),
                        Err(failure) => failures.lock().push(failure),
                    }
                }
            });
        }
    });
    let failures = failures.into_inner();
    assert!(failures.is_empty(), "these fail:\n{}", failures.join("\n"));
    let missing = missing.into_inner();
    let few = seeds.end - seeds.start < SEEDS;
    assert!(few || missing.is_empty(), "no seed has {missing:?}");
}

#[test]
fn one_seed_alone_breaks_no_invariant() {
    let outcome = run(number("SEED").unwrap_or(0));
    println!("{}", outcome.trace);
    assert!(outcome.violations.is_empty(), "{:#?}", outcome.violations);
}

#[test]
fn the_same_seed_makes_the_same_trace() {
    let mut traces = BTreeSet::new();
    for seed in [1, 2, 3] {
        let (one, other) = (run(seed).trace, run(seed).trace);
        let differs = one
            .lines()
            .zip(other.lines())
            .position(|(one, other)| one != other);
        if let Some(at) = differs {
            let line = |trace: &str| trace.lines().nth(at).unwrap_or_default().to_owned();
            panic!(
                "seed {seed} differs in line {at}:\n{}\n{}",
                line(&one),
                line(&other)
            );
        }
        assert_eq!(one, other, "seed {seed}");
        assert!(traces.insert(one), "seed {seed} is as another");
    }
}
