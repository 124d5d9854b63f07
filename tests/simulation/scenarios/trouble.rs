//! Trouble that lasts: what of it is told, and what it costs.

use std::io;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use http::StatusCode;
use kube::api::{DeleteParams, Patch, PatchParams};
use parking_lot::Mutex;
use serde_json::json;
use targetgate_sandbox::api::{Match, Status, Verb, When};
use targetgate_sandbox::elb::faults::On;
use tokio::time::Instant;
use tracing::subscriber::{DefaultGuard, NoSubscriber};
use tracing::{Dispatch, Level};

use super::stage::Stage;

const S: Duration = Duration::from_secs(1);
const OPEN: (&str, &str) = ("True", "");
const HEALTH: &str = "DescribeTargetHealth";
const GROUPS: &str = "DescribeTargetGroups";

/// The lines of the log, for as long as the guard lives.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<String>>>);

impl Lines {
    /// Warnings and worse.
    fn capture() -> (Self, DefaultGuard) {
        Self::capture_from(Level::WARN)
    }

    fn capture_from(level: Level) -> (Self, DefaultGuard) {
        // While there is one subscriber alone, tracing asks the thread that comes to a line first whether anyone wants
        // it, for all threads, and those of other tests have none.
        static ANOTHER: LazyLock<Dispatch> = LazyLock::new(|| Dispatch::new(NoSubscriber::new()));
        LazyLock::force(&ANOTHER);
        let lines = Self::default();
        let writer = lines.clone();
        let log = tracing_subscriber::fmt()
            .with_ansi(false)
            .with_max_level(level)
            .with_writer(move || writer.clone());
        (lines, tracing::subscriber::set_default(log.finish()))
    }

    fn with(&self, part: &str) -> Vec<String> {
        let lines = self.0.lock();
        let lines = lines.iter().filter(|line| line.contains(part));
        lines.cloned().collect()
    }
}

