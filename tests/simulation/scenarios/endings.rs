//! What is seen of the ends of pods.

use std::time::Duration;

use kube::api::{DeleteParams, Patch, PatchParams};
use serde_json::json;
use tokio::time::{Instant, sleep};

use super::stage::{Stage, address};

const S: Duration = Duration::from_secs(1);
const OPEN: (&str, &str) = ("True", "");
const HEALTH: &str = "DescribeTargetHealth";
const SEEN: &str = "targetgate_deregistration_seconds_count{load_balancer=\"alb\"}";
const SECONDS: &str = "targetgate_deregistration_seconds_sum{load_balancer=\"alb\"}";
const EARLY: &str = "targetgate_pods_ended_early_total{load_balancer=\"alb\"}";

impl Stage {
    /// Creates a group of an ALB and its binding.
    async fn bind_http(&self, name: &str) -> String {
        let arn = self.bind(name).await;
        let spec = json!({ "spec": { "targetGroupProtocol": "HTTP" } });
        let (bindings, params) = (self.bindings(), PatchParams::default());
        bindings
            .patch(name, &params, &Patch::Merge(spec))
            .await
            .unwrap();
        arn
    }

    /// Creates a pod whose gate `binding` is open.
    async fn open_pod(&self, name: &str, ip: &str, (binding, arn): (&str, &str)) {
        self.pod_on_a_node(name, ip, binding).await;
        self.register(arn, ip);
        self.until_condition(name, &gate(binding), OPEN).await;
    }

    /// Creates a pod with ready containers on a node: the API server deletes one without a node at once.
    async fn pod_on_a_node(&self, name: &str, ip: &str, binding: &str) {
        let spec = json!({
            "nodeName": "node-1",
            "containers": [{ "name": "web", "image": "web" }],
            "readinessGates": [{ "conditionType": gate(binding) }],
        });
        self.create_pod(name, spec).await;
        self.containers_are_ready(name, ip).await;
    }

    fn deregister(&self, arn: &str, ip: &str) {
        self.elb.deregister(arn, address(ip).ip(), 8080).unwrap();
    }

    /// Requests the deletion of a pod, with 30 s of grace.
    async fn delete(&self, pod: &str) {
        let patient = DeleteParams::default().grace_period(30);
        self.pods().delete(pod, &patient).await.unwrap();
    }

    /// Removes a pod, as its kubelet does once its containers have ended, and as a forced deletion does.
    async fn remove(&self, pod: &str) {
        let at_once = DeleteParams::default().grace_period(0);
        self.pods().delete(pod, &at_once).await.unwrap();
        self.settle().await;
    }

    fn metric(&self, sample: &str) -> f64 {
        let metrics = self.metrics();
        let mut lines = metrics.lines();
        let value = lines.find_map(|line| line.strip_prefix(sample)?.trim().parse().ok());
        value.unwrap_or_default()
    }
}

fn gate(binding: &str) -> String {
    format!("target-health.elbv2.k8s.aws/{binding}")
}

#[tokio::test(start_paused = true)]
async fn a_rolling_update_shows_when_elb_begins_to_drain() {
    let stage = Stage::new().await;
    let arn = stage.bind_http("web").await;
    stage.open_pod("old", "10.0.0.1", ("web", &arn)).await;
    stage.delete("old").await;
    sleep(3 * S).await;
    stage.deregister(&arn, "10.0.0.1");
    stage.open_pod("new", "10.0.0.2", ("web", &arn)).await;
    assert_eq!(stage.metric(SEEN), 1.0);
    let seconds = stage.metric(SECONDS);
    assert!((3.0..=10.0).contains(&seconds), "{seconds} s");
    // The load balancer has settled by then (contract 9).
    sleep(20 * S).await;
    stage.remove("old").await;
    assert_eq!(stage.metric(EARLY), 0.0);
}

#[tokio::test(start_paused = true)]
async fn without_a_waiting_pod_elb_is_asked_only_for_the_measurement_and_until_it_drains() {
    let mut seen = vec![];
    for stage in [Stage::new().await, Stage::measuring().await] {
        let arn = stage.bind_http("web").await;
        stage.open_pod("old", "10.0.0.1", ("web", &arn)).await;
        stage.delete("old").await;
        let before = stage.calls(HEALTH);
        sleep(4 * S).await;
        stage.deregister(&arn, "10.0.0.1");
        sleep(300 * S).await;
        seen.push((stage.metric(SEEN), stage.calls(HEALTH) - before));
        let seconds = stage.metric(SECONDS);
        assert!(
            seconds == 0.0 || (4.0..=6.0).contains(&seconds),
            "{seconds} s"
        );
    }
    let [without, (shown, calls)] = seen[..] else {
        panic!("{seen:?}");
    };
    assert_eq!((without, shown), ((0.0, 0), 1.0));
    assert!((4..=7).contains(&calls), "{calls} calls");
}

#[tokio::test(start_paused = true)]
async fn the_measurement_makes_one_call_a_second_and_delays_no_waiting_pod() {
    let mut took = vec![];
    for stage in [Stage::new().await, Stage::measuring().await] {
        let mut arns = vec![];
        for group in ["a", "b", "c", "d"] {
            let arn = stage.bind_http(group).await;
            let ip = format!("10.0.1.{}", arns.len() + 1);
            stage.open_pod(group, &ip, (group, &arn)).await;
            stage.delete(group).await;
            arns.push(arn);
        }
        let arn = stage.bind_http("web").await;
        let asked = || {
            let calls = stage.elb.calls().into_iter();
            let health = calls.filter(|call| call.action == HEALTH);
            health
                .filter(|call| call.arns.iter().any(|arn| arns.contains(arn)))
                .count()
        };
        let (before, begun) = (asked(), Instant::now());
        stage.open_pod("web-1", "10.0.0.1", ("web", &arn)).await;
        took.push(begun.elapsed());
        let most = begun.elapsed().as_secs_f64() + 1.0;
        let calls = (asked() - before) as f64;
        assert!(calls <= most, "{calls} calls in {:?}", begun.elapsed());
    }
    let [without, with] = took[..] else {
        panic!("{took:?}");
    };
    assert!(with <= without + S, "{with:?}, and {without:?} without it");
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_ends_before_its_load_balancer_has_settled_is_counted() {
    let stage = Stage::new().await;
    let arn = stage.bind_http("web").await;
    for (name, ip) in [
        ("early", "10.0.0.1"),
        ("forced", "10.0.0.2"),
        ("calm", "10.0.0.3"),
    ] {
        stage.open_pod(name, ip, ("web", &arn)).await;
    }
    stage.pod_on_a_node("closed", "10.0.0.4", "web").await;
    for pod in ["early", "calm", "closed"] {
        stage.delete(pod).await;
    }
    sleep(10 * S).await;
    stage.remove("closed").await;
    assert_eq!(stage.metric(EARLY), 0.0, "it was in no load balancer");
    stage.remove("early").await;
    assert_eq!(stage.metric(EARLY), 1.0);
    stage.remove("forced").await;
    assert_eq!(stage.metric(EARLY), 2.0);
    sleep(10 * S).await;
    stage.remove("calm").await;
    assert_eq!(stage.metric(EARLY), 2.0);
}
