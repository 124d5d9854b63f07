//! targetgate or the API server goes down in the middle of a rollout, and comes back.

use std::net::SocketAddr;
use std::time::Duration;

use kube::api::DynamicObject;
use serde_json::json;
use targetgate_sandbox::elb::{LoadBalancerKind, State};
use targetgate_sandbox::harness::object::field;
use targetgate_sandbox::harness::site::{Group, Site, control_plane};
use targetgate_sandbox::harness::workload::{Workload, condition, gates};
use targetgate_sandbox::kubelet::Reuse;

use crate::binary;
use crate::deployment::alb;
use crate::load::Load;

/// Three replicas with gates and a preStop sleep, behind a load balancer.
struct Shop {
    web: Workload,
    group: Group,
    address: SocketAddr,
}

impl Shop {
    async fn open(site: &mut Site) -> Self {
        let kind = LoadBalancerKind::Application;
        let (group, address) = site.expose("web", kind, alb()).await;
        site.gate("web").await;
        let web = workload("web");
        site.open(&web, &group).await;
        Self {
            web,
            group,
            address,
        }
    }

    /// Starts a rollout, and returns when the target of its first pod is healthy and the gate still closed,
    /// because ELB keeps its former answer until [`Shop::tell`].
    async fn half_way(&self, site: &Site) -> DynamicObject {
        site.aws.elb.freeze(&self.group.arn).unwrap();
        site.restart(&self.web).await;
        site.until("a pod to wait for ELB's word", async || {
            let pods = site.pods("app=web").await;
            let waits = |pod: &_| condition(pod, "web")["reason"] == "Elb.RegistrationInProgress";
            let waits = pods.into_iter().find(waits)?;
            let ip = field(&waits, "/status/podIP").as_str()?.parse().ok()?;
            let health = site.aws.elb.health(&self.group.arn, ip, 8080)?;
            (health.state == State::Healthy).then_some(waits)
        })
        .await
    }

    fn tell(&self, site: &Site) {
        site.aws.elb.faults().thaw(&self.group.arn);
    }
}

fn workload(name: &'static str) -> Workload {
    Workload {
        labels: json!({ "app": "web", "part": name }),
        // After an outage, the registrar may see the deletion later than the kubelet does.
        pre_stop: Some(Duration::from_secs(8)),
        ..Workload::new("Deployment", name)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn targetgate_killed_in_the_middle_of_a_rollout_loses_nothing_and_goes_on() {
    let mut site = Site::new(binary(), Reuse::Late).await;
    let shop = Shop::open(&mut site).await;
    let load = Load::start(shop.address, 100.0);
    let waits = shop.half_way(&site).await;
    site.kill_targetgate().await;
    shop.tell(&site);
    // This pod is created while the hook is down, so it gets no gate.
    let away = Workload {
        replicas: 1,
        ..workload("away")
    };
    site.apply(&away).await;
    site.rolled(&away).await;
    let still = site.pods("part=web").await;
    let still = still
        .iter()
        .find(|pod| pod.metadata.uid == waits.metadata.uid);
    assert_eq!(condition(still.unwrap(), "web")["status"], "False");

    site.start_targetgate().await;
    site.rolled(&shop.web).await;
    site.settled(&shop.group, 4).await;
    let numbers = load.stop().await;
    numbers.print("targetgate killed", &site);
    assert_eq!(numbers.lost(), 0, "{numbers:?}");
    let ungated = site.pods("part=away").await;
    assert_eq!(ungated.iter().map(gates).collect::<Vec<_>>(), [[""; 0]]);
    // The rollout may have created another ungated pod meanwhile.
    let web = site.pods("app=web").await;
    let ungated = web.iter().filter(|pod| gates(pod).is_empty()).count();
    site.until("the ungated pods are counted", async || {
        let counted = format!("\ntargetgate_pods_ungated {ungated}\n");
        site.metrics().await.contains(&counted).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_api_server_that_is_away_in_the_middle_of_a_rollout_loses_nothing() {
    // A control plane of its own, so that other tests keep theirs.
    let mut control_plane = control_plane(binary()).await.unwrap();
    let mut site = Site::on(&control_plane, binary(), Reuse::Late).await;
    let shop = Shop::open(&mut site).await;
    let load = Load::start(shop.address, 100.0);
    shop.half_way(&site).await;
    control_plane.stop_api_server();
    shop.tell(&site);
    // By then every watch has ended, and every write has failed.
    let sent = load.sent();
    site.until("requests to be answered without it", async || {
        (load.sent() > sent + 500).then_some(())
    })
    .await;
    control_plane.start_api_server().await.unwrap();
    site.rolled(&shop.web).await;
    site.settled(&shop.group, 3).await;
    let numbers = load.stop().await;
    numbers.print("the API server away", &site);
    assert_eq!(numbers.lost(), 0, "{numbers:?}");
}
