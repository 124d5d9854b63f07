//! A new leader whose view of the cluster is not whole (B6).

use std::time::Duration;

use targetgate_sandbox::harness::Start;
use targetgate_sandbox::harness::detour::{Detour, ReadFault};
use targetgate_sandbox::harness::site::fail;
use tokio::time::sleep;

use super::{Shop, addresses};
use crate::load::Load;

const RATE: f64 = 40.0;
/// B6.
const FAILING: Duration = Duration::from_secs(20);
/// Longer than until the second look of a leadership. Contract 8.
const TWO_LOOKS: Duration = Duration::from_secs(15);

/// Pods, before and after those come that the standby does not see.
const PODS: [usize; 2] = [3, 6];

/// A replica whose lists are not complete does not stand for the lead, so it says nothing of a leader that does not see
/// everything. A standby that has seen everything once does lead.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_standby_that_sees_no_pods_any_more_leads_and_takes_nothing_out() {
    let mut shop = Shop::elected(PODS[0]).await;
    let detour = Detour::to(&shop.site.cluster).await.unwrap();
    let standby = Start {
        pod: Some("targetgate-1".to_owned()),
        ..shop.site.start.clone()
    };
    let standby = standby.begin(&detour.cluster, &shop.site.aws).await;
    let standby = standby.unwrap_or_else(fail);
    standby.ready().await.unwrap();
    detour.cut("pods", ReadFault::Forbidden);
    shop.site.scale(&mut shop.web, PODS[1]).await;
    let all = shop
        .site
        .until("the leader to register all pods", async || {
            let registered = shop.registered().await;
            (registered.len() == PODS[1]).then_some(registered)
        })
        .await;
    let before = shop.site.calls("DeregisterTargets");
    shop.site.kill_targetgate().await;
    shop.site
        .until("the standby to lead", async || {
            standby.leads().await.ok()?.then_some(())
        })
        .await;
    sleep(TWO_LOOKS).await;
    assert!(standby.leads().await.unwrap());
    assert_eq!(shop.site.calls("DeregisterTargets"), before);
    assert_eq!(shop.registered().await, all);
    detour.mend();
    shop.site.point_hooks(standby.hooks).await;
    shop.roll().await;
    shop.until_registered(&addresses(&shop.pods().await)).await;
}

/// They wait for the faults to end most of the time, so they run together.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_leader_takes_nothing_out_before_it_has_seen_everything() {
    tokio::join!(
        a_successor_whose_reads_fail("pods", ReadFault::Late),
        a_successor_whose_reads_fail("pods", ReadFault::Forbidden),
        a_successor_whose_reads_fail("pods", ReadFault::Expired),
        a_successor_whose_reads_fail("services", ReadFault::Late),
        a_successor_whose_reads_fail("endpointslices", ReadFault::Forbidden),
    );
}

async fn a_successor_whose_reads_fail(resource: &'static str, fault: ReadFault) {
    let mut shop = Shop::elected(6).await;
    let detour = Detour::to(&shop.site.cluster).await.unwrap();
    detour.fail(resource, fault);
    let successor = Start {
        pod: Some("targetgate-1".to_owned()),
        ..shop.site.start.clone()
    };
    let load = Load::start(shop.address, RATE);
    let before = shop.site.calls("DeregisterTargets");
    shop.site.kill_targetgate().await;
    let successor = successor.begin(&detour.cluster, &shop.site.aws).await;
    let successor = successor.unwrap_or_else(fail);
    sleep(FAILING).await;
    assert_eq!(shop.site.calls("DeregisterTargets"), before);
    detour.mend();
    successor.ready().await.unwrap();
    shop.site
        .until("the successor to lead", async || {
            successor.leads().await.ok()?.then_some(())
        })
        .await;
    sleep(TWO_LOOKS).await;
    assert_eq!(shop.site.calls("DeregisterTargets"), before);
    // It goes on where the former leader ended.
    shop.site.point_hooks(successor.hooks).await;
    shop.roll().await;
    shop.until_registered(&addresses(&shop.pods().await)).await;
    let numbers = load.stop().await;
    numbers.print(&format!("a successor, {resource} {fault:?}"), &shop.site);
    assert_eq!(numbers.lost(), 0, "{numbers:?}");
}
