//! Pods that come back under the same name (StatefulSet), on the same node (DaemonSet), or with the same
//! address.

use std::time::Duration;

use futures::future::join_all;
use http::StatusCode;
use serde_json::json;
use targetgate_sandbox::elb::faults::On;
use targetgate_sandbox::elb::{Delays, LoadBalancerKind};
use targetgate_sandbox::harness::observer::{Gate, PodView};
use targetgate_sandbox::harness::site::Site;
use targetgate_sandbox::harness::workload::Workload;
use targetgate_sandbox::harness::{Openings, Registrar, Setup};
use targetgate_sandbox::kubelet::Reuse;

use crate::binary;
use crate::deployment::alb;
use crate::load::Load;

/// While deregistration fails, the target of the old pod stays registered and healthy, and the new pod gets its
/// address.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stateful_sets_pod_is_not_opened_on_the_health_of_its_predecessor() {
    let mut site = Site::new(binary(), Reuse::AtOnce).await;
    let delays = Delays {
        health_check_interval: Duration::from_secs(2),
        unhealthy_threshold: 3,
        ..alb()
    };
    let checks = delays.healthy_threshold.max(delays.unhealthy_threshold) + 1;
    let proves_in = delays.health_check_interval * checks;
    let kind = LoadBalancerKind::Application;
    let (group, _) = site.expose("db", kind, delays).await;
    site.gate("db").await;
    let db = Workload::new("StatefulSet", "db");
    site.open(&db, &group).await;

    let former = site.observer.by_uid();
    let healthy = site.aws.elb.log();
    let deregister = On::action("DeregisterTargets");
    let unavailable = StatusCode::SERVICE_UNAVAILABLE;
    let faults = site.aws.elb.faults();
    faults.fail(deregister, "ServiceUnavailable", unavailable, None);
    site.restart(&db).await;
    site.rolled(&db).await;
    let mut pods = site.observer.by_uid();
    pods.retain(|uid, _| !former.contains_key(uid));
    assert_eq!(pods.len(), 3, "{pods:?}");

    let mut inherited = 0;
    for pod in pods.values() {
        let target = pod.target.unwrap();
        let same = |old: &&PodView| old.name == pod.name && old.target == pod.target;
        if former.values().find(same).is_none() {
            continue;
        }
        inherited += 1;
        let waited = pod.opened.unwrap().duration_since(pod.running.unwrap());
        println!(
            "{} at {target}: opened {waited:#} after it ran, on a target that was healthy all the time",
            pod.name
        );
        // The watch of this test may have seen the pod later than targetgate did. Without the rule the gate opens at once.
        let enough = proves_in / 2;
        assert!(waited.unsigned_abs() >= enough, "{pod:?}");
    }
    assert!(inherited > 0, "no pod came back to its address: {pods:?}");
    assert_eq!(site.aws.elb.log(), healthy, "all the time");
}

/// Both wait for pods and checks most of the time, so they run together.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stateful_set_and_a_daemon_set_are_rolled_without_a_loss() {
    join_all([Registrar::Sandbox, Registrar::Targetgate].map(both_are_rolled)).await;
}

async fn both_are_rolled(registrar: Registrar) {
    let setup = Setup::new(binary(), Reuse::AtOnce).registrar(registrar);
    let mut site = Site::shared(setup).await;
    let kind = LoadBalancerKind::Application;
    let mut rolled = Vec::new();
    for (workload, name) in [("StatefulSet", "db"), ("DaemonSet", "agent")] {
        let (group, address) = site.expose(name, kind, alb()).await;
        let mut workload = Workload::new(workload, name);
        workload.pre_stop = Some(Duration::from_secs(3));
        rolled.push((workload, group, address));
    }
    site.opt_in().await;
    for (workload, ..) in &rolled {
        let name = workload.name;
        site.gives_gates(json!({ "app": name }), &[name]).await;
        site.apply(workload).await;
    }
    let mut loads = Vec::new();
    for (workload, group, address) in &rolled {
        site.rolled(workload).await;
        site.settled(group, 3).await;
        loads.push(Load::start(*address, 60.0));
    }
    let former = site.observer.by_uid();
    for (workload, ..) in &rolled {
        site.restart(workload).await;
    }
    for (workload, ..) in &rolled {
        site.rolled(workload).await;
    }
    for ((workload, group, _), load) in rolled.iter().zip(loads) {
        site.settled(group, 3).await;
        let numbers = load.stop().await;
        numbers.print(&format!("{}, {registrar:?}", workload.kind), &site);
        assert_eq!(numbers.lost(), 0, "{registrar:?}: {numbers:?}");
    }

    let mut pods = site.observer.by_uid();
    pods.retain(|uid, _| !former.contains_key(uid));
    let pods: Vec<PodView> = pods.into_values().collect();
    assert_eq!(pods.len(), 6, "{pods:?}");
    assert!(pods.iter().all(|pod| pod.gate == Gate::Open), "{pods:?}");
    assert_eq!(Openings::of(&pods, &site.aws.elb.log()).early, 0);
}
