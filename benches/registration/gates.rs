//! From ready containers to a ready pod, where targetgate registers the pods and opens their gates, over what ELB itself
//! needs: pods of Deployments that listen, and health checks of them.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use jiff::Timestamp;
use serde_json::json;
use targetgate_sandbox::elb::log::Transition;
use targetgate_sandbox::elb::{Delays, LoadBalancerKind, State};
use targetgate_sandbox::harness::observer::PodView;
use targetgate_sandbox::harness::site::Group;
use targetgate_sandbox::harness::workload::Workload;

use crate::rows::Rows;
use crate::site;

const KIND: LoadBalancerKind = LoadBalancerKind::Application;
const GROUPS: [&str; 4] = ["cart", "mail", "shop", "user"];
const PODS: usize = 5;
/// Issue 14.
const CHECKS: Duration = Duration::from_secs(5);

pub(crate) async fn measure(rows: &mut Rows) {
    let mut site = site().await;
    let delays = Delays {
        health_check_interval: CHECKS,
        deregistration_delay: Duration::from_secs(5),
        propagation_lag: Duration::from_secs(1),
        ..Delays::alb()
    };
    site.opt_in().await;
    let mut all: Vec<(Workload, Group)> = vec![];
    for name in GROUPS {
        let (group, _) = site.expose(name, KIND, delays.clone()).await;
        let workload = Workload {
            replicas: PODS,
            surge: PODS,
            pre_stop: Some(Duration::from_secs(3)),
            ..Workload::new("Deployment", name)
        };
        all.push((workload, group));
    }
    for (workload, _) in &all {
        let name = workload.name;
        site.gives_gates(json!({ "app": name }), &[name]).await;
        site.apply(workload).await;
    }
    for (workload, group) in &all {
        site.rolled(workload).await;
        site.settled(group, PODS).await;
    }
    for (workload, _) in &all {
        site.restart(workload).await;
    }
    for (workload, group) in &all {
        site.rolled(workload).await;
        site.settled(group, PODS).await;
    }
    let log = site.aws.elb.log();
    let pods = site.observer.pods();
    let times: Vec<Times> = pods.iter().filter_map(|pod| times(pod, &log)).collect();
    assert_eq!(times.len(), 2 * GROUPS.len() * PODS, "{pods:?}");
    rows.tell(
        "4 x 5, two rollouts: ready, over what ELB needs",
        &times.iter().map(Times::over).collect::<Vec<_>>(),
        site.calls("RegisterTargets"),
        [1.0, 1.0, 4.0 * GROUPS.len() as f64],
    );
    let part = |what, of: fn(&Times) -> f64| {
        let mut part: Vec<f64> = times.iter().map(of).collect();
        part.sort_by(f64::total_cmp);
        let (median, most) = (part[part.len() / 2], part[part.len() - 1]);
        println!("  {what}: median {median:.3} s, most {most:.3} s");
    };
    part("until it is registered", |times| times.until_registered);
    part("from healthy to the open gate", |times| times.until_open);
    part("from the open gate to ready", |times| times.until_ready);
}

/// What a pod waited for besides ELB, in seconds.
struct Times {
    /// From ready containers to its registration.
    until_registered: f64,
    /// From the healthy target to the open gate.
    until_open: f64,
    /// From the open gate to the ready pod, which is the kubelet's time.
    until_ready: f64,
}

impl Times {
    fn over(&self) -> f64 {
        self.until_registered + self.until_open + self.until_ready
    }
}

fn times(pod: &PodView, log: &[Transition]) -> Option<Times> {
    let at = |is: fn(&Transition) -> bool| first(pod.target?, pod.created, log, is);
    let (registered, healthy) = (
        at(|entry| entry.from.is_none())?,
        at(|entry| entry.to == Some(State::Healthy))?,
    );
    let since = |from: Timestamp, to: Timestamp| to.duration_since(from).as_secs_f64();
    Some(Times {
        until_registered: since(pod.running?, registered),
        until_open: since(healthy, pod.opened?),
        until_ready: since(pod.opened?, pod.ready?),
    })
}

fn first(
    target: SocketAddr,
    since: Timestamp,
    log: &[Transition],
    is: fn(&Transition) -> bool,
) -> Option<Timestamp> {
    let (ip, port): (IpAddr, u16) = (target.ip(), target.port());
    let mut of_pod = log
        .iter()
        .filter(|entry| entry.at >= since && (entry.ip, entry.port) == (ip, port));
    of_pod.find(|entry| is(entry)).map(|entry| entry.at)
}
