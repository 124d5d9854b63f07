//! Pods in two target groups at once: of an internal load balancer and of an internet-facing one.

use std::time::Duration;

use futures::future::join_all;
use serde_json::json;
use targetgate_sandbox::elb::{Delays, LoadBalancerKind};
use targetgate_sandbox::harness::site::Site;
use targetgate_sandbox::harness::workload::Workload;
use targetgate_sandbox::harness::{Openings, Registrar, Setup};
use targetgate_sandbox::kubelet::Reuse;

use crate::binary;
use crate::deployment::alb;
use crate::load::Load;

const KIND: LoadBalancerKind = LoadBalancerKind::Application;
/// Much longer than the registrar's delay and the lag. Chosen.
const PRE_STOP: Duration = Duration::from_secs(3);

/// Both wait for pods and checks most of the time, so they run together.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pod_of_two_groups_is_ready_only_after_both() {
    join_all([Registrar::Sandbox, Registrar::Targetgate].map(two_groups)).await;
}

async fn two_groups(registrar: Registrar) {
    let setup = Setup::new(binary(), Reuse::Late).registrar(registrar);
    let mut site = Site::shared(setup).await;
    let late = Delays {
        registration: Duration::from_secs(2),
        ..alb()
    };
    let groups = [
        site.group("internal", KIND, alb()),
        site.group("internet", KIND, late),
    ];
    let names = ["internal", "internet"];
    site.service("web", json!({ "app": "web" })).await;
    let mut addresses = Vec::new();
    for (name, group) in names.iter().zip(&groups) {
        addresses.push(site.balance(KIND, &[(group, 1)]).await.1);
        site.bind(name, "web", group).await;
    }
    site.opt_in().await;
    site.gives_gates(json!({ "app": "web" }), &names).await;
    let mut web = Workload::new("Deployment", "web");
    web.pre_stop = Some(PRE_STOP);
    site.apply(&web).await;
    site.rolled(&web).await;
    for group in &groups {
        site.settled(group, 3).await;
    }

    let loads = addresses
        .into_iter()
        .map(|address| Load::start(address, 60.0));
    let loads: Vec<_> = loads.collect();
    site.restart(&web).await;
    site.rolled(&web).await;
    for (load, (name, group)) in loads.into_iter().zip(names.iter().zip(&groups)) {
        site.settled(group, 3).await;
        let numbers = load.stop().await;
        numbers.print(&format!("two groups, {name}, {registrar:?}"), &site);
        assert_eq!(numbers.lost(), 0, "{registrar:?}: {numbers:?}");
    }
    let (pods, log) = (site.observer.pods(), site.aws.elb.log());
    assert_eq!(pods.len(), 6);
    for group in &groups {
        let log = log.iter().filter(|entry| entry.arn == group.arn);
        let log: Vec<_> = log.cloned().collect();
        let openings = Openings::of(&pods, &log);
        assert_eq!((openings.delays.len(), openings.early), (6, 0));
    }
}
