//! Bugs that a seed or a reader has found. A seed makes another run as soon as the simulation draws otherwise,
//! so the events that led to the bug are written down here.

use std::time::Duration;

use crate::line::{Failing, Weather};
use crate::outcome::{Outcome, simulate};
use crate::replica::ORPHAN_AFTER;

const S: Duration = Duration::from_secs(1);

/// A late watch did not report a binding, which a live read found. Then the binding was deleted. The next live
/// read, half a minute after the first, opened the gate, though the binding had been absent for a moment only.
#[test]
fn a_binding_deleted_after_it_was_found_is_absent_for_half_a_minute_before_its_gate_opens() {
    let (binding, late) = (("ns-1".to_owned(), "late".to_owned()), 600 * S);
    let outcome = simulate(1, async |driver| {
        for replica in &driver.replicas {
            *replica.weather.lock() = Weather::default();
        }
        let faults = driver.world.api.faults();
        faults.delay_watch("targetgroupbindings", late);
        driver.bind(&binding, "svc-1").await;
        let gate = Some(binding.1.clone());
        driver
            .gated_pod(&binding.0, "svc-1", (None, None), gate)
            .await;
        driver.pass(ORPHAN_AFTER + 15 * S).await;
        driver.unbind(&binding).await;
        driver.pass(60 * S).await;
    });
    let Outcome { trace, violations } = outcome;
    assert!(violations.is_empty(), "\nknown: {}", violations.join("\n"));
    assert!(trace.contains(" late: gone\n"), "it stays closed:\n{trace}");
}

/// A healthy gate whose write had failed was polled again as if it had just been polled: up to 15 s later,
/// though only the write had to be repeated. And three groups of another account that AWS throttled took each
/// token of the one bucket.
#[test]
fn a_gate_that_could_not_be_written_is_written_again_after_its_pause_beside_a_throttled_account() {
    for failing in [Failing::Denied, Failing::Lost] {
        prompt(failing);
    }
}

/// A conflict that the watch had already explained was backed off from as if it were unexplained, longer each
/// time.
#[test]
fn a_conflict_that_the_watch_has_explained_already_is_not_waited_for() {
    prompt(Failing::Overtaken);
}

fn prompt(failing: Failing) {
    let outcome = simulate(1, async |driver| {
        for replica in &driver.replicas {
            *replica.weather.lock() = Weather::default();
        }
        driver.pass(30 * S).await;
        driver.judge_promptness(failing, 200 * S, 5 * S).await;
    });
    let Outcome { violations, .. } = outcome;
    assert!(violations.is_empty(), "\nknown: {}", violations.join("\n"));
}
