//! Bugs that a seed or a reader has found. A seed makes another run as soon as the simulation draws otherwise,
//! so the events that led to the bug are written down here.

use std::sync::atomic::Ordering;
use std::time::Duration;

use http::StatusCode;
use targetgate_core::model::Policies;
use targetgate_sandbox::elb::check::CheckOutcome;
use targetgate_sandbox::elb::faults::On;
use targetgate_sandbox::elb::health::CheckFailure;

use crate::driver::Driver;
use crate::facts::Key;
use crate::line::{Failing, Weather};
use crate::outcome::{Outcome, simulate};
use crate::policies::{Annotated, FOLLOW, HOLD};
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

/// Only gated pods were known by their addresses, so ELB's word about the target of an ungated one opened the
/// gate of the pod that had its address next.
#[test]
fn the_health_of_an_ungated_pod_does_not_open_the_gate_of_its_successor() {
    let outcome = in_calm(async |driver, binding| {
        let (namespace, app) = (binding.0.clone(), binding.1.clone());
        let plain = driver.ungated_pod(&namespace, &app, (None, None)).await;
        driver.pass(30 * S).await;
        let plain = plain.unwrap();
        let ip = driver.world.facts.lock().pods[&plain].ip.clone();
        // Nobody takes the target out.
        driver.world.registers.store(false, Ordering::Relaxed);
        assert!(driver.remove(&plain).await);
        let at = (None, Some(ip.as_str()));
        driver.gated_pod(&namespace, &app, at, None).await;
        driver.pass(60 * S).await;
    });
    outcome.expect("used: healthy at a used address\n");
}

/// An open gate was never looked at again, so a pod was Ready at an address that ELB had not seen.
#[test]
fn an_open_gate_closes_when_its_pod_has_another_address() {
    let outcome = in_calm(async |driver, binding| {
        let pod = driver
            .gated_pod(&binding.0, &binding.1, (None, None), None)
            .await;
        driver.pass(60 * S).await;
        let pod = pod.unwrap();
        let known = driver.world.facts.lock().pods[&pod].clone();
        driver.change_address(&pod, &known).await;
        driver.pass(60 * S).await;
    });
    outcome.expect("used: it moved\n");
    assert_eq!(outcome.trace.matches("/status used: healthy").count(), 2);
}

/// Targets that are registered early are healthy before their pods are due, which an answer shows that was requested
/// before, and arrives after.
#[test]
fn an_answer_that_was_requested_before_a_pod_was_due_does_not_open_its_gate() {
    let outcome = in_calm(async |driver, binding| {
        driver.world.registers.store(false, Ordering::Relaxed);
        let (namespace, app) = (&binding.0, &binding.1);
        driver.gated_pod(namespace, app, (None, None), None).await;
        driver.pass(10 * S).await;
        let arn = driver.world.facts.lock().bindings[binding].arn.clone();
        let mut early = vec![];
        for _ in 0..3 {
            let pod = driver.gated_pod(namespace, app, (None, None), None).await;
            let Some(key) = pod else { break };
            let known = driver.world.facts.lock().pods[&key].clone();
            driver.hold_back(&known);
            driver.readiness(&key, &known, false).await;
            early.push((key, known));
        }
        driver.pass(5 * S).await;
        let elb = driver.world.accounts.of(&arn);
        for (_, pod) in &early {
            let target = pod.target();
            elb.register(&arn, target.ip(), target.port()).unwrap();
        }
        elb.faults().delay(3 * S);
        driver.pass(20 * S).await;
        for (key, pod) in &early {
            driver.readiness(key, pod, true).await;
            driver.pass(700 * S / 1000).await;
        }
        driver.pass(30 * S).await;
    });
    outcome.expect("used: healthy\n");
}

/// A gate waited for a binding under deletion as long as that kept its finalizer.
#[test]
fn a_gate_of_a_binding_that_is_being_deleted_opens_once_elb_has_let_the_target_go() {
    let outcome = in_calm(async |driver, binding| {
        driver.world.registers.store(false, Ordering::Relaxed);
        driver
            .gated_pod(&binding.0, &binding.1, (None, None), None)
            .await;
        driver.pass(10 * S).await;
        driver.begin_to_unbind(binding).await;
        driver.pass(20 * S).await;
        assert!(!driver.world.trace.text().contains("used: terminating\n"));
        driver.pass(60 * S).await;
    });
    outcome.expect("used: terminating\n");
}

