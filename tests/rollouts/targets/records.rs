//! The record of what was registered: written before the call, lost, restored from a backup (B16).

use std::net::IpAddr;
use std::time::Duration;

use kube::ResourceExt as _;
use kube::api::Patch;
use serde_json::json;
use targetgate_sandbox::elb::faults::On;
use targetgate_sandbox::elb::log::Transition;
use targetgate_sandbox::elb::{LoadBalancerKind, State};
use targetgate_sandbox::harness::object::{field, patch};
use tokio::time::sleep;

use super::{Shop, addresses};
use crate::deployment::alb;
use crate::load::Load;

const ALB: LoadBalancerKind = LoadBalancerKind::Application;
const RATE: f64 = 50.0;
/// Longer than until the second look of a leadership, before which nothing leaves for its absence. Contract 8.
const TWO_LOOKS: Duration = Duration::from_secs(15);
/// A target that we did not register.
const FOREIGN: &str = "10.9.0.1";

/// They wait for second looks most of the time, so they run together.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_that_says_too_much_or_too_little_takes_no_living_pod_out() {
    tokio::join!(
        a_crash_between_the_record_and_the_call(),
        a_record_that_is_lost_takes_up_living_pods_and_nothing_else("while we run"),
        a_record_that_is_lost_takes_up_living_pods_and_nothing_else("while we are away"),
        a_record_of_former_pods_is_restored(),
    );
}

async fn a_crash_between_the_record_and_the_call() {
    let mut shop = Shop::open(ALB, alb(), 2).await;
    let load = Load::start(shop.address, RATE);
    let register = On::action("RegisterTargets");
    shop.site.aws.elb.faults().hang(register.clone());
    shop.site.scale(&mut shop.web, 4).await;
    shop.site
        .until("the record to name the new pods", async || {
            (shop.recorded().await.len() == 4).then_some(())
        })
        .await;
    shop.site.kill_targetgate().await;
    shop.site.aws.elb.faults().release(&register);
    let registered = shop.registered().await;
    assert_eq!(registered.len(), 2, "ELB was not called");
    // Two of those that the record names end while it is away.
    shop.site.scale(&mut shop.web, 2).await;
    shop.site
        .until("two pods to end", async || {
            (shop.site.pods("app=web").await.len() == 2).then_some(())
        })
        .await;
    shop.site.start_targetgate().await;
    shop.settled().await;
    let pods = addresses(&shop.pods().await);
    shop.until_registered(&pods).await;
    shop.until_recorded(&pods).await;
    let numbers = load.stop().await;
    assert_eq!(numbers.lost(), 0, "{numbers:?}");
}

async fn a_record_that_is_lost_takes_up_living_pods_and_nothing_else(lost: &str) {
    let mut shop = Shop::open(ALB, alb(), 3).await;
    let binding = shop.site.api("TargetGroupBinding").get("web").await;
    let [record] = &shop.records().await[..] else {
        panic!("one record for one binding");
    };
    assert_eq!(Some(record.name_any()), binding.unwrap().uid());
    let foreign: IpAddr = FOREIGN.parse().unwrap();
    let elb = shop.site.aws.elb.clone();
    elb.register(&shop.group.arn, foreign, 8080).unwrap();
    let load = Load::start(shop.address, RATE);
    let before = shop.site.calls("DeregisterTargets");
    let away = lost == "while we are away";
    if away {
        shop.site.kill_targetgate().await;
    }
    shop.site.delete("TargetRecord", &record.name_any()).await;
    if away {
        shop.site.start_targetgate().await;
    }
    let pods = addresses(&shop.pods().await);
    shop.until_recorded(&pods).await;
    sleep(TWO_LOOKS).await;
    assert_eq!(shop.site.calls("DeregisterTargets"), before, "{lost}");
    // What was taken up is ours again, and leaves with its pod.
    shop.site.scale(&mut shop.web, 2).await;
    let mut left = shop
        .site
        .until("one pod to end", async || {
            let pods = shop.pods().await;
            (pods.len() == 2).then(|| addresses(&pods))
        })
        .await;
    left.insert(FOREIGN.to_owned());
    shop.until_registered(&left).await;
    let numbers = load.stop().await;
    assert_eq!(numbers.lost(), 0, "{lost}: {numbers:?}");
}

/// A backup of the cluster brings a record back that names pods of former times.
async fn a_record_of_former_pods_is_restored() {
    let mut shop = Shop::open(ALB, alb(), 3).await;
    let load = Load::start(shop.address, RATE);
    let [record] = &shop.records().await[..] else {
        panic!("one record for one binding");
    };
    let former = field(record, "/status/targets").clone();
    shop.roll().await;
    shop.site.kill_targetgate().await;
    let restored = json!({ "status": { "targets": former } });
    let records = shop.site.api("TargetRecord");
    patch(&records, &record.name_any(), Patch::Merge(restored)).await;
    let pods = addresses(&shop.pods().await);
    assert!(shop.recorded().await.is_disjoint(&pods));
    let seen = shop.site.aws.elb.log().len();
    shop.site.start_targetgate().await;
    shop.until_recorded(&pods).await;
    sleep(TWO_LOOKS).await;
    // Targets that the restored record names are ours to take out; none of them is a living pod's.
    let log = shop.site.aws.elb.log();
    let left = |entry: &&Transition| entry.to == Some(State::Draining);
    let mut left = log[seen..].iter().filter(left);
    assert!(left.all(|entry| !pods.contains(&entry.ip.to_string())));
    shop.roll().await;
    let numbers = load.stop().await;
    assert_eq!(numbers.lost(), 0, "{numbers:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_that_is_shared_and_no_longer_shared_keeps_all_its_targets() {
    let shop = Shop::open(ALB, alb(), 3).await;
    let foreign: IpAddr = FOREIGN.parse().unwrap();
    let elb = &shop.site.aws.elb;
    elb.register(&shop.group.arn, foreign, 8080).unwrap();
    let all = shop.registered().await;
    let before = shop.site.calls("DeregisterTargets");
    for shared in [true, false, true] {
        let change = json!({ "spec": { "multiClusterTargetGroup": shared } });
        let bindings = shop.site.api("TargetGroupBinding");
        patch(&bindings, "web", Patch::Merge(change)).await;
        sleep(TWO_LOOKS).await;
        assert_eq!(shop.site.calls("DeregisterTargets"), before, "{shared}");
        assert_eq!(shop.registered().await, all);
    }
    shop.until_recorded(&addresses(&shop.pods().await)).await;
}
