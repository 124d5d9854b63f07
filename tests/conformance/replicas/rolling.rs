//! The replicas are replaced one by one while pods are created continually.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::Client;
use kube::api::{Api, PostParams};
use serde_json::json;
use targetgate_sandbox::harness::waiting::until;
use targetgate_sandbox::harness::{Balancer, Creation, Process};
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::gated::{GATE, Gated, leads, new_pod, until_ended};

/// The number of tasks that create pods at once. Chosen.
const CREATORS: usize = 4;
/// The pause of a task between two pods. Chosen.
const PAUSE: Duration = Duration::from_millis(20);
/// The time from when a pod begins to end until kube-proxy knows. Chosen.
const PROXY_LAG: Duration = Duration::from_secs(1);
/// The number of pods to create before and after each change. Chosen.
const SOME: usize = 50;

fn begin(site: &Gated) -> Creation {
    let created = Arc::<AtomicUsize>::default();
    let mut tasks = JoinSet::new();
    for creator in 0..CREATORS {
        let pods = site.cluster.pods();
        tasks.spawn(create(pods, creator, created.clone()));
    }
    Creation::by(tasks, created)
}

/// Creates pods, each of which must have its gate: a pod whose admission failed lacks it.
async fn create(pods: Api<Pod>, creator: usize, created: Arc<AtomicUsize>) {
    for number in 0.. {
        let name = format!("web-{creator}-{number}");
        let pod = serde_json::from_value(new_pod(&name)).unwrap();
        let pod = pods.create(&PostParams::default(), &pod).await.unwrap();
        let gates = pod.spec.unwrap().readiness_gates.unwrap_or_default();
        let gates: Vec<&str> = gates.iter().map(|g| g.condition_type.as_str()).collect();
        assert_eq!(
            gates,
            [GATE],
            "{name}, after {} pods",
            created.load(Ordering::Relaxed)
        );
        created.fetch_add(1, Ordering::Relaxed);
        sleep(PAUSE).await;
    }
}

/// Ends a replica as its Deployment would: the pod gets SIGTERM at once, and kube-proxy learns of it later.
async fn replace(balancer: &Balancer, mut old: Process) {
    old.signal("TERM").unwrap();
    sleep(PROXY_LAG).await;
    balancer.remove(old.hooks);
    let ended = until_ended(&mut old).await;
    assert!(ended.success(), "{ended}:\n{}", old.log());
}

/// Failed calls of the pod hook, and pods that were admitted in spite of them, as kube-apiserver counts them.
async fn failures(client: &Client) -> Vec<String> {
    let request = http::Request::get("/metrics").body(vec![]).unwrap();
    let metrics = client.request_text(request).await.unwrap();
    let lines = metrics.lines().filter(|line| {
        let counted = [
            "apiserver_admission_webhook_fail_open_count{",
            "apiserver_admission_webhook_rejection_count{",
        ];
        counted.iter().any(|name| line.starts_with(name)) && line.contains("mpod.elbv2.k8s.aws")
    });
    lines.map(str::to_owned).collect()
}

#[tokio::test]
async fn no_admission_fails_while_one_replica_after_the_other_is_replaced() {
    let site = Gated::new().await;
    site.bind().await;
    let balancer = Balancer::new().await;
    let mut replicas = vec![];
    for name in ["targetgate-0", "targetgate-1"] {
        let replica = site.start(name).await;
        balancer.add(replica.hooks);
        replicas.push(replica);
    }
    // The test is about whether a review is answered, not how fast a busy machine does it.
    let hooks = SocketAddr::from(([0, 0, 0, 0], balancer.address.port()));
    site.register_hooks(hooks, json!({ "timeoutSeconds": 30 }))
        .await;
    until("the API server asks the hook", async || {
        let probe = serde_json::from_value(new_pod("probe")).unwrap();
        let dry = PostParams {
            dry_run: true,
            ..PostParams::default()
        };
        let pod = site.cluster.pods().create(&dry, &probe).await.unwrap();
        pod.spec.unwrap().readiness_gates
    })
    .await;
    let before = failures(&site.cluster.client).await;

    let mut creation = begin(&site);
    creation.goes_on(SOME).await;
    for (number, old) in replicas.drain(..).enumerate().collect::<Vec<_>>() {
        let new = site.start(&format!("targetgate-{}", number + 2)).await;
        balancer.add(new.hooks);
        replace(&balancer, old).await;
        creation.goes_on(SOME).await;
        replicas.push(new);
    }
    println!(
        "replaced 2 replicas while {} pods were created",
        creation.count()
    );
    let after = failures(&site.cluster.client).await;
    assert_eq!(after, before);
    let leads = async || leads(&replicas[0]).await || leads(&replicas[1]).await;
    until("one of them leads", async || leads().await.then_some(())).await;
}