/// Without the bound, the rate of a bucket climbed as long as calls waited: harmless while the cap of the process
/// holds, and a lie in the metric.
#[test]
fn the_rate_of_a_replica_stays_at_the_highest_however_long_calls_wait_for_it() {
    let outcome = in_calm(async |driver, binding| {
        driver.world.registers.store(false, Ordering::Relaxed);
        many_groups(driver, binding).await;
        driver.pass(60 * S).await;
        driver.judge_rates();
    });
    outcome.expect(", faster than at first\n");
}

/// What was deleted while a watch was broken stayed in the index: the list that followed did not have it.
#[test]
fn what_was_deleted_while_a_watch_was_broken_is_known_to_be_gone() {
    let outcome = in_calm(async |driver, binding| {
        let faults = driver.world.api.faults();
        faults.delay_watch("targetgroupbindings", 600 * S);
        faults.close_watches();
        driver.pass(10 * S).await;
        driver.unbind(binding).await;
        driver.pass(10 * S).await;
        driver.world.api.forget_history();
        let faults = driver.world.api.faults();
        faults.delay_watch("targetgroupbindings", Duration::ZERO);
        faults.close_watches();
        driver.pass(30 * S).await;
        driver.knows_all().await;
    });
    outcome.expect(
        "DELETE /apis/elbv2.k8s.aws/v1beta1/namespaces/ns-1/targetgroupbindings/used 200\n",
    );
}

/// A list goes on with the page that failed, and must not forget what the pages before have named.
#[test]
fn what_the_pages_before_a_failed_one_have_named_stays_known() {
    let outcome = in_calm(async |driver, binding| {
        many_groups(driver, binding).await;
        driver.pass(60 * S).await;
        for replica in &driver.replicas {
            let weather = Weather {
                denied: 30,
                ..Weather::default()
            };
            *replica.weather.lock() = weather;
        }
        driver.world.api.forget_history();
        driver.world.api.faults().close_watches();
        driver.pass(60 * S).await;
        for replica in &driver.replicas {
            *replica.weather.lock() = Weather::default();
        }
        driver.pass(30 * S).await;
        driver.knows_all().await;
    });
    outcome.expect(" of a next page\n");
}

/// Under `after-open: follow` the gate of a pod whose target fails closes, and opens again; the others of the group
/// hold.
#[test]
fn of_pods_whose_targets_fail_the_gate_of_the_one_that_follows_closes_until_it_passes() {
    let outcome = in_calm(async |driver, binding| {
        let pods = following(driver, binding).await;
        checks_find(
            driver,
            &pods,
            CheckOutcome::Failed(CheckFailure::Status(503)),
        );
        driver.pass(60 * S).await;
        let failed = driver.world.trace.text();
        assert_eq!(
            failed.matches("used: it follows\n").count(),
            1,
            "\nknown: it follows: {failed}"
        );
        checks_find(driver, &pods, CheckOutcome::Passed);
        driver.pass(45 * S).await;
    });
    outcome.expect("used: it follows\n");
    let opened = outcome.trace.matches("/status used: healthy").count();
    assert_eq!(opened, 4, "\nknown: it opens again: {}", outcome.trace);
}

/// Neither an error nor silence of ELB is its word about a target.
#[test]
fn an_open_gate_that_follows_stays_open_while_elb_fails_and_when_its_group_is_gone() {
    let outcome = in_calm(async |driver, binding| {
        following(driver, binding).await;
        let arn = driver.world.facts.lock().bindings[binding].arn.clone();
        let elb = driver.world.accounts.of(&arn).clone();
        let on = || On::action("DescribeTargetHealth");
        elb.faults()
            .fail(on(), "InternalFailure", StatusCode::BAD_GATEWAY, None);
        driver.pass(90 * S).await;
        elb.faults().clear_failures();
        elb.faults().throttle(0.0, 0);
        driver.pass(90 * S).await;
        elb.faults().unthrottle();
        elb.remove_target_group(&arn).unwrap();
        driver.pass(90 * S).await;
    });
    outcome.expect("hears DescribeTargetHealth ns-1-used 502");
    assert!(
        !outcome.trace.contains(" closes "),
        "\nknown: it closes: {}",
        outcome.trace
    );
}

