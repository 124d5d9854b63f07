//! Judges, while one account is throttled and writes fail, that gates of another account do not wait for the
//! first, and that a write waits only for the pause after its own failure.

use std::time::Duration;

use serde_json::json;
use targetgate_sandbox::elb::check::CheckOutcome;
use targetgate_sandbox::elb::health::CheckFailure;
use tokio::time::Instant;

use crate::direct;
use crate::driver::{Driver, gate, pod_path};
use crate::facts::{Key, target};
use crate::line::Failing;
use crate::witness::conditions;

const NAMESPACE: &str = "ns-9";
/// The binding whose group is in the cluster's own account, and the number of its pods.
const OURS: (&str, u32) = ("ours", 3);
/// The bindings whose groups are in the other account, each with one pod.
const THEIRS: [&str; 3] = ["theirs-1", "theirs-2", "theirs-3"];
/// The time in which the pods become ready and are polled. Chosen.
const WAITED_FOR_WITHIN: Duration = Duration::from_secs(10);
/// The time in which a gate is first written after its target passes its checks: the proving time, the longest
/// interval between two polls, and what the slow start of a rate takes.
const TRIED_WITHIN: Duration = Duration::from_secs(10 + 15 + 5);
/// How much later than the pause after its last failure a gate may open. Chosen.
const SLACK: Duration = Duration::from_secs(1);
/// The longest pause after a failure, the same as in the product.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
const OFTEN: Duration = Duration::from_millis(250);

impl Driver {
    /// Gates wait in one account that throttles for good. Gates in another account wait for `age`, become
    /// healthy, and are not written for `long`, because all writes fail as `failing` says.
    pub(crate) async fn judge_promptness(
        &mut self,
        failing: Failing,
        age: Duration,
        long: Duration,
    ) {
        let pods = self.neighbours().await;
        self.note(&format!(
            "the other account throttles, {failing:?} after {age:?}"
        ));
        self.world.accounts.theirs().faults().throttle(0.0, 0);
        self.checks_find(&pods, CheckOutcome::Failed(CheckFailure::Status(503)));
        self.pass(WAITED_FOR_WITHIN + age).await;
        self.writes_fail(Some(failing));
        self.checks_find(&pods, CheckOutcome::Passed);
        self.expect_tried(&pods).await;
        self.pass(long).await;
        self.writes_fail(None);
        self.note("writes are well");
        self.expect_open(&pods, failing).await;
        self.world.accounts.theirs().faults().unthrottle();
    }

    /// Creates bindings in both accounts, and pods behind them. Returns the pods of our own account.
    async fn neighbours(&mut self) -> Vec<Key> {
        let namespace = json!({ "metadata": {
            "name": NAMESPACE,
            "labels": { "elbv2.k8s.aws/pod-readiness-gate-inject": "enabled" },
        } });
        let path = "/api/v1/namespaces";
        self.world.call("POST", path, Some(namespace)).await;
        self.namespaces.push(NAMESPACE.to_owned());
        for name in [OURS.0].into_iter().chain(THEIRS) {
            let key = (NAMESPACE.to_owned(), name.to_owned());
            self.service(&key, name).await;
            self.bind_in(&key, name, name != OURS.0).await;
        }
        // A replica that does not know the bindings yet gives no gates.
        self.knows_all().await;
        for name in THEIRS {
            self.gated_pod(NAMESPACE, name, (None, None), None).await;
        }
        let mut pods = vec![];
        for _ in 0..OURS.1 {
            pods.extend(self.gated_pod(NAMESPACE, OURS.0, (None, None), None).await);
        }
        pods
    }

    fn checks_find(&self, pods: &[Key], outcome: CheckOutcome) {
        let facts = self.world.facts.lock();
        for pod in pods.iter().filter_map(|key| facts.pods.get(key)) {
            let target = target(&pod.ip);
            self.world.probe.answer(target, Some(outcome));
        }
    }

    pub(crate) fn writes_fail(&self, failing: Option<Failing>) {
        for replica in &self.replicas {
            replica.weather.lock().writes = failing;
        }
    }

    /// Judges that a group is polled as soon as if no other account were throttled.
    async fn expect_tried(&mut self, pods: &[Key]) {
        let end = Instant::now() + TRIED_WITHIN;
        let untried = |driver: &Self| {
            let facts = driver.world.facts.lock();
            let failed = |key: &&Key| !facts.failed.contains_key(&pod_path(key));
            pods.iter().find(failed).cloned()
        };
        while let Some(pod) = untried(self) {
            if Instant::now() >= end {
                let what = format!("{pod:?} is healthy, and nobody writes that");
                self.world.trace.violated("throttled apart", &what);
                return;
            }
            self.pass(OFTEN).await;
        }
    }

    /// Judges that a failed write is repeated as soon as its pause ends.
    async fn expect_open(&mut self, pods: &[Key], failing: Failing) {
        loop {
            let late = pods.iter().filter_map(|key| self.late(key, failing));
            let late: Vec<Duration> = late.collect();
            if late.is_empty() {
                return;
            }
            if let Some(late) = late.iter().max().filter(|late| !late.is_zero()) {
                let what = format!("{late:?} late after {failing:?}");
                self.world.trace.violated("written again in time", &what);
                return;
            }
            self.pass(OFTEN).await;
        }
    }

    /// How much too late a gate is still closed, or `None` if it is open.
    fn late(&self, key: &Key, failing: Failing) -> Option<Duration> {
        let pod = direct::get(&self.world.api, &pod_path(key))?;
        let ours = gate(OURS.0);
        let is_open = |c: &serde_json::Value| c["type"] == ours.as_str() && c["status"] == "True";
        if conditions(&pod).iter().any(is_open) {
            return None;
        }
        let facts = self.world.facts.lock();
        let failed = facts.failed.get(&pod_path(key))?;
        let due = failed.until + pause(failing, failed.times) + SLACK;
        Some(Instant::now().saturating_duration_since(due))
    }
}

/// The pause after this many failures in a row. A conflict that the watch explains needs none.
fn pause(failing: Failing, times: u32) -> Duration {
    if failing == Failing::Overtaken {
        return Duration::ZERO;
    }
    let doubled = Duration::from_secs(1) * 2_u32.pow(times.saturating_sub(1).min(5));
    doubled.min(LONGEST_PAUSE)
}
