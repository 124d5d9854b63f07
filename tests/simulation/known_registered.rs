//! What the product does as the registrar, each in a run of its own in which nothing else happens, so that no draw of a
//! seed decides whether it is reached.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::{Value, json};
use targetgate_sandbox::elb::Quotas;

use crate::direct;
use crate::driver::{Driver, bindings_path, gate, pod_path};
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

#[test]
fn the_gate_of_a_pod_that_elb_refuses_says_so_until_the_target_is_taken() {
    registered(async |driver, arn| {
        let ip = driver.refused_address("ns-1");
        let gated = Some("known".to_owned());
        let at = (None, Some(ip.as_str()));
        let pod = driver.gated_pod("ns-1", "svc-1", at, gated).await;
        let pod = pod.expect("the driver creates pods in calm weather");
        // It is ready within 6 s.
        driver.pass(15 * S).await;
        let found = condition(driver, &pod);
        let says = found["reason"] == "TargetRefused"
            && found["status"] == "False"
            && found["message"]
                .as_str()
                .is_some_and(|said| said.contains(&ip));
        if !says {
            let what = format!("the gate says {found}");
            driver
                .world
                .trace
                .violated("a refused target is told", &what);
        }
        driver.world.facts.lock().refused.remove(&ip);
        driver.world.accounts.of(arn).accept(ip.parse().unwrap());
        driver.pass(90 * S).await;
        let found = condition(driver, &pod);
        violated(driver, "nobody stuck", found["status"] != "True");
    });
}

/// The condition of a pod's gate of binding `known`.
fn condition(driver: &Driver, pod: &Key) -> Value {
    let object = direct::get(&driver.world.api, &pod_path(pod)).unwrap_or_default();
    let conditions = object["status"]["conditions"].as_array().cloned();
    let mut conditions = conditions.unwrap_or_default().into_iter();
    let found = conditions.find(|condition| condition["type"] == gate("known"));
    found.unwrap_or_default()
}

#[test]
fn a_binding_is_left_to_an_incumbent_that_has_just_started() {
    registered(async |driver, _| {
        let lease = json!({
            "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
            "metadata": { "name": "aws-load-balancer-controller-leader" },
            // Its clock is ahead of ours.
            "spec": { "holderIdentity": "incumbent", "renewTime": "2100-01-01T00:00:00.000000Z" },
        });
        let leases = "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases";
        let (code, made) = driver.world.call("POST", leases, Some(lease)).await;
        assert_eq!(code, 201, "{made}");
        let binding: Key = ("ns-1".to_owned(), "new".to_owned());
        driver.bind_in(&binding, "svc-1", false).await;
        driver.pass(2 * S).await;
        let path = format!("{}/new", bindings_path("ns-1"));
        let taken = driver.world.finalizers(&path, false) != json!([]);
        violated(driver, "never two registrars", taken);
    });
}

#[test]
fn a_target_that_waits_for_room_is_told_so_and_goes_in_once_there_is_some() {
    registered(async |driver, arn| {
        let full = Quotas {
            targets_per_group: targets(driver, arn).len(),
            ..Quotas::default()
        };
        driver.world.accounts.of(arn).set_quotas(full);
        let gated = Some("known".to_owned());
        let pod = driver.gated_pod("ns-1", "svc-1", (None, None), gated).await;
        let pod = pod.expect("the driver creates pods in calm weather");
        driver.pass(15 * S).await;
        let found = condition(driver, &pod);
        if found["reason"] != "GroupFull" {
            let what = format!("the gate says {found}");
            driver.world.trace.violated("a full group is told", &what);
        }
        // Longer than ten minutes, so that its group is polled rarely.
        driver.pass(700 * S).await;
        driver.world.accounts.of(arn).set_quotas(Quotas::default());
        // The longest pause of a refused registration, and three seconds of the schedule beside ELB's own.
        driver.pass(330 * S).await;
        let found = condition(driver, &pod);
        violated(driver, "nobody stuck", found["status"] != "True");
    });
}

#[test]
fn a_service_that_is_gone_for_four_minutes_takes_nothing_out() {
    registered(async |driver, arn| {
        let before = targets(driver, arn);
        let service: Key = ("ns-1".to_owned(), "svc-1".to_owned());
        let path = "/api/v1/namespaces/ns-1/services/svc-1";
        let (code, _) = driver.world.call("DELETE", path, None).await;
        assert_eq!(code, 200);
        {
            let mut facts = driver.world.facts.lock();
            facts.services.remove(&service);
            facts.remember();
        }
        driver.pass(240 * S).await;
        let stay = before.iter().all(|target| driver.world.is_in(arn, *target));
        violated(driver, "a lost Service empties nothing", !stay);
        driver.service(&service, "svc-1").await;
        driver.pass(30 * S).await;
        let stay = before.iter().all(|target| driver.world.is_in(arn, *target));
        violated(driver, "a lost Service empties nothing", !stay);
    });
}

#[test]
fn what_one_of_two_bindings_of_a_group_leaves_stays_for_the_other() {
    registered(async |driver, arn| {
        let before = targets(driver, arn);
        for name in ["known", "other"] {
            let path = format!("{}/{name}", bindings_path("ns-1"));
            let binding = json!({
                "apiVersion": "elbv2.k8s.aws/v1beta1", "kind": "TargetGroupBinding",
                "metadata": { "name": name },
                "spec": { "targetGroupARN": arn, "targetType": "ip", "multiClusterTargetGroup": true,
                    "serviceRef": { "name": "svc-1", "port": 80 } },
            });
            let (code, answer) = match name {
                "known" => {
                    let patch = json!({ "spec": { "multiClusterTargetGroup": true } });
                    driver.world.call("MERGE", &path, Some(patch)).await
                }
                _ => {
                    let all = bindings_path("ns-1");
                    driver.world.call("POST", &all, Some(binding)).await
                }
            };
            assert!(code < 300, "{answer}");
            driver.pass(30 * S).await;
        }
        let path = format!("{}/other", bindings_path("ns-1"));
        let held = driver.world.finalizers(&path, false) == json!(["targetgate.dev/targets"]);
        violated(driver, "both are ours", !held);
        let (code, _) = driver.world.call("DELETE", &path, None).await;
        assert_eq!(code, 200);
        driver.pass(60 * S).await;
        let gone = direct::get(&driver.world.api, &path).is_none();
        let stay = before.iter().all(|target| driver.world.is_in(arn, *target));
        violated(driver, "only unwanted ones leave", !stay || !gone);
    });
}