/// A closing whose write fails is decided anew, once ELB can be asked, and not by the answer of minutes ago.
#[test]
fn an_open_gate_that_follows_stays_open_when_the_answer_that_closes_it_cannot_be_written_in_time() {
    let outcome = in_calm(async |driver, binding| {
        let pods = following(driver, binding).await;
        driver.writes_fail(Some(Failing::Denied));
        checks_find(
            driver,
            &pods,
            CheckOutcome::Failed(CheckFailure::Status(503)),
        );
        driver.pass(60 * S).await;
        let elb = driver.world.accounts.ours().clone();
        let on = On::action("DescribeTargetHealth");
        elb.faults()
            .fail(on, "InternalFailure", StatusCode::BAD_GATEWAY, None);
        driver.pass(90 * S).await;
        driver.writes_fail(None);
        driver.pass(45 * S).await;
        assert!(
            !driver.world.trace.text().contains(" closes "),
            "\nknown: it closes"
        );
        elb.faults().clear_failures();
        driver.pass(60 * S).await;
    });
    outcome.expect("used: it follows\n");
}

/// Rechecks take a fifth of the rate at most, however many groups there are.
#[test]
fn the_rechecks_of_many_groups_are_a_fifth_of_the_rate() {
    let outcome = in_calm(async |driver, binding| {
        many_groups(driver, binding).await;
        driver.pass(120 * S).await;
        let namespace = Annotated::Namespace(binding.0.clone());
        driver.annotate(&namespace, FOLLOW).await;
        let asked = |driver: &Driver| {
            driver
                .world
                .trace
                .text()
                .matches("asks DescribeTargetHealth")
                .count()
        };
        let before = asked(driver);
        driver.pass(120 * S).await;
        // The highest rate is 3 calls a second.
        let (made, most) = (asked(driver) - before, 120 * 3 / 5 + 1);
        driver.note(&format!("{made} rechecks"));
        if made > most {
            let what = format!("{made} rechecks in two minutes, and {most} are a fifth");
            driver.world.trace.violated("the fifth", &what);
        }
        assert!(made > most / 2, "\nknown: only: {made} rechecks");
    });
    outcome.expect(" rechecks\n");
}

/// Creates a pod that is registered in many groups.
async fn many_groups(driver: &mut Driver, binding: &Key) {
    for n in 1..=30 {
        let key = (binding.0.clone(), format!("many-{n}"));
        driver.bind_in(&key, &binding.1, false).await;
    }
    driver.pass(5 * S).await;
    driver
        .gated_pod(&binding.0, &binding.1, (None, None), None)
        .await;
}

/// Creates pods with open gates, of which the first follows ELB.
async fn following(driver: &mut Driver, binding: &Key) -> Vec<Key> {
    let mut pods = vec![];
    for policies in [FOLLOW, HOLD, Policies::default()] {
        let pod = driver
            .gated_pod(&binding.0, &binding.1, (None, None), None)
            .await;
        pods.extend(pod.clone());
        driver
            .annotate(&Annotated::Pod(pod.unwrap()), policies)
            .await;
    }
    driver.pass(60 * S).await;
    pods
}

fn checks_find(driver: &Driver, pods: &[Key], outcome: CheckOutcome) {
    let facts = driver.world.facts.lock();
    for pod in pods {
        let target = facts.pods[pod].target();
        driver.world.probe.answer(target, Some(outcome));
    }
}

/// Lets something happen to binding `used`, of the Service and group of its name, in calm weather.
fn in_calm(happens: impl AsyncFnOnce(&mut Driver, &Key)) -> Outcome {
    simulate(1, async |driver| {
        driver.world.facts.lock().calm = true;
        for replica in &driver.replicas {
            *replica.weather.lock() = Weather::default();
        }
        driver.pass(30 * S).await;
        let binding = (driver.namespaces[0].clone(), "used".to_owned());
        driver.service(&binding, "used").await;
        driver.bind_in(&binding, "used", false).await;
        driver.pass(5 * S).await;
        happens(driver, &binding).await;
    })
}

impl Outcome {
    /// Asserts that this happened, and that no invariant was broken.
    #[track_caller]
    fn expect(&self, happened: &str) {
        let Self { trace, violations } = self;
        assert!(violations.is_empty(), "\nknown: {}", violations.join("\n"));
        assert!(trace.contains(happened), "\nknown: never {happened}{trace}");
    }
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