impl io::Write for Lines {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(line).into_owned();
        self.0.lock().push(text);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Stage {
    /// A pod with gates for all of these bindings.
    async fn pod_of(&self, name: &str, ip: &str, bindings: &[String]) {
        let bindings: Vec<&str> = bindings.iter().map(String::as_str).collect();
        self.pod(name, ip, &bindings).await;
    }

    /// The metric that counts missing groups.
    fn missing_groups(&self) -> String {
        let text = self.metrics();
        let mut lines = text.lines();
        let line = lines.find(|line| line.starts_with("targetgate_target_groups_missing "));
        line.unwrap_or_default().to_owned()
    }
}

#[tokio::test(start_paused = true)]
async fn a_group_that_is_dropped_is_told_within_five_minutes_though_no_pod_waits() {
    let stage = Stage::new().await;
    let arn = stage.bind("web").await;
    stage.bind("api").await;
    stage.register(&arn, "10.0.0.1");
    stage.pod("web-1", "10.0.0.1", &["web"]).await;
    stage.until_gate("web-1", OPEN).await;
    tokio::time::sleep(1_000 * S).await;
    assert_eq!(stage.missing_groups(), "targetgate_target_groups_missing 0");
    stage.elb.remove_target_group(&arn).unwrap();
    let dropped = Instant::now();
    assert_eq!(stage.until_event("TargetGroupNotFound").await, "web");
    assert!(dropped.elapsed() < 300 * S, "{:?}", dropped.elapsed());
    assert_eq!(stage.missing_groups(), "targetgate_target_groups_missing 1");
    // It goes on being asked about, and is told once.
    let before = stage.calls(GROUPS);
    tokio::time::sleep(3_600 * S).await;
    assert!((15..50).contains(&(stage.calls(GROUPS) - before)));
    let calls = stage.api.calls();
    let events = [Verb::Create, Verb::Patch].map(|verb| calls.count(verb, "events"));
    assert_eq!(events, [1, 0]);
    stage
        .bindings()
        .delete("web", &DeleteParams::default())
        .await
        .unwrap();
    tokio::time::sleep(60 * S).await;
    assert_eq!(stage.missing_groups(), "targetgate_target_groups_missing 0");
}

#[tokio::test(start_paused = true)]
async fn bindings_whose_gates_stay_closed_are_all_told_at_the_rate_of_all_events() {
    const BINDINGS: usize = 60;
    let stage = Stage::new().await;
    let names: Vec<String> = (0..BINDINGS).map(|n| format!("web-{n:02}")).collect();
    for name in &names {
        let arn = stage.bind(name).await;
        let port = json!({ "spec": { "serviceRef": { "name": "web", "port": 8443 } } });
        let (params, patch) = (PatchParams::default(), Patch::Merge(port));
        stage.bindings().patch(name, &params, &patch).await.unwrap();
        stage.register(&arn, "10.0.0.1");
    }
    stage.pod_of("web-1", "10.0.0.1", &names).await;
    assert!(
        stage
            .until_event("ServicePortNotFound")
            .await
            .starts_with("web-")
    );
    let told = || stage.api.calls().count(Verb::Create, "events");
    tokio::time::sleep(10 * S).await;
    // A burst of 25, and one a second for the ten seconds between two looks at what there is to tell.
    assert!((25..=25 + 20).contains(&told()), "{}", told());
    tokio::time::sleep(60 * S).await;
    let metrics = stage.metrics();
    let of = |result: &str, number: usize| {
        let labels = format!("{{reason=\"ServicePortNotFound\",result=\"{result}\"}}");
        let line = format!("targetgate_owner_events_total{labels} {number}\n");
        assert!(metrics.contains(&line), "{line}{metrics}");
    };
    of("sent", BINDINGS);
    of("dropped", BINDINGS - 25);
}

#[tokio::test(start_paused = true)]
async fn a_flip_is_a_line_and_a_decision_is_one_at_debug() {
    let (lines, _guard) = Lines::capture_from(Level::DEBUG);
    let stage = Stage::new().await;
    let arn = stage.bind("web").await;
    stage.pod("web-1", "10.0.0.1", &["web"]).await;
    stage
        .until_gate("web-1", ("False", "Elb.RegistrationInProgress"))
        .await;
    stage.register(&arn, "10.0.0.1");
    stage.until_gate("web-1", OPEN).await;
    stage.settle().await;
    let of = format!("pod=shop/web-1 gate=target-health.elbv2.k8s.aws/web group=\"{arn}\"");
    let flips = lines.with("gate opened");
    let flip = format!("{of} reason=Healthy");
    assert_eq!(flips.len(), 1, "{flips:?}");
    assert!(
        flips[0].contains(" INFO ") && flips[0].contains(&flip),
        "{flips:?}"
    );
    let decisions = lines.with("gate decided");
    for decided in [
        "reason=NotRegistered open=false",
        "reason=Healthy open=true",
    ] {
        let decided = format!("{of} {decided}");
        let line = |line: &String| line.contains("DEBUG ") && line.contains(&decided);
        assert_eq!(
            decisions.iter().filter(|it| line(it)).count(),
            1,
            "{decisions:?}"
        );
    }
    assert!(!lines.with("gate waits").is_empty());
}

#[tokio::test(start_paused = true)]
async fn hundreds_of_groups_that_aws_denies_cost_few_lines_of_the_log() {
    let (lines, _guard) = Lines::capture();
    let stage = Stage::new().await;
    let denied = On::action(HEALTH);
    let faults = stage.elb.faults();
    faults.fail(denied, "AccessDenied", StatusCode::FORBIDDEN, None);
    for pod in 0..3 {
        let bindings: Vec<String> = (0..100).map(|n| format!("tgb-{pod}-{n}")).collect();
        for binding in &bindings {
            stage.bind(binding).await;
        }
        let ip = format!("10.0.0.{pod}");
        stage.pod_of(&format!("web-{pod}"), &ip, &bindings).await;
    }
    tokio::time::sleep(600 * S).await;
    assert!(stage.calls(HEALTH) > 2_000, "{}", stage.calls(HEALTH));
    let all = lines.with("").len();
    assert!(all < 100, "{all} lines");
    assert!(!lines.with("DescribeTargetHealth for arn:").is_empty());
    let counts = lines.with("more failures that were not told");
    assert!(counts[0].contains("AccessDenied"), "{counts:?}");
}

/// Deletes bindings that pods wait for, so that their absence is to be confirmed.
async fn delete_all(stage: &Stage, bindings: &[String]) {
    let (api, params) = (stage.bindings(), DeleteParams::default());
    for binding in bindings {
        api.delete(binding, &params).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn absences_that_cannot_be_confirmed_cost_few_lines_of_the_log() {
    let (lines, _guard) = Lines::capture();
    let stage = Stage::new().await;
    let bindings: Vec<String> = (0..150).map(|n| format!("tgb-{n}")).collect();
    for binding in &bindings {
        stage.bind(binding).await;
    }
    stage.pod_of("web-1", "10.0.0.1", &bindings).await;
    stage.settle().await;
    let read = Match::new(Verb::Get, "targetgroupbindings");
    let refused = Status::new(500, "InternalError", "etcd is away");
    let faults = stage.api.faults();
    faults.fail(usize::MAX, read, refused, When::Before);
    delete_all(&stage, &bindings).await;
    tokio::time::sleep(600 * S).await;
    let reads = stage.api.calls().count(Verb::Get, "targetgroupbindings");
    assert!(reads > 150, "{reads} reads");
    let all = lines.with("").len();
    assert!(all < 100, "{all} lines");
    assert!(!lines.with("the gate stays closed").is_empty());
}

#[tokio::test(start_paused = true)]
async fn one_live_read_serves_all_pods_of_a_gate() {
    let stage = Stage::new().await;
    stage.bind("web").await;
    for n in 1..=200 {
        stage
            .pod(&format!("web-{n}"), &format!("10.0.0.{n}"), &["web"])
            .await;
    }
    stage.settle().await;
    stage.api.calls().clear();
    delete_all(&stage, &["web".to_owned()]).await;
    for n in 1..=200 {
        stage.until_gate(&format!("web-{n}"), OPEN).await;
    }
    let reads = stage.api.calls().count(Verb::Get, "targetgroupbindings");
    assert!((1..=4).contains(&reads), "{reads} reads for 200 pods");
}
