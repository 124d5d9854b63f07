//! Progressive delivery as Argo Rollouts does it: two Services take turns, weights shift the traffic between
//! them, and the selector of a Service is switched to the next revision.

use std::time::Duration;

use futures::future::join_all;
use serde_json::{Value, json};
use targetgate_sandbox::elb::{Delays, LoadBalancerKind};
use targetgate_sandbox::harness::site::{Group, Site};
use targetgate_sandbox::harness::workload::{Workload, gates};
use targetgate_sandbox::harness::{Registrar, Setup};
use targetgate_sandbox::kubelet::Reuse;

use crate::binary;
use crate::deployment::alb;
use crate::load::Load;

const KIND: LoadBalancerKind = LoadBalancerKind::Application;

/// The pods of a revision, distinguished by a label like `pod-template-hash`.
fn revision(name: &'static str) -> Workload {
    Workload {
        labels: labels(name),
        pre_stop: Some(Duration::from_secs(3)),
        ..Workload::new("Deployment", name)
    }
}

fn labels(revision: &str) -> Value {
    json!({ "app": "web", "revision": revision })
}

/// Creates the Service of a revision, its group, and its binding of the same name.
async fn serve(site: &Site, name: &'static str, revision: &str, delays: Delays) -> Group {
    let group = site.group(name, KIND, delays);
    site.service(name, labels(revision)).await;
    site.bind(name, name, &group).await;
    group
}

/// Rolls out a revision behind a Service that gets no traffic yet. Its pods wait for the group of that Service
/// only.
async fn bring(site: &Site, name: &'static str, service: &str, group: &Group) -> Workload {
    site.gives_gates(labels(name), &[service]).await;
    let revision = revision(name);
    site.apply(&revision).await;
    site.rolled(&revision).await;
    site.settled(group, 3).await;
    let pods = site.pods(&format!("revision={name}")).await;
    assert!(pods.iter().all(|pod| gates(pod) == [service]), "{pods:?}");
    revision
}

/// Both wait for pods and checks most of the time, so they run together.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_gates_of_a_canary_follow_the_binding_of_its_service() {
    join_all([Registrar::Sandbox, Registrar::Targetgate].map(two_services_by_turns)).await;
}

async fn two_services_by_turns(registrar: Registrar) {
    let setup = Setup::new(binary(), Reuse::Late).registrar(registrar);
    let mut site = Site::shared(setup).await;
    site.opt_in().await;
    let ping = serve(&site, "ping", "v1", alb()).await;
    let pong = serve(&site, "pong", "v2", alb()).await;
    let (balancer, address) = site.balance(KIND, &[(&ping, 1), (&pong, 0)]).await;
    let shift = |to_ping, to_pong| site.shift(&balancer, &[(&ping, to_ping), (&pong, to_pong)]);
    bring(&site, "v1", "ping", &ping).await;
    let load = Load::start(address, 150.0);

    // The traffic is shifted to the canary step by step.
    bring(&site, "v2", "pong", &pong).await;
    shift(80, 20);
    let sent = load.sent();
    site.until("some traffic to reach the canary", async || {
        (load.sent() > sent + 150).then_some(())
    })
    .await;
    shift(0, 100);
    site.delete("Deployment", "v1").await;
    // The canary's Service is now the other one, and selects the next revision.
    site.select("ping", labels("v3")).await;
    bring(&site, "v3", "ping", &ping).await;
    shift(100, 0);
    site.delete("Deployment", "v2").await;
    site.settled(&pong, 0).await;
    let numbers = load.stop().await;
    numbers.print(&format!("two Services by turns, {registrar:?}"), &site);
    assert_eq!(numbers.lost(), 0, "{registrar:?}: {numbers:?}");
}
