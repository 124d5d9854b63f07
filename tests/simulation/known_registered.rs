//! What the product does as the registrar, each in a run of its own in which nothing else happens, so that no draw of a
//! seed decides whether it is reached.

use std::net::SocketAddr;
use std::time::Duration;

use crate::driver::Driver;
use crate::facts::{Key, PORT, Pod};
use crate::line::Weather;
use crate::outcome::{Outcome, simulate};

const S: Duration = Duration::from_secs(1);
/// A seed in which the product registers.
const SEED: u64 = 2;

/// Runs in a calm world, once the pods of `svc-1` are registered for a binding. Returns what breaks an invariant.
fn registered(happens: impl AsyncFnOnce(&mut Driver, &str)) {
    let outcome = simulate(SEED, async |driver| {
        for replica in &driver.replicas {
            *replica.weather.lock() = Weather::default();
        }
        let binding: Key = ("ns-1".to_owned(), "known".to_owned());
        driver.bind_in(&binding, "svc-1", false).await;
        driver.pass(60 * S).await;
        let arn = driver.world.facts.lock().bindings[&binding].arn.clone();
        assert!(!targets(driver, &arn).is_empty(), "nothing is registered");
        happens(driver, &arn).await;
    });
    let Outcome { trace, violations } = outcome;
    let known = violations.join("\n");
    assert!(violations.is_empty(), "\nknown: {known}\n{trace}");
}

/// The wanted targets of a group that are in it.
fn targets(driver: &Driver, arn: &str) -> Vec<SocketAddr> {
    let facts = driver.world.facts.lock();
    let wanted = facts.targets().remove(arn).unwrap_or_default();
    let is_in = |target: &SocketAddr| driver.world.is_in(arn, *target);
    wanted.into_iter().filter(is_in).collect()
}

fn violated(driver: &Driver, invariant: &str, so: bool) {
    if so {
        driver.world.trace.violated(invariant, "in a calm world");
    }
}

#[test]
fn all_pods_of_an_app_become_unready_one_after_the_other_and_the_floor_holds() {
    registered(async |driver, arn| {
        let before = targets(driver, arn);
        let pods: Vec<(Key, Pod)> = {
            let facts = driver.world.facts.lock();
            let pods = facts.pods.iter();
            let mine = pods.filter(|(_, pod)| before.contains(&pod.target()));
            mine.map(|(key, pod)| (key.clone(), pod.clone())).collect()
        };
        for (key, pod) in &pods {
            driver.readiness(key, pod, false).await;
            driver.pass(5 * S).await;
        }
        driver.pass(30 * S).await;
        let stays = before.iter().any(|target| driver.world.is_in(arn, *target));
        violated(driver, "the floor", !stays);
    });
}

#[test]
fn one_unready_pod_leaves_by_a_new_answer_when_the_last_one_is_old() {
    registered(async |driver, arn| {
        while age_of_the_last_answer(driver, arn) < 30 * S {
            driver.pass(S).await;
        }
        let target = targets(driver, arn)[0];
        let (key, pod) = {
            let facts = driver.world.facts.lock();
            let mut pods = facts.pods.iter();
            let (key, pod) = pods.find(|(_, pod)| pod.target() == target).unwrap();
            (key.clone(), pod.clone())
        };
        driver.readiness(&key, &pod, false).await;
        driver.pass(20 * S).await;
        let stays = driver.world.is_in(arn, target);
        violated(driver, "one unready pod leaves", stays);
    });
}

/// How long ago a replica requested the last answer about a group, of those that it has heard.
fn age_of_the_last_answer(driver: &Driver, arn: &str) -> Duration {
    let facts = driver.world.facts.lock();
    let heard = facts.heard.values().flatten();
    let about = heard.filter(|heard| heard.arn == arn);
    let ages = about.map(|heard| heard.sent.elapsed());
    ages.min().unwrap_or_default()
}

#[test]
fn a_target_that_is_removed_by_hand_is_back_within_a_minute() {
    registered(async |driver, arn| {
        let target = targets(driver, arn)[0];
        let elb = driver.world.accounts.of(arn);
        elb.deregister(arn, target.ip(), PORT).unwrap();
        driver.pass(65 * S).await;
        let is_in = driver.world.is_in(arn, target);
        violated(driver, "repaired within a minute", !is_in);
    });
}

#[test]
fn a_call_that_is_lost_or_late_leaves_nothing_in_that_no_record_names() {
    registered(async |driver, arn| {
        for late in [false, true] {
            for replica in &driver.replicas {
                let mut weather = replica.weather.lock();
                (weather.calls_lost, weather.calls_late) = if late { (0, 100) } else { (100, 0) };
            }
            let pod = driver.ungated_pod("ns-1", "svc-1", (None, None)).await;
            let pod = pod.expect("the driver creates pods in calm weather");
            let target = driver.world.facts.lock().pods[&pod].target();
            // It is ready within 6 s, and ends while its registration is on its way.
            driver.pass(7 * S).await;
            driver.remove(&pod).await;
            driver.pass(40 * S).await;
            let is_in = driver.world.is_in(arn, target);
            violated(driver, "the record names all", is_in);
        }
    });
}
